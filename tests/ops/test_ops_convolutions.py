"""The operations on grids, for ResNets and EfficientNets: equal to torch's own in float64, on every backend."""

import math
import tracemalloc

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from arithmetic import EXACT, close, each_backend, normal, run, seeds
from backends import COMPUTED
from hypothesis import given
from hypothesis import strategies as st

from miniclip.ops import numpy_conv, numpy_ops, select
from miniclip.runtime import cpu


def each_dtype(name):
    """[(dtype, allowed error)] for the dtypes of a backend that are precise enough to show mistakes."""
    errors = {"float32": 1e-5, "float64": 1e-13}
    return [(dtype, error) for dtype, error in errors.items() if dtype in select(name).DTYPES]


each_backend_and_dtype = pytest.mark.parametrize(
    ("ops", "dtype", "error"),
    [pytest.param(select(name), *rest, id=f"{name}-{rest[0]}") for name in COMPUTED for rest in each_dtype(name)],
)


@each_backend_and_dtype
@given(
    seed=seeds,
    batch=st.integers(0, 3),
    channels=st.tuples(st.integers(1, 5), st.integers(1, 6)),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    padding=st.one_of(st.integers(0, 2), st.tuples(st.integers(0, 2), st.integers(0, 2))),
    groups=st.sampled_from([1, 1, 2, 3, 5]),
    bias=st.booleans(),
    residual=st.booleans(),
    activation=st.sampled_from([None, *EXACT]),
    flipped=st.booleans(),
)
def test_convolution_equals_torchs(
    ops, dtype, error, seed, batch, channels, size, kernel, stride, padding, groups, bias, residual, activation, flipped
):
    C, N = channels[0], channels[1] * groups
    sides = padding if isinstance(padding, tuple) else (padding, padding)
    height, width = (max(n, kernel - sum(sides)) for n in size)
    shapes = [(batch, C * groups, height, width), (N, C, kernel, kernel), (N,)]
    x, weight, b = (normal(seed + i, *shape).astype(dtype) for i, shape in enumerate(shapes))
    x, b = x[:, :, ::-1, ::-1] if flipped else x, b if bias else None
    wide = (torch.from_numpy(a.astype(np.float64)) for a in (x, weight, np.zeros(N) if b is None else b))
    exact = F.conv2d(F.pad(next(wide), 2 * sides), *wide, stride, groups=groups)
    r = normal(seed + 3, *exact.shape).astype(dtype) if residual else None
    exact = exact + torch.from_numpy(r) if residual else exact
    exact = EXACT[activation](exact).numpy() if activation else exact.numpy()
    options = {"stride": stride, "padding": padding, "groups": groups, "residual": r, "activation": activation}
    before = [a.copy() for a in (x, r) if a is not None]
    ours = run(ops, "conv2d", x, weight, b, **options)
    assert ours.dtype == dtype and ours.shape == exact.shape
    if batch:
        close(ours, exact, error)
    for a, then in zip((x, r), before):
        np.testing.assert_array_equal(a, then)


@each_backend
def test_a_convolution_with_a_kernel_of_one_one_is_a_shift(ops):
    x, weight = normal(0, 2, 3, 6, 7), np.zeros((3, 3, 3, 3), np.float32)
    weight[range(3), (2, 0, 1), 0, 2] = 1  # from the row above, the column to the right, and another channel
    shifted = np.zeros_like(x)
    shifted[:, :, 1:, :-1] = x[:, (2, 0, 1), :-1, 1:]
    np.testing.assert_array_equal(run(ops, "conv2d", x, weight, padding=1), shifted)


def test_the_reference_lays_out_as_many_windows_as_fit_in_the_cache_and_none_for_1x1(monkeypatch):
    def most(*args, **options):
        """The most memory allocated at any time, in float32 numbers."""
        numpy_ops.conv2d(*args, **options)  # once before: a first call makes small objects that stay
        tracemalloc.start()
        numpy_ops.conv2d(*args, **options)
        peak = tracemalloc.get_traced_memory()[1] / 4
        tracemalloc.stop()
        return peak

    monkeypatch.setattr(cpu, "free_cores", lambda: 1)
    B, C, size = 8, 64, 64
    x, narrow, wide = normal(0, B, C, size, size), normal(1, 2, C, 1, 1), normal(2, 2, C, 3, 3)
    result, columns = B * 2 * size**2, 9 * C * size**2  # columns of one picture
    assert result < most(x, narrow) < 1.1 * result
    assert columns / 12 < most(x, wide, padding=1) - result < columns / 6  # those of a tenth of its rows


LAYERS = {  # (O, C/groups, k, k), groups, stride, padding, grid
    "1x1, by rows": ((5, 8, 1, 1), 1, 1, 0, (7, 6)),
    "1x1, by channels": ((90, 8, 1, 1), 1, 1, 0, (7, 6)),
    "1x1, every other": ((90, 8, 1, 1), 1, 2, 0, (9, 8)),
    "1x1, rows of zeros": ((5, 8, 1, 1), 1, 1, (2, 1), (7, 6)),
    "3x3, by rows": ((6, 4, 3, 3), 1, 1, 1, (7, 6)),
    "3x3, by channels": ((70, 4, 3, 3), 1, 2, 1, (7, 6)),
    "grouped": ((8, 3, 3, 3), 4, 1, (0, 2), (7, 6)),
    "depthwise": ((40, 1, 5, 5), 40, 1, 2, (9, 7)),
    "depthwise, wide": ((600, 1, 3, 3), 600, 1, (0, 1), (5, 7)),
    "depthwise, not padded": ((600, 1, 3, 3), 600, 1, 0, (5, 7)),
    "depthwise, every other": ((40, 1, 5, 5), 40, 2, (1, 2), (9, 7)),
}


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("cores", [1, 3])
def test_parts_on_several_cores_are_the_whole(layer, channels_last, cores, monkeypatch):
    shape, groups, stride, padding, grid = LAYERS[layer]
    monkeypatch.setattr(cpu, "free_cores", lambda: cores)
    for name, value in {"PART": 60, "FEW": 0, "SMALL": 0, "COLUMNS": 300}.items():
        monkeypatch.setattr(numpy_conv, name, value)
    x, weight, bias = normal(0, 2, shape[1] * groups, *grid), normal(1, *shape), normal(2, shape[0])
    x = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2) if channels_last else x
    sides = padding if isinstance(padding, tuple) else (padding, padding)
    wide = [torch.from_numpy(a.astype(np.float64)) for a in (x, weight, bias)]
    exact = F.conv2d(F.pad(wide[0], 2 * sides), *wide[1:], stride, groups=groups)
    residual = normal(3, *exact.shape)
    exact = F.silu(exact + torch.from_numpy(residual))
    how = {"stride": stride, "padding": padding, "groups": groups, "residual": residual, "activation": "silu"}
    close(numpy_ops.conv2d(x, weight, bias, **how), exact.numpy())


def test_a_convolution_inside_a_job_uses_no_other_threads(monkeypatch):
    """The other cores have jobs of their own; and a row that is batch-invariant is the same on any number of cores."""
    x, weight = normal(0, 1, 32, 64, 64), normal(1, 32, 32, 1, 1)
    monkeypatch.setattr(cpu, "blas_threads", lambda: 3)
    begun, begin = [], cpu._begin
    monkeypatch.setattr(cpu, "_begin", lambda *work: begun.append(work) or begin(*work))
    numpy_ops.conv2d(x, weight)
    assert len(begun) == 2
    cpu.on_cores(lambda job: numpy_ops.conv2d(x, weight), [0], 1)
    assert len(begun) == 2 and cpu.free_cores() == 3
    cpu.on_own_cores(lambda job: numpy_ops.conv2d(x, weight), range(4), 3)
    assert len(begun) == 4 and cpu.free_cores() == 3


@pytest.mark.parametrize("columns", [1, 300, 1000])
def test_how_many_groups_are_laid_out_at_a_time_changes_nothing(columns, monkeypatch):
    x, weight = normal(0, 2, 12, 6, 7), normal(1, 24, 1, 3, 3)
    expected = numpy_ops.conv2d(x, weight, groups=12)
    monkeypatch.setattr(numpy_conv, "COLUMNS", columns)
    np.testing.assert_array_equal(numpy_ops.conv2d(x, weight, groups=12), expected)


@each_backend_and_dtype
@given(seed=seeds, shape=st.tuples(st.integers(0, 2), st.integers(1, 4), st.integers(1, 9), st.integers(1, 9)))
def test_global_pooling_is_the_mean_of_a_channel(ops, dtype, error, seed, shape):
    x = normal(seed, *shape).astype(dtype)
    ours = run(ops, "global_avg_pool2d", x)
    assert ours.dtype == dtype and ours.shape == (*shape[:2], 1, 1)
    if shape[0]:
        close(ours, x.astype(np.float64).mean((2, 3), keepdims=True), error)


@each_backend_and_dtype
@given(
    seed=seeds,
    shape=st.tuples(st.integers(0, 2), st.integers(1, 4), st.integers(1, 9), st.integers(1, 9)),
    size=st.integers(1, 4),
)
def test_average_pooling_equals_torchs(ops, dtype, error, seed, shape, size):
    B, C, height, width = (max(n, least) for n, least in zip(shape, (0, 1, size, size)))
    x = normal(seed, B, C, height, width).astype(dtype)
    exact = F.avg_pool2d(torch.from_numpy(x.astype(np.float64)), size).numpy()
    ours = run(ops, "avg_pool2d", x, size)
    assert ours.dtype == dtype and ours.shape == exact.shape
    if B:
        close(ours, exact, error)
        np.testing.assert_array_equal(run(ops, "avg_pool2d", np.full_like(x, 3), size), 3)


@each_backend_and_dtype
@given(seed=seeds, batch=st.integers(0, 3), channels=st.integers(1, 7), grid=st.tuples(*[st.integers(1, 5)] * 2))
def test_the_cells_of_a_grid_are_a_sequence_row_by_row(ops, dtype, error, seed, batch, channels, grid):
    x = normal(seed, batch, channels, *grid).astype(dtype)
    ours = run(ops, "cells", x)
    assert ours.dtype == dtype and ours.shape == (batch, math.prod(grid), channels)
    for i, (row, column) in enumerate(np.ndindex(grid)):
        np.testing.assert_array_equal(ours[:, i], x[:, :, row, column])


@each_backend_and_dtype
@given(seed=seeds, batch=st.integers(0, 3), channels=st.integers(1, 7), grid=st.tuples(*[st.integers(1, 5)] * 2))
def test_the_tokens_of_a_grid_are_its_mean_and_its_cells(ops, dtype, error, seed, batch, channels, grid):
    x = normal(seed, batch, channels, *grid).astype(dtype)
    positions = normal(seed + 1, math.prod(grid) + 1, channels).astype(dtype)
    wide = x.astype(np.float64)
    cells = [wide.mean((2, 3)), *(wide[:, :, row, column] for row, column in np.ndindex(grid))]
    ours = run(ops, "grid_tokens", x, positions)
    assert ours.dtype == dtype and ours.shape == (batch, len(positions), channels)
    if batch:
        close(ours, np.stack(cells, axis=1) + positions, error)
