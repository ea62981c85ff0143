"""Cuts a batch into chunks for the reference backend, so that all cores work, on data that fits into their caches.

Builds on `cpu`. If each matrix product ran on all cores, it would wait for the slowest of them, and everything between
the products would run on only one. But the rows of a batch do not depend on each other: so it is cut into chunks, and
each chunk goes through the whole tower on one core.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from miniclip.runtime import cpu

PICTURES = 8  # at most in a chunk: with more, products hardly get faster
TOKENS = 400  # of texts, for the same reason


def in_chunks(function, batch_invariant=False):
    """function(batch, trace=, ...) or function(tokens, end, trace=, ...) -> the same function, computed in chunks.

    Texts are tokens (B, T) with their last positions, end (B,). They are sorted by length, and each chunk is as long as
    its longest text. Other options are None, (B,) or, as the tokens, (B, T); of pictures (B, ...). With `trace` the
    batch is one chunk.

    The last bits of a product depend on its number of rows, so those of a feature depend on the rest of its chunk. With
    `batch_invariant` each row is a chunk of its own, on one thread: it is bit for bit the same in any batch, on any
    number of cores. While chunks are computed, all matrix products of this process run on one thread each.
    """

    def run(batch, *end, trace=None, **options):
        B, cores = len(batch), cpu.blas_threads()
        few = max(2, cores) > B and not batch_invariant  # fewer rows than cores: each product runs on all cores instead
        if trace is not None or few or B == 0:
            return np.ascontiguousarray(function(batch, *end, trace=trace, **options))
        total = int(lengths_of(batch, *end).sum())
        most = 1 if batch_invariant else share(total, TOKENS if end else PICTURES, cores)
        chunks = pieces(batch, *end, most=most, **options)
        return joined(chunks, cpu.on_own_cores(lambda chunk: function(*chunk.batch, **chunk.options), chunks, cores))

    return run


class Piece(NamedTuple):
    """A chunk: its rows' places in the batch, and these rows of the batch (and of end) and of the options."""

    rows: Any
    batch: tuple
    options: dict


def lengths_of(batch, end=None):
    """How many tokens each text has, (B,), from its last position; a picture counts as one."""
    return np.ones(len(batch), int) if end is None else end + 1


def pieces(batch, *end, most, **options):
    """The chunks of pictures (B, ...) or of tokens (B, T) with end (B,), each of at most `most` pictures or tokens."""
    lengths = lengths_of(batch, *end)  # (B,)
    order = np.argsort(-lengths, kind="stable")  # (B,), the longest first
    found = []
    for chunk in cut(lengths[order].tolist(), most):
        if end:
            rows, T = order[chunk], lengths[order[chunk.start]]  # the longest comes first
            here = {name: None if x is None else x[rows] if x.ndim == 1 else x[rows, :T] for name, x in options.items()}
            found.append(Piece(rows, (batch[rows, :T], end[0][rows]), here))
        else:
            here = {name: None if x is None else x[chunk] for name, x in options.items()}  # views
            found.append(Piece(chunk, (batch[chunk],), here))
    return found


def joined(chunks, parts):
    """The result for the whole batch, (B, E), from those of its chunks."""
    whole = np.empty((sum(map(len, parts)), *parts[0].shape[1:]), parts[0].dtype)
    for chunk, part in zip(chunks, parts):
        whole[chunk.rows] = part
    return whole


def share(total, most, cores):
    """How many of `total` tokens (or pictures) a chunk gets, so that all cores get about the same amount.

    This is an even share, at most `most`, and up to a tenth more, because texts are padded to the longest in a chunk.
    """
    even = total / (cores * math.ceil(total / (cores * most)))
    return max(math.ceil(even), int(1.1 * even))


def cut(lengths, most):
    """Slices of consecutive rows, from their lengths, longest first: each has at most `most` tokens, or one row."""
    chunks, start = [], 0
    while start < len(lengths):
        stop = start + max(1, most // lengths[start])
        chunks.append(slice(start, stop))
        start = stop
    return chunks
