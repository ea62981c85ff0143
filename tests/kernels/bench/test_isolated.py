"""Cases measured in another process: one that breaks it does not lose the others, and says why it has no time."""

import time

import pytest
from fake_gpu import breaks, few, never_begins

from miniclip.bench import records, session
from miniclip.kernels.bench import cases, isolated, kernels


def test_one_process_measures_case_after_case_and_is_replaced_when_it_is_broken():
    limits = {"hangs": 1}
    with isolated.Isolated(breaks, lambda case: limits.get(case, 60)) as process:
        first = process.measure("fine")
        for case, kind, reason in [
            ("raises", isolated.Raised, "^RuntimeError: out of memory$"),  # the process is as good as before
            ("loses the GPU", isolated.Lost, "^the GPU cannot be used after AssertionError: an illegal memory access$"),
            ("dies", isolated.Lost, "^it ended its process, with code 3$"),
            ("hangs", isolated.Lost, "^no result after 1 seconds$"),
        ]:
            with pytest.raises(kind, match=reason):
                process.measure(case)
            second = process.measure("fine")
            assert (second == first) is (case == "raises")
            first = second
    assert process.process is None


def test_no_case_takes_much_longer_than_all_may(monkeypatch):
    with isolated.Isolated(breaks, lambda case: 60, seconds=60) as process:
        process.measure("fine")
        process.end = time.monotonic() + 1
        with pytest.raises(isolated.Lost, match="no result after 1 seconds"):
            process.measure("hangs")


def test_a_process_that_cannot_begin_says_why():
    process = isolated.Isolated(never_begins, lambda case: 60)
    with pytest.raises(isolated.Lost, match="no GPU is free"):
        process.measure("fine")
    assert process.process is None


@pytest.mark.parametrize("ladder", [False, True])
def test_a_case_that_could_not_be_measured_has_a_record_of_why(ladder, tmp_path, capsys):
    facts = {"device": "NVIDIA H200", "versions": {"miniclip": "0.1.0"}, "date": "2026-01-31"}
    bad, good = few("layer_norm", rows=3, D=8), few("gelu", rows=3, N=8)

    def measure(case):
        if case == bad:
            raise isolated.Lost("no result after 60 seconds")
        return kernels.failed(case, "", ladder=ladder, facts=facts) | {
            "ours": "a", "times": {"a": 1.0}, "value": 1.0, "skipped": {},
        }  # fmt: skip

    failure = lambda case, reason: kernels.failed(case, reason, ladder=ladder, facts=facts)  # noqa: E731
    with pytest.raises(session.InputError, match=r"1 of 2 cases .*layer_norm rows=3 D=8 float32: Lost: no result"):
        session.run([bad, good], measure, cases.describe, tmp_path, failure=failure)
    first, second = records.read(tmp_path)
    assert first["name"] == "layer_norm" + ladder * " ladder" and first["times"] == {}
    assert first["skipped"] == {"version 3" if ladder else "miniclip": "Lost: no result after 60 seconds"}
    assert second["times"]
    assert "Lost: no result after 60 seconds" in capsys.readouterr().out


def test_a_failure_with_torch_compile_does_not_replace_the_record_without_it():
    case = few("gelu", rows=3, N=8)._replace(modes=(cases.LONG,))
    assert kernels.failed(case, "", ladder=False, facts={})["name"] == "gelu with torch.compile"
    assert kernels.limit(case) > kernels.limit(case._replace(modes=()))
