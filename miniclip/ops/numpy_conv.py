"""The reference, continued: the operations of convolutional towers. `numpy_ops` exports them.

Builds on NumPy, `numpy_activations` and `runtime.cpu`. The towers that use them are `miniclip.towers.resnet` and
`efficientnet`. There is no BatchNorm: after training it is only a factor and a bias, which `families.batch_norm` folds
into the convolution before it.
"""

import math

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from miniclip.ops.numpy_activations import ACTIVATIONS
from miniclip.runtime import cpu

COLUMNS = 1 << 18  # numbers in columns at a time: as many as fit in the cache of one processor core
PART = 1 << 18  # numbers in a part of a result: they are still in the cache when bias and activation follow
SMALL = 1 << 7  # cells of a grid: up to here, products are faster with channels first
WIDE = 1 << 9  # channels: as many are multiplied at a time fast enough
FEW = 1 << 14  # numbers in a result: with fewer, a second core is not worth its thread


def conv2d(x, weight, bias=None, *, stride=1, padding=0, groups=1, residual=None, activation=None):
    """activation(x ⋆ weight + bias + residual), the last three only if given. ⋆ is a convolution:

    (x ⋆ weight)[b, o, r, s] = Σ_c Σ_i Σ_j weight[o, c, i, j] · x[b, c, r·stride + i - padding, s·stride + j - padding]

    (A cross-correlation, as in all libraries.) x (B, C, height, width), zeros around it, `padding` on each side or
    (above and left, below and right) · weight (O, C/groups, k, k) · bias (O,) · residual and result (B, O, Gy, Gx) with
    Gy = (height + both paddings - k) // stride + 1, and the same for the width · activation a name in
    `numpy_activations.ACTIVATIONS`. The channels are split into `groups`, in order, and each group is convolved by
    itself; with one channel per group this is a depthwise convolution.

    The result is computed in parts, each on one core: some rows, or some channels, of one picture. The result of a
    depthwise convolution has its channels last in memory, and so have those of the 1x1 convolutions that follow.
    """
    k, (B, C, height, width), (O, members, *_) = weight.shape[-1], x.shape, weight.shape  # noqa: E741
    before, after = padding if isinstance(padding, tuple) else (padding, padding)
    Gy, Gx = ((side + before + after - k) // stride + 1 for side in (height, width))
    depthwise = groups > 1 and O == C == groups
    channels_last = depthwise or (k == 1 and Gy * Gx > SMALL and x.transpose(0, 2, 3, 1).flags.c_contiguous)
    y = np.empty((B, Gy, Gx, O) if channels_last else (B, O, Gy, Gx), np.result_type(x, weight))
    y = y.transpose(0, 3, 1, 2) if channels_last else y  # (B, O, Gy, Gx)

    def compute(part):
        picture, channels, rows = part
        out = y[picture, channels, rows]  # (some of O, some of Gy, Gx)
        seen = _seen(x[picture], rows, k, stride, (before, after), depthwise)  # (C, some rows, padded width)
        if depthwise:
            convolve_depthwise(seen, weight[:, 0], stride, out)
        else:
            convolve(seen, weight[channels], stride, groups, out)
        if bias is not None:
            out += bias[channels, None, None]
        if residual is not None:
            out += residual[picture, channels, rows]
        if activation == "relu":
            np.maximum(out, 0, out=out)  # in place: a ResNet has little else between its products
        elif activation is not None:
            out[:] = ACTIVATIONS[activation](out)

    cores = cpu.free_cores() if y.size > FEW else 1
    if groups == 1 and Gy * Gx <= O:  # cut the longer side, as products are slow if one is short
        parts = [(channels, slice(0, Gy)) for channels in _cut(O, cores)]
    else:  # each core gets as many parts as the others, and each part fits in its cache
        numbers = O / PART if channels_last else members * k * k / COLUMNS if k > 1 else 0
        parts = [(slice(None), rows) for rows in _cut(Gy, cores * max(1, math.ceil(numbers * Gy * Gx / cores)))]
    # Products of all sizes on one thread each: BLAS' own threads would wait for their next product on these cores.
    cpu.on_own_cores(compute, [(picture, *part) for picture in range(B) for part in parts], cores)
    return y


def _cut(length, parts):
    """Slices of about equal size, at most `parts`, that together are range(length)."""
    parts = min(length, parts)
    return [slice(length * i // parts, length * (i + 1) // parts) for i in range(parts)]


def _seen(x, rows, k, stride, padding, channels_last):
    """What some rows of the result see of one picture, x (C, height, width), with the zeros around it."""
    (C, height, width), (before, after) = x.shape, padding
    first, last = rows.start * stride - before, (rows.stop - 1) * stride + k - before
    if not (before or after or channels_last):
        return x[:, first:last]  # a view
    shape = last - first, before + width + after
    seen = np.zeros((*shape, C), x.dtype).transpose(2, 0, 1) if channels_last else np.zeros((C, *shape), x.dtype)
    top, bottom = (min(max(row, 0), height) for row in (first, last))
    seen[:, top - first : bottom - first, before : before + width] = x[:, top:bottom]
    return seen


def convolve(x, weight, stride, groups, out):
    """out = x ⋆ weight for one picture without padding: x (C, height, width), weight (O, C/groups, k, k).

    Each k x k window becomes a column, then each group is one matrix product: "im2col" (Chellapilla et al., High
    Performance Convolutional Neural Networks, 2006, sec. 3). Columns take k² times the memory of the channels, so they
    are made for as many groups at a time as fit in the cache. For k = 1 they are the picture itself.
    """
    C, k, (O, Gy, Gx) = len(x), weight.shape[-1], out.shape  # noqa: E741
    # every window of every channel, without a copy
    windows = sliding_window_view(x, (k, k), axis=(1, 2))[:, ::stride, ::stride]  # (C, Gy, Gx, k, k), a view
    windows = windows.transpose(0, 3, 4, 1, 2).reshape(groups, C // groups, k, k, Gy, Gx)  # still a view
    weight = weight.reshape(groups, O // groups, -1)  # (groups, O/groups, C/groups·k·k)
    out = out.reshape(groups, O // groups, Gy * Gx)  # a view
    # some groups at a time: copy windows to columns, then multiply
    step = max(1, COLUMNS // (weight.shape[-1] * Gy * Gx))
    for part in (slice(g, g + step) for g in range(0, groups, step)):
        columns = windows[part].reshape(-1, weight.shape[-1], Gy * Gx)  # copies, except for k = 1
        np.matmul(weight[part], columns, out=out[part])


def convolve_depthwise(x, weight, stride, out):
    """out = x ⋆ weight for one picture, each channel by itself: x (C, height, width), weight (C, k, k).

    Channels are the last axis in memory, so that NumPy multiplies and adds many of them at a time.
    """
    k, (C, Gy, Gx) = weight.shape[-1], out.shape
    x, weight, out = x.transpose(1, 2, 0), weight.transpose(1, 2, 0), out.transpose(1, 2, 0)  # (..., C)
    if stride > 1 or C > WIDE:
        windows = sliding_window_view(x, (k, k), axis=(0, 1))[::stride, ::stride]  # (Gy, Gx, C, k, k), a view
        np.einsum("rscij,ijc->rsc", windows, np.ascontiguousarray(weight), out=out)
    else:  # the same, faster: the members (i, j) of all windows in a row follow each other in memory
        members = sliding_window_view(x.reshape(len(x), -1), (Gy, Gx * C))[:, ::C]  # (k, k, Gy, Gx·C), a view
        np.einsum("ijrn,ijn->rn", members, np.tile(weight, Gx), out=out.reshape(Gy, Gx * C))


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


def cells(x):
    """The cells of a grid as a sequence, row by row: x (B, C, Gy, Gx) -> (B, Gy·Gx, C)."""
    B, C, Gy, Gx = x.shape
    return x.reshape(B, C, Gy * Gx).transpose(0, 2, 1)


def grid_tokens(x, position_embedding):
    """A grid as tokens for attention pooling: the mean of its cells, then the cells, plus positions.

    [mean(x); x] + position_embedding                                 (clip/model.py, AttentionPool2d)

    x (B, C, Gy, Gx) · position_embedding (T, C); returns (B, T, C) with T = 1 + Gy·Gx.
    """
    x = cells(x)  # (B, Gy·Gx, C)
    x = np.concatenate([x.mean(axis=1, keepdims=True), x], axis=1)  # (B, T, C)
    return x + position_embedding  # (B, T, C)
