"""BatchNorm folded into the convolution before it, and out of it again, under the names of its source.

A trained BatchNorm is one factor and one addend for each channel, and so is what a convolution can do by itself:

    weight · (conv(x) - running_mean) / √(running_var + eps) + bias  =  conv'(x) + bias'
    with scale = weight / √(running_var + eps),  conv' = scale · conv,  bias' = bias - scale · running_mean

(Batch Normalization, alg. 2: inference; clip/model.py, Bottleneck and ModifiedResNet.) Towers know convolutions with
biases alone, so that reading folds and writing unfolds.
"""

import numpy as np

from miniclip.errors import InputError

VECTORS = ("weight", "bias", "running_mean", "running_var")
COUNT = "num_batches_tracked"  # of the training; nothing depends on it


def fold(tensors, endings, eps):
    """{their name: array}, changed in place: every BatchNorm goes, and its convolution gets a bias.

    Computed in float64 and stored as float32 (float64, where the convolution is); no more than one convolution is in
    memory twice. Returns `tensors`. What has no BatchNorms is left as it is. Raises InputError naming a BatchNorm that
    is incomplete, misshaped, without its convolution, or of a negative variance.
    """
    for conv, norm in _pairs(tensors, endings):
        if not any(f"{norm}.{part}" in tensors for part in (*VECTORS, COUNT)):
            continue
        weight = _take(tensors, f"{conv}.weight", norm)
        if weight.ndim != 4 or f"{conv}.bias" in tensors:
            raise InputError(f"{conv} has a BatchNorm, but is no convolution (O, C, k, k) without a bias")
        factor, addend, mean, variance = (
            _take(tensors, f"{norm}.{part}", norm, weight.shape[:1]).astype(np.float64) for part in VECTORS
        )
        tensors.pop(f"{norm}.{COUNT}", None)
        if not (variance >= 0).all():
            raise InputError(f"{norm}.running_var goes down to {variance.min()}: no variance is negative")
        dtype = np.result_type(weight, np.float32)
        with np.errstate(all="ignore"):  # too large becomes infinite, as in torch
            scale = factor / np.sqrt(variance + eps)  # (O,)
            tensors[f"{conv}.weight"] = (weight * scale[:, None, None, None]).astype(dtype)  # (O, C, k, k)
            tensors[f"{conv}.bias"] = (addend - scale * mean).astype(dtype)  # (O,)
    return tensors


def unfold(tensors, endings, eps):
    """The inverse, in place as well: every convolution's bias goes into a BatchNorm that does nothing but add it.

    Its factor is 1, its mean 0, and its variance so that √(variance + eps) is 1 too: exactly in the arithmetic of the
    official model, and near enough in that of `fold` to give every weight back to the last bit.
    """
    for conv, norm in _pairs(tensors, endings):
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


def _pairs(tensors, endings):
    """(convolution, its BatchNorm) for every module that is the one or the other by its name."""
    pairs = {}  # in order
    for module in (name.rpartition(".")[0] for name in tensors):
        for conv, norm in endings:
            if module.endswith((f".{conv}", f".{norm}")):
                prefix = module.removesuffix(conv).removesuffix(norm)
                pairs[prefix + conv, prefix + norm] = None
    return list(pairs)


def _take(tensors, name, norm, shape=None):
    if name not in tensors:
        raise InputError(f"{norm} is incomplete: there is no {name}")
    x = tensors.pop(name)
    if shape is not None and x.shape != shape:
        raise InputError(f"{name} is {x.shape}, expected {shape}")
    return x
