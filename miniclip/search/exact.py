"""Exact search: the features with the largest inner products with each query, chunk after chunk, on all cores.

A chunk's products are computed in float32. The product of a row that may be among the best, as far as rounding allows,
is computed again in float64. So the answer is that of float64: it does not depend on chunks, cores or BLAS, and equal
rows have equal scores.
"""

import threading
from typing import NamedTuple

import numpy as np

from miniclip.runtime import cpu

PRODUCTS, ROWS = 1 << 18, (1024, 16384)  # at most in a chunk, which then fits in a core's cache
QUERIES = 256  # searched for at a time
EPSILON = float(np.finfo(np.float32).eps)


def search(blocks, queries, k):
    """(rows (q, k) int, scores (q, k) float64) of the k best rows for each query, the best first, the first if equal.

    blocks    a list of (the number of its first row, a function that returns its features (b, E)), of length about one,
              in any floating type; a core works on one block at a time
    queries   (q, E), of length one
    k         at most the number of rows
    """
    parts = [Best(queries[i : i + QUERIES], k) for i in range(0, len(queries), QUERIES)]
    for best in parts:
        cpu.on_own_cores(lambda block, best=best: best.add(block[0], block[1]()), blocks, cpu.blas_threads())
    rows, scores = zip(*(best.result() for best in parts))
    return np.concatenate(rows), np.concatenate(scores)


class Candidates(NamedTuple):
    """Rows that are better for a query than all but k - 1 of the rows before them: three arrays (c,)."""

    query: np.ndarray
    row: np.ndarray
    score: np.ndarray  # float64


class Best:
    """The k best of the rows that were added so far, for each of q queries. Several threads may add rows."""

    def __init__(self, queries, k):
        q, E = queries.shape
        self.queries, self.precise, self.k = np.asarray(queries, np.float32), np.asarray(queries, np.float64), k
        self.rows = min(max(PRODUCTS // q, ROWS[0]), ROWS[1])  # in a chunk
        # |computed in float32 - exact| <= E / 2 * epsilon * the product of the lengths (Higham, 2002, sec. 3.1)
        self.error = (E / 2 + 2) * 1.1 * EPSILON
        self.least = np.full(q, -np.inf, np.float32)  # a chunk's product below this is not among the k best
        self.best = Candidates(np.empty(0, int), np.empty(0, int), np.empty(0))
        self.found, self.count = [], 0  # Candidates that are not among `best` yet
        self.seen, self.lock = 0, threading.Lock()

    def add(self, first, features):
        """Add rows: features (b, E), whose first row has the number `first`."""
        start = 0
        while start < len(features):
            # The first chunks are small, so that later ones have something to be compared with: of n random rows, only
            # about k · ln(n / k) are better than all but k - 1 of those before them.
            stop = start + min(self.rows, max(self.k, self.seen))
            self._add(first + start, features[start:stop])
            self.seen += stop - start
            start = stop

    def _add(self, first, features):
        x = np.asarray(features, np.float32)  # (c, E)
        products = x @ self.queries.T  # (c, q)
        row, query = np.divmod(np.flatnonzero(products >= self.least), products.shape[1])
        if not len(row):
            return
        found = Candidates(query, first + row, self._scores(x, row, query))
        with self.lock:
            self.found.append(found)
            self.count += len(row)
            if self.count > len(self.best.row) / 2:
                self._merge()

    def _scores(self, x, row, query):
        """x[row] · queries[query] in float64, (c,), summed in the same order for each."""
        scores = np.empty(len(row))
        for i in range(0, len(row), 512):
            some = slice(i, i + 512)
            scores[some] = (x[row[some]] * self.precise[query[some]]).sum(axis=-1)
        return scores

    def _merge(self):
        query, row, score = map(np.concatenate, zip(self.best, *self.found))
        order = np.lexsort((row, -score, query))
        query, row, score = query[order], row[order], score[order]
        place = np.arange(len(query)) - np.searchsorted(query, query)  # among those of the same query
        self.best = Candidates(*(x[place < self.k] for x in (query, row, score)))
        last = place == self.k - 1
        self.least[query[last]] = score[last] - self.error
        self.found, self.count = [], 0

    def result(self):
        """(rows (q, k), scores (q, k)) of all rows that were added, at least k."""
        with self.lock:
            self._merge()
        return self.best.row.reshape(-1, self.k), self.best.score.reshape(-1, self.k)
