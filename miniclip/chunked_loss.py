"""The losses of `loss` from features, and their gradients, without the B x B matrix of logits.

For 16,384 pairs that matrix has 1 GB in float32, and automatic differentiation keeps several of its size. Here a chunk
of its rows is computed, used for the loss and the gradients of the features, and forgotten:

    logits    x = exp(logit_scale) · images · textsᵀ (+ logit_bias)     (c, B), a chunk of rows
    gradient  g = probabilities - targets, the formulas of `loss`       (c, B)
    features  ∂ images = g · texts,  ∂ texts = Σ gᵀ · images            (c, E), (B, E)

So the gradients are computed with the loss, and only they are kept. The cross-entropy of the columns needs the sums of
whole columns before the first gradient: they are a first pass, with one product more than the three of any form.

NumPy and torch run the same lines: `xp` is the package that an array is of. `kernels/contrastive.py` is for GPUs.
"""

import functools
import importlib
import math

import numpy as np

from miniclip.errors import InputError
from miniclip.ops import numpy_ops

LOGITS = 2**23  # numbers in a chunk: 32 MB in float32, about what processors cache

# ---------------------------------------------------------------------------- the losses, on any backend


def contrastive_loss(
    image_features, text_features, logit_scale, *, ops=numpy_ops, label_smoothing=0.0, chunk=None,
    all_images=None, all_texts=None, offset=0,
):  # fmt: skip
    """`loss.contrastive_loss` of the logits exp(logit_scale) · image_features · text_featuresᵀ.

    image_features, text_features (b, E), of unit length already (`ops.l2_normalize`) · logit_scale () a logarithm ·
    chunk: how many rows of logits exist at once, None: 2^23 numbers; the loss is the same to rounding · returns ().

    If several processes share a batch of B pairs, all_images and all_texts (B, E) are the features of all of them, and
    this one's are the rows from `offset` on. Its loss is the mean over its own b pictures and b texts, each with all B
    partners to choose from, so that the mean over processes is the loss of the whole batch. all_images and all_texts
    get gradients too.

    Differentiable on torch, where features of 16 bit are multiplied in float32, and on triton, where they are not: it
    has kernels (`kernels.contrastive`). Raises InputError for shapes that do not fit.
    """
    options = {"label_smoothing": label_smoothing, "chunk": chunk, "offset": offset}
    if hasattr(ops, "contrastive_loss"):  # of its own: kernels
        everything = {"all_images": all_images, "all_texts": all_texts}
        return ops.contrastive_loss(image_features, text_features, logit_scale, **everything, **options)
    inputs = image_features, text_features, logit_scale, all_images, all_texts
    return _call(ops, functools.partial(contrastive_loss_and_gradients, **options), *inputs)


def sigmoid_loss(
    image_features, text_features, logit_scale, logit_bias, *, ops=numpy_ops, chunk=None, all_texts=None, offset=0
):
    """`loss.sigmoid_loss` of the logits exp(logit_scale) · image_features · text_featuresᵀ + logit_bias.

    As `contrastive_loss`, logit_bias (). Every pair counts once, for its picture: of the other processes' features only
    all_texts (B, E) are needed, and the rows of text_features are expected among them.
    """
    inputs = image_features, text_features, logit_scale, logit_bias
    options = {"chunk": chunk, "offset": offset}
    if hasattr(ops, "sigmoid_loss"):
        return ops.sigmoid_loss(*inputs, all_texts=all_texts, **options)
    return _call(ops, functools.partial(sigmoid_loss_and_gradients, **options), *inputs, all_texts)


def _call(ops, function, *inputs):
    """The value of a function that returns (value, gradients): differentiable, if the backend has `with_gradients`."""
    if hasattr(ops, "with_gradients"):
        return ops.with_gradients(function, *inputs)
    return function(*inputs, gradients=False)[0]


# ------------------------------------------------------------------- the losses and their gradients, by hand


def contrastive_loss_and_gradients(
    images, texts, logit_scale, all_images=None, all_texts=None, *, label_smoothing=0.0, chunk=None, offset=0,
    gradients=True,
):  # fmt: skip
    """`contrastive_loss` of ndarrays or tensors -> (loss, its gradients of the five inputs, None for those not given).

    With gradients=False all of them are None, and there is one product instead of three for each chunk.
    """
    xp = _library(images)
    scale = xp.exp(xp.asarray(logit_scale, dtype=images.dtype))
    options = {"label_smoothing": label_smoothing, "chunk": chunk, "gradients": gradients}
    cross_entropy = functools.partial(_cross_entropy, xp, scale, **options)
    return in_both_directions(cross_entropy, images, texts, all_images, all_texts, offset)


def in_both_directions(cross_entropy, images, texts, all_images, all_texts, offset):
    """(loss, gradients of the five inputs) from cross_entropy(features, partners, offset=, both=), see there."""
    if all_images is None and all_texts is None:
        loss, found = cross_entropy(images, texts, both=True)
        return loss, (*found, None, None)
    # two strips of the matrix: its own pictures with all texts, and its own texts with all pictures
    by_image, (d_images, d_all_texts, d_scale) = cross_entropy(images, all_texts, offset=offset)
    by_text, (d_texts, d_all_images, d_more) = cross_entropy(texts, all_images, offset=offset)
    d_scale = None if d_scale is None else d_scale + d_more
    return by_image + by_text, (d_images, d_texts, d_scale, d_all_images, d_all_texts)


def _cross_entropy(xp, scale, features, partners, *, label_smoothing, chunk, gradients, offset=0, both=False):
    """Half the mean cross-entropy of the rows of x = scale · features · partnersᵀ; `both`: and half its columns'.

    features (n, E) · partners (N, E), row i belongs to row offset + i · returns (loss, (∂ features, ∂ partners,
    ∂ logit_scale)).
    """
    check(features, partners, None if both else offset, chunk)
    n, N, sides = len(features), len(partners), 1 + both
    scaled = scale * features
    if both:
        m_j, l_j = _column_sums(xp, scaled, partners, chunk)  # (N,)
    right, m_i, l_i = (xp.zeros_like(features[:, 0]) for _ in range(3))  # (n,): partner's x, largest x, Σ exp(x - m)
    d_features, d_partners = (xp.zeros_like(a) if gradients else None for a in (features, partners))
    for rows, x in _logits(scaled, partners, chunk):
        diagonal = _diagonal(x, offset + rows.start)  # (c,)
        right[rows], m_i[rows] = diagonal, xp.amax(x, 1)
        if both and gradients:
            q = x - m_j
            xp.exp(q, out=q)
            q /= l_j  # (c, N), probabilities of each column
        x -= m_i[rows, None]
        xp.exp(x, out=x)
        l_i[rows] = x.sum(1)
        if gradients:
            x /= l_i[rows, None]  # (c, N), probabilities of each row
            if both:
                x += q
            diagonal -= sides * (1 - label_smoothing)  # minus the targets: x is the gradient, times 2n
            if label_smoothing:
                x -= sides * label_smoothing / N
            d_features[rows] = x @ partners
            d_partners += x.T @ scaled[rows]
    loss = _mean_loss(right - m_i, scaled @ partners.mean(0) - m_i, xp.log(l_i), label_smoothing)
    if both:
        loss = loss + _mean_loss(right - m_j, partners @ scaled.mean(0) - m_j, xp.log(l_j), label_smoothing)
    if not gradients:
        return loss / 2, (None, None, None)
    d_features *= scale / (2 * n)
    d_partners /= 2 * n
    return loss / 2, (d_features, d_partners, (features * d_features).sum())  # ∂x / ∂logit_scale = x


def _mean_loss(right, mean, log_l, label_smoothing):
    """The mean of -Σ target · log_softmax(x), log_softmax(x) = x - m - log l: right and mean are of x - m; all (n,)."""
    return (log_l - (1 - label_smoothing) * right - label_smoothing * mean).mean()


def _column_sums(xp, features, partners, chunk):
    """For each column of features · partnersᵀ its largest x, m, and Σ exp(x - m): (N,) each.

    A larger x than before scales the sum so far. (Online normalizer calculation for softmax, Milakov and Gimelshein,
    2018.)
    """
    m_j, l_j = xp.full_like(partners[:, 0], -math.inf), xp.zeros_like(partners[:, 0])
    for _, x in _logits(features, partners, chunk):
        m_new = xp.maximum(m_j, xp.amax(x, 0))
        x -= m_new
        xp.exp(x, out=x)
        l_j = l_j * xp.exp(m_j - m_new) + x.sum(0)
        m_j = m_new
    return m_j, l_j


def sigmoid_loss_and_gradients(
    images, texts, logit_scale, logit_bias, all_texts=None, *, chunk=None, offset=0, gradients=True
):
    """`sigmoid_loss` of ndarrays or tensors -> (loss, its gradients of the five inputs, None for those not given)."""
    xp = _library(images)
    scale, bias = (xp.asarray(x, dtype=images.dtype) for x in (logit_scale, logit_bias))
    partners, offset = (texts, None) if all_texts is None else (all_texts, offset)
    check(images, partners, offset, chunk)
    scaled = xp.exp(scale) * images
    loss = d_bias = 0 * scale
    d_images, d_partners = (xp.zeros_like(a) if gradients else None for a in (images, partners))
    for rows, x in _logits(scaled, partners, chunk):
        x += bias
        diagonal = _diagonal(x, (offset or 0) + rows.start)
        diagonal *= -1  # now x = -z · logits, and -log σ(-x) = log(1 + exp(x))
        loss = loss + xp.logaddexp(x, 0 * x[:1]).sum()
        if gradients:
            x *= -1
            with np.errstate(over="ignore"):  # of float32, exp(89) is infinite, and 1 / ∞ is the right 0
                xp.exp(x, out=x)
            x += 1
            xp.reciprocal(x, out=x)  # (c, N), σ(-z · logits)
            diagonal *= -1  # ∂ loss / ∂ logits: times -z
            d_bias = d_bias + x.sum()
            d_images[rows] = x @ partners
            d_partners += x.T @ scaled[rows]
    b = len(images)
    if not gradients:
        return loss / b, (None,) * 5
    d_images *= xp.exp(scale) / b
    d_partners /= b
    d_texts, d_all_texts = (d_partners, None) if all_texts is None else (None, d_partners)
    return loss / b, (d_images, d_texts, (images * d_images).sum(), d_bias / b, d_all_texts)


def _logits(features, partners, chunk):
    """(rows, features[rows] · partnersᵀ) for a chunk after the other: a slice, and an array (c, N) to write over."""
    chunk = chunk or max(1, LOGITS // len(partners))
    for start in range(0, len(features), chunk):
        rows = slice(start, min(start + chunk, len(features)))
        yield rows, features[rows] @ partners.T


def _diagonal(x, first):
    """x[i, first + i] for all rows i: a view."""
    return x.reshape(-1)[first :: x.shape[1] + 1][: len(x)]


def _library(x):
    """The package that an array is of: NumPy, or torch, which is not imported for others."""
    name = type(x).__module__.partition(".")[0]
    if name not in ("numpy", "torch"):
        raise InputError(f"losses in chunks take arrays of NumPy or torch, not {type(x).__name__}: see miniclip.loss")
    return importlib.import_module(name)


def check(features, partners, offset, chunk):
    """Refuse shapes that do not fit: features (n, E), partners (N, E), theirs from row `offset` on; None: n is N."""
    shapes = " and ".join(str(None if x is None else tuple(x.shape)) for x in (features, partners))
    if partners is None or not features.ndim == partners.ndim == 2 or features.shape[1] != partners.shape[1]:
        raise InputError(f"features are {shapes}, expected (b, E) and (B, E)")
    n, N = len(features), len(partners)
    if offset is None and n != N:
        raise InputError(f"features are {shapes}, expected as many texts as images")
    if n == 0:
        raise InputError(f"features are {shapes}, expected at least one pair")
    if not 0 <= (offset or 0) <= N - n:
        raise InputError(f"rows {offset} to {offset + n} are not among {N} partners: offset does not fit")
    if chunk is not None and chunk < 1:
        raise InputError(f"chunk is {chunk}, expected at least 1 row of logits at once, or None")
