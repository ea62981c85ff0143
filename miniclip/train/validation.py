"""How good a model is while it is trained, on pictures that it does not learn from."""

import os
from pathlib import Path

import numpy as np

from miniclip.errors import InputError
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
        by_picture = cosines.argmax(axis=1) == index  # (n,)
        by_text = index[cosines.argmax(axis=0)] == np.arange(len(texts))  # (N,)
        return {"recall": float((by_picture.mean() + by_text.mean()) / 2)}


class ZeroShot:
    """Zero-shot accuracy on a folder with one folder for each class, whose names are the labels; "_" is read as " ".

    preprocess  what `miniclip.load` returns · template  a text with {} for the label

    Raises InputError if there are not at least two classes with pictures.
    """

    SCORE = "accuracy"

    def __init__(self, folder, preprocess, template="{}"):
        folders = sorted(path for path in Path(folder).iterdir() if path.is_dir()) if os.path.isdir(folder) else []
        found = {path.name.replace("_", " "): sorted(x for x in path.rglob("*") if x.is_file()) for path in folders}
        if sum(map(bool, found.values())) < 2:
            raise InputError(f"{folder}: expected a folder with a folder of pictures for each of at least two classes")
        self.labels, self.template = list(found), template
        self.truth = np.repeat(np.arange(len(found)), [len(paths) for paths in found.values()])  # (n,)
        self.images = preprocess([path for paths in found.values() for path in paths])  # (n, C, height, width)

    def __call__(self, model):
        classes = model.ops.to_numpy(class_embeddings(model, self.labels, [self.template]))  # (N, E)
        nearest = (_encode(model, model.encode_image, self.images) @ classes.T).argmax(axis=1)  # (n,)
        return {"accuracy": float((nearest == self.truth).mean())}


def _encode(model, encode, rows):
    """Unit features of n pictures or texts, (n, E)."""
    parts = [encode(rows[start : start + BATCH], normalize=True) for start in range(0, len(rows), BATCH)]
    return np.concatenate([model.ops.to_numpy(part) for part in parts])
