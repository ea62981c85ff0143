"""The reference: every operation of CLIP, step by step, in plain NumPy.

It continues in `numpy_activations`, `numpy_conv` (for convolutional towers) and `runtime.chunks` (cores). The other
backends, such as `torch_ops`, export the same names with the same signatures; the towers get one of them as `ops`.

One alphabet for shapes, here and everywhere:
    B batch · T tokens · D width of a token · H heads · K head width (D = H·K) · C channels · P patch side · G grid
    E embedding · M MLP width · V vocabulary · L layers · N texts · O channels out
"""

import functools
import math

import numpy as np

from miniclip.ops import refuse
from miniclip.ops.numpy_activations import ACTIVATIONS, gelu, gelu_tanh, log_softmax, relu, sigmoid, silu, tanh  # noqa: F401
from miniclip.ops.numpy_conv import avg_pool2d, cells, conv2d, global_avg_pool2d, grid_tokens  # noqa: F401
from miniclip.runtime.chunks import in_chunks

NAME = "numpy"
DTYPES = ("float32", "float64")  # that it computes in
LENGTH_STEP = 1  # texts are cut to a multiple of this many tokens
PACKAGES = ("numpy",)  # whose arrays it computes with
ANY_DEVICE = False  # whether it computes on any device, or on one kind alone

# ------------------------------------------------------------------------------ arrays in, arrays out


def asarray(x, *, device=None, dtype=None):
    """`x` as this backend's array: an ndarray of `dtype` (a name; None: as it is), copied only if it must be."""
    return np.asarray(x, dtype)


def to_numpy(x):
    """This backend's array `x` as an ndarray."""
    return x


def peak(x):
    """The largest absolute value in x, a float; 0 where nobody knows it yet: on a GPU, or in code that is traced."""
    return float(max(x.max(initial=0), -x.min(initial=0)))


def capture(function, parameters, *, dtype=None, batch_invariant=False, compile=False):
    """function(*batches, **parameters) -> the same with its parameters filled in, as fast as a backend can make it.

    Here: in chunks, on all cores. `dtype`: as the model's. `batch_invariant`: bit for bit the same in any batch.
    """
    refuse(NAME, compile=compile)
    return in_chunks(functools.partial(function, **parameters), batch_invariant)


# ----------------------------------------------------------------------------------- pixels and tokens


def patch_embed(images, weight, class_token, position_embedding):
    """Cut pictures into P x P patches, project each to width D, put the class token first, add positions.

    x = [class_token; patches @ weight.reshape(D, -1).T] + position_embedding  (An Image is Worth 16x16 Words, eq. 1)

    images (B, C, height, width) float · weight (D, C, P, P) · class_token (D,) · position_embedding (T, D)
    returns (B, T, D) with T = 1 + Gy·Gx, Gy = height // P, Gx = width // P; CLIP's projection has no bias.
    It is a convolution of kernel P and stride P: the patches do not overlap, so cutting and one product are enough.
    """
    B, C, height, width = images.shape
    D, _, P, _ = weight.shape
    Gy, Gx = height // P, width // P  # pixels beyond the last whole patch are not seen
    # cut each picture into a grid of patches, one patch a row
    x = images[:, :, : Gy * P, : Gx * P].reshape(B, C, Gy, P, Gx, P)
    x = x.transpose(0, 2, 4, 1, 3, 5)  # (B, Gy, Gx, C, P, P)
    x = x.reshape(B, Gy * Gx, C * P * P)
    # project every patch
    x = linear(x, weight.reshape(D, -1))  # (B, Gy·Gx, D)
    # the class token first, then add positions
    x = np.concatenate([np.broadcast_to(class_token, (B, 1, D)), x], axis=1)  # (B, T, D)
    return x + position_embedding


def embed(tokens, table):
    """The table's row for each token: tokens (B, T) int, table (V, D) -> (B, T, D)."""
    return table[tokens]


def gather(x, index):
    """One token of each sequence, x[b, index[b]]: x (B, T, ...), index (B,) int or one for all -> (B, ...)."""
    return x[np.arange(len(x)), index]


# ----------------------------------------------------------------------------------------- activations


def softmax(x):
    """softmax(x)_i = exp(x_i) / Σ_j exp(x_j) over the last axis; any shape.

    Subtracting the maximum changes nothing in exact arithmetic and keeps exp from overflowing.
    """
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def quick_gelu(x):
    """quick_gelu(x) = x · σ(1.702 x), what OpenAI's models were trained with (clip/model.py, QuickGELU); any shape.

    It differs from the exact GELU by up to 0.0203 (at |x| ≈ 2.27): never use one instead of the other.
    """
    # plain: x * sigmoid(1.702 * x), with σ(z) = (1 + tanh(z/2)) / 2, which cannot overflow; in place, to save memory
    gate = np.tanh(0.851 * x)
    gate *= 0.5
    gate += 0.5
    gate *= x
    return gate


ACTIVATIONS["quick_gelu"] = quick_gelu  # in the table of the others, where convolutions find it too


# ---------------------------------------------------------------------------- parts of a transformer


def linear(x, weight, bias=None, *, activation=None):
    """activation(x @ weight.T + bias), bias and activation only if given.

    x (..., in) · weight (out, in) · bias (out,) · activation a name in `ACTIVATIONS`; returns (..., out).
    """
    # plain: x @ weight.T. Here one product for the whole batch, weight first: BLAS computes that order faster
    rows = x.reshape(-1, x.shape[-1])  # (rows, in)
    x = (weight @ rows.T).T.reshape(*x.shape[:-1], len(weight))  # (..., out)
    if bias is not None:
        x += bias
    return x if activation is None else ACTIVATIONS[activation](x)


def layer_norm(x, weight, bias, *, eps):
    """(x - mean(x)) / √(var(x) + eps) · weight + bias over the last axis (Layer Normalization, eq. 4).

    x (..., D) · weight, bias (D,), float32 or wider · var is the biased one, over D · returns (..., D) of x's dtype.
    """
    wide = x.astype(np.result_type(x, np.float32), copy=False)  # squares of float16 would overflow
    centred = wide - wide.mean(axis=-1, keepdims=True)
    variance = np.square(centred).mean(axis=-1, keepdims=True)  # (..., 1)
    # plain: centred / sqrt(variance + eps) * weight + bias; in place, to save memory
    centred /= np.sqrt(variance + eps)
    centred *= weight
    centred += bias
    return centred.astype(x.dtype, copy=False)


def add_layer_norm(x, update, weight, bias, *, eps):
    """(x + update, layer_norm(x + update)), which a GPU does in one pass: x, update (..., D) -> two of (..., D)."""
    x = x + update
    return x, layer_norm(x, weight, bias, eps=eps)


def attention_weights(q, k, *, causal=False, lengths=None):
    """softmax(q kᵀ / √K + mask): how much of each key's value every query takes (Attention Is All You Need, eq. 1).

    q (B, Tq, H, K) · k (B, Tk, H, K), views allowed · causal: query i sees keys 0..i ·
    lengths (B,) int: sequence b has only lengths[b] ≥ 1 keys, the keys after them are padding
    returns (B, H, Tq, Tk), rows summing to one.
    """
    Tq, Tk, K = q.shape[1], k.shape[1], q.shape[3]
    # every query times every key, head by head
    q = q.transpose(0, 2, 1, 3)  # (B, H, Tq, K)
    k = k.transpose(0, 2, 3, 1)  # (B, H, K, Tk)
    scores = q @ k  # (B, H, Tq, Tk)
    scores /= math.sqrt(K)
    # hide the keys after each query, then padding: exp(-∞) = 0
    if causal:
        scores = np.where(np.tri(Tq, Tk, dtype=bool), scores, -np.inf)  # the triangle is (Tq, Tk)
    if lengths is not None:
        padding = np.arange(Tk) >= np.asarray(lengths)[:, None]  # (B, Tk)
        scores = np.where(padding[:, None, None, :], -np.inf, scores)
    return softmax(scores)


def attention(q, k, v, *, causal=False, lengths=None):
    """Multi-head attention: every head's weighted mean of its values, `attention_weights(q, k) @ v`.

    q (B, Tq, H, K) · k, v (B, Tk, H, K), views of one packed product allowed · `causal` and `lengths` as in
    `attention_weights` · returns (B, Tq, H, K).
    """
    weights = attention_weights(q, k, causal=causal, lengths=lengths)  # (B, H, Tq, Tk)
    x = weights @ v.transpose(0, 2, 1, 3)  # (B, H, Tq, K)
    return x.transpose(0, 2, 1, 3)  # (B, Tq, H, K)


# ------------------------------------------------------------------------------------- the shared space


def l2_normalize(x):
    """x / ‖x‖₂ over the last axis: rows of length one, so that products are cosines; any shape. Zeros stay zeros."""
    # plain: x / sqrt(sum(square(x))). Squares of 1e30 or 1e-30 are no floats: first divide each row by the power of
    # two that brings its largest number into [0.5, 1), which is exact
    x = np.ldexp(x, -np.frexp(np.abs(x).max(axis=-1, keepdims=True))[1])
    return x / np.maximum(np.sqrt(np.square(x).sum(axis=-1, keepdims=True)), 0.5)


def similarity(image_features, text_features, logit_scale):
    """exp(logit_scale) · cosine of every picture with every text (CLIP, fig. 3).

    image_features (B, E) · text_features (N, E), neither normalised · logit_scale () stored as a logarithm
    returns (B, N) logits per picture; the transpose has the logits per text.
    """
    return np.exp(logit_scale) * (l2_normalize(image_features) @ l2_normalize(text_features).T)
