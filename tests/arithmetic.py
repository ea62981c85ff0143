"""Shared parts of the tests of operations: inputs, calls on any backend, and comparisons."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from backends import COMPUTED
from hypothesis import strategies as st

from miniclip.ops import select
from miniclip.ops.graph import Graph

EXACT = {
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "gelu": F.gelu,
    "relu": F.relu,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "tanh": torch.tanh,
}

each_backend = pytest.mark.parametrize("ops", [pytest.param(select(name), id=name) for name in COMPUTED])
seeds = st.integers(0, 2**32 - 1)


def normal(seed, *shape, scale=1.0):
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def run(ops, name, *args, **kwargs):
    """The result of a backend's operation on ndarrays, as an ndarray."""
    if hasattr(ops, "RUNTIME"):
        return run_recorded(ops.RUNTIME, getattr(ops, name), args, kwargs)
    args = [ops.asarray(x) if isinstance(x, np.ndarray) else x for x in args]
    kwargs = {k: ops.asarray(x) if isinstance(x, np.ndarray) else x for k, x in kwargs.items()}
    return ops.to_numpy(getattr(ops, name)(*args, **kwargs))


def run_recorded(runtime, operation, args, kwargs):
    """The same for an operation that is recorded: arrays are inputs of its graph."""
    if any(isinstance(x, np.ndarray) and not x.size for x in (*args, *kwargs.values())):
        return operation(*args, **kwargs)  # as for an empty batch
    graph, given = Graph(), {}

    def value(x):
        if not isinstance(x, np.ndarray):
            return x
        name = f"input_{len(given)}"
        given[name] = x
        return graph.input(name, x.dtype.name, *x.shape)

    result = operation(*map(value, args), **{name: value(x) for name, x in kwargs.items()})
    several = result if isinstance(result, tuple) else (result,)
    found = [runtime.compile(graph, x, "float32")(given) for x in several]
    return tuple(found) if isinstance(result, tuple) else found[0]


def close(ours, exact, error=1e-5):
    """Check that errors are at most `error` times the largest value: 1e-5 for float32 sums of a few hundred terms."""
    exact = np.asarray(exact, np.float64)
    assert ours.shape == exact.shape
    np.testing.assert_allclose(ours, exact, rtol=0, atol=error * max(1e-30, np.abs(exact).max()))


def close_in_float16(a, b):
    """Whether features of length one are the same except for the last bit of float16: batches may differ."""
    return np.abs(a.astype(np.float32) - b.astype(np.float32)).max() < 1e-3
