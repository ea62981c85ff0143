"""The operations of `numpy_ops` in TensorFlow: same names, same signatures, same results; differentiable.

Runs on any device that TensorFlow supports. A model compiles its towers with tf.function; compiled or not, a
tf.GradientTape sees what it computes. On a GPU of NVIDIA, TensorFlow multiplies float32 as tf32, with errors of a
thousandth, unless you call tf.config.experimental.enable_tensor_float_32_execution(False).

Arrays are `tensorflow_arrays.Array`, which have a tf.Tensor; tensors, variables and ndarrays are taken, too. Pictures
are turned for convolutions, channels last, because TensorFlow has no others on a CPU. `numpy_ops` documents the
operations.
"""

import functools
import math

import numpy as np
import tensorflow as tf

from miniclip import params
from miniclip.ops import numpy_ops, refuse
from miniclip.ops.tensorflow_arrays import Array, Joined, tensor

NAME = "tensorflow"
DTYPES = ("float32", "float64", "float16", "bfloat16")
LENGTH_STEP = 16  # texts are cut to multiples of 16 tokens: each new length may be compiled again
PACKAGES = ("tensorflow", "miniclip")  # tensors, and Arrays, which have one
ANY_DEVICE = True

# ------------------------------------------------------------------------------ arrays in, arrays out


def asarray(x, *, device=None, dtype=None):
    """`x` as an Array; dtype is a name, None: the dtype of `x`.

    device is TensorFlow's name or torch's ("cpu", "GPU:0", "cuda:1"); None: the device of `x`, or TensorFlow's default.
    """
    place = None if device is None else _device(device)
    x = x.tensor if isinstance(x, Array) else x
    if not tf.is_tensor(x):
        x = tf.constant(np.array(x))  # a copy: TensorFlow may share an ndarray's memory, which its owner may write to
    x = tensor(x) if dtype is None else tf.cast(x, dtype)
    if place and x.device and not x.device.endswith(f":{place}"):
        with tf.device(place):
            x = tf.identity(x)
    return Array(x)


def _device(device):
    """TensorFlow's short name of a device, "CPU:0"; RuntimeError if there is none."""
    name = str(device).upper().rpartition("DEVICE:")[2].strip("/").replace("CUDA", "GPU")
    known = [each.name.rpartition("device:")[2] for each in tf.config.list_logical_devices()]
    found = next((each for each in known if name in (each, each.partition(":")[0])), None)
    if found is None:
        raise RuntimeError(f"TensorFlow has no such device, only {', '.join(known)}")
    return found


def to_numpy(x):
    """`x` as an ndarray; bfloat16, which NumPy does not have, becomes float32."""
    x = tensor(x)
    return np.array(x.numpy(), np.float32 if x.dtype == tf.bfloat16 else None)  # a copy: TensorFlow's is read-only


def peak(x):
    x = tensor(x)
    if tf.is_symbolic_tensor(x) or ":CPU:" not in x.device:
        return 0.0
    return numpy_ops.peak(x.numpy().astype(np.float32))


def capture(function, parameters, *, dtype=None, batch_invariant=False, compile=False):
    refuse(NAME, batch_invariant=batch_invariant, compile=compile)

    # compiled for one shape, then once more for batches of any size
    @functools.partial(tf.function, autograph=False, reduce_retracing=True)
    def compiled(batches, options):
        return function(*map(Array, batches), **parameters, **params.tree_map(_array, options)).tensor

    def run(*batches, trace=None, **options):
        # a trace needs values, which compiled code does not have; of an empty batch, its convolutions have wrong shapes
        if trace is not None or batches[0].shape[0] == 0:
            return function(*batches, **parameters, **options, trace=trace)
        return Array(compiled([*map(tensor, batches)], params.tree_map(_tensor, options)))

    return run


def _tensor(x):
    return None if x is None else tensor(x)


def _array(x):
    return None if x is None else Array(x)


def _operation(function):
    """A function of tensors, and other arguments, as one of what `tensor` takes; its results are Arrays."""

    @functools.wraps(function)
    def operation(*args, **kwargs):
        found = function(*map(_unwrapped, args), **{name: _unwrapped(x) for name, x in kwargs.items()})
        return tuple(map(Array, found)) if isinstance(found, tuple) else Array(found)

    return operation


def _unwrapped(x):
    return tensor(x) if isinstance(x, (Array, np.ndarray)) else x


# ----------------------------------------------------------------------------------- pixels and tokens


@_operation
def patch_embed(images, weight, class_token, position_embedding):
    x = _cells(_conv(images, weight, weight.shape[-1]))  # (B, Gy·Gx, D)
    first = tf.broadcast_to(class_token, (Array(x).shape[0], 1, class_token.shape[0]))
    return tf.concat([first, x], 1) + position_embedding  # (B, T, D)


@_operation
def embed(tokens, table):
    return tf.gather(table, tokens)  # (B, T, D)


@_operation
def gather(x, index):
    if not tf.is_tensor(index) or index.shape.rank == 0:
        return x[:, index]
    return tf.gather(x, index, batch_dims=1)  # (B, D)


# ----------------------------------------------------------------------------------------- activations


@_operation
def softmax(x):
    return tf.cast(tf.nn.softmax(_wide(x)), x.dtype)


@_operation
def log_softmax(x):
    return tf.cast(tf.nn.log_softmax(_wide(x)), x.dtype)


@_operation
def quick_gelu(x):
    return x * tf.sigmoid(1.702 * x)


@_operation
def gelu(x):
    return x * 0.5 * tf.math.erfc(x / -(2**0.5))  # not tf.nn.gelu: in float64 it has the √2 of float32


@_operation
def gelu_tanh(x):
    return x * 0.5 * (1 + tf.tanh((2 / math.pi) ** 0.5 * (x + 0.044715 * x * x * x)))


@_operation
def relu(x):
    return tf.nn.relu(x)


@_operation
def sigmoid(x):
    return tf.cast(tf.sigmoid(_wide(x)), x.dtype)


@_operation
def silu(x):
    return x * tf.sigmoid(x)


@_operation
def tanh(x):
    return tf.tanh(x)


ACTIVATIONS = {"quick_gelu": quick_gelu, "gelu": gelu, "gelu_tanh": gelu_tanh, "relu": relu}
ACTIVATIONS |= {"sigmoid": sigmoid, "silu": silu, "tanh": tanh}


# --------------------------------------------------------------------------------- parts of a transformer


def linear(x, weight, bias=None, *, activation=None):
    x = Array(tensor(x))
    rows = tf.reshape(x.tensor, (-1, x.shape[-1]))  # one product for the whole batch: (rows, in)
    if isinstance(weight, Joined):
        rows = Array(tf.concat([rows @ kernel for kernel in weight.parts], -1))  # (rows, out)
    else:
        rows = Array(tf.matmul(rows, tensor(weight), transpose_b=True))
    x = rows.reshape(*x.shape[:-1], rows.shape[-1])  # (..., out)
    if bias is not None:
        x = x + bias
    return x if activation is None else ACTIVATIONS[activation](x)


@_operation
def layer_norm(x, weight, bias, *, eps):
    wide = _wide(x)
    centred = wide - tf.reduce_mean(wide, -1, keepdims=True)
    variance = tf.reduce_mean(tf.square(centred), -1, keepdims=True)  # (..., 1)
    return tf.cast(centred / tf.sqrt(variance + eps) * _wide(weight) + _wide(bias), x.dtype)


def add_layer_norm(x, update, weight, bias, *, eps):
    x = Array(tensor(x)) + update
    return x, layer_norm(x, weight, bias, eps=eps)


@_operation
def attention_weights(q, k, *, causal=False, lengths=None):
    K = q.shape[3]
    scores = tf.einsum("bqhk,bthk->bhqt", _wide(q), _wide(k)) / K**0.5  # (B, H, Tq, Tk)
    Tq, Tk = Array(scores).shape[2:]
    nothing = tf.constant(-np.inf, scores.dtype)
    if causal:
        scores = tf.where(tf.range(Tq)[:, None] >= tf.range(Tk), scores, nothing)
    if lengths is not None:
        padding = tf.range(Tk) >= tf.cast(lengths, tf.int32)[:, None]  # (B, Tk)
        scores = tf.where(padding[:, None, None, :], nothing, scores)
    return tf.cast(tf.nn.softmax(scores), q.dtype)


@_operation
def attention(q, k, v, *, causal=False, lengths=None):
    weights = attention_weights(q, k, causal=causal, lengths=lengths).tensor  # (B, H, Tq, Tk)
    return tf.einsum("bhqt,bthk->bqhk", weights, v)  # (B, Tq, H, K)


def _wide(x):
    """x in float32, or in float64 as it is: for sums and squares that would round or overflow in 16 bits."""
    return x if x.dtype == tf.float64 else tf.cast(x, tf.float32)


# ---------------------------------------------------------------------------- parts of a convolutional tower


@_operation
def conv2d(x, weight, bias=None, *, stride=1, padding=0, groups=1, residual=None, activation=None):
    low, high = padding if isinstance(padding, tuple) else (padding, padding)
    x = _conv(tf.pad(x, ((0, 0), (0, 0), (low, high), (low, high))), weight, stride, groups)  # (B, O, Gy, Gx)
    if bias is not None:
        x = x + bias[:, None, None]
    if residual is not None:
        x = x + residual
    return x if activation is None else ACTIVATIONS[activation](x).tensor


def _conv(x, weight, stride, groups=1):
    """x (B, C, height, width), weight (O, C / groups, k, k) -> (B, O, Gy, Gx); groups are 1 or one for each channel."""
    out, k = weight.shape[0], weight.shape[-1]
    B, _, *sides = Array(x).shape
    x = tf.transpose(x, (0, 2, 3, 1))
    if groups > 1 and groups == x.shape[3] == out:
        x = tf.nn.depthwise_conv2d(x, tf.transpose(weight, (2, 3, 0, 1)), (1, stride, stride, 1), "VALID")
    else:  # each group by itself: TensorFlow's groups have no gradient on a CPU
        kernels = tf.split(tf.transpose(weight, (2, 3, 1, 0)), groups, 3)  # of (k, k, C / groups, O / groups)
        parts = [tf.nn.conv2d(part, each, stride, "VALID") for part, each in zip(tf.split(x, groups, 3), kernels)]
        x = tf.concat(parts, 3)
    # of an empty batch, oneDNN's result has the input's shape
    x = tf.reshape(x, (B, *((n - k) // stride + 1 for n in sides), out))
    return tf.transpose(x, (0, 3, 1, 2))


@_operation
def avg_pool2d(x, size):
    B, C, height, width = Array(x).shape
    x = x[:, :, : height // size * size, : width // size * size]
    x = tf.reshape(x, (B, C, height // size, size, width // size, size))
    return tf.cast(tf.reduce_mean(_wide(x), (3, 5)), x.dtype)  # (B, C, Gy, Gx)


@_operation
def global_avg_pool2d(x):
    return tf.cast(tf.reduce_mean(_wide(x), (2, 3), keepdims=True), x.dtype)  # (B, C, 1, 1)


@_operation
def cells(x):
    return _cells(x)


def _cells(x):
    B, C, Gy, Gx = Array(x).shape
    return tf.transpose(tf.reshape(x, (B, C, Gy * Gx)), (0, 2, 1))


@_operation
def grid_tokens(x, position_embedding):
    x = _cells(x)  # (B, Gy·Gx, C)
    mean = tf.cast(tf.reduce_mean(_wide(x), 1, keepdims=True), x.dtype)
    return tf.concat([mean, x], 1) + position_embedding  # (B, T, C)


# ------------------------------------------------------------------------------------- the shared space


@_operation
def l2_normalize(x):
    wide = _wide(x)
    largest = tf.stop_gradient(tf.reduce_max(tf.abs(wide), -1, keepdims=True))  # the result does not depend on it
    wide = wide / tf.where(largest == 0, tf.ones_like(largest), largest)  # else squares of 1e30 or 1e-30 are no floats
    squares = tf.reduce_sum(tf.square(wide), -1, keepdims=True)
    return tf.cast(wide / tf.sqrt(tf.maximum(squares, 0.25)), x.dtype)


@_operation
def similarity(image_features, text_features, logit_scale):
    cosines = linear(l2_normalize(image_features), l2_normalize(text_features)).tensor  # (B, N)
    return tf.exp(logit_scale) * cosines
