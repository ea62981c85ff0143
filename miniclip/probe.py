"""A linear probe: a linear classifier on a model's features, which stay as they are; and nearest neighbours beside it.

(Learning Transferable Visual Models, sec. 3.2 and app. A.3.) The paper fits a logistic regression by scikit-learn's
L-BFGS, with at most 1,000 iterations and an L2 penalty that is chosen on a validation split, and then fits again on
training and validation pictures together. We do the same on what `encode_image` returns, not normalised, as OpenAI's
README does. (For its ViTs, the paper takes the features before the last projection.)

Builds on scikit-learn, in float64: in float32, L-BFGS ends too early if C is small.
"""

import functools
import importlib
import json
import warnings
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from miniclip import identity
from miniclip.errors import InputError
from miniclip.formats import safetensors
from miniclip.runtime.installation import install
from miniclip.zero_shot import precise_softmax

FORMAT = "miniclip.probe"
VALIDATION = 0.2  # share of the training pictures that C and k are chosen on
NEIGHBOURS = (1, 3, 5, 10, 20)
ITERATIONS = 1000
LARGE = 1 << 30  # multiplications in a step of L-BFGS; with fewer, threads take longer to meet than to work


@dataclass
class Probe:
    """A linear classifier of N classes: a call takes features (b, E) in NumPy and returns probabilities (b, N).

    weight (N, E), bias (N,) · C  with what penalty it was fitted · converged  whether L-BFGS was done in time
    """

    weight: np.ndarray
    bias: np.ndarray
    classes: list[str]
    C: float
    converged: bool = True

    def __call__(self, x):
        return precise_softmax(x @ self.weight.T + self.bias)

    def save(self, path, model):
        """Write a safetensors file; its metadata have the classes, and which `model` the features are of."""
        about = {"classes": self.classes, "C": self.C, "model": identity.of(model)}
        metadata = {"format": FORMAT, **{key: json.dumps(value) for key, value in about.items()}}
        safetensors.write(path, {"weight": self.weight, "bias": self.bias}, metadata)

    @classmethod
    def load(cls, path, model):
        """Read what `save` has written. Raises InputError for any other file, and if it is not for this model."""
        arrays, metadata = safetensors.read(path)
        if metadata.get("format") != FORMAT:
            raise InputError(f"{path}: is not a probe: `miniclip probe DATA --out FILE` writes one")
        try:
            classes, C, its_model = (json.loads(metadata[key]) for key in ("classes", "C", "model"))
            weight, bias = arrays["weight"], arrays["bias"]
        except (KeyError, ValueError) as error:
            raise InputError(f"{path}: is a damaged probe, {error}: write it again") from error
        if not identity.is_identity(its_model):
            raise InputError(f"{path}: is a probe of another version of miniclip: write it again")
        if not identity.same(its_model, identity.of(model)):
            raise InputError(f"{path}: is a probe on the features of another model: use it with that one")
        return cls(weight, bias, classes, C)


def is_probe(path):
    """Whether `path` is a file that `Probe.save` has written."""
    try:
        return safetensors.read(path)[1].get("format") == FORMAT
    except InputError:
        return False


def linear_probe(x, y, classes, seed=0):
    """The `Probe` of features x (n, E) and their classes y (n,), with the C that is best for a fifth of them.

    Raises InputError for a class without a picture.
    """
    rest, held = split(y, VALIDATION, np.random.default_rng(seed))
    C = sweep(lambda C: score(fit(x[rest], y[rest], classes, C), x[held], y[held]))
    return fit(x, y, classes, C)


def sweep(score):
    """The C with the largest score(C), by the paper's parametric binary search.

    It begins with 1e-6, 1e-4, ..., 1e6, and halves the interval around the best one until there are 8 steps a decade:
    15 of the 97 values on that grid (the paper says 96).
    """
    at = functools.cache(lambda exponent: score(10.0**exponent))
    best, step = max(range(-6, 7, 2), key=at), 2.0
    while step > 1 / 8:
        step /= 2
        best = max((e for e in (best - step, best, best + step) if abs(e) <= 6), key=at)
    return 10.0**best


def fit(x, y, classes, C):
    """The `Probe` that minimises the sum of the cross-entropies + |weight|² / (2 C): x (n, E), y (n,)."""
    if len(missing := np.setdiff1d(range(len(classes)), y)):
        raise InputError(f"{classes[missing[0]]!r} has no picture to learn from: leave the class out, or add one")
    if len(classes) < 2:
        raise InputError(f"{classes[0]!r} is the only class, expected at least two")
    regression = sklearn("linear_model").LogisticRegression(C=C, max_iter=ITERATIONS)
    with threadpool_limits(None if np.size(x) * len(classes) > LARGE else 1):
        found = _fitted(regression, np.asarray(x, np.float64), y)
    weight, bias = found.coef_, found.intercept_  # (N, E), (N,)
    if len(classes) == 2:  # scikit-learn has one row then: the logit of the second class, where that of the first is 0
        weight, bias = np.concatenate([0 * weight, weight]), np.concatenate([0 * bias, bias])
    weight, bias = weight.astype(np.float32), bias.astype(np.float32)
    return Probe(weight, bias, list(classes), C, bool(found.n_iter_.max() < ITERATIONS))


class Neighbours:
    """The k nearest pictures vote, by cosine: the nearer, the more. Features (b, E) -> shares of the votes (b, N)."""

    def __init__(self, x, y, k):
        classifier = sklearn("neighbors").KNeighborsClassifier(k, metric="cosine", weights="distance")
        self.k, self.found = k, _fitted(classifier, x, y)

    def __call__(self, x):
        return self.found.predict_proba(x)


def neighbours(x, y, seed=0):
    """The `Neighbours` with the k that is best for the same fifth of the pictures that `linear_probe` chooses C on."""
    rest, held = split(y, VALIDATION, np.random.default_rng(seed))
    possible = [k for k in NEIGHBOURS if k <= len(rest)]
    return Neighbours(x, y, max(possible, key=lambda k: score(Neighbours(x[rest], y[rest], k), x[held], y[held])))


def few_shot(train, test, classes, shots, seeds=range(5)):
    """{n: {"linear probe": accuracies, "k-NN": accuracies}} of n = `shots` pictures of each class, one for each seed.

    train, test  (features (n, E), their classes (n,))

    C and k are chosen once for each n, for all draws together, on up to four other training pictures of each class, as
    in CoOp: with few labels, nobody has many to choose with. Raises InputError if a class has too few pictures.
    """
    return {n: _few_shot(*train, *test, classes, n, seeds) for n in shots}


def _few_shot(x, y, test_x, test_y, classes, n, seeds):
    more = min(n, 4)
    counts = np.bincount(y, minlength=len(classes))
    if counts.min() < n + more:
        raise InputError(
            f"{n} pictures of each class, and {more} others to choose C on, are more than the {counts.min()} that "
            f"{classes[counts.argmin()]!r} has to learn from: name fewer shots"
        )
    draws = []  # (rows to learn from, rows to choose on)
    for seed in seeds:
        rng = np.random.default_rng([seed, n])
        rows = np.array([rng.choice(np.flatnonzero(y == c), n + more, replace=False) for c in range(len(classes))])
        draws.append((rows[:, :n].ravel(), rows[:, n:].ravel()))

    def mean_score(learn):
        return tuple(np.mean([score(learn(rows), x[others], y[others]) for rows, others in draws], axis=0))

    def linear(C, rows):
        return fit(x[rows], y[rows], classes, C)

    def nearest(k, rows):
        return Neighbours(x[rows], y[rows], k)

    C = sweep(lambda C: mean_score(functools.partial(linear, C)))
    k = max((k for k in NEIGHBOURS if k <= n), key=lambda k: mean_score(functools.partial(nearest, k)))
    learners = {"linear probe": functools.partial(linear, C), "k-NN": functools.partial(nearest, k)}
    return {name: [score(learn(rows), test_x, test_y)[0] for rows, _ in draws] for name, learn in learners.items()}


def score(classifier, x, y):
    """(accuracy, minus the cross-entropy) of a classifier on features x (n, E) of the classes y (n,): larger is better.

    Accuracy decides, as in the paper; the cross-entropy decides between classifiers of equal accuracy.
    """
    p = classifier(x)  # (n, N)
    return float((p.argmax(axis=1) == y).mean()), float(np.log(p[np.arange(len(y)), y] + 1e-12).mean())


def split(y, share, rng):
    """(rows to keep, rows to hold out): a share of each class, but one at least, and one at least is kept.

    Raises InputError if every class has one picture.
    """
    held = []
    for c in np.unique(y):
        rows = rng.permutation(np.flatnonzero(y == c))
        held.append(rows[: min(max(round(share * len(rows)), 1), len(rows) - 1)])
    held = np.sort(np.concatenate(held))
    if not len(held):
        raise InputError("each class has one picture, so that none can be held out: give two of each at least")
    return np.setdiff1d(np.arange(len(y)), held), held


def _fitted(estimator, x, y):
    with warnings.catch_warnings():
        # of L-BFGS that has not converged, see `Probe.converged`; and of few pictures of many classes
        warnings.simplefilter("ignore", UserWarning)
        return estimator.fit(x, y)


def sklearn(module):
    """A module of scikit-learn; InputError that says how to install it if it is missing."""
    try:
        return importlib.import_module(f"sklearn.{module}")
    except ImportError as error:
        raise InputError(f"a probe needs scikit-learn: {install('probe')}") from error
