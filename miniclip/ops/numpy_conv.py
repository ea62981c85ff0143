"""The reference, continued: the operations of convolutional towers. `numpy_ops` exports them.

Builds on NumPy and `numpy_activations`. The towers that use them are `miniclip.towers.resnet` and `efficientnet`. There
is no BatchNorm: after training it is only a factor and a bias, which `families.batch_norm` folds into the convolution
before it.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from miniclip.ops.numpy_activations import ACTIVATIONS

COLUMNS = 1 << 18  # numbers in columns at a time: as many as fit in the cache of one processor core


def conv2d(x, weight, bias=None, *, stride=1, padding=0, groups=1, residual=None, activation=None):
    """activation(x ⋆ weight + bias + residual), the last three only if given; `convolve` has the ⋆.

    x (B, C, height, width) · weight (O, C/groups, k, k) · bias (O,) · residual and result (B, O, Gy, Gx) · activation a
    name in `numpy_activations.ACTIVATIONS`.
    """
    x = convolve(x, weight, stride, padding, groups)  # (B, O, Gy, Gx)
    if bias is not None:
        x += bias[:, None, None]
    if residual is not None:
        x += residual
    return x if activation is None else ACTIVATIONS[activation](x)


def convolve(x, weight, stride, padding, groups):
    """x ⋆ weight, a convolution without bias (a cross-correlation, as in all libraries).

    (x ⋆ weight)[b, o, r, s] = Σ_c Σ_i Σ_j weight[o, c, i, j] · x[b, c, r·stride + i - padding, s·stride + j - padding]

    x (B, C, height, width), zeros around it, `padding` on each side or (above and left, below and right) · weight
    (O, C/groups, k, k); returns (B, O, Gy, Gx) with G = (height + both paddings - k) // stride + 1, and the same for
    the width. The channels are split into `groups` parts, in order, and each part is convolved by itself; with one
    channel per group this is a depthwise convolution.

    Each k x k window becomes a column, then each group is one matrix product: "im2col" (Chellapilla et al., High
    Performance Convolutional Neural Networks, 2006, sec. 3). Columns take k² times the memory of the channels, so only
    those of one picture are made at a time, for as many groups as fit in the cache. For k = 1 they are the picture.
    """
    k = weight.shape[-1]
    x = _pad(x, padding)
    # every window of every channel, without a copy
    windows = sliding_window_view(x, (k, k), axis=(2, 3))[:, :, ::stride, ::stride]  # (B, C, Gy, Gx, k, k), a view
    windows = windows.transpose(0, 1, 4, 5, 2, 3)  # (B, C, k, k, Gy, Gx)
    B, C, _, _, Gy, Gx = windows.shape
    weight = weight.reshape(groups, len(weight) // groups, -1)  # (groups, O/groups, C/groups·k·k)
    windows = windows.reshape(B, groups, C // groups, k, k, Gy, Gx)  # still a view
    # for each picture, some groups at a time: copy windows to columns, then multiply
    step = max(1, COLUMNS // (weight.shape[-1] * Gy * Gx))
    y = np.empty((B, *weight.shape[:2], Gy * Gx), np.result_type(x, weight))  # (B, groups, O/groups, Gy·Gx)
    for out, picture in zip(y, windows):
        for part in (slice(g, g + step) for g in range(0, groups, step)):
            shape = (-1, weight.shape[-1], Gy * Gx)  # a column for each window: reshaping copies, except for k = 1
            np.matmul(weight[part], picture[part].reshape(shape), out=out[part])  # no name: the copy goes at once
    return y.reshape(B, groups * y.shape[2], Gy, Gx)  # (B, O, Gy, Gx)


def _pad(x, padding):
    sides = padding if isinstance(padding, tuple) else (padding, padding)
    return np.pad(x, ((0, 0), (0, 0), sides, sides)) if any(sides) else x


def avg_pool2d(x, size):
    """The mean of each cell of size x size: x (B, C, height, width) -> (B, C, height // size, width // size).

    Cells do not overlap; a remainder narrower than a cell is ignored.
    """
    Gy, Gx = x.shape[2] // size, x.shape[3] // size
    x = x[:, :, : Gy * size, : Gx * size]  # (B, C, Gy·size, Gx·size)
    # One strided view for each of a cell's size² members: NumPy adds views much faster than it reduces short axes.
    return sum(x[:, :, i::size, j::size] for i in range(size) for j in range(size)) / size**2  # (B, C, Gy, Gx)


def global_avg_pool2d(x):
    """The mean of each channel: x (B, C, height, width) -> (B, C, 1, 1)."""
    return x.mean(axis=(2, 3), keepdims=True)


def grid_tokens(x, position_embedding):
    """A grid as tokens for attention pooling: the mean of its cells, then the cells, plus positions.

    [mean(x); x] + position_embedding                                 (clip/model.py, AttentionPool2d)

    x (B, C, Gy, Gx) · position_embedding (T, C); returns (B, T, C) with T = 1 + Gy·Gx.
    """
    B, C, Gy, Gx = x.shape
    x = x.reshape(B, C, Gy * Gx).transpose(0, 2, 1)  # (B, Gy·Gx, C)
    x = np.concatenate([x.mean(axis=1, keepdims=True), x], axis=1)  # (B, T, C)
    return x + position_embedding  # (B, T, C)
