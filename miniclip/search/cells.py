"""Approximate search: k-means groups the features in cells, and a search looks at the cells nearest to the query alone.

faiss does it: `IndexIVFScalarQuantizer`, an inverted file (Sivic and Zisserman, 2003; Johnson et al., 2017). Cells, and
not a graph such as HNSW, because they are built in less than half the time, and a search for the same recall takes no
longer (figures are in docs/search.md); because the file has the features as they are, in float16, and is mapped into
memory: one search reads a few hundredths of it; and because with all cells the result is the exact one.
"""

import hashlib
import logging
import os
from functools import cached_property
from pathlib import Path

import numpy as np

from miniclip.errors import InputError
from miniclip.runtime import files
from miniclip.runtime.installation import install

NAME = "_cells-{}.faiss"  # readers of Parquet leave out names that begin with "_"
TRAINED = 64  # rows for each cell that k-means sees; faiss warns of fewer than 39
MOST = 8192  # cells: k-means then sees half a million rows, in float32 1 GB if E is 512
LEAST, SHARE = 8, 1 / 16  # cells that a search looks at: a number, or a share of all
VERSION = 1


class Cells:
    """The cells of an index, rows `InFolder`. Called with queries (q, E) and k, it returns what `exact.search` does.

    The first call builds their file if there is none for these rows. Raises InputError if faiss is not installed, for
    `nprobe` below 1, and if the file cannot be written or read.
    """

    def __init__(self, folder, rows, nprobe=None):
        if nprobe is not None and nprobe < 1:
            raise InputError(f"nprobe is {nprobe}, expected how many cells are looked at: 1 or more")
        self.folder, self.rows, self.nprobe, self.package = Path(folder), rows, nprobe, _faiss()

    @cached_property
    def index(self):
        """faiss's index of them."""
        path = path_of(self.folder, self.rows.parts)
        if not path.exists():
            try:
                with files.locked(self.folder / ".cells.lock"):  # another process may be building them, too
                    if not path.exists():
                        logging.getLogger(__name__).warning("building the cells of %s features, once", len(self.rows))
                        build(path, self.rows)
            except OSError as error:
                raise InputError(f"{self.folder}: cannot be written: {error.strerror}") from error
        try:
            return self.package.read_index(str(path), self.package.IO_FLAG_MMAP | self.package.IO_FLAG_READ_ONLY)
        except RuntimeError as error:
            raise InputError(f"{path}: cannot be read: remove it, then it is built again") from error

    def __call__(self, queries, k):
        count = self.index.nlist
        nprobe = min(self.nprobe or max(LEAST, round(count * SHARE)), count)
        while True:
            options = self.package.SearchParametersIVF(nprobe=nprobe)
            scores, rows = self.index.search(np.asarray(queries, np.float32), k, params=options)  # (q, k)
            if (rows >= 0).all() or nprobe == count:
                break
            nprobe = min(2 * nprobe, count)  # so few cells had less than k rows
        order = np.lexsort((rows, -scores))  # (q, k); equal rows in their order
        return np.take_along_axis(rows, order, 1), np.take_along_axis(scores, order, 1).astype(np.float64)


def path_of(folder, parts):
    """The file of an index's cells. Its name depends on all parts, so that it is never that of other rows."""
    digest = hashlib.sha256(f"{VERSION}".encode())
    for part in parts:
        with open(part.path, "rb") as file:  # the end of a Parquet file describes its columns, with sizes and places
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 8))
            length = int.from_bytes(file.read(4), "little")
            file.seek(max(0, size - 8 - length))
            digest.update(f"{part.path.name} {size} ".encode() + file.read())
    return folder / NAME.format(digest.hexdigest()[:16])


def build(path, rows):
    """Write the file of cells, and remove those of other rows. It takes the memory that docs/search.md says."""
    faiss, n, E = _faiss(), len(rows), rows.embed_dim
    count = max(1, min(round(4 * n**0.5), n // TRAINED, MOST))
    cells = faiss.IndexIVFScalarQuantizer(
        faiss.IndexFlatIP(E), E, count, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT, False
    )
    cells.train(_sample(rows, min(n, TRAINED * count)))
    for _, features in rows.blocks():
        cells.add(features())
    for old in path.parent.glob(NAME.format("*")):
        old.unlink()
    files.remove_incomplete(path)
    with files.atomic(path) as temporary:
        try:
            faiss.write_index(cells, str(temporary))
        except RuntimeError as error:  # the disk is full
            raise InputError(f"{path}: cannot be written: {error}") from error


def _sample(rows, count):
    """The features (count, E) of some rows, at equal distances."""
    chosen, found, done = np.arange(count) * len(rows) // count, np.empty((count, rows.embed_dim), np.float32), 0
    for first, features in rows.blocks():
        block = features()  # (b, E)
        some = block[chosen[(first <= chosen) & (chosen < first + len(block))] - first]
        found[done : done + len(some)] = some
        done += len(some)
    return found


def _faiss():
    try:
        import faiss
    except ImportError as error:
        raise InputError(f"an approximate search needs faiss: {install('search')}") from error
    return faiss
