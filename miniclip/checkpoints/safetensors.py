"""The safetensors format: a header of names, types and shapes, then the arrays, read by mapping the file.

    8 bytes: length N of the header, little-endian · N bytes: JSON {name: {dtype, shape, data_offsets}} · the data
(https://github.com/huggingface/safetensors, format section). Reading is our own, because mapped arrays cost no memory
until they are touched; writing is the safetensors package's.
"""

import json
import math
import mmap

import numpy as np
from safetensors.numpy import save_file

from miniclip.errors import InputError
from miniclip.files import atomic

DTYPES = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),  # NumPy has no bfloat16: widened to float32 below
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}


def read(path):
    """({name: array}, metadata): the arrays are views of the mapped file, private to this process when written to.

    bfloat16 arrays come as float32 copies. Raises InputError naming the file for anything that is not safetensors.
    """
    try:
        with open(path, "rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError:
        raise InputError(f"{path}: not a safetensors file: it is empty") from None
    try:
        start = 8 + int.from_bytes(mapped[:8], "little")
        if start > len(mapped):
            raise ValueError(f"its header should have {start - 8} bytes, but the file ends before")
        header = json.loads(mapped[8:start])
        metadata = header.pop("__metadata__", {})
        if not all(isinstance(value, str) for value in metadata.values()):
            raise ValueError("its metadata are not all strings")
        return {name: _array(mapped, start, name, **entry) for name, entry in header.items()}, metadata
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path}: not a safetensors file, or a damaged one: {error}") from error


def _array(mapped, start, name, dtype, shape, data_offsets):
    if dtype not in DTYPES:
        raise ValueError(f"{name} is of type {dtype}, which miniclip does not read")
    if not all(isinstance(n, int) and n >= 0 for n in [*shape, *data_offsets]):
        raise ValueError(f"{name} has shape {shape} and offsets {data_offsets}")
    begin, end = data_offsets
    size = math.prod(shape) * DTYPES[dtype].itemsize
    if end - begin != size or start + end > len(mapped):
        raise ValueError(f"{name} {shape} needs {size} bytes, its place is {begin} to {end} of {len(mapped) - start}")
    array = np.frombuffer(mapped, DTYPES[dtype], math.prod(shape), start + begin).reshape(shape)
    return (array.astype("<u4") << 16).view("<f4") if dtype == "BF16" else array


def write(path, tensors, metadata=None):
    """Write {name: array} and {str: str} metadata, whole or not at all."""
    with atomic(path) as temporary:
        save_file({name: np.asarray(x, order="C") for name, x in tensors.items()}, temporary, metadata)
