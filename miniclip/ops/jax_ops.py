"""The operations of `numpy_ops` in JAX: same names, same signatures, same results; compiled, and differentiable.

Runs on any device that JAX supports, in float32, float16 or bfloat16, with XLA's own kernels only. A model compiles its
towers once for each shape of batch. Every operation is pure and a parameter tree is a pytree, so jax.jit, jax.grad and
jax.vmap take a tower, which is a plain function:

    config = model.config.visual
    encode = functools.partial(config.tower.encode_image, model.ops, config=config)
    gradient = jax.grad(lambda params: encode(images, **params).sum())(model.params["visual"])

The text tower is `encode(tokens, end, **params)`; compute `end` with its `end_of_text`, outside of compiled code.
`numpy_ops` documents the operations.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from miniclip.ops import refuse

NAME = "jax"
DTYPES = ("float32", "float16", "bfloat16")
LENGTH_STEP = 16  # texts are cut to multiples of 16 tokens, because each length is compiled separately
PACKAGES = ("jax", "jaxlib")
ANY_DEVICE = True
PRECISION = "highest"  # else GPUs multiply float32 as tf32 and TPUs as bfloat16, with errors of a thousandth

# ------------------------------------------------------------------------------ arrays in, arrays out


def asarray(x, *, device=None, dtype=None):
    """`x` as a jax.Array; dtype is a name, None: the dtype of `x`, but with 32 bits instead of 64.

    device is a platform's name ("cpu", "cuda", "tpu"), a jax.Device or a jax.sharding.Sharding; None: the device of
    `x`, or JAX's default.
    """
    if device is not None and not isinstance(device, (jax.Device, jax.sharding.Sharding)):
        device = jax.local_devices(backend=str(device))[0]
    if not isinstance(x, jax.Array):
        x = np.array(x)  # a copy: JAX reads an ndarray later, when its owner may have written to it
    dtype = int if dtype == "int64" else dtype  # JAX's integers: 32 bits unless jax_enable_x64 is set
    return jnp.asarray(x, dtype, device=device)


def to_numpy(x):
    """`x` as an ndarray; bfloat16, which NumPy does not have, becomes float32."""
    return np.array(x, np.float32 if x.dtype == jnp.bfloat16 else None)  # a copy: JAX's own memory is read-only


def peak(x):
    if isinstance(x, jax.core.Tracer) or x.size == 0 or {d.platform for d in x.devices()} != {"cpu"}:
        return 0.0
    return float(np.abs(x).max())  # of a large array, jnp.max can lose a NaN (jax 0.10, on a CPU)


def capture(function, parameters, *, dtype=None, batch_invariant=False, compile=False):
    refuse(NAME, batch_invariant=batch_invariant, compile=compile)
    compiled = jax.jit(function)  # once for each shape of batch

    def run(*batches, trace=None, **options):
        if trace is not None:  # a trace needs values, and compiled code has none to show
            return function(*batches, **parameters, **options, trace=trace)
        return compiled(*batches, **parameters, **options)  # parameters are arguments: constants would slow compiling

    return run


# ----------------------------------------------------------------------------------- pixels and tokens


def patch_embed(images, weight, class_token, position_embedding):
    x = cells(conv2d(images, weight, stride=weight.shape[-1]))  # (B, Gy·Gx, D)
    x = jnp.concatenate([jnp.broadcast_to(class_token, (len(x), 1, x.shape[-1])), x], axis=1)  # (B, T, D)
    return x + position_embedding


def embed(tokens, table):
    return jnp.take(table, tokens, axis=0)  # (B, T, D), NaN for an unknown id, since compiled code cannot raise


def gather(x, index):
    return x[jnp.arange(len(x)), index]  # (B, D)


# ----------------------------------------------------------------------------------------- activations


def softmax(x):
    return jax.nn.softmax(_wide(x)).astype(x.dtype)


def log_softmax(x):
    return jax.nn.log_softmax(_wide(x)).astype(x.dtype)


def quick_gelu(x):
    return x * jax.nn.sigmoid(1.702 * x)


def gelu(x):
    return jax.nn.gelu(x, approximate=False)


def gelu_tanh(x):
    return jax.nn.gelu(x, approximate=True)


def relu(x):
    return jax.nn.relu(x)


def sigmoid(x):
    return jax.nn.sigmoid(_wide(x)).astype(x.dtype)  # in 16 bits, JAX's sigmoid has errors larger than rounding


def silu(x):
    return jax.nn.silu(x)


def tanh(x):
    return jnp.tanh(x)


ACTIVATIONS = {"quick_gelu": quick_gelu, "gelu": gelu, "gelu_tanh": gelu_tanh, "relu": relu}
ACTIVATIONS |= {"sigmoid": sigmoid, "silu": silu, "tanh": tanh}


# --------------------------------------------------------------------------------- parts of a transformer

_einsum = functools.partial(jnp.einsum, precision=PRECISION)


def linear(x, weight, bias=None, *, activation=None):
    x = _einsum("...i,oi->...o", x, weight)  # (..., out)
    if bias is not None:
        x = x + bias
    return x if activation is None else ACTIVATIONS[activation](x)


def layer_norm(x, weight, bias, *, eps):
    wide = _wide(x)
    centred = wide - wide.mean(axis=-1, keepdims=True)
    variance = jnp.square(centred).mean(axis=-1, keepdims=True)  # (..., 1)
    return (centred / jnp.sqrt(variance + eps) * weight + bias).astype(x.dtype)


def add_layer_norm(x, update, weight, bias, *, eps):
    x = x + update
    return x, layer_norm(x, weight, bias, eps=eps)


def attention_weights(q, k, *, causal=False, lengths=None):
    Tq, Tk, K = q.shape[1], k.shape[1], q.shape[3]
    scores = _einsum("bqhk,bthk->bhqt", q, k, preferred_element_type=_wide_type(q)) / K**0.5  # (B, H, Tq, Tk)
    if causal:
        scores = jnp.where(jnp.tri(Tq, Tk, dtype=bool), scores, -jnp.inf)
    if lengths is not None:
        padding = jnp.arange(Tk) >= jnp.asarray(lengths)[:, None]  # (B, Tk)
        scores = jnp.where(padding[:, None, None, :], -jnp.inf, scores)
    return softmax(scores).astype(q.dtype)


def attention(q, k, v, *, causal=False, lengths=None):
    weights = attention_weights(q, k, causal=causal, lengths=lengths)  # (B, H, Tq, Tk)
    return _einsum("bhqt,bthk->bqhk", weights, v)  # (B, Tq, H, K)


def _wide_type(x):
    """float32, or the dtype of x if it is wider: for sums and squares that would round or overflow in 16 bits."""
    return jnp.promote_types(x.dtype, jnp.float32)


def _wide(x):
    return x.astype(_wide_type(x))


# ---------------------------------------------------------------------------- parts of a convolutional tower


def conv2d(x, weight, bias=None, *, stride=1, padding=0, groups=1, residual=None, activation=None):
    sides = padding if isinstance(padding, tuple) else (padding, padding)
    if groups == x.shape[1] == len(weight):
        x = _depthwise(x, weight, stride, sides)  # (B, O, Gy, Gx)
    else:
        options = {"feature_group_count": groups, "precision": PRECISION}
        x = jax.lax.conv_general_dilated(x, weight, (stride, stride), (sides, sides), **options)  # (B, O, Gy, Gx)
    if bias is not None:
        x = x + bias[:, None, None]
    if residual is not None:
        x = x + residual
    return x if activation is None else ACTIVATIONS[activation](x)


def _depthwise(x, weight, stride, sides):
    """Σ_i Σ_j weight[c, 0, i, j] · x[b, c, r·stride + i, s·stride + j], which XLA compiles to one loop.

    On a CPU, XLA's convolution with one group per channel takes fifty times as long.
    """
    k = weight.shape[-1]
    wide = jnp.pad(_wide(x), ((0, 0), (0, 0), sides, sides))
    Gy, Gx = ((n - k) // stride + 1 for n in wide.shape[2:])

    def shifted(i, j):
        return wide[:, :, i : i + Gy * stride : stride, j : j + Gx * stride : stride]  # (B, C, Gy, Gx)

    return sum(weight[:, 0, i, j, None, None] * shifted(i, j) for i, j in np.ndindex(k, k)).astype(x.dtype)


def avg_pool2d(x, size):
    B, C, Gy, Gx = *x.shape[:2], x.shape[2] // size, x.shape[3] // size
    x = x[:, :, : Gy * size, : Gx * size].reshape(B, C, Gy, size, Gx, size)
    return x.mean(axis=(3, 5))  # (B, C, Gy, Gx)


def global_avg_pool2d(x):
    return x.mean(axis=(2, 3), keepdims=True)  # (B, C, 1, 1)


def cells(x):
    B, C, Gy, Gx = x.shape
    return x.reshape(B, C, Gy * Gx).transpose(0, 2, 1)


def grid_tokens(x, position_embedding):
    x = cells(x)  # (B, Gy·Gx, C)
    x = jnp.concatenate([x.mean(axis=1, keepdims=True), x], axis=1)  # (B, T, C)
    return x + position_embedding


# ------------------------------------------------------------------------------------- the shared space


def l2_normalize(x):
    wide = _wide(x)
    largest = jax.lax.stop_gradient(jnp.abs(wide).max(axis=-1, keepdims=True))  # the result does not depend on it
    wide = jnp.ldexp(wide, -jnp.frexp(largest)[1])
    squares = jnp.square(wide).sum(axis=-1, keepdims=True)
    return (wide / jnp.sqrt(jnp.maximum(squares, 0.25))).astype(x.dtype)


def similarity(image_features, text_features, logit_scale):
    cosines = linear(l2_normalize(image_features), l2_normalize(text_features))  # (B, N)
    return jnp.exp(logit_scale) * cosines
