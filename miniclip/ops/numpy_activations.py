"""The reference, continued: activations that OpenAI's CLIP does not need. `numpy_ops` exports them.

Builds on NumPy alone. CLIP's own quick-GELU and softmax are in `numpy_ops`.
"""

import math

import numpy as np


def relu(x):
    """relu(x) = max(x, 0); any shape."""
    return np.maximum(x, 0)


def sigmoid(x):
    """σ(x) = 1 / (1 + exp(-x)); any shape."""
    with np.errstate(over="ignore"):  # exp(89) is infinite in float32, and 1 / ∞ is the right 0
        return 1 / (1 + np.exp(-x))


def silu(x):
    """silu(x) = x · σ(x), also called swish (Searching for Activation Functions, sec. 4); any shape."""
    # plain: x * sigmoid(x), with σ(x) = (1 + tanh(x/2)) / 2, which cannot overflow; in place, to save memory
    half = 0.5 * x
    gate = np.tanh(half)
    gate *= half
    gate += half
    return gate


def tanh(x):
    """tanh(x); any shape."""
    return np.tanh(x)


def gelu(x):
    """gelu(x) = x · Φ(x) = x/2 · (1 + erf(x/√2)), the exact one (Gaussian Error Linear Units, sec. 2); any shape."""
    return x * (0.5 + 0.5 * _erf(x * math.sqrt(0.5)))


def gelu_tanh(x):
    """gelu_tanh(x) = x/2 · (1 + tanh(√(2/π) · (x + 0.044715 · x³))), an approximation of `gelu` (same section)."""
    # plain: x * (0.5 + 0.5 * np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))); in place, to save memory
    with np.errstate(over="ignore"):  # of large x, x³ is infinite, and tanh(±∞) is the right ±1
        gate = x * x
        gate *= 0.044715 * math.sqrt(2 / math.pi)
        gate += math.sqrt(2 / math.pi)
        gate *= x
    np.tanh(gate, out=gate)
    gate *= 0.5
    gate += 0.5
    gate *= x
    return gate


def log_softmax(x):
    """log_softmax(x)_i = x_i - log Σ_j exp(x_j) over the last axis; any shape. Training needs it, see `loss`."""
    x = x - x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


_ERF_STEPS = 512  # grid points in a unit interval
_ERF_GRID = np.array([math.erf(i / _ERF_STEPS) for i in range(6 * _ERF_STEPS + 1)])  # erf(6) = 1 - 2e-17


def _erf(x):
    """erf, which NumPy does not have: math.erf on a grid, and the fourth-order Taylor series between its points.

    erf(g + h) ≈ erf(g) + 2/√π · exp(-g²) · (h - g·h² + (2g² - 1)·h³/3 - g·(2g² - 3)·h⁴/6), off by less than 1e-15 for
    |h| ≤ 1/1024.
    """
    size = np.fmin(np.abs(x), 6)  # NaN becomes 6, which is on the grid
    nearest = np.rint(size * _ERF_STEPS).astype(np.int32)
    g = nearest.astype(x.dtype) / _ERF_STEPS
    h = size - g
    slope = 2 / math.sqrt(math.pi) * np.exp(-g * g)
    series = slope * h * (1 - h * (g - h * ((2 * g * g - 1) / 3 - h * g * (2 * g * g - 3) / 6)))
    return np.copysign(_ERF_GRID[nearest].astype(x.dtype) + series, x)


ACTIVATIONS = {"gelu": gelu, "gelu_tanh": gelu_tanh, "relu": relu, "sigmoid": sigmoid, "silu": silu, "tanh": tanh}
