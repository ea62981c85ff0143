"""The rows of a search, names with features: in memory, or in the parts of a folder, which are read for each search."""

import itertools
from functools import partial

import numpy as np

from miniclip.embed import index
from miniclip.errors import InputError
from miniclip.runtime import cpu

BLOCK = 1 << 15  # rows in memory that a core works on at a time
LENGTH = 0.01  # how much the length of a feature may differ from one: in float16 it does by 0.0005


class InMemory:
    """Features (n, E), kept in float32, which products need, and n names."""

    def __init__(self, features, names):
        self.features, self.names = features, names

    def __len__(self):
        return len(self.features)

    @property
    def embed_dim(self):
        return self.features.shape[1]

    def blocks(self):
        """[(number of the first row, a function that returns features (b, E) float32)], all rows in order."""
        return [(i, lambda i=i: self.features[i : i + BLOCK]) for i in range(0, len(self), BLOCK)]

    def names_of(self, rows):
        """The names (q, k), lists, of rows (q, k), an array of their numbers."""
        return [[self.names[row] for row in some] for some in rows.tolist()]


class InFolder:
    """The parts of an index. A search reads all of them, one on each core at a time."""

    def __init__(self, parts):
        self.parts = parts
        self.starts = [0, *itertools.accumulate(part.rows for part in parts)]

    def __len__(self):
        return self.starts[-1]

    @property
    def embed_dim(self):
        return self.parts[0].metadata["embed_dim"]

    def blocks(self):
        return [(start, partial(self._features, part)) for start, part in zip(self.starts, self.parts)]

    def _features(self, part):
        return checked(index.rows_of(part)[1], part.path)

    def names_of(self, rows):
        """The names (q, k), lists, of rows (q, k), an array of their numbers. A part is read once for all."""
        wanted, names = np.unique(rows), {}
        places = np.searchsorted(self.starts, wanted, side="right") - 1  # the part of each row
        for place in np.unique(places):
            part = index.rows_of(self.parts[place], features=False)
            names |= {row: part[row - self.starts[place]] for row in wanted[places == place].tolist()}
        return [[names[row] for row in some] for some in rows.tolist()]

    def read(self):
        """The same rows in memory."""
        features = np.empty((len(self), self.embed_dim), np.float32)

        def read(start, part):
            names, some = index.rows_of(part)
            features[start : start + part.rows] = checked(some, part.path)
            return names

        names = cpu.on_cores(lambda job: read(*job), zip(self.starts, self.parts), cpu.cores())
        return InMemory(features, [*itertools.chain.from_iterable(names)])


def open_folder(folder):
    """InFolder of an index. Raises InputError if it is none, or is empty or damaged."""
    parts = index.parts_of(folder)
    if not sum(part.rows for part in parts):
        raise InputError(f"{folder}: is not an index, or is empty: write one with miniclip embed PICTURES -o INDEX")
    return InFolder(parts)


def in_memory(features, names):
    """InMemory of a user's features and names. Raises InputError if they do not fit, or as `checked` does."""
    features, names = numbers(features), [*names]
    if features.ndim != 2 or 0 in features.shape:
        raise InputError(f"features have the shape {features.shape}, expected (n, E), one row for each name")
    if len(names) != len(features):
        raise InputError(f"there are {len(names)} names for {len(features)} features: give one for each")
    features = np.ascontiguousarray(features, np.float32)
    for i in range(0, len(features), BLOCK):
        checked(features[i : i + BLOCK], "the features", i)
    return InMemory(features, names)


def checked(features, where, first=0):
    """Features (b, E) as float32. Raises InputError, which names the row, if one is not of length one."""
    x = np.asarray(features, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.sqrt(np.einsum("be,be->b", x, x))
        wrong = ~(np.abs(lengths - 1) <= LENGTH)  # NaN is wrong, too
    if wrong.any():
        row = int(wrong.argmax())
        finite = np.isfinite(x[row]).all()
        reason = f"has the length {lengths[row]:.4g}" if finite else "has values that are not numbers"
        raise InputError(
            f"{where}: row {first + row} {reason}, expected 1: use features as encode_image(images, normalize=True) "
            "gives them"
        )
    return x


def numbers(x):
    """An array or tensor as an ndarray of floats. Raises InputError for anything else."""
    try:
        array = np.asarray(x.detach().float().cpu() if hasattr(x, "detach") else x)
        return array if array.dtype.kind == "f" else array.astype(np.float32)
    except (TypeError, ValueError) as error:
        raise InputError(f"features are of type {type(x).__name__}, expected an array (n, E) of numbers") from error
