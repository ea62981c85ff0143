"""Zero-shot classification: a picture belongs to the label whose text it is most similar to.

(Learning Transferable Visual Models, sec. 3.1; prompt ensembles sec. 3.1.4.)
"""

from collections.abc import Callable, Iterable, Sequence

from miniclip.errors import InputError
from miniclip.model import CLIP
from miniclip.ops import Array

Template = str | Callable[[str], str]


def class_embeddings(model: CLIP, labels: Iterable[str], templates: Iterable[Template] = ("{}",)) -> Array:
    """A unit vector for each of n labels, (n, E): the mean of its unit embeddings over the templates, normalised.

    A template is a text with "{}" where the label goes, or a function: label -> text. Raises InputError for a template
    without "{}", for no templates, for no labels, and for labels that are not texts.
    """
    labels, templates = _listed("labels", labels), _listed("templates", templates)
    total = 0  # the sum: once normalised, it is the mean's direction
    for template in templates:
        tokens = model.tokenize([_filled(template, label) for label in labels])
        total = total + model.ops.l2_normalize(model.encode_text(tokens))  # (n, E)
    return model.ops.l2_normalize(total)


def classify(model: CLIP, images: Array, labels: Sequence[str], templates: Sequence[str] = ("{}",)) -> Array:
    """Probabilities of n labels for each picture: images (B, C, height, width) -> (B, n); each row sums to one."""
    return probabilities(model, images, class_embeddings(model, labels, templates))


def probabilities(model: CLIP, images: Array, classes: Array) -> Array:
    """softmax of the scaled cosines: images (B, C, height, width), classes (n, E) -> (B, n)."""
    return model.ops.softmax(model.logits(model.encode_image(images), classes))


def _listed(name, texts):
    """Labels or templates as a list; InputError if there are none, or if one is not what it should be."""
    if isinstance(texts, str) or not isinstance(texts, Iterable):
        raise InputError(f"{name} is {texts!r}, expected a list of at least one text")
    if not (texts := list(texts)):
        raise InputError(f"{name} is empty, expected a list of at least one text")
    for i, text in enumerate(texts):
        if not isinstance(text, str) and not (name == "templates" and callable(text)):
            raise InputError(f"{name}[{i}] is {text!r}, expected a text")
        if name == "templates" and isinstance(text, str) and "{}" not in text:
            raise InputError(f"the template {text!r} has no {{}} where the label goes")
    return texts


def _filled(template, label):
    text = template.replace("{}", label) if isinstance(template, str) else template(label)
    if not isinstance(text, str):
        raise InputError(f"the template {template!r} makes {text!r} of {label!r}, expected a text")
    return text
