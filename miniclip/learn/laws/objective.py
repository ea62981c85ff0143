"""The laws of the loss, of its gradient, and of zero-shot classification."""

import math
import zlib

import numpy as np

from miniclip.learn.laws import law, normal, raised, slopes
from miniclip.ops import numpy_ops


def exact_loss(logits, label_smoothing=0.0):
    """Row by row, then column by column, in float64."""
    wide, B = logits.astype(np.float64), len(logits)
    total = 0.0
    for side in (wide, wide.T):
        for i, row in enumerate(side):
            log_p = row - row.max() - math.log(np.exp(row - row.max()).sum())  # (B,)
            total -= (1 - label_smoothing) * log_p[i] + label_smoothing * log_p.mean()
    return total / (2 * B)


@law("contrastive_loss")
def the_loss_is_the_mean_of_two_cross_entropies(contrastive_loss, rng):
    """each picture must find its text among all texts, each text its picture: the mean over both, and over the batch"""
    logits = normal(rng, 5, 5, scale=2)
    yield float(contrastive_loss(logits)), exact_loss(logits)


@law("contrastive_loss")
def equal_logits_cost_the_logarithm_of_the_batch(contrastive_loss, rng):
    """if all logits are equal, it is log B: the loss of guessing"""
    B = int(rng.integers(2, 30))
    yield float(contrastive_loss(np.full((B, B), float(rng.normal())))), math.log(B)


@law("contrastive_loss")
def the_loss_is_fair_to_both_sides(contrastive_loss, rng):
    """it stays the same if pictures and texts are exchanged"""
    logits = normal(rng, 6, 6, scale=3)
    yield float(contrastive_loss(logits.T)), exact_loss(logits)


@law("contrastive_loss")
def the_loss_survives_large_logits(contrastive_loss, rng):
    """logits of several thousand do not overflow"""
    logits = normal(rng, 4, 4, scale=3000)
    yield float(contrastive_loss(logits)), exact_loss(logits)


@law("contrastive_loss")
def the_loss_leaves_its_input(contrastive_loss, rng):
    """the logits are not changed"""
    logits = normal(rng, 4, 4)
    given = logits.copy()
    contrastive_loss(given)
    yield given, logits


@law("contrastive_loss")
def labels_may_be_smoothed(contrastive_loss, rng):
    """label_smoothing: that share of each target is spread evenly over the batch"""
    logits = normal(rng, 5, 5, scale=2)
    yield float(contrastive_loss(logits, label_smoothing=0.1)), exact_loss(logits, 0.1)


def exact_gradient(logits, label_smoothing=0.0):
    """By central differences of the loss."""
    return slopes(lambda x: exact_loss(x, label_smoothing), logits)


@law("contrastive_gradient")
def the_gradient_is_that_of_finite_differences(contrastive_loss_gradient, rng):
    """for each logit, how fast the loss rises with it"""
    for B in (4, int(rng.choice([2, 3, 5, 6]))):
        logits = rng.standard_normal((B, B))
        given = logits.copy()
        yield contrastive_loss_gradient(given), exact_gradient(logits)
        yield given, logits  # not changed


@law("contrastive_gradient")
def the_gradient_sums_to_zero(contrastive_loss_gradient, rng):
    """adding the same number to all logits changes no probability, so the gradient sums to zero"""
    gradient = contrastive_loss_gradient(rng.standard_normal((6, 6)))
    yield 1 + float(np.sum(gradient)), 1.0
    yield bool((np.diag(gradient) < 0).all() and np.sum(gradient > 0) == 30), True  # partners are pulled, others pushed


@law("contrastive_gradient")
def the_gradient_vanishes_where_all_is_right(contrastive_loss_gradient, rng):
    """if each picture has found its text, the gradient is zero"""
    gradient = contrastive_loss_gradient(1000 * np.eye(5) + rng.standard_normal((5, 5)))
    yield gradient, np.zeros((5, 5))


@law("contrastive_gradient")
def the_gradient_of_smoothed_labels(contrastive_loss_gradient, rng):
    """label_smoothing changes the targets, and so the gradient"""
    logits = rng.standard_normal((4, 4))
    yield contrastive_loss_gradient(logits, label_smoothing=0.1), exact_gradient(logits, 0.1)


# ------------------------------------------------------------------------------------------- zero-shot


class Dictionary:
    """A substitute for a model: every text has a random embedding, of any length."""

    ops = numpy_ops

    WIDTH = 6

    def __init__(self, seed):
        self.seed = seed

    def tokenize(self, texts):
        return list(texts)

    def encode_text(self, tokens):
        return np.stack([self._direction(text) for text in tokens])  # (n, E)

    def _direction(self, text):
        rng = np.random.default_rng([self.seed, zlib.crc32(text.encode())])
        return normal(rng, self.WIDTH, scale=rng.uniform(0.2, 5))


def _model(rng):
    return Dictionary(int(rng.integers(1 << 32)))


def _unit(x):
    return x / np.linalg.norm(x.astype(np.float64), axis=-1, keepdims=True)


LABELS = ["cat", "dog", "snake"]
TEMPLATES = ["{}", "a photo of a {}", "a drawing of a {}, a {}"]


@law("zero_shot")
def a_class_is_its_texts_direction(class_embeddings, rng):
    """with one template: the text's embedding, of length one"""
    model = _model(rng)
    classes = class_embeddings(model, LABELS, ["a photo of a {}"])
    yield classes, _unit(model.encode_text([f"a photo of a {label}" for label in LABELS]))


@law("zero_shot")
def a_template_is_filled_in_everywhere(class_embeddings, rng):
    """every {} of a template becomes the label"""
    model = _model(rng)
    classes = class_embeddings(model, LABELS, TEMPLATES[2:])
    yield classes, _unit(model.encode_text([f"a drawing of a {label}, a {label}" for label in LABELS]))


@law("zero_shot")
def an_ensemble_is_a_mean_of_directions(class_embeddings, rng):
    """with several templates: the mean of the embeddings made unit first, and then made unit again"""
    model = _model(rng)
    classes = class_embeddings(model, LABELS, TEMPLATES)
    total = sum(_unit(model.encode_text([t.replace("{}", label) for label in LABELS])) for t in TEMPLATES)
    yield classes, _unit(total)
    yield np.linalg.norm(classes, axis=-1), np.ones(3)


@law("zero_shot")
def the_label_alone_is_the_template_that_need_not_be_told(class_embeddings, rng):
    """without templates: the label as it is"""
    model = _model(rng)
    yield class_embeddings(model, LABELS), _unit(model.encode_text(LABELS))


@law("zero_shot")
def what_makes_no_sense_is_refused(class_embeddings, rng):
    """InputError for a template without {}, for no labels or no templates, and for a text instead of a list"""
    for arguments in [(LABELS, ["a photo"]), ([], ["{}"]), (LABELS, []), ("cat", ["{}"]), (LABELS, "{}")]:
        yield raised(class_embeddings, _model(rng), *arguments), "InputError"
