"""Which model it is, said by its weights: features of two models have nothing to do with each other."""

import dataclasses
import hashlib
import math

import numpy as np

from miniclip import params
from miniclip.errors import InputError

SAMPLE = 1024  # numbers of each parameter, evenly spaced: a training changes all of them, and to read all takes seconds
ROUNDED = ("float32", "bfloat16", "float16")  # how a model's numbers may have been stored or loaded
# What formats write differently for the same model: an index has its preprocessing beside the identity, and texts end
# at the same token by either rule.
BY_FORMAT = ("pictures", "eot_token_id")


def of(model):
    """{part: {dtype: 16 hexadecimal digits}}: what identifies each tower and the scale between them.

    A part is a name at the top of the parameter tree, such as "visual". Its digits say its weights, as they are and as
    they would be rounded to other dtypes, and its configuration: heads, eps, activation, ... They are the same on every
    backend and for every format of the file. A model in 16 bits knows its own dtype alone.
    """
    dtypes = [model.dtype] if model.dtype in ("float16", "bfloat16") else ROUNDED
    return {part: _part(model, part, dtypes) for part in model.params}


def is_identity(x):
    """Whether a file's `x` has the form of what `of` returns."""
    return isinstance(x, dict) and all(isinstance(part, dict) for part in x.values())


def same(first, second):
    """Whether two results of `of` name one model, or a model and one tower of it: what both have is compared.

    Raises InputError if that is nothing: two different towers, or one model in float16 and the other in bfloat16.
    """
    parts = first.keys() & second.keys()
    if not parts:
        raise InputError(
            f"a model with {', '.join(first)} cannot be compared with one with {', '.join(second)}: load both towers"
        )
    return all(_same_part(first[part], second[part]) for part in parts)


def _same_part(first, second):
    dtypes = first.keys() & second.keys()
    if not dtypes:
        raise InputError(
            f"a model in {', '.join(first)} cannot be compared with one in {', '.join(second)}: load it in float32"
        )
    return all(first[dtype] == second[dtype] for dtype in dtypes)


def _part(model, part, dtypes):
    flat = sorted(params.flatten(model.params[part], part).items())
    shapes = [(name, tuple(x.shape)) for name, x in flat]
    head = repr((model.config.family, _settings(getattr(model.config, part, None)), shapes))
    samples = [_sample(model.ops, x) for _, x in flat]
    return {dtype: _digest(head, [_rounded(x, dtype) for x in samples]) for dtype in dtypes}


def _settings(config):
    """A tower's configuration, without what makes no difference; the scale has none."""
    fields = [] if config is None else dataclasses.fields(config)
    names = [field.name for field in fields if field.compare and field.name not in BY_FORMAT]
    return {name: getattr(config, name) for name in names}


def _sample(ops, x):
    """Up to `SAMPLE` of its numbers in float32; only these leave the device."""
    size = math.prod(x.shape)
    places = np.linspace(0, size - 1, min(size, SAMPLE), dtype=int)
    return np.asarray(ops.to_numpy(x.reshape(-1)[places]), np.float32)


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
