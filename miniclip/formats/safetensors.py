"""The safetensors format: a header of names, types and shapes, then the arrays.

    8 bytes: length N of the header, little-endian · N bytes: JSON {name: {dtype, shape, data_offsets}} · the data
(https://github.com/huggingface/safetensors, format section). We read files ourselves, to convert arrays while they are
read; the safetensors package writes them.
"""

import functools
import itertools
import json
import math

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from miniclip.errors import InputError
from miniclip.formats.arrays import BFLOAT16, MOST_NAME, FileOfNumbers, chosen
from miniclip.runtime.files import atomic

DTYPES = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": BFLOAT16,
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}


def begins(head):
    """Whether a file's first bytes are those of a safetensors file: a length, then JSON."""
    return head[8:9] == b"{"


def read(path, dtype=None, select=None, mapped=False):
    """({name: array}, metadata); the other arguments as in `formats.read`.

    Raises InputError that names the file if it is not a safetensors file.
    """
    try:
        with FileOfNumbers(path, mapped) as file:
            start, header, metadata = _header(file)
            arrays = {
                name: functools.partial(_array, file, start, dtype, name, **entry) for name, entry in header.items()
            }
            return chosen(arrays, select, metadata), metadata
    except InputError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InputError(f"{path}: not a safetensors file, or a damaged one: {error}") from error


def _header(file):
    """(the byte where the data begin, {name: entry}, metadata)."""
    start = 8 + int.from_bytes(file.read(0, 8), "little")
    if start > file.size:
        raise ValueError(f"its header should have {start - 8} bytes, but the file is shorter")
    header = json.loads(file.read(8, start))
    metadata = header.pop("__metadata__", {})
    if not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("its metadata are not all strings")
    if any(len(name) > MOST_NAME for name in header):
        raise ValueError(f"one of its names is longer than {MOST_NAME:,} characters")
    offsets = sorted(entry["data_offsets"] for entry in header.values())
    if any(end > begin for (_, end), (begin, _) in itertools.pairwise(offsets)):
        raise ValueError("its tensors overlap")
    return start, header, metadata


def _array(file, start, wanted, name, dtype, shape, data_offsets):
    if dtype not in DTYPES:
        raise ValueError(f"{name} is of type {dtype}, which miniclip does not read")
    if len(shape) > 64 or not all(type(n) is int and 0 <= n < 1 << 63 for n in [*shape, *data_offsets]):
        raise ValueError(f"{name} has shape {shape} and offsets {data_offsets}, expected integers of at most 63 bits")
    begin, end = data_offsets
    size = math.prod(shape) * DTYPES[dtype].itemsize
    if end - begin != size or start + end > file.size:
        raise ValueError(f"{name} {shape} needs {size} bytes, but has bytes {begin} to {end} of {file.size - start}")
    return file.array(start + begin, math.prod(shape), DTYPES[dtype], wanted).reshape(shape)


def write(path, tensors, metadata=None):
    """Write {name: array} and {str: str} metadata, whole or not at all."""
    with atomic(path) as temporary:
        try:
            save_file({name: np.asarray(x, order="C") for name, x in tensors.items()}, temporary, metadata)
        except SafetensorError as error:  # not an OSError, even if the disk is full
            raise InputError(f"{path}: cannot be written: {error}") from error
