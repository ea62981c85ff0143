"""How kernels are timed on a GPU: in graphs, over inputs that exceed its cache."""

# ruff: noqa: F811  fixtures are imported, and are arguments of the same name

import itertools
from functools import partial

import pytest
import torch
from fake_gpu import gpu  # noqa: F401

from miniclip.bench import timing
from miniclip.kernels.bench import gpu_timing


def test_kernels_are_timed_in_graphs_over_all_sets_of_inputs(gpu):
    def quick(x):
        gpu.ran.append(x)
        gpu.now += 100

    def not_recordable(x):
        assert not gpu.recording, "synchronises"
        gpu.now += 300

    providers = {name: [partial(call, i) for i in range(4)] for name, call in {"a": quick, "b": not_recordable}.items()}
    times, rounds, launched = gpu_timing.kernel_medians(providers, 7)
    assert (times, rounds, launched) == ({"a": 100, "b": 300}, 7, ["b"])
    assert gpu.ran == [0, 1, 2, 3] * 3  # at least ten calls, and every set equally often


@pytest.mark.parametrize("microseconds", [0.5, 4, 20, 99, 150])
def test_a_sample_takes_a_millisecond_so_that_a_graphs_start_does_not_count(microseconds, gpu, monkeypatch):
    monkeypatch.setattr(gpu_timing, "SAMPLE", 1000)

    def call():
        gpu.now += microseconds
        gpu.ran.append("call")

    run, _, count = gpu_timing._sample([call] * 3, None)
    start = gpu.now
    run()
    assert gpu.now - start == pytest.approx(count * microseconds)
    assert count % 3 == 0 and 1000 <= count * microseconds <= 2500


def test_the_first_rounds_are_thrown_away(gpu):
    """A GPU that was idle raises its clock when it has work: the first three rounds are slower than all others."""
    durations = itertools.chain([100] * 4, itertools.repeat(10))  # the first is a call of its own, before all rounds

    def run():
        gpu.now += next(durations)

    assert timing.medians({"a": run}, gpu_timing.CUDA, 3) == ({"a": 10}, 3)


def test_a_copy_of_the_same_bytes_reads_and_writes_them(gpu):
    runs = gpu_timing.copies(4096, 5, "cpu")
    assert list(runs) == list(gpu_timing.COPIES) and all(len(calls) == 5 for calls in runs.values())
    for calls in runs.values():
        results = [call() for call in calls]
        assert all(x.numel() * x.element_size() == 2048 for x in results)  # and as many are read
        assert len({x.data_ptr() for x in results}) == 5


def test_sets_of_inputs_exceed_the_cache_twice(gpu):
    inputs = {"x": torch.zeros(100), "eps": 1e-5}  # 400 bytes
    assert gpu_timing.how_many_sets(inputs) == 5
    assert gpu_timing.how_many_sets({"x": torch.zeros(10_000)}) == 2
