"""Folds each BatchNorm into the convolution before it, and unfolds it again, under the names of the file's source.

A trained BatchNorm has one factor and one addend for each channel, which the convolution can have itself:

    weight · (conv(x) - running_mean) / √(running_var + eps) + bias  =  conv'(x) + bias'
    with scale = weight / √(running_var + eps),  conv' = scale · conv,  bias' = bias - scale · running_mean

(Batch Normalization, alg. 2: inference; clip/model.py, Bottleneck and ModifiedResNet.) Our towers have convolutions
with biases and no BatchNorms: reading a file folds them, writing unfolds them.
"""

import numpy as np

from miniclip.errors import InputError

VECTORS = ("weight", "bias", "running_mean", "running_var")
COUNT = "num_batches_tracked"  # in training; nothing depends on it


def fold(tensors, endings, eps):
    """Remove every BatchNorm from `tensors` {their name: array} and give its convolution a bias; returns `tensors`.

    Computed in float64 and stored as float32 (as float64 if the convolution is); at most one convolution is in memory
    twice. Convolutions without a BatchNorm stay unchanged. Raises InputError that names a BatchNorm which is
    incomplete, or has a wrong shape, a negative variance or no convolution.
    """
    for conv, norm in pairs(tensors, endings):
        if not any(f"{norm}.{part}" in tensors for part in (*VECTORS, COUNT)):
            continue
        weight = _take(tensors, f"{conv}.weight", norm)
        if weight.ndim != 4 or f"{conv}.bias" in tensors:
            raise InputError(f"{conv} has a BatchNorm, but is not a convolution (O, C, k, k) without a bias")
        factor, addend, mean, variance = (
            _take(tensors, f"{norm}.{part}", norm, weight.shape[:1]).astype(np.float64) for part in VECTORS
        )
        tensors.pop(f"{norm}.{COUNT}", None)
        if not (variance >= 0).all():
            raise InputError(f"{norm}.running_var has a minimum of {variance.min()}, expected 0 or more")
        dtype = np.result_type(weight, np.float32)
        with np.errstate(all="ignore"):  # too large becomes infinite, as in torch
            scale = factor / np.sqrt(variance + eps)  # (O,)
            tensors[f"{conv}.weight"] = (weight * scale[:, None, None, None]).astype(dtype)  # (O, C, k, k)
            tensors[f"{conv}.bias"] = (addend - scale * mean).astype(dtype)  # (O,)
    return tensors


def unfold(tensors, endings, eps):
    """The inverse, also in place: every convolution's bias becomes a BatchNorm that only adds it.

    Its factor is 1, its mean is 0, and its variance makes √(variance + eps) 1 too: exactly in the arithmetic of the
    official model, and closely enough in that of `fold` to return every weight bit for bit.
    """
    for conv, norm in pairs(tensors, endings):
        bias = tensors.pop(f"{conv}.bias", None)
        if bias is None:
            continue
        dtype = np.result_type(bias, np.float32)
        tensors[f"{norm}.weight"] = np.ones(bias.shape, dtype)
        tensors[f"{norm}.bias"] = bias.astype(dtype)
        tensors[f"{norm}.running_mean"] = np.zeros(bias.shape, dtype)
        tensors[f"{norm}.running_var"] = np.full(bias.shape, 1 - eps, dtype)
        tensors[f"{norm}.{COUNT}"] = np.zeros((), np.int64)
    return tensors


def pairs(tensors, endings):
    """[(convolution, its BatchNorm)] for every module whose name is that of one of the two."""
    found: dict = {}  # a dict and not a set, to keep the order
    for module in (name.rpartition(".")[0] for name in tensors):
        for conv, norm in endings:
            if f".{module}".endswith((f".{conv}", f".{norm}")):
                prefix = module.removesuffix(conv).removesuffix(norm)
                found[prefix + conv, prefix + norm] = None
    return list(found)


def _take(tensors, name, norm, shape=None):
    if name not in tensors:
        raise InputError(f"{norm} is incomplete: there is no {name}")
    x = tensors.pop(name)
    if shape is not None and x.shape != shape:
        raise InputError(f"{name} is {x.shape}, expected {shape}")
    return x
