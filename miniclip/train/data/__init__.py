"""Training data: pictures with captions, as users have them, in batches that depend on (seed, step) alone."""

import os
from pathlib import Path

from miniclip.errors import InputError
from miniclip.train.data import captions, hugging_face, in_memory, webdataset
from miniclip.train.data.augment import Augment
from miniclip.train.data.batches import Batches
from miniclip.train.data.drawn import Shapes
from miniclip.train.data.pairs import Pairs

__all__ = ["Augment", "Batches", "Pairs", "Shapes", "load", "read"]

KINDS = (
    'expected a folder of pictures, a .csv, .tsv or .jsonl table, tar shards ("data/{00..99}.tar" or a list), a folder '
    'that datasets has saved, a datasets.Dataset, a list of (picture, caption), or "shapes"'
)


def load(source, preprocess, *, batch=None, seed=0, augment=None, columns=None):
    """Training data from any source that docs/training-data.md lists: a `Batches`, or for "shapes" a `Shapes`.

    preprocess  what `miniclip.load` returns, or the size of the pictures: a number, or (height, width)
    batch       how many pictures a step has, in all processes together
    augment     `Augment()` for OpenCLIP's random crops; None prepares pictures as for a trained model
    columns     (pictures, captions): the names of two columns, if they are not the usual ones

    Its `batches(start, rank, world)` are endless. What cannot be used is logged and in `skipped`, with the reason.
    Raises InputError if the source is of no known kind, has no pair, or has fewer pictures than a batch.
    """
    if isinstance(source, str) and source == "shapes":
        if augment is not None or columns is not None:
            raise InputError("the built-in shapes take neither augment nor columns: leave them out")
        return Shapes(preprocess, batch=batch, seed=seed)
    return Batches(read(source, columns), preprocess, batch=batch, seed=seed, augment=augment)


def read(source, columns=None):
    """The `Pairs` of a source, by its kind. Raises InputError if it is of none."""
    if columns is not None and (isinstance(columns, str) or len(columns) != 2):
        raise InputError(f'columns is {columns!r}, expected two names: columns=("path", "caption")')
    if hugging_face.is_dataset(source):
        return hugging_face.read(source, columns)
    if in_memory.has_pairs(source):
        if columns is not None:
            raise InputError("a list of (picture, caption) has no columns: leave them out")
        return in_memory.read(source)
    if isinstance(source, (list, tuple)):
        odd = [x for x in source if not isinstance(x, (str, os.PathLike))]
        if odd:
            raise InputError(f"a list is of (picture, caption), or of the paths of tar shards, not of {odd[0]!r:.80}")
        return webdataset.read(source, columns)
    if not isinstance(source, (str, os.PathLike)):
        raise InputError(f"the data are of type {type(source).__name__}, {KINDS}")
    path = Path(source)
    if path.is_dir():
        if (path / "dataset_info.json").is_file() or (path / "dataset_dict.json").is_file():
            return hugging_face.read(hugging_face.load_saved(str(path)), columns, str(path))
        return captions.read_folder(path, columns)
    if path.suffix.lower() == ".tar" or "{" in str(source):
        return webdataset.read(str(source), columns)
    if not path.exists():
        raise InputError(f"{path}: no such file or folder, {KINDS}")
    if path.suffix.lower() not in captions.TABLES:
        raise InputError(f"{path}: is a file of no known kind, {KINDS}")
    return captions.read_table(path, columns)
