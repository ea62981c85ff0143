"""The reference, continued: what a convolutional tower needs beside the operations of `numpy_ops`, which exports these.

Builds on NumPy alone. Wiring and parameters are in `miniclip.towers`, in `resnet` and `efficientnet`. There is no
BatchNorm: when a model only computes features it is one more factor and one more bias, see `families.batch_norm`.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

COLUMNS = 1 << 18  # numbers laid out at a time: what stays in a processor core's own cache


def convolve(x, weight, stride, padding, groups):
    """x ⋆ weight, what `numpy_ops.conv2d` computes before it adds anything (a cross-correlation, as everywhere).

    (x ⋆ weight)[b, o, r, s] = Σ_c Σ_i Σ_j weight[o, c, i, j] · x[b, c, r·stride + i - padding, s·stride + j - padding]

    x (B, C, height, width), zeros around it, `padding` on each side or (above and left, below and right) · weight
    (O, C/groups, k, k); returns (B, O, Gy, Gx) with G = (height + padding - k) // stride + 1, and the same for the
    width. The channels are in `groups` parts, in order, and each part is convolved by itself: with as many groups as
    channels that is a depthwise convolution.

    One matrix product a group: each k x k window becomes a column, "im2col" (Chellapilla et al., High Performance
    Convolutional Neural Networks, 2006, sec. 3). Columns take k² times the memory of the channels, so there are never
    more than those of one picture, and only of as many groups as fit in the cache; for k = 1 they are the picture.
    """
    k = weight.shape[-1]
    x = _pad(x, padding)
    # every window of every channel, without a copy
    windows = sliding_window_view(x, (k, k), axis=(2, 3))[:, :, ::stride, ::stride]  # (B, C, Gy, Gx, k, k), a view
    windows = windows.transpose(0, 1, 4, 5, 2, 3)  # (B, C, k, k, Gy, Gx)
    B, C, _, _, Gy, Gx = windows.shape
    weight = weight.reshape(groups, len(weight) // groups, -1)  # (groups, O/groups, C/groups·k·k)
    windows = windows.reshape(B, groups, C // groups, k, k, Gy, Gx)  # still a view
    # picture by picture, some groups at a time: windows become columns, and a product does the rest
    step = max(1, COLUMNS // (weight.shape[-1] * Gy * Gx))
    x = np.empty((B, *weight.shape[:2], Gy * Gx), np.result_type(x, weight))
    for out, picture in zip(x, windows):
        for part in (slice(g, g + step) for g in range(0, groups, step)):
            columns = picture[part].reshape(-1, weight.shape[-1], Gy * Gx)  # this copies, except for k = 1
            np.matmul(weight[part], columns, out=out[part])
    return x.reshape(B, groups * x.shape[2], Gy, Gx)  # (B, O, Gy, Gx)


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
