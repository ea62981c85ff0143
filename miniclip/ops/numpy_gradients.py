"""Gradients of the reference's operations, each derived by hand: NumPy in, NumPy out, and no tape.

Builds on `numpy_ops`, whose functions compute y; `numpy_grad` puts them together. It continues in
`numpy_activation_gradients` and `numpy_conv_gradients`.

L is the loss, any number that depends on y. A function `NAME_gradient(dy, ...)` gets dy = ∂L/∂y, of y's shape, and
returns dx = ∂L/∂x, of x's shape, for each input x. All follow from two rules:

    if y = f(x) element by element, dx = dy · f'(x)
    if y = x Wᵀ, dx = dy W and dW = dyᵀ x                    (the sum over rows is in the product)

An input that is used many times, such as a bias, gets the sum over its uses. No function writes to its inputs.
"""

import math

import numpy as np

from miniclip.ops import numpy_ops

# ---------------------------------------------------------------------------------- pixels and tokens


def patch_embed_gradient(dy, images, weight):
    """The gradient of patch_embed(images, weight, class_token, position_embedding).

    y[:, 0] = class_token + position 0, y[:, 1 + t] = weight · (patch t) + position 1 + t, so that
    dposition = Σ_b dy, dclass_token = Σ_b dy[:, 0], and the patches are the x of a linear layer.

    dy (B, T, D) · images (B, C, height, width) · weight (D, C, P, P)
    returns dimages, dweight, dclass_token (D,), dposition_embedding (T, D); pixels beyond the last patch get 0.
    """
    B, C, height, width = images.shape
    D, _, P, _ = weight.shape
    Gy, Gx = height // P, width // P
    x = images[:, :, : Gy * P, : Gx * P].reshape(B, C, Gy, P, Gx, P)
    x = x.transpose(0, 2, 4, 1, 3, 5).reshape(B, Gy * Gx, C * P * P)
    dx, dweight, _ = linear_gradient(dy[:, 1:], x, weight.reshape(D, -1))  # (B, Gy·Gx, C·P·P), (D, C·P·P)
    # the patches back to where they were cut from
    dx = dx.reshape(B, Gy, Gx, C, P, P).transpose(0, 3, 1, 4, 2, 5)  # (B, C, Gy, P, Gx, P)
    dimages = np.zeros_like(images)
    dimages[:, :, : Gy * P, : Gx * P] = dx.reshape(B, C, Gy * P, Gx * P)
    return dimages, dweight.reshape(weight.shape), dy[:, 0].sum(axis=0), dy.sum(axis=0)


def embed_gradient(dy, tokens, table):
    """The gradient of table[tokens]: each row gets the sum over the places where its token is.

    dy (B, T, D) · tokens (B, T) int · table (V, D), only its shape matters · returns dtable (V, D)
    """
    dtable = np.zeros_like(table)
    np.add.at(dtable, tokens, dy)  # dtable[tokens] += dy would count a token once that occurs twice
    return dtable


# --------------------------------------------------------------------------------- softmax


def softmax_gradient(dy, y):
    """The gradient of y = softmax(x): dx = y · (dy - Σ_j dy_j y_j), over the last axis.

    ∂y_j/∂x_i = y_j (1[i = j] - y_i), and dx_i = Σ_j dy_j ∂y_j/∂x_i. Each row of dx sums to 0, since adding a number to
    a row of x changes no y.

    dy, y any shape · returns dx. It needs y, not x.
    """
    return y * (dy - (dy * y).sum(axis=-1, keepdims=True))


def log_softmax_gradient(dy, y):
    """The gradient of y = log_softmax(x): dx = dy - exp(y) · Σ_j dy_j, over the last axis.

    y_j = x_j - log Σ_i exp(x_i), so that ∂y_j/∂x_i = 1[i = j] - softmax(x)_i.

    dy, y any shape · returns dx. It needs y, not x.
    """
    return dy - np.exp(y) * dy.sum(axis=-1, keepdims=True)


# ---------------------------------------------------------------------------- parts of a transformer


def linear_gradient(dy, x, weight):
    """The gradient of y = x @ weight.T + bias: dx = dy @ weight, dweight = dyᵀ @ x, dbias = Σ dy.

    y_o = Σ_i W_oi x_i + b_o: ∂y_o/∂x_i = W_oi, ∂y_o/∂W_oi = x_i, ∂y_o/∂b_o = 1, summed over all rows.

    dy (..., out) · x (..., in) · weight (out, in) · returns dx (..., in), dweight (out, in), dbias (out,)
    """
    rows, drows = x.reshape(-1, x.shape[-1]), dy.reshape(-1, dy.shape[-1])  # (rows, in), (rows, out)
    # plain: dy @ weight. The weight first, since BLAS computes that order faster
    dx = (weight.T @ drows.T).T.reshape(x.shape)
    return dx, drows.T @ rows, drows.sum(axis=0)


def layer_norm_gradient(dy, x, weight, *, eps):
    """The gradient of y = x̂ · weight + bias with x̂ = (x - μ)/σ, μ = mean(x), σ = √(mean((x - μ)²) + eps).

        dbias = Σ dy, dweight = Σ dy · x̂                     (over all rows)
        dx = (g - mean(g) - x̂ · mean(g · x̂)) / σ             with g = dy · weight = ∂L/∂x̂, means over D

    If σ were a constant, dx would be (g - mean(g))/σ, for μ is a mean. But ∂σ/∂x_i = (x_i - μ)/(D σ) = x̂_i/D, and
    ∂x̂_j/∂σ = -x̂_j/σ, which adds Σ_j g_j · (-x̂_j/σ) · x̂_i/D = -x̂_i mean(g · x̂)/σ.
    So dx has no part along 1, and without eps none along x̂: a shift or a scale of x changes no y (Layer Normalization,
    sec. 5.1).

    dy, x (..., D) · weight (D,) · returns dx (..., D), dweight (D,), dbias (D,)
    """
    x_hat, sigma = _normalised(x, eps)
    axes = tuple(range(x.ndim - 1))  # all rows
    dweight, dbias = (dy * x_hat).sum(axis=axes), dy.sum(axis=axes)
    g = dy * weight
    dx = (g - g.mean(axis=-1, keepdims=True) - x_hat * (g * x_hat).mean(axis=-1, keepdims=True)) / sigma
    return dx, dweight, dbias


def _normalised(x, eps):
    """x̂ (..., D) and σ (..., 1) of a layer norm."""
    x = x - x.mean(axis=-1, keepdims=True)
    sigma = np.sqrt(np.square(x).mean(axis=-1, keepdims=True) + eps)
    return x / sigma, sigma


def attention_weights_gradient(dweights, q, k, weights):
    """The gradient of weights = softmax(q kᵀ / √K), for each head, through the scores s = q kᵀ / √K.

        ds = softmax_gradient(dweights, weights), dq = ds @ k / √K, dk = dsᵀ @ q / √K

    A hidden key has the weight 0, so its ds is exactly 0: neither `causal` nor `lengths` is needed.

    dweights, weights (B, H, Tq, Tk) · q (B, Tq, H, K) · k (B, Tk, H, K) · returns dq, dk
    """
    ds = softmax_gradient(dweights, weights) / math.sqrt(q.shape[-1])  # (B, H, Tq, Tk)
    dq = ds @ k.transpose(0, 2, 1, 3)  # (B, H, Tq, K)
    dk = ds.swapaxes(-1, -2) @ q.transpose(0, 2, 1, 3)  # (B, H, Tk, K)
    return dq.transpose(0, 2, 1, 3), dk.transpose(0, 2, 1, 3)


def attention_gradient(dy, q, k, v, *, causal=False, lengths=None, weights=None):
    """The gradient of y = weights @ v, weights = attention_weights(q, k), for each head.

        dv = weightsᵀ @ dy, dweights = dy @ vᵀ, then dq and dk from dweights

    (FlashAttention, appendix B.2, which computes the same without keeping the weights.)

    dy, q (B, Tq, H, K) · k, v (B, Tk, H, K) · `causal` and `lengths` as in `attention_weights` · weights (B, H, Tq, Tk)
    if they were kept, then the mask is in them · returns dq, dk, dv
    """
    if weights is None:
        weights = numpy_ops.attention_weights(q, k, causal=causal, lengths=lengths)
    dy = dy.transpose(0, 2, 1, 3)  # (B, H, Tq, K)
    dv = weights.swapaxes(-1, -2) @ dy  # (B, H, Tk, K)
    dweights = dy @ v.transpose(0, 2, 3, 1)  # (B, H, Tq, Tk)
    return *attention_weights_gradient(dweights, q, k, weights), dv.transpose(0, 2, 1, 3)


# ------------------------------------------------------------------------------------- the shared space


def l2_normalize_gradient(dy, x):
    """The gradient of y = x / ‖x‖ over the last axis: dx = (dy - y · Σ_j dy_j y_j) / ‖x‖.

    ∂‖x‖/∂x_i = x_i/‖x‖ = y_i, so that ∂y_j/∂x_i = 1[i = j]/‖x‖ - x_j y_i/‖x‖² = (1[i = j] - y_j y_i)/‖x‖.
    So dx has no part along x: a longer x has the same y.

    dy, x any shape · returns dx. Rows of zeros have no gradient; as in the forward function, ½ is their length.
    """
    # the length as in the forward function: scaled by a power of two, so that no square overflows
    exponent = np.frexp(np.abs(x).max(axis=-1, keepdims=True))[1]
    x = np.ldexp(x, -exponent)
    length = np.maximum(np.sqrt(np.square(x).sum(axis=-1, keepdims=True)), 0.5)
    y = x / length
    return np.ldexp((dy - y * (dy * y).sum(axis=-1, keepdims=True)) / length, -exponent)


def similarity_gradient(dy, image_features, text_features, logit_scale):
    """The gradient of y = e^s · â @ b̂ᵀ, with â and b̂ the features of length one, and s the logit_scale.

        ds = Σ dy · y, dâ = e^s · dy @ b̂, db̂ = e^s · dyᵀ @ â, then through l2_normalize

    dy (B, N) · image_features (B, E) · text_features (N, E) · logit_scale () · returns the gradients of these three
    """
    a, b, scale = numpy_ops.l2_normalize(image_features), numpy_ops.l2_normalize(text_features), np.exp(logit_scale)
    da, db = scale * (dy @ b), scale * (dy.T @ a)  # (B, E), (N, E)
    dscale = (da * a).sum()  # Σ_ij dy_ij e^s Σ_e â_ie b̂_je
    return l2_normalize_gradient(da, image_features), l2_normalize_gradient(db, text_features), dscale
