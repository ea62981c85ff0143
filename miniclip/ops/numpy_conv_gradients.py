"""Gradients of the operations of convolutional towers, derived by hand; `numpy_gradients` explains the form.

Builds on NumPy and on `numpy_conv`, whose functions compute y.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from miniclip.ops.numpy_conv import COLUMNS


def conv2d_gradient(dy, x, weight, *, stride=1, padding=0, groups=1):
    """The gradient of y = x ⋆ weight + bias + residual; dy itself is the residual's.

    y[b, o, r, s] = Σ_c Σ_i Σ_j weight[o, c, i, j] · x[b, c, r·stride + i - padding, s·stride + j - padding] + bias[o]:

        dweight[o, c, i, j] = Σ_b Σ_r Σ_s dy[b, o, r, s] · x[b, c, r·stride + i - padding, s·stride + j - padding]
        dx[b, c, u, v] = Σ_o weight[o, c, i, j] · dy[b, o, r, s], summed over all windows (r, s) and members (i, j)
                         at this pixel: u = r·stride + i - padding, v = s·stride + j - padding

    With the windows of x as columns (see `numpy_conv.convolve`) y is a linear layer: dweight = dy @ columnsᵀ and
    dcolumns = weightᵀ @ dy. A pixel is in up to k² columns, so it gets the sum over them ("col2im").

    dy (B, O, Gy, Gx) · x (B, C, height, width) · weight (O, C/groups, k, k) · returns dx, dweight, dbias (O,)
    """
    k, (B, C, height, width), (Gy, Gx) = weight.shape[-1], x.shape, dy.shape[2:]
    before, after = padding if isinstance(padding, tuple) else (padding, padding)
    x = np.pad(x, ((0, 0), (0, 0), (before, after), (before, after)))
    windows = sliding_window_view(x, (k, k), axis=(2, 3))[:, :, ::stride, ::stride]  # (B, C, Gy, Gx, k, k), a view
    windows = windows.transpose(0, 1, 4, 5, 2, 3).reshape(B, groups, C // groups, k, k, Gy, Gx)  # a view
    flat = weight.reshape(groups, len(weight) // groups, -1)  # (groups, O/groups, C/groups·k·k)
    dcells = dy.reshape(B, groups, -1, Gy * Gx)  # (B, groups, O/groups, Gy·Gx)
    dx, dweight = np.zeros_like(x).reshape(B, groups, C // groups, *x.shape[2:]), np.zeros_like(flat)
    # for each picture, some groups at a time, as many as fit in the cache
    step = max(1, COLUMNS // (flat.shape[-1] * Gy * Gx))
    for picture, dpicture, dcell in zip(windows, dx, dcells):
        for part in (slice(g, g + step) for g in range(0, groups, step)):
            columns = picture[part].reshape(-1, flat.shape[-1], Gy * Gx)  # (step, C/groups·k·k, Gy·Gx)
            dweight[part] += dcell[part] @ columns.swapaxes(-1, -2)
            dcolumns = flat[part].swapaxes(-1, -2) @ dcell[part]  # (step, C/groups·k·k, Gy·Gx)
            dcolumns = dcolumns.reshape(-1, C // groups, k, k, Gy, Gx)
            for i, j in np.ndindex(k, k):  # member (i, j) of every window
                dpicture[part, :, i : i + Gy * stride : stride, j : j + Gx * stride : stride] += dcolumns[:, :, i, j]
    dx = dx.reshape(x.shape)[:, :, before : before + height, before : before + width]  # without the padding
    return dx, dweight.reshape(weight.shape), dy.sum(axis=(0, 2, 3))


def avg_pool2d_gradient(dy, x, size):
    """The gradient of the mean of each cell of size x size: every member gets dy / size², a remainder 0.

    dy (B, C, Gy, Gx) · x (B, C, height, width), only its shape matters · returns dx
    """
    Gy, Gx = dy.shape[2:]
    dx = np.zeros_like(x)
    dx[:, :, : Gy * size, : Gx * size] = (dy / size**2).repeat(size, axis=2).repeat(size, axis=3)
    return dx


def global_avg_pool2d_gradient(dy, x):
    """The gradient of the mean of each channel: every cell gets dy / (height · width).

    dy (B, C, 1, 1) · x (B, C, height, width), only its shape matters · returns dx
    """
    return np.broadcast_to(dy / (x.shape[2] * x.shape[3]), x.shape)


def cells_gradient(dy, x):
    """The gradient of the cells as a sequence: each gets its own. dy (B, Gy·Gx, C) · x (B, C, Gy, Gx) · returns dx."""
    return dy.transpose(0, 2, 1).reshape(x.shape)


def grid_tokens_gradient(dy, x):
    """The gradient of y = [mean(x); x] + position_embedding: a cell gets its own token's, and its share of the mean's.

        dx[cell] = dy[1 + cell] + dy[0] / (Gy·Gx), dposition_embedding = Σ_b dy

    dy (B, T, C) · x (B, C, Gy, Gx), only its shape matters · returns dx, dposition_embedding (T, C)
    """
    dx = dy[:, 1:] + dy[:, :1] / (dy.shape[1] - 1)  # (B, Gy·Gx, C)
    return cells_gradient(dx, x), dy.sum(axis=0)
