"""Approximate search: how much of the exact hits it finds, when its file is built, and with how much memory."""

import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from search_indexes import quiet, random_features, unit, write  # noqa: F401

from miniclip import InputError
from miniclip.search import Index, cells
from miniclip.search.rows import InMemory


def clustered(n, E, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((40, E))
    return unit(centres[rng.integers(40, size=n)] + 0.7 * rng.standard_normal((n, E))).astype(np.float16)


def test_with_all_cells_hits_are_exact_and_with_few_they_are_nearly(tmp_path):
    features = clustered(5000, 24)
    folder = write(tmp_path / "index", features, [f"{i}" for i in range(5000)], rows=1024)
    queries = clustered(50, 24, seed=0)
    exact = Index.open(folder).search(queries)
    every = Index.open(folder, approximate=True, nprobe=10**6).search(queries)
    assert [[hit.name for hit in hits] for hits in every] == [[hit.name for hit in hits] for hits in exact]
    np.testing.assert_allclose(np.array(every)[..., 1].astype(float), np.array(exact)[..., 1].astype(float), atol=1e-6)
    few = Index.open(folder, approximate=True).search(queries)
    recall = np.mean([len({*a} & {*b}) / 10 for a, b in zip(names(few), names(exact))])
    assert recall > 0.8


def names(found):
    return [[hit.name for hit in hits] for hits in found]


def test_cells_are_built_once_and_again_when_the_rows_change(tmp_path, monkeypatch):
    folder = write(tmp_path / "index", random_features(12, 8), [*"abcdefghijkl"])
    built, build = [], cells.build
    monkeypatch.setattr(cells, "build", lambda path, rows: built.append(len(rows)) or build(path, rows))
    query = random_features(1, 8, seed=9)[0]
    for _ in range(2):
        Index.open(folder, approximate=True).search(query)
    assert built == [12]
    new = query[None].repeat(2, 0)
    write(folder, new, ["m", "n"], first=3)
    assert [hit.name for hit in Index.open(folder, approximate=True).search(query, k=2)] == ["m", "n"]
    assert built == [12, 14] and len([*folder.glob("_cells-*")]) == 1
    write(folder, random_features(12, 8, seed=3), [*"abcdefghijkl"])  # as many rows and bytes
    Index.open(folder, approximate=True).search(query)
    assert built == [12, 14, 14]


def test_there_are_k_hits_even_if_one_cell_has_fewer(tmp_path):
    folder = write(tmp_path / "index", clustered(700, 8), [f"{i}" for i in range(700)], rows=700)
    hits = Index.open(folder, approximate=True, nprobe=1).search(clustered(1, 8)[0], k=300)
    assert len({hit.name for hit in hits}) == 300 and hits == sorted(hits, key=lambda hit: -hit.score)


def test_damaged_cells_are_named(tmp_path):
    folder = write(tmp_path / "index", random_features(12, 8), [*"abcdefghijkl"])
    Index.open(folder, approximate=True).search(np.ones(8))
    (path,) = folder.glob("_cells-*")
    path.write_bytes(b"IwSq")
    with pytest.raises(InputError, match=r"_cells-\w+.faiss: cannot be read: remove it"):
        Index.open(folder, approximate=True).search(np.ones(8))


def test_cells_need_faiss_and_at_least_one_probe(tmp_path, monkeypatch):
    folder = write(tmp_path / "index", random_features(12, 8), [*"abcdefghijkl"])
    with pytest.raises(InputError, match="nprobe is 0"):
        Index.open(folder, approximate=True, nprobe=0)
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(InputError, match=r"needs faiss: .*pip install"):
        Index.open(folder, approximate=True)


class Fresh(InMemory):
    """Rows whose blocks are read anew each time, as those of a folder are."""

    def blocks(self):
        return [(i, lambda i=i: self.features[i : i + 1000].copy()) for i in range(0, len(self), 1000)]


def test_building_does_not_keep_all_features(tmp_path, monkeypatch):
    rows = Fresh(random_features(20_000, 64).astype(np.float32), None)
    monkeypatch.setattr(cells, "MOST", 50, raising=False)
    tracemalloc.start()
    cells.build(tmp_path / "_cells-0.faiss", rows)
    peak = tracemalloc.get_traced_memory()[1]  # of NumPy's arrays, without those of faiss
    tracemalloc.stop()
    assert peak < rows.features.nbytes / 3
    assert cells._faiss().read_index(str(tmp_path / "_cells-0.faiss")).nlist == 50


@given(st.integers(1, 3000), st.data())
def test_the_sample_is_of_rows_at_equal_distances(n, data):
    count = data.draw(st.integers(1, n), "count")
    found = cells._sample(Fresh(np.arange(n, dtype=np.float32)[:, None], None), count)[:, 0]
    assert found[0] == 0 and n - found[-1] >= n // count
    assert (np.diff(found) >= n // count).all() and (np.diff(found) <= -(-n // count)).all()
