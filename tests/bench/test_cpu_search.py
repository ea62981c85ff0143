"""The case of `miniclip bench cpu` that searches: wrong hits are noticed, and one word chooses it."""

import numpy as np
import pytest

from miniclip.bench import cpu, cpu_search, timing
from miniclip.bench.measurement import OURS
from miniclip.errors import WrongAnswer

CASES = [case for case in cpu.CASES if case.prepare is cpu_search.search]


def test_one_word_chooses_it(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(cpu.session, "run", lambda cases, *others: seen.extend(cases))
    cpu.run(only="search", out=tmp_path)
    assert seen == CASES and [case.shape["queries"] for case in CASES] == [1, 64]


@pytest.mark.parametrize("queries", [1, 5])
def test_wrong_hits_are_noticed(queries):
    m = cpu_search.search(None, rows=300, queries=queries, dtype="float32")
    hits = np.array(m.builders[OURS]()())  # (q, k, 2)
    m.check(OURS, hits)
    others, twice, scores = hits.copy(), hits.copy(), hits.copy()
    others[-1, 3, 0] = (others[-1, :, 0].max() + 1) % 300
    twice[-1, 1] = twice[-1, 0]
    scores[-1, 2, 1] += 1e-4
    for wrong in (others, twice, scores, hits[:, :9], hits[:, ::-1], np.where(hits < 1, np.nan, hits)):
        with pytest.raises(WrongAnswer):
            m.check(OURS, wrong)


def test_the_limit_of_one_query_is_not_the_product(monkeypatch):
    monkeypatch.setattr(timing, "PAUSE", 0)
    one, several = (
        cpu.measure(case._replace(shape={**case.shape, "rows": 200}), None, 1, {"device": "x"}) for case in CASES
    )
    assert one["share_of_limit"] is None and several["share_of_limit"] > 0
    assert list(one["times"]) == ["miniclip", "faiss"]
    assert list(several["times"]) == ["miniclip", "faiss", "faiss, BLAS"]
    assert several["unit"] == "queries/s" and several["best_peer"].startswith("faiss")
