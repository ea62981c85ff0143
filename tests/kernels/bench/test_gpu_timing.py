"""How kernels are timed on a GPU: in graphs, over inputs that exceed its cache."""

# ruff: noqa: F811  fixtures are imported, and are arguments of the same name

import torch
from fake_gpu import gpu  # noqa: F401

from miniclip.kernels.bench import gpu_timing


def test_kernels_are_timed_in_graphs_over_all_sets_of_inputs(gpu):
    def quick(x):
        gpu.ran.append(x)
        gpu.now += 10

    def not_recordable(x):
        assert not gpu.recording, "synchronises"
        gpu.now += 30

    times, rounds, launched = gpu_timing.kernel_medians(
        {"a": quick, "b": not_recordable}, [{"x": i} for i in range(4)], 7
    )
    assert (times, rounds, launched) == ({"a": 10, "b": 30}, 7, ["b"])
    assert gpu.ran == [0, 1, 2, 3] * 3  # at least ten calls, and every set equally often


def test_sets_of_inputs_exceed_the_cache_twice(gpu):
    inputs = {"x": torch.zeros(100), "eps": 1e-5}  # 400 bytes
    assert gpu_timing.how_many_sets(inputs) == 5
    assert gpu_timing.how_many_sets({"x": torch.zeros(10_000)}) == 2
