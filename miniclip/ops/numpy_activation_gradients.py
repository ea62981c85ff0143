"""Gradients of the reference's activations: element by element, dx = dy · f'(x); dy and x of any shape.

Builds on NumPy and `numpy_activations`. Most contain σ(x) = 1/(1 + exp(-x)), and σ'(x) = σ(x) · (1 - σ(x)).
"""

import math

import numpy as np

from miniclip.ops.numpy_activations import _erf, sigmoid


def relu_gradient(dy, x):
    """relu(x) = max(x, 0): dx = dy where x > 0, else 0; at 0, where relu has no derivative, it is 0 too."""
    return dy * (x > 0)


def sigmoid_gradient(dy, x):
    """y = σ(x): dx = dy · y (1 - y)."""
    y = sigmoid(x)
    return dy * y * (1 - y)


def tanh_gradient(dy, x):
    """y = tanh(x): dx = dy · (1 - y²)."""
    return dy * (1 - np.tanh(x) ** 2)


def silu_gradient(dy, x):
    """silu(x) = x · σ(x): by the product rule dx = dy · (σ(x) + x · σ(x) (1 - σ(x)))."""
    s = sigmoid(x)
    return dy * s * (1 + x * (1 - s))


def quick_gelu_gradient(dy, x):
    """quick_gelu(x) = x · σ(a x) with a = 1.702: dx = dy · (σ(a x) + a x · σ(a x) (1 - σ(a x)))."""
    # plain: s = sigmoid(1.702 * x); dy * s * (1 + 1.702 * x * (1 - s)). Here by tanh and in place, as the forward one
    s = np.tanh(0.851 * x)
    s *= 0.5
    s += 0.5
    dx = 1 - s
    dx *= x
    dx *= 1.702
    dx += 1
    dx *= s
    dx *= dy
    return dx


def gelu_gradient(dy, x):
    """gelu(x) = x · Φ(x): dx = dy · (Φ(x) + x · φ(x)), as Φ' = φ(x) = exp(-x²/2) / √(2π), the normal density."""
    cumulative = 0.5 + 0.5 * _erf(x * math.sqrt(0.5))
    return dy * (cumulative + x * np.exp(-0.5 * np.square(np.clip(x, -40, 40))) / math.sqrt(2 * math.pi))


def gelu_tanh_gradient(dy, x):
    """gelu_tanh(x) = x/2 · (1 + t), t = tanh(u): dx = dy · ((1 + t)/2 + x/2 · (1 - t²) · u').

    u = √(2/π) (x + 0.044715 x³), so that u' = √(2/π) (1 + 3 · 0.044715 x²).
    """
    near = np.clip(x, -10, 10)  # beyond, t is ±1, and x³ could overflow
    t = np.tanh(math.sqrt(2 / math.pi) * (near + 0.044715 * near**3))
    slope = math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * near**2)
    return dy * (0.5 * (1 + t) + 0.5 * near * (1 - t * t) * slope)
