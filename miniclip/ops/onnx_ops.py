"""The operations of `numpy_ops`, recorded as nodes of an ONNX graph: same names, same signatures, same results.

A tower that gets these operations and a `graph.Value` computes nothing: its nodes are left in the value's graph, which
`miniclip export` writes to a file and the backends `onnxruntime` and `openvino` compile. ndarrays are computed at once,
by `numpy_ops`, which documents the operations.

The nodes are those that ONNX Runtime and OpenVINO recognise: both make one operation of x · σ(1.702x) and of a layer
norm; OpenVINO also of attention.
"""

import functools
import math

import numpy as np

from miniclip.ops import numpy_ops, onnx_int8
from miniclip.ops.graph import Value

# ------------------------------------------------------------------------------ arrays in, arrays out


def _recorded(operation):
    """`operation` for Values; for ndarrays the operation of `numpy_ops` that has its name."""
    at_once = getattr(numpy_ops, operation.__name__)

    @functools.wraps(operation)
    def either(x, *arguments, **options):
        return (operation if isinstance(x, Value) else at_once)(x, *arguments, **options)

    return either


def asarray(x, *, device=None, dtype=None):
    """As in `numpy_ops`, but floats are float32, whatever the dtype of the towers: a dtype that NumPy has."""
    return numpy_ops.asarray(x, dtype=dtype if dtype in (None, "int64") else "float32")


to_numpy, peak = numpy_ops.to_numpy, numpy_ops.peak


# ----------------------------------------------------------------------------------- pixels and tokens


@_recorded
def patch_embed(images, weight, class_token, position_embedding):
    D, P = weight.shape[0], weight.shape[-1]
    if onnx_int8.rounds(images, weight):
        x = linear(*onnx_int8.patches(images, weight))
    else:
        x = conv2d(images, weight, stride=P).reshape(images.shape[0], D, -1).transpose(0, 2, 1)  # (B, Gy·Gx, D)
    # a row of zeros for the class token, which is added as if it were a part of the first position
    x = x.node("Pad", np.array([0, 1, 0, 0, 0, 0], np.int64), shape=(x.shape[0], x.shape[1] + 1, D))  # (B, T, D)
    first = class_token[None].node("Pad", np.array([0, 0, x.shape[1] - 1, 0], np.int64), shape=(x.shape[1], D))
    return x + (position_embedding + first)


@_recorded
def embed(tokens, table):
    return table.node("Gather", tokens, shape=(*tokens.shape, table.shape[1]), axis=0)  # (B, T, D)


@_recorded
def gather(x, index):
    if not isinstance(index, Value):
        return x[:, index]  # (B, ...)
    return x.node("GatherND", index[:, None], shape=(x.shape[0], *x.shape[2:]), batch_dims=1)  # (B, ...)


# ----------------------------------------------------------------------------------------- activations


@_recorded
def softmax(x):
    return x.node("Softmax", axis=-1)


@_recorded
def log_softmax(x):
    return x.node("LogSoftmax", axis=-1)


@_recorded
def quick_gelu(x):
    return x * (x * 1.702).node("Sigmoid")


@_recorded
def gelu(x):
    return x.node("Gelu")


@_recorded
def gelu_tanh(x):
    return x.node("Gelu", approximate="tanh")


@_recorded
def relu(x):
    return x.node("Relu")


@_recorded
def sigmoid(x):
    return ((x * -1.0).node("Exp") + 1.0).node("Reciprocal")  # ONNX Runtime's Sigmoid is 0 below -18


@_recorded
def silu(x):
    return x * x.node("Sigmoid")


@_recorded
def tanh(x):
    return x.node("Tanh")


ACTIVATIONS = {"quick_gelu": quick_gelu, "gelu": gelu, "gelu_tanh": gelu_tanh, "relu": relu}
ACTIVATIONS |= {"sigmoid": sigmoid, "silu": silu, "tanh": tanh}


# --------------------------------------------------------------------------------- parts of a transformer


@_recorded
def linear(x, weight, bias=None, *, activation=None):
    if onnx_int8.rounds(x, weight):
        y = onnx_int8.linear(x, weight, bias)  # (..., out)
        return Product(y, x, weight, bias) if activation is None else ACTIVATIONS[activation](y)
    # Gemm takes the weights as they are, (out, in); for MatMul, ONNX Runtime would first make transposed copies of them
    more, lead = () if bias is None else (bias,), x.shape[:-1]
    flat = x.flattened()  # (rows, in)
    y = flat.node("Gemm", weight, *more, shape=(flat.shape[0], weight.shape[0]), transB=1)  # (rows, out)
    if activation is not None:  # before another shape: OpenVINO joins it to the product
        return ACTIVATIONS[activation](y).unflattened(lead)
    return Product(y.unflattened(lead), x, weight, bias)  # (..., out)


class Product(Value):
    """The result of `linear`, (..., out). Cut into parts, such as q, k and v, it becomes a product for each of them.

    These take as long as one product for all, and no part has to be copied out of it.
    """

    def __init__(self, value, *operands):
        super().__init__(value.graph, value.name, value.dtype, value.shape)
        self.operands, self.lead = operands, value.shape[:-1]

    def reshape(self, *shape):
        y = Product(super().reshape(*shape), *self.operands)
        y.lead = self.lead
        return y

    def __getitem__(self, key):
        axis = len(self.lead)
        parted = self.shape[:axis] == self.lead and len(self.shape) > axis + 1
        if not parted or key[:-1] != (slice(None),) * axis or not isinstance(key[-1], int):
            return super().__getitem__(key)
        x, weight, bias = self.operands
        size = math.prod(self.shape[axis + 1 :])
        rows = slice(key[-1] * size, (key[-1] + 1) * size)
        y = linear(x, weight[rows], bias if bias is None else bias[rows])  # (..., size)
        return y.reshape(*self.lead, *self.shape[axis + 1 :])


@_recorded
def layer_norm(x, weight, bias, *, eps):
    # its statistics are float32 in any dtype (stash_type, by default)
    return x.node("LayerNormalization", weight, bias, axis=-1, epsilon=float(eps))


@_recorded
def add_layer_norm(x, update, weight, bias, *, eps):
    x = x + update
    return x, layer_norm(x, weight, bias, eps=eps)


@_recorded
def attention_weights(q, k, *, causal=False, lengths=None):
    Tq, Tk, K = q.shape[1], k.shape[1], q.shape[3]
    scores = q.transpose(0, 2, 1, 3) @ k.transpose(0, 2, 3, 1) * K**-0.5  # (B, H, Tq, Tk)
    hidden = _hidden(q.graph, Tq, Tk, causal, lengths)
    return softmax(scores if hidden is None else scores + hidden.astype(q.dtype))


@_recorded
def attention(q, k, v, *, causal=False, lengths=None):
    weights = attention_weights(q, k, causal=causal, lengths=lengths)  # (B, H, Tq, Tk)
    return (weights @ v.transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3)  # (B, Tq, H, K)


def _hidden(graph, Tq, Tk, causal, lengths):
    """-∞ for keys that a query may not see, and 0 for the others: (B or 1, 1, Tq or 1, Tk), None if it sees all."""
    keys, masks = graph.arange(Tk) if causal or lengths is not None else None, []
    if causal:
        later = keys[None].node("Greater", graph.arange(Tq)[:, None], shape=(Tq, Tk), dtype="bool")
        masks.append(later[None, None])  # (1, 1, Tq, Tk)
    if lengths is not None:
        padding = keys[None].node("GreaterOrEqual", lengths[:, None], shape=(lengths.shape[0], Tk), dtype="bool")
        masks.append(padding[:, None, None])  # (B, 1, 1, Tk)
    masks = [mask.node("Where", np.float32(-np.inf), np.float32(0), dtype="float32") for mask in masks]
    return masks[0] + masks[1] if len(masks) == 2 else masks[0] if masks else None


# ---------------------------------------------------------------------------- parts of a convolutional tower


@_recorded
def conv2d(x, weight, bias=None, *, stride=1, padding=0, groups=1, residual=None, activation=None):
    k, (before, after) = weight.shape[-1], padding if isinstance(padding, tuple) else (padding, padding)
    G = [(n + before + after - k) // stride + 1 for n in x.shape[2:]]
    more = () if bias is None else (bias,)
    sides = {"pads": [before, before, after, after], "strides": [stride, stride], "group": groups}
    x = x.node("Conv", weight, *more, shape=(x.shape[0], weight.shape[0], *G), **sides)  # (B, O, Gy, Gx)
    if residual is not None:
        x = x + residual
    return x if activation is None else ACTIVATIONS[activation](x)


@_recorded
def avg_pool2d(x, size):
    G = [n // size for n in x.shape[2:]]
    return x.node("AveragePool", shape=(*x.shape[:2], *G), kernel_shape=[size, size], strides=[size, size])


@_recorded
def global_avg_pool2d(x):
    return x.node("GlobalAveragePool", shape=(*x.shape[:2], 1, 1))  # (B, C, 1, 1)


@_recorded
def cells(x):
    return x.reshape(*x.shape[:2], -1).transpose(0, 2, 1)  # (B, Gy·Gx, C)


@_recorded
def grid_tokens(x, position_embedding):
    B, C, Gy, Gx = x.shape
    x = cells(x)  # (B, Gy·Gx, C)
    mean = x.node("ReduceMean", np.array([1], np.int64), shape=(B, 1, C), keepdims=1)
    x = mean.node("Concat", x, shape=(B, 1 + Gy * Gx, C), axis=1)  # (B, T, C)
    return x + position_embedding


# ------------------------------------------------------------------------------------- the shared space


@_recorded
def l2_normalize(x):
    one = (*x.shape[:-1], 1)
    largest = x.node("Abs").node("ReduceMax", np.array([-1], np.int64), shape=one)
    x = x / largest.node("Max", np.array(np.finfo(np.float32).tiny, x.dtype))  # so that no square overflows
    norm = (x * x).node("ReduceSum", np.array([-1], np.int64), shape=one).node("Sqrt")
    return x / norm.node("Max", np.array(0.5, x.dtype))


@_recorded
def similarity(image_features, text_features, logit_scale):
    cosines = l2_normalize(image_features) @ l2_normalize(text_features).transpose(1, 0)  # (B, N)
    return logit_scale.node("Exp") * cosines
