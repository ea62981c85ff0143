"""What the tests of operations share: inputs, calls on any backend, and what is close enough."""

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
    """An operation of a backend on ndarrays, ndarray out."""
    args = [ops.asarray(x) if isinstance(x, np.ndarray) else x for x in args]
    kwargs = {k: ops.asarray(x) if isinstance(x, np.ndarray) else x for k, x in kwargs.items()}
    return ops.to_numpy(getattr(ops, name)(*args, **kwargs))


def close(ours, exact, error=1e-5):
    """Within `error` of the largest value: what float32 allows after sums of a few hundred terms."""
    exact = np.asarray(exact, np.float64)
    assert ours.shape == exact.shape
    np.testing.assert_allclose(ours, exact, rtol=0, atol=error * max(1e-30, np.abs(exact).max()))
