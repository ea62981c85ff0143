"""The reference, continued: where a batch is cut, so that all cores work, and on what their caches can hold.

Builds on `processor`. Were every matrix product spread over all cores, each would wait for the slowest of them, and
what lies between the products would run on one core alone. But no row of a batch asks for another: so it is cut into
chunks, each of which goes through the whole tower on one core.
"""

import math

import numpy as np

from miniclip.runtime import cpu

PICTURES = 8  # in a chunk at most: by then products are about as fast as they get
TOKENS = 400  # of texts, likewise


def in_chunks(function, batch_invariant=False):
    """function(batch, trace=, ...) or function(tokens, end, trace=, ...) -> the same, computed chunk by chunk.

    Texts, tokens (B, T) whose last that counts is end (B,), are sorted: each chunk is as long as its longest text.
    Further options are None or of the tokens' shape. With `trace` there is but one chunk, the batch as it is.

    A product's last bits depend on how many rows it has, and a feature's on what else is in its chunk. With
    `batch_invariant` each row is a chunk of its own, on one thread: to the bit the same in any batch, on any number of
    cores. While chunks are computed, all of this process' matrix products run on one thread each.
    """

    def run(batch, *end, trace=None, **options):
        B, cores = len(batch), cpu.blas_threads()
        few = max(2, cores) > B and not batch_invariant  # no chunk for every core: each product runs on all instead
        if trace is not None or few or B == 0:
            return np.ascontiguousarray(function(batch, *end, trace=trace, **options))
        lengths = end[0] + 1 if end else np.ones(B, int)  # (B,)
        order = np.argsort(-lengths, kind="stable")  # (B,), the longest first
        most = 1 if batch_invariant else share(int(lengths.sum()), TOKENS if end else PICTURES, cores)

        def encode(chunk):
            cpu.limit_this_thread()
            if not end:
                return function(batch[chunk], **options)
            rows = order[chunk]
            T = lengths[rows[0]]
            options_here = {name: None if x is None else x[rows, :T] for name, x in options.items()}
            return function(batch[rows, :T], end[0][rows], **options_here)

        with cpu.one_blas_thread():
            chunks = cpu.on_cores(encode, cut(lengths[order].tolist(), most), cores)
        return np.concatenate(chunks)[np.argsort(order)]  # (B, E)

    return run


def share(total, most, cores):
    """How many of `total` tokens, at most `most`, a chunk gets, so that all cores get about as much to do.

    A tenth more than an even share where it can be, for padding.
    """
    even = total / (cores * math.ceil(total / (cores * most)))
    return max(math.ceil(even), int(1.1 * even))


def cut(lengths, most):
    """Slices of consecutive rows, [length of each], the longest first: at most `most` tokens in a slice, or one row."""
    chunks, start = [], 0
    while start < len(lengths):
        stop = start + max(1, most // lengths[start])
        chunks.append(slice(start, stop))
        start = stop
    return chunks
