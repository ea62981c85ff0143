"""The reference, continued: what a convolutional tower needs beside the operations of `numpy_ops`, which exports these.

Builds on nothing but NumPy. Wiring and parameters live in `miniclip.towers.resnet`. BatchNorm is no operation: when a
model only computes features it is one more factor and one more bias, see `miniclip.checkpoints.batch_norm`.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


def conv2d(x, weight, bias=None, *, stride=1, padding=0, residual=None, activation=None):
    """activation(x ⋆ weight + bias + residual); bias, residual and activation only if given.

    (x ⋆ weight)[b, o, r, s] = Σ_c Σ_i Σ_j weight[o, c, i, j] · x[b, c, r·stride + i - padding, s·stride + j - padding]

    x (B, C, height, width), zeros around it · weight (O, C, k, k) · bias (O,) · residual (B, O, Gy, Gx) · activation a
    name in `ACTIVATIONS`; returns (B, O, Gy, Gx) with G = (height + 2·padding - k) // stride + 1, and so of the width.

    One matrix product a picture: each of its k x k windows is laid out as a column, "im2col" (Chellapilla et al., High
    Performance Convolutional Neural Networks, 2006, sec. 3). Columns take k² times the memory of the picture, so there
    are never more than those of one; for k = 1 they are the picture itself.
    """
    from miniclip.ops.numpy_ops import ACTIVATIONS  # not above: that file imports this one

    k = weight.shape[-1]
    if padding:
        x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    windows = sliding_window_view(x, (k, k), axis=(2, 3))[:, :, ::stride, ::stride]  # (B, C, Gy, Gx, k, k), a view
    windows = windows.transpose(0, 1, 4, 5, 2, 3)  # (B, C, k, k, Gy, Gx)
    B, *_, Gy, Gx = windows.shape
    weight = weight.reshape(len(weight), -1)  # (O, C·k·k)
    x = np.empty((B, len(weight), Gy * Gx), np.result_type(x, weight))
    for out, picture in zip(x, windows):
        np.matmul(weight, picture.reshape(-1, Gy * Gx), out=out)  # (O, Gy·Gx); reshaping copies, but for k = 1
    x = x.reshape(B, len(weight), Gy, Gx)
    if bias is not None:
        x += bias[:, None, None]
    if residual is not None:
        x += residual
    return x if activation is None else ACTIVATIONS[activation](x)


def relu(x):
    """relu(x) = max(x, 0); any shape."""
    return np.maximum(x, 0)


def avg_pool2d(x, size):
    """The mean of each cell of size x size: x (B, C, height, width) -> (B, C, height // size, width // size).

    Cells do not overlap; a rest narrower than a cell is not seen.
    """
    Gy, Gx = x.shape[2] // size, x.shape[3] // size
    x = x[:, :, : Gy * size, : Gx * size]
    # A cell's size² members are as many strided views: NumPy adds whole views much faster than it reduces short axes.
    return sum(x[:, :, i::size, j::size] for i in range(size) for j in range(size)) / size**2  # (B, C, Gy, Gx)


def grid_tokens(x, position_embedding):
    """A grid's cells as tokens behind their mean, with positions: what attention pooling looks at.

    [mean(x); x] + position_embedding                                 (clip/model.py, AttentionPool2d)

    x (B, C, Gy, Gx) · position_embedding (T, C); returns (B, T, C) with T = 1 + Gy·Gx.
    """
    B, C, Gy, Gx = x.shape
    x = x.reshape(B, C, Gy * Gx).transpose(0, 2, 1)  # (B, Gy·Gx, C)
    x = np.concatenate([x.mean(axis=1, keepdims=True), x], axis=1)  # (B, T, C)
    return x + position_embedding  # (B, T, C)
