"""The reference, continued: what a convolutional tower needs beside the operations of `numpy_ops`, which exports these.

Builds on nothing but NumPy. Wiring and parameters live in `miniclip.towers`, in `resnet` and `efficientnet`. BatchNorm
is no operation: when a model only computes features it is one more factor and one more bias, see
`miniclip.checkpoints.batch_norm`.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

COLUMNS = 1 << 18  # numbers laid out at a time: what stays in a processor core's own cache


def conv2d(x, weight, bias=None, *, stride=1, padding=0, groups=1, residual=None, activation=None):
    """activation(x ⋆ weight + bias + residual); bias, residual and activation only if given.

    (x ⋆ weight)[b, o, r, s] = Σ_c Σ_i Σ_j weight[o, c, i, j] · x[b, c, r·stride + i - padding, s·stride + j - padding]

    x (B, C, height, width), zeros around it, `padding` on each side or (above and left, below and right) · weight
    (O, C/groups, k, k) · bias (O,) · residual (B, O, Gy, Gx) · activation a name in `ACTIVATIONS`; returns
    (B, O, Gy, Gx) with G = (height + padding - k) // stride + 1, and so of the width. `groups` parts of the channels,
    in order, are convolved each by itself; with as many groups as channels that is a depthwise convolution.

    One matrix product a group: each k x k window is laid out as a column, "im2col" (Chellapilla et al., High
    Performance Convolutional Neural Networks, 2006, sec. 3). Columns take k² times the memory of the channels, so there
    are never more than those of one picture, nor of more groups than fit in the cache; for k = 1 they are the picture.
    """
    from miniclip.ops.numpy_ops import ACTIVATIONS  # not above: that file imports this one

    k = weight.shape[-1]
    x = _pad(x, padding)
    windows = sliding_window_view(x, (k, k), axis=(2, 3))[:, :, ::stride, ::stride]  # (B, C, Gy, Gx, k, k), a view
    windows = windows.transpose(0, 1, 4, 5, 2, 3)  # (B, C, k, k, Gy, Gx)
    B, C, _, _, Gy, Gx = windows.shape
    weight = weight.reshape(groups, len(weight) // groups, -1)  # (groups, O/groups, C/groups·k·k)
    windows = windows.reshape(B, groups, C // groups, k, k, Gy, Gx)  # still a view
    step = max(1, COLUMNS // (weight.shape[-1] * Gy * Gx))
    x = np.empty((B, *weight.shape[:2], Gy * Gx), np.result_type(x, weight))
    for out, picture in zip(x, windows):
        for part in (slice(g, g + step) for g in range(0, groups, step)):
            shape = (-1, weight.shape[-1], Gy * Gx)
            np.matmul(weight[part], picture[part].reshape(shape), out=out[part])  # reshaping copies, but for k = 1
    x = x.reshape(B, groups * x.shape[2], Gy, Gx)  # (B, O, Gy, Gx)
    if bias is not None:
        x += bias[:, None, None]
    if residual is not None:
        x += residual
    return x if activation is None else ACTIVATIONS[activation](x)


def _pad(x, padding):
    sides = padding if isinstance(padding, tuple) else (padding, padding)
    return np.pad(x, ((0, 0), (0, 0), sides, sides)) if any(sides) else x


def avg_pool2d(x, size):
    """The mean of each cell of size x size: x (B, C, height, width) -> (B, C, height // size, width // size).

    Cells do not overlap; a rest narrower than a cell is not seen.
    """
    Gy, Gx = x.shape[2] // size, x.shape[3] // size
    x = x[:, :, : Gy * size, : Gx * size]
    # A cell's size² members are as many strided views: NumPy adds whole views much faster than it reduces short axes.
    return sum(x[:, :, i::size, j::size] for i in range(size) for j in range(size)) / size**2  # (B, C, Gy, Gx)


def global_avg_pool2d(x):
    """The mean of each channel: x (B, C, height, width) -> (B, C, 1, 1)."""
    return x.mean(axis=(2, 3), keepdims=True)


def grid_tokens(x, position_embedding):
    """A grid's cells as tokens behind their mean, with positions: what attention pooling looks at.

    [mean(x); x] + position_embedding                                 (clip/model.py, AttentionPool2d)

    x (B, C, Gy, Gx) · position_embedding (T, C); returns (B, T, C) with T = 1 + Gy·Gx.
    """
    B, C, Gy, Gx = x.shape
    x = x.reshape(B, C, Gy * Gx).transpose(0, 2, 1)  # (B, Gy·Gx, C)
    x = np.concatenate([x.mean(axis=1, keepdims=True), x], axis=1)  # (B, T, C)
    return x + position_embedding  # (B, T, C)
