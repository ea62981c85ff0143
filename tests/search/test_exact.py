"""Exact search against a brute force in float64 and against faiss."""

import tracemalloc

import faiss
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from search_indexes import random_features, unit

from miniclip.search import exact


def brute_force(features, queries, k):
    """Rows and scores (q, k): all products in float64, sorted."""
    x, q = np.asarray(features, np.float64), np.asarray(queries, np.float64)
    scores = (x * q[:, None]).sum(-1)  # (q, n)
    rows = np.argsort(-scores, axis=-1, kind="stable")[:, :k]
    return rows, np.take_along_axis(scores, rows, -1)


def search(features, queries, k, block=1 << 15):
    features = np.asarray(features, np.float32)
    blocks = [(i, lambda i=i: features[i : i + block]) for i in range(0, len(features), block)]
    return exact.search(blocks, queries, k)


def assert_same(found, expected):
    for a, b in zip(found, expected):
        np.testing.assert_array_equal(a, b)


@given(st.data())
def test_hits_are_those_of_float64_however_the_rows_are_cut(data):
    n, q, E = (data.draw(st.integers(1, most), name) for name, most in (("n", 90), ("q", 7), ("E", 20)))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000), "seed"))
    few = unit(rng.integers(-2, 3, (data.draw(st.integers(1, n), "different"), E)) + 0.1).astype(np.float16)
    features, queries = few[rng.integers(len(few), size=n)], unit(rng.integers(-2, 3, (q, E)) + 0.1)  # many ties
    k = data.draw(st.integers(1, n), "k")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact, "PRODUCTS", data.draw(st.integers(1, 200), "products"))
        patch.setattr(exact, "ROWS", (1, data.draw(st.integers(1, 60), "rows")))
        patch.setattr(exact, "QUERIES", data.draw(st.integers(1, 8), "queries"))
        found = search(features, queries, k, data.draw(st.integers(1, 100), "block"))
    assert_same(found, brute_force(features, queries, k))


@pytest.mark.parametrize("q", [1, 30])
def test_hits_are_those_of_faiss(q):
    features = random_features(20_000, 32).astype(np.float32)
    queries = unit(np.random.default_rng(1).standard_normal((q, 32)))
    index = faiss.IndexFlatIP(32)
    index.add(features)
    scores, rows = index.search(queries.astype(np.float32), 50)
    found, found_scores = search(features, queries, 50)
    np.testing.assert_allclose(found_scores, scores, atol=1e-6)
    sure = np.diff(brute_force(features, queries, 51)[1]) < -1e-6  # where rounding cannot change the order
    assert sure.mean() > 0.95
    sure[:, 1:] &= sure[:, :-1].copy()
    np.testing.assert_array_equal(found[sure], rows[sure])


def nearly_equal(n, E):
    """Features whose products with the query (1, ..., 1) differ by less than float32 can say."""
    rng = np.random.default_rng(0)
    row = unit(rng.standard_normal(E)).astype(np.float32)
    features = np.stack([rng.permutation(row) for _ in range(n)])
    features[:, 0] = np.nextafter(features[:, 0], rng.choice([-2, 2], n).astype(np.float32))
    return features, unit(np.ones((1, E)))


def test_the_order_is_that_of_float64_where_float32_cannot_say():
    features, query = nearly_equal(500, 64)
    expected = brute_force(features, query, 20)
    plain = np.argsort(-(features @ query[0].astype(np.float32)), kind="stable")[:20]
    assert (plain != expected[0]).any()
    assert_same(search(features, query, 20), expected)


@pytest.mark.usefixtures("two_threads")
def test_equal_rows_are_in_order_on_all_cores():
    features = np.tile(random_features(1, 48), (5000, 1))
    queries = unit(np.random.default_rng(1).standard_normal((3, 48)))
    rows, scores = search(features, queries, 70, block=300)
    np.testing.assert_array_equal(rows, np.tile(np.arange(70), (3, 1)))
    assert (scores == scores[:, :1]).all()


def test_rows_that_become_better_and_better():
    query = unit(np.ones((1, 16)))
    features = random_features(3000, 16)
    features = features[np.argsort(features.astype(np.float64) @ query[0])]
    assert_same(search(features, query, 10), brute_force(features, query, 10))


def test_the_memory_does_not_grow_with_the_rows():
    queries = unit(np.random.default_rng(1).standard_normal((200, 8)))
    features = random_features(40_000, 8).astype(np.float32)
    tracemalloc.start()
    search(features, queries, 10)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40_000 * 200  # a quarter of the products


def test_a_product_in_float32_is_as_exact_as_is_assumed():
    rng = np.random.default_rng(0)
    for E in (8, 512, 2048):
        x, q = unit(rng.standard_normal((300, E))).astype(np.float32), unit(rng.standard_normal((40, E)))
        error = np.abs(x @ q.T.astype(np.float32) - x.astype(np.float64) @ q.T).max()
        assert error < exact.Best(q, 1).error < 1e-3
