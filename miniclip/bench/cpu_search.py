"""Cases of `bench cpu`: exact search in features that are in memory. The peers are faiss's IndexFlatIP, as it is and
with its products computed by BLAS: it does so by itself only from 128,000 / E queries on.

The features are random, of length one, and rounded to float16, as an index on the disk has them.
"""

import functools

import numpy as np

from miniclip.bench.measurement import OURS, Measurement
from miniclip.errors import WrongAnswer
from miniclip.ops.numpy_ops import l2_normalize
from miniclip.search import Index

FAISS, FAISS_BLAS = "faiss", "faiss, BLAS"
K, E = 10, 512
CLOSE = 2e-6  # the error of a score in float32
BLOCK = 1 << 14


def search(model, *, rows, queries, dtype):
    """The K best of `rows` features for each query."""
    features, q = _random(rows, 0).astype(np.float16).astype(np.float32), _random(queries, 1)
    index = functools.cache(lambda: _faiss_index(features))  # of both peers: it has a copy of the features
    builders = {OURS: lambda: _ours(features, q), FAISS: lambda: _faiss(index(), q)}
    if queries > 1:
        builders[FAISS_BLAS] = lambda: _faiss(index(), q, threshold=1)
    flops = 2 * rows * queries * E if queries > 1 else None  # one query's are limited by memory, not by arithmetic
    return Measurement(builders, _check(features, q), queries, "queries/s", flops)


def _random(n, seed):
    """(n, E) float32 of length one."""
    rng, x = np.random.default_rng(seed), np.empty((n, E), np.float32)
    for i in range(0, n, BLOCK):
        x[i : i + BLOCK] = l2_normalize(rng.standard_normal((min(BLOCK, n - i), E), np.float32))
    return x


def _ours(features, q):
    index = Index(features, range(len(features)))
    return lambda: index.search(q, k=K)  # q lists of (row, score)


def _faiss_index(features):
    import faiss

    index = faiss.IndexFlatIP(E)
    index.add(features)
    return index


def _faiss(index, q, threshold=None):
    """A call. `threshold`: from so many queries times E on, BLAS computes the products; None: faiss's default."""
    import faiss

    default = faiss.cvar.distance_compute_blas_threshold

    def call():
        faiss.cvar.distance_compute_blas_threshold = default if threshold is None else threshold
        try:
            scores, rows = index.search(q, K)
        finally:
            faiss.cvar.distance_compute_blas_threshold = default
        return np.stack([rows, scores], axis=-1)

    return call


def _check(features, q):
    """A check of rows (q, K) and scores: the scores are right, and the best ones of all."""
    products = np.concatenate([q @ features[i : i + BLOCK].T for i in range(0, len(features), BLOCK)], axis=1)
    k = min(K, len(features))
    best = -np.sort(-np.partition(products, -k, axis=1)[:, -k:], axis=1)  # (q, k)

    def check(name, answer):
        answer = np.asarray(answer)  # (q, k, 2)
        if answer.shape != (*best.shape, 2):
            raise WrongAnswer(f"it is wrong: the shape is {answer.shape}, not {(*best.shape, 2)}")
        rows, scores = answer[..., 0].astype(int), answer[..., 1]
        errors = np.abs([scores - best, np.take_along_axis(products, rows, axis=1) - best])
        if not errors.max() <= CLOSE or any(len({*some}) < k for some in rows.tolist()):
            raise WrongAnswer(f"it is wrong: a score differs by {errors.max():.1e}, or a row is there twice")

    return check
