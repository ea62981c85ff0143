"""The operations of convolutional towers on a tape; `numpy_grad` explains the form, and exports them."""

from miniclip.ops import numpy_conv
from miniclip.ops import numpy_conv_gradients as by_hand
from miniclip.ops.numpy_grad_activations import ACTIVATIONS
from miniclip.ops.tape import record, value, values


def conv2d(x, weight, bias=None, *, stride=1, padding=0, groups=1, residual=None, activation=None):
    how = {"stride": stride, "padding": padding, "groups": groups}
    y = numpy_conv.conv2d(*values(x, weight, bias), **how, residual=value(residual))  # (B, O, Gy, Gx)
    sources = x, weight, bias, residual
    y = record(y, sources, lambda dy: (*by_hand.conv2d_gradient(dy, *values(x, weight), **how), dy))
    return y if activation is None else ACTIVATIONS[activation](y)


def avg_pool2d(x, size):
    y = numpy_conv.avg_pool2d(value(x), size)  # (B, C, height // size, width // size)
    return record(y, (x,), lambda dy: (by_hand.avg_pool2d_gradient(dy, value(x), size),))


def global_avg_pool2d(x):
    y = numpy_conv.global_avg_pool2d(value(x))  # (B, C, 1, 1)
    return record(y, (x,), lambda dy: (by_hand.global_avg_pool2d_gradient(dy, value(x)),))


def cells(x):
    y = numpy_conv.cells(value(x))  # (B, Gy·Gx, C)
    return record(y, (x,), lambda dy: (by_hand.cells_gradient(dy, value(x)),))


def grid_tokens(x, position_embedding):
    y = numpy_conv.grid_tokens(*values(x, position_embedding))  # (B, T, C)
    return record(y, (x, position_embedding), lambda dy: by_hand.grid_tokens_gradient(dy, value(x)))
