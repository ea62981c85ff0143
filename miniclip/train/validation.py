"""How good a model is while it is trained, on pictures that it does not learn from."""

import os

import numpy as np

from miniclip.errors import InputError
from miniclip.evaluate import datasets, metrics
from miniclip.train import data
from miniclip.train.data import Batches
from miniclip.zero_shot import class_embeddings

BATCH = 64  # pictures or texts encoded at a time


class Retrieval:
    """Recall on pairs: the share of pictures whose nearest caption is theirs, and of captions whose nearest picture is.

    pairs  a `data.Pairs`; up to 1000 pairs are used · preprocess  what `miniclip.load` returns

    Equal captions count as one: any of their pictures is right.
    """

    SCORE = "recall"

    def __init__(self, pairs, preprocess):
        self.images, self.captions = Batches(pairs, preprocess, batch=1).first(1000)  # (n, C, height, width), n texts
        if not self.captions:
            raise InputError(f"{pairs.source}: none of its pictures can be read")

    def __call__(self, model):
        texts, index = np.unique(np.array(self.captions, dtype=object), return_inverse=True)  # (N,), (n,)
        tokens = model.tokenize(list(texts), truncate=True)  # (N, T)
        images = _encode(model, model.encode_image, self.images)  # (n, E)
        cosines = images @ _encode(model, model.encode_text, tokens).T  # (n, N)
        theirs = index[:, None] == np.arange(len(texts))  # (n, N)
        both = (metrics.ranks(cosines, theirs), metrics.ranks(cosines.T, theirs.T))
        return {"recall": sum(metrics.recall_at_k(ranks, 1) for ranks in both) / 2}


class ZeroShot:
    """Zero-shot accuracy on labelled pictures.

    source      a list of (picture, label), or a folder with a folder of pictures for each class: its name is the label,
                with "_" read as " "
    preprocess  what `miniclip.load` returns
    templates   texts with {} for the label; with several, a label is the mean of its texts

    Raises InputError for fewer than two classes, for labels that are no texts, and for a template without {}.
    """

    SCORE = "accuracy"

    def __init__(self, source, preprocess, templates=("{}",)):
        where = source if isinstance(source, (str, os.PathLike)) else "the list"
        pairs = datasets.in_folders(source) if where is source else [*source]  # n
        self.labels, self.templates = sorted({label for _, label in pairs}, key=str), [*templates]
        if len(self.labels) < 2:
            raise InputError(f"{where}: expected pictures of at least two classes, in a folder for each of them")
        for label in self.labels:
            if not isinstance(label, str):
                raise InputError(f"the label {label!r} is not a text: give the words that name the class")
        for template in self.templates:  # now, not after the first steps
            if "{}" not in template:
                raise InputError(f"the template {template!r} has no {{}} where the label goes")
        # broken pictures are named and left out
        self.images, labels = Batches(data.read(pairs), preprocess, batch=1).first(len(pairs))  # (n, C, height, width)
        self.truth = np.array([self.labels.index(label) for label in labels])  # (n,)

    def __call__(self, model):
        classes = model.ops.to_numpy(class_embeddings(model, self.labels, self.templates))  # (N, E)
        nearest = (_encode(model, model.encode_image, self.images) @ classes.T).argmax(axis=1)  # (n,)
        return {"accuracy": float((nearest == self.truth).mean())}


def _encode(model, encode, rows):
    """Unit features of n pictures or texts, (n, E)."""
    parts = [encode(rows[start : start + BATCH], normalize=True) for start in range(0, len(rows), BATCH)]
    return np.concatenate([model.ops.to_numpy(part) for part in parts])
