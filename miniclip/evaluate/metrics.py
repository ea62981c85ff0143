"""The numbers of retrieval and classification, from scores in NumPy. Nothing here knows what a model is.

Equal scores. A sort has to put one of two equal scores first; if it is by their order in the data, a model that gives
everything the same score looks perfect or useless. Here **each result is the mean over all orders of equal scores**, so
that such a model gets what guessing gets: recall@k = k / m, and a mean reciprocal rank of (1 + 1/2 + ... + 1/m) / m.
Without equal scores, the results are those of CLIP_benchmark and scikit-learn.

Several right answers. The first one counts, as in the papers on CLIP and in CLIP_benchmark.
"""

from typing import NamedTuple

import numpy as np

from miniclip.errors import InputError


class Ranks(NamedTuple):
    """Where the best right answer of each of n queries is, as three counts of answers, (n,) each.

    Without equal scores `tied` and `right` are 1, and the rank is above + 1.
    """

    above: np.ndarray  # with a better score than the best right answer
    tied: np.ndarray  # with its score, itself included
    right: np.ndarray  # of these, how many are right


def ranks(similarity, positives):
    """The `Ranks` of n queries among m answers: similarity (n, m), larger is nearer.

    positives  (n, m) bool, which answers are right; or (n,) integers, if one is

    Raises InputError for scores that are not numbers, and for a query without a right answer.
    """
    similarity, positives = np.asarray(similarity), np.asarray(positives)
    if positives.ndim == 1:
        positives = positives[:, None] == np.arange(similarity.shape[1])  # (n, m)
    if np.isnan(similarity).any():
        raise InputError("some scores are not numbers: the model's weights may be NaN: load another file")
    if not positives.any(axis=1).all():
        raise InputError(f"query {positives.any(axis=1).argmin()} has no right answer: leave it out")
    best = np.where(positives, similarity, -np.inf).max(axis=1, keepdims=True)  # (n, 1)
    equal = similarity == best  # (n, m)
    return Ranks((similarity > best).sum(axis=1), equal.sum(axis=1), (equal & positives).sum(axis=1))


def joined(parts):
    """One `Ranks` of several: the queries of the first, then those of the second, ..."""
    return Ranks(*map(np.concatenate, zip(*parts)))


def mean_over_orders(ranks, value):
    """The mean of value(rank) over all orders of equal scores, for each query: (n,). `value` takes an array of ranks.

    If r of t equal scores are right, P(the first j are wrong) = (t-r)/t · (t-r-1)/(t-1) · ... , j factors.
    """

    def mean(above, tied, right):
        j = np.arange(tied - right + 1)  # wrong ones before the first right one
        wrong = np.cumprod([1, *(tied - right - j) / (tied - j)])  # P(the first 0, 1, ... of them are wrong)
        return -np.diff(wrong) @ value(above + j + 1)

    means = value(ranks.above + 1).astype(np.float64)  # (n,), right unless wrong answers have the same score
    queries = np.flatnonzero(ranks.tied > ranks.right)
    rows, inverse = np.unique(np.stack(ranks, axis=1)[queries], axis=0, return_inverse=True)
    means[queries] = np.array([mean(*row) for row in rows])[inverse.reshape(-1)]
    return means


def hits(ranks, k):
    """Whether a right answer is among the k best, for each query, (n,): 0, 1, or with equal scores a share."""
    return mean_over_orders(ranks, lambda rank: rank <= k)


def recall_at_k(ranks, k):
    """Share of the queries with a right answer among the k best. For classes, this is the top-k accuracy."""
    return float(hits(ranks, k).mean())


def mean_reciprocal_rank(ranks):
    """Mean of 1 / rank of the first right answer (Voorhees, 1999). Guessing among m gives (1 + 1/2 + ... + 1/m) / m."""
    return float(mean_over_orders(ranks, lambda rank: 1 / rank).mean())


def median_rank(ranks):
    """Median of the rank of the first right answer, 1 at best."""
    return float(np.median(mean_over_orders(ranks, lambda rank: rank)))


def per_class(values, classes, number):
    """The mean of `values` (n,) over the pictures of each of N = `number` classes, (N,); NaN for one without pictures.

    classes  (n,) integers from 0 on
    """
    with np.errstate(invalid="ignore"):  # 0 / 0
        return np.bincount(classes, values, minlength=number) / np.bincount(classes, minlength=number)


def mean_per_class_recall(right, truth):
    """Mean over the classes, whatever their size, of the share of their pictures that are named right.

    right  (n,), as `hits` has it · truth  (n,), the class of each picture. A class without pictures does not count.
    (scikit-learn's balanced_accuracy_score)
    """
    return float(np.nanmean(per_class(right, truth, 0)))


def confusion(truth, named, number):
    """How often pictures of a class, down, are named as each class, across: (n,), (n,) -> (N, N) integers."""
    return np.bincount(number * np.asarray(truth) + named, minlength=number**2).reshape(number, number)


class Bins(NamedTuple):
    """Answers by their confidence, M bins of equal width between 0 and 1; (M,) each, NaN in empty bins."""

    count: np.ndarray
    confidence: np.ndarray  # mean probability of the answers that were given
    accuracy: np.ndarray  # share of them that are right


def reliability_bins(confidence, right, bins=15):
    """The `Bins` of n answers. Bin i of M is ((i - 1) / M, i / M].

    confidence  (n,), the probability of the answer that was given · right  (n,), as `hits` has it
    (Guo et al., On Calibration of Modern Neural Networks, 2017, sec. 2; they use 15 bins.)
    """
    place = np.clip(np.ceil(np.multiply(confidence, bins, dtype=np.float64)).astype(int) - 1, 0, bins - 1)  # (n,)
    return Bins(np.bincount(place, minlength=bins), *(per_class(x, place, bins) for x in (confidence, right)))


def calibration_error(confidence, right, bins=15):
    """Expected calibration error: mean over the answers of |accuracy - confidence| of their bin (Guo et al., eq. 3)."""
    found = reliability_bins(confidence, right, bins)
    gaps = np.nan_to_num(np.abs(found.accuracy - found.confidence))
    return float(found.count @ gaps / found.count.sum())
