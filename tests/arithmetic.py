"""Shared parts of the tests of operations: inputs, calls on any backend, and comparisons."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from backends import HERE
from hypothesis import strategies as st

from miniclip.ops import select

EXACT = {
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "gelu": F.gelu,
    "relu": F.relu,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "tanh": torch.tanh,
}

each_backend = pytest.mark.parametrize("ops", [pytest.param(select(name), id=name) for name in HERE])
seeds = st.integers(0, 2**32 - 1)


def normal(seed, *shape, scale=1.0):
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def run(ops, name, *args, **kwargs):
    """The result of a backend's operation on ndarrays, as an ndarray."""
    args = [ops.asarray(x) if isinstance(x, np.ndarray) else x for x in args]
    kwargs = {k: ops.asarray(x) if isinstance(x, np.ndarray) else x for k, x in kwargs.items()}
    return ops.to_numpy(getattr(ops, name)(*args, **kwargs))


def close(ours, exact, error=1e-5):
    """Check that errors are at most `error` times the largest value: 1e-5 for float32 sums of a few hundred terms."""
    exact = np.asarray(exact, np.float64)
    assert ours.shape == exact.shape
    np.testing.assert_allclose(ours, exact, rtol=0, atol=error * max(1e-30, np.abs(exact).max()))


def close_in_float16(a, b):
    """Whether features of length one are the same except for the last bit of float16: batches may differ."""
    return np.abs(a.astype(np.float32) - b.astype(np.float32)).max() < 1e-3
