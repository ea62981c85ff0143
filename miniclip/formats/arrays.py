"""The numbers in a file as arrays: read, and converted in pieces if needed; or memory-mapped.

Converted arrays are never in memory in both types: loading takes hardly more memory than the model itself. Mapped
arrays take no memory until they are touched, but they change if another program writes to the file, and if it becomes
shorter, the next access ends the process.
"""

import mmap

import numpy as np

from miniclip.errors import InputError
from miniclip.runtime.files import open_regular

BFLOAT16 = np.dtype([("upper half of a float32", "<u2")])  # NumPy has no bfloat16
PIECE = 1 << 16  # numbers converted at a time
MOST_NAME = 1_000  # characters of a tensor's name


class FileOfNumbers:
    """An open file of `size` bytes: `read` returns some of them, `array` returns them as numbers.

    mapped: numbers that need no conversion are mapped, not read. Raises InputError that names the file if it cannot be
    read or is empty.
    """

    def __init__(self, path, mapped=False):
        self.path = path
        try:
            self.file = open_regular(path)
            self.size = self.file.seek(0, 2)
            self.map = mmap.mmap(self.file.fileno(), 0, access=mmap.ACCESS_COPY) if mapped and self.size else None
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from error
        if not self.size:
            self.file.close()
            raise InputError(f"{path}: not a file of weights: it is empty")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()  # the map stays

    def read(self, begin, end):
        """The bytes from `begin` to `end`, fewer at the end of the file. Raises ValueError if `begin` is outside."""
        if not 0 <= begin <= self.size:
            raise ValueError(f"it refers to byte {begin} of {self.size}")
        self.file.seek(begin)
        return self.file.read(max(0, end - begin))

    def array(self, begin, count, dtype, wanted=None):
        """`count` numbers of `dtype` from byte `begin` on: (count,). Floating ones are converted to `wanted` if given.

        Writing to the array does not change the file. bfloat16 becomes float32 unless `wanted` is another type. Raises
        ValueError if the file is too short.
        """
        if begin < 0 or count < 0 or begin + count * dtype.itemsize > self.size:
            raise ValueError(f"it has {self.size} bytes, too few for {count} numbers from byte {begin} on")
        floating = dtype == BFLOAT16 or dtype.kind == "f"
        target = np.dtype(wanted or (np.float32 if dtype == BFLOAT16 else dtype)) if floating else dtype
        if target == dtype and self.map:
            return np.frombuffer(self.map, dtype, count, begin)
        self.file.seek(begin)
        if target == dtype:
            return self._numbers(dtype, count)
        array = np.empty(count, target)
        with np.errstate(
            over="ignore", invalid="ignore"
        ):  # numbers too large for `target` become infinite, as in torch
            for start in range(0, count, PIECE):
                array[start : start + PIECE] = _widened(self._numbers(dtype, min(PIECE, count - start)))
        return array

    def _numbers(self, dtype, count):
        """The next `count` numbers, (count,)."""
        array = np.fromfile(self.file, dtype, count)
        if len(array) < count:
            raise ValueError("it has become shorter while it was read")
        return array


def _widened(x):
    """bfloat16 as float32, (n,); other types unchanged."""
    return (x.view("<u2").astype("<u4") << 16).view("<f4") if x.dtype == BFLOAT16 else x


def chosen(arrays, select, metadata):
    """{name: array} from {name: function that reads it}, only those that `select` chooses, under the names it gives.

    `select` takes the names and the file's metadata, and returns {name: new name}; None chooses all.
    """
    if select is None:
        return {name: read() for name, read in arrays.items()}
    return {new: arrays[name]() for name, new in select(arrays, metadata).items()}
