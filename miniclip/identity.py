"""Which model it is, said by its weights: features of two models have nothing to do with each other."""

import hashlib

import numpy as np

from miniclip import params
from miniclip.errors import InputError

SAMPLE = 1024  # numbers of each parameter, evenly spaced: a training changes all of them, and to read all takes seconds
ROUNDED = ("float32", "bfloat16", "float16")  # how a model's numbers may have been stored or loaded


def of(model):
    """{dtype: 16 hexadecimal digits}: what identifies a model, as it is and as it would be rounded to other dtypes.

    It is the same on every backend and for every format of the file. A model in 16 bits knows its own dtype alone.
    """
    samples = {
        name: _sample(np.asarray(model.ops.to_numpy(x))) for name, x in sorted(params.flatten(model.params).items())
    }
    activations = [getattr(tower, "activation", None) for tower in (model.config.visual, model.config.text)]
    head = repr((model.config.family, activations, [(name, shape) for name, (shape, _) in samples.items()]))
    dtypes = [model.dtype] if model.dtype in ("float16", "bfloat16") else ROUNDED
    return {dtype: _digest(head, [_rounded(x, dtype) for _, x in samples.values()]) for dtype in dtypes}


def same(first, second):
    """Whether two results of `of` name one model. Raises InputError if one is in float16 and the other in bfloat16."""
    shared = first.keys() & second.keys()
    if not shared:
        raise InputError(
            f"a model in {', '.join(first)} cannot be compared with one in {', '.join(second)}: load it in float32"
        )
    return all(first[dtype] == second[dtype] for dtype in shared)


def _sample(x):
    """(shape, up to `SAMPLE` of its numbers in float32)"""
    places = np.linspace(0, x.size - 1, min(x.size, SAMPLE), dtype=int)
    return x.shape, x.reshape(-1)[places].astype(np.float32)


def _rounded(x, dtype):
    """float32 numbers, rounded as a conversion to `dtype` rounds them: to the nearest, half to even."""
    if dtype == "bfloat16":  # the upper 16 bits of a float32
        bits = x.view(np.uint32)
        return (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    with np.errstate(over="ignore"):  # more than a float16 can hold becomes infinity
        return x.astype(dtype)


def _digest(head, arrays):
    digest = hashlib.sha256(head.encode())
    for x in arrays:
        digest.update(x.astype(x.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()[:16]
