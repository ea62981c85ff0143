"""How runs are timed: in turns, after a warm-up, with medians."""

import pytest
from fake_gpu import CEILINGS, Machine

from miniclip.bench import timing


def test_the_limit_is_the_ceiling_that_takes_longer():
    assert timing.limit(0, 4.3e9, CEILINGS) == (pytest.approx(1000), "copy")
    assert timing.limit(7.9e12, 4.3e9, CEILINGS) == (pytest.approx(10_000), "product")


def test_runs_take_turns_and_medians_are_taken():
    machine = Machine()
    runs = {"a": machine.takes("a", 5, 1, 9, 2, 1000), "b": machine.takes("b", 7)}
    times, rounds = timing.medians(runs, machine.clock, 5)
    assert (times, rounds) == ({"a": 5, "b": 7}, 5)  # the first run is the warm-up; the median is of 1, 9, 2, 1000, 5
    assert machine.ran == ["a", "b"] * 6


def test_a_run_alone_is_prepared_for():
    machine = Machine()
    timing.medians({"a": machine.takes("a", 5)}, machine.clock, 2, alone=True)
    assert machine.ran == ["a", "|", "a", "|", "a"]


@pytest.mark.parametrize(("seconds", "expected"), [(0.01, 30), (0.2, 15), (10, 3)])
def test_what_takes_long_has_fewer_rounds(seconds, expected):
    machine = Machine()
    assert timing.medians({"a": machine.takes("a", seconds * 1e6)}, machine.clock, 30)[1] == expected
