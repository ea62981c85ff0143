"""Zero-shot classification: a picture belongs to the label whose text it is most similar to.

(Learning Transferable Visual Models, sec. 3.1; prompt ensembles sec. 3.1.4.) The probabilities of a CLIP or an ALIGN
are shares: a softmax over all labels, which sum to one. Those of a SigLIP are independent: the sigmoid of each logit
says whether picture and text belong together, whatever the other labels are: all may be small, or several large.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from miniclip.errors import InputError
from miniclip.model import CLIP
from miniclip.ops import Array, numpy_ops


def class_embeddings(model: CLIP, labels: Iterable[str], templates: Iterable[str] = ("{}",)) -> Array:
    """A unit vector for each of n labels, (n, E): the mean of its unit embeddings over the templates, normalised.

    A template is a text with "{}" where the label goes. Raises InputError for a template without "{}", for no labels,
    for no templates, and for any that is not a text.
    """
    labels, templates = _texts("labels", labels), _texts("templates", templates)
    for template in templates:
        if "{}" not in template:
            raise InputError(f"the template {template!r} has no {{}} where the label goes")
    total = 0  # the sum: once normalised, it is the mean's direction
    for template in templates:
        tokens = model.tokenize([template.replace("{}", label) for label in labels])
        total = total + model.ops.l2_normalize(model.encode_text(tokens))  # (n, E)
    return model.ops.l2_normalize(total)


def classify(model: CLIP, images: Array, labels: Sequence[str], templates: Sequence[str] = ("{}",)) -> Array:
    """Probabilities of n labels for each picture: images (B, C, height, width) -> (B, n).

    Each row sums to one, except for a SigLIP, whose probabilities are independent of each other.
    """
    return probabilities(model, images, class_embeddings(model, labels, templates))


def probabilities(model: CLIP, images: Array, classes: Array) -> Array:
    """softmax of the logits, of a SigLIP their sigmoid: images (B, C, height, width), classes (n, E) -> (B, n)."""
    logits = model.logits(model.encode_image(images), classes)
    return model.ops.sigmoid(logits) if model.config.independent else model.ops.softmax(logits)


def precise_softmax(logits: np.ndarray) -> np.ndarray:
    """softmax of logits (b, n) in float64. In float32, small probabilities would all be 0, and equal."""
    return numpy_ops.softmax(np.asarray(logits, np.float64))


def precise_probabilities(model: CLIP, logits: np.ndarray) -> np.ndarray:
    """The probabilities that logits (b, n) of this model mean, as `probabilities`, in float64."""
    return numpy_ops.sigmoid(np.asarray(logits, np.float64)) if model.config.independent else precise_softmax(logits)


def _texts(name, texts):
    """`texts` as a list; InputError that calls them `name` if they are not at least one text."""
    listed = [*texts] if isinstance(texts, Iterable) and not isinstance(texts, (str, bytes)) else []
    if not listed:
        raise InputError(f"{name} is {texts!r}, expected a list of at least one text")
    for i, text in enumerate(listed):
        if not isinstance(text, str):
            raise InputError(f"{name}[{i}] is {text!r}, expected a text")
    return listed
