"""Flax's files, without Flax: msgpack, maps in maps whose leaves are arrays (flax/serialization.py).

    a map        {"vision_model": {"embeddings": {"class_embedding": ...}}}
    an array     extension 1 (a scalar of NumPy: 3), whose bytes are msgpack again: [shape, name of the type, numbers]
    a large one  {"__msgpack_chunked_array__": True, "shape": {"0": n, ...}, "chunks": {"0": array, ...}}

(https://github.com/msgpack/msgpack/blob/master/spec.md.) Nothing in a file is run. We read files ourselves, to convert
arrays while they are read, and to look at no array that a model does not need.
"""

import functools
import math
import struct
from typing import NamedTuple

import numpy as np

from miniclip.errors import InputError
from miniclip.formats.arrays import BFLOAT16, MOST_NAME, FileOfNumbers, chosen
from miniclip.runtime.files import atomic

DTYPES = {name: np.dtype(name) for name in ("float64", "float32", "float16", "int64", "int32", "int16", "int8")}
DTYPES |= {"uint8": np.dtype("uint8"), "bool": np.dtype("?"), "bfloat16": BFLOAT16}
ARRAYS = (1, 3)  # types of extensions: arrays, and NumPy's scalars; 2, complex numbers, are no parameters
CHUNKED = "__msgpack_chunked_array__"
LARGEST = 1 << 30  # bytes of an array that is written as one; msgpack ends at twice that
MOST_VALUES, MOST_DEPTH, MOST_DIMENSIONS = 100_000, 50, 8  # the largest CLIP has some thousand values

# The first byte of a value says what it is: a number below 128, one of these ranges with its length, or one of `SIZED`.
SHORT = {0x80: "map", 0x90: "array", 0xA0: "str"}
NUMBERS = {0xCA: ">f", 0xCB: ">d", **dict(enumerate((">B", ">H", ">I", ">Q", ">b", ">h", ">i", ">q"), 0xCC))}
CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}
SIZED = {  # {first byte: (what it is, bytes of its length)}
    **dict(enumerate((("bin", 1), ("bin", 2), ("bin", 4), ("ext", 1), ("ext", 2), ("ext", 4)), 0xC4)),
    **dict(enumerate((("str", 1), ("str", 2), ("str", 4), ("array", 2), ("array", 4), ("map", 2), ("map", 4)), 0xD9)),
}
FIXED = {0xD4 + i: 1 << i for i in range(5)}  # {first byte: length} of an extension


def begins(head):
    """Whether a file's first bytes are those of a Flax file: a map that is not empty, then a string."""
    size = {0xDE: 2, 0xDF: 4}.get(head[0], 0 if 0x81 <= head[0] <= 0x8F else None) if head else None
    key = b"" if size is None else head[1 + size : 2 + size]
    return bool(key) and (0xA0 <= key[0] <= 0xBF or key[0] == 0xD9)


def read(path, dtype=None, select=None, mapped=False):
    """{name: array} of a file such as flax_model.msgpack; the other arguments as in `formats.read`.

    An array in a map in a map has the name "outer.inner". Arrays are never mapped: they begin at any byte, and
    computing with numbers that are not aligned is slow. Raises InputError that names the file if it is of another kind.
    """
    try:
        with FileOfNumbers(path) as file:
            reader = _Reader(file)
            tree = reader.value(file.size)
            if reader.at != file.size:
                raise ValueError(f"it has {file.size - reader.at} bytes after its end")
            arrays = {name: functools.partial(x.read, file, name, dtype) for name, x in _flat(tree).items()}
            return chosen(arrays, select, {})
    except InputError:
        raise
    except (ValueError, TypeError, LookupError, struct.error) as error:
        raise InputError(f"{path}: not a Flax file, or a damaged one: {error}") from error


class _Array(NamedTuple):
    """An array in the file: where its numbers are."""

    shape: tuple[int, ...]
    dtype: str
    begin: int

    def read(self, file, name, wanted):
        return self.numbers(file, name, wanted).reshape(self.shape)

    def numbers(self, file, name, wanted):
        if self.dtype not in DTYPES:
            raise ValueError(f"{name} is of type {self.dtype}, which miniclip does not read")
        return file.array(self.begin, math.prod(self.shape), DTYPES[self.dtype], wanted)


class _Chunked(NamedTuple):
    """A large array in the file, in pieces."""

    shape: tuple[int, ...]
    parts: list[_Array]

    def read(self, file, name, wanted):
        x, start = None, 0
        for part in self.parts:  # at most one piece is in memory twice
            numbers = part.numbers(file, name, wanted)
            x = np.empty(math.prod(self.shape), numbers.dtype) if x is None else x
            x[start : start + len(numbers)] = numbers
            start += len(numbers)
        return x.reshape(self.shape)


class _Reader:
    """Reads one value after the other: Python's, except that strings of bytes stay in the file, as (begin, end)."""

    def __init__(self, file):
        self.file, self.at, self.values = file, 0, 0

    def value(self, end, depth=0):
        """The next value, which must end before byte `end`."""
        self.values += 1
        if self.values > MOST_VALUES or depth > MOST_DEPTH:
            raise ValueError("its contents are not those of a model: they are too many or too deep")
        (first,) = self._bytes(1, end)
        if first < 0x80 or first >= 0xE0:
            return first if first < 0x80 else first - 0x100
        if first in CONSTANTS:
            return CONSTANTS[first]
        if first in NUMBERS:
            form = NUMBERS[first]
            return struct.unpack(form, self._bytes(struct.calcsize(form), end))[0]
        if first < 0xC0:
            kind, size = ("str", first & 31) if first >= 0xA0 else (SHORT[first & 0xF0], first & 15)
        elif first in FIXED:
            kind, size = "ext", FIXED[first]
        else:
            kind, width = SIZED[first]
            size = int.from_bytes(self._bytes(width, end), "big")
        return getattr(self, f"_{kind}")(size, end, depth)

    def _bytes(self, size, end):
        begin, self.at = self._skip(size, end)
        return self.file.read(begin, self.at)

    def _skip(self, size, end):
        """The place (begin, end) of the next `size` bytes."""
        if self.at + size > end:
            raise ValueError(f"it ends in the middle of a value, at byte {end}")
        return self.at, self.at + size

    def _str(self, size, end, depth):
        return self._bytes(size, end).decode() if size <= MOST_NAME else self._bin(size, end, depth)

    def _bin(self, size, end, depth):
        place = self._skip(size, end)
        self.at = place[1]
        return place

    def _array(self, size, end, depth):
        return [self.value(end, depth + 1) for _ in range(size)]

    def _map(self, size, end, depth):
        found = {}
        for _ in range(size):
            key = self.value(end, depth + 1)
            if not isinstance(key, str) or key in found:
                raise ValueError(f"a map has the key {key!r}, expected different names")
            found[key] = self.value(end, depth + 1)
        return found

    def _ext(self, size, end, depth):
        (kind,) = self._bytes(1, end)
        begin, end = self._skip(size, end)
        if kind not in ARRAYS:
            self.at = end
            return None
        match self.value(end, depth + 1):
            case [shape, str(dtype), (int(start), int(stop))] if begin < start <= stop == end == self.at:
                shape, known = _shape(shape), DTYPES.get(dtype)
            case _:
                raise ValueError("one of its arrays is not a shape, a type and numbers")
        if known and math.prod(shape) * known.itemsize != stop - start:
            raise ValueError(f"one of its arrays is {shape} of {dtype}, but has {stop - start} bytes")
        return _Array(shape, dtype, start)


def _shape(shape):
    if not isinstance(shape, list) or len(shape) > MOST_DIMENSIONS or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError(f"one of its arrays has a shape that is not up to {MOST_DIMENSIONS} natural numbers")
    return tuple(shape)


def _flat(tree, prefix=""):
    """{name: _Array or _Chunked} of what was read; everything else is dropped."""
    if isinstance(tree, (_Array, _Chunked)):
        return {prefix: tree}
    if isinstance(tree, dict) and CHUNKED in tree:
        return {prefix: _joined(tree)}
    if not isinstance(tree, (dict, list)):
        return {}
    flat: dict = {}
    for key, branch in tree.items() if isinstance(tree, dict) else enumerate(tree):
        name = f"{prefix}.{key}" if prefix else str(key)
        if len(name) > MOST_NAME:
            raise ValueError(f"one of its names is longer than {MOST_NAME:,} characters")
        for each, x in _flat(branch, name).items():
            if each in flat:
                raise ValueError(f"it has {each} twice")
            flat[each] = x
    return flat


def _joined(tree):
    shape, parts = (_row(tree[name]) for name in ("shape", "chunks"))
    shape = _shape(shape)
    if not all(isinstance(x, _Array) and len(x.shape) == 1 for x in parts) or len({x.dtype for x in parts}) != 1:
        raise ValueError("an array in pieces has pieces that are not rows of numbers of one type")
    if sum(x.shape[0] for x in parts) != math.prod(shape):
        raise ValueError(f"an array in pieces is {shape}, but its pieces have another number of numbers")
    return _Chunked(shape, parts)


def _row(items):
    """{"0": a, "1": b, ...} -> [a, b, ...], as Flax writes tuples."""
    return [items[str(i)] for i in range(len(items))]


# ---------------------------------------------------------------------------------------------------- writing


def write(path, tree):
    """Write maps in maps whose leaves are arrays, whole or not at all: the same bytes as Flax's `to_bytes`."""
    with atomic(path) as temporary, open(temporary, "wb") as file:
        _write(file, path, tree)


def _write(file, path, tree):
    if isinstance(tree, dict):
        file.write(_head("map", len(tree)))
        for key, branch in tree.items():
            file.write(_text(key))
            _write(file, path, branch)
        return
    x = np.asarray(tree, order="C")
    if x.dtype.name not in DTYPES:
        raise InputError(f"{path}: there is an array of {x.dtype}, which miniclip does not write to Flax's files")
    if x.nbytes > LARGEST:
        flat, step = x.reshape(-1), max(1, LARGEST // x.itemsize)
        file.write(_head("map", 3) + _text(CHUNKED) + b"\xc3" + _text("shape") + _head("map", x.ndim))
        file.write(b"".join(_text(str(i)) + _number(n) for i, n in enumerate(x.shape)) + _text("chunks"))
        _write(file, path, {str(i): flat[start : start + step] for i, start in enumerate(range(0, len(flat), step))})
        return
    shape = _head("array", x.ndim) + b"".join(map(_number, x.shape))
    start = _head("array", 3) + shape + _text(x.dtype.name) + _head("bin", x.nbytes)
    file.write(_head("ext", len(start) + x.nbytes) + bytes([ARRAYS[0]]) + start)
    file.write(x.reshape(-1).view(np.uint8).data)


def _head(kind, size):
    """The shortest beginning of a value of this kind and size."""
    for first, length in FIXED.items():
        if kind == "ext" and size == length:
            return bytes([first])
    for first, name in SHORT.items():
        if kind == name and size < (32 if name == "str" else 16):
            return bytes([first + size])
    first, width = next((first, n) for first, (name, n) in SIZED.items() if name == kind and size < 1 << 8 * n)
    return bytes([first]) + size.to_bytes(width, "big")


def _text(text):
    content = text.encode()
    return _head("str", len(content)) + content


def _number(n):
    if n < 0x80:
        return bytes([n])
    width = next(width for width in (1, 2, 4, 8) if n < 1 << 8 * width)
    return bytes([0xCB + width.bit_length()]) + n.to_bytes(width, "big")
