"""The numbers in a file as arrays: memory-mapped if they need no conversion, else read and converted in pieces.

Mapped arrays take no memory until they are touched, and converted arrays are never in memory in both types: loading
takes hardly more memory than the model itself.
"""

import mmap

import numpy as np

from miniclip.errors import InputError
from miniclip.runtime.files import open_regular

BFLOAT16 = np.dtype([("upper half of a float32", "<u2")])  # NumPy has no bfloat16
PIECE = 1 << 16  # numbers converted at a time


class FileOfNumbers:
    """A memory-mapped file: `bytes` are its bytes, `array` reads some of them as numbers.

    Raises InputError that names the file if it cannot be read or is empty.
    """

    def __init__(self, path):
        self.path = path
        try:
            with open_regular(path) as file:
                self.bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from error
        except ValueError:
            raise InputError(f"{path}: not a file of weights: it is empty") from None

    def array(self, begin, count, dtype, wanted=None):
        """`count` numbers of `dtype` from byte `begin` on: (count,). Floating ones are converted to `wanted` if given.

        Mapped arrays are private to this process: writing to them does not change the file. bfloat16 becomes float32
        unless `wanted` is another type. Raises ValueError if the file is too short.
        """
        if begin < 0 or count < 0 or begin + count * dtype.itemsize > len(self.bytes):
            raise ValueError(f"it has {len(self.bytes)} bytes, too few for {count} numbers from byte {begin} on")
        floating = dtype == BFLOAT16 or dtype.kind == "f"
        target = np.dtype(wanted or (np.float32 if dtype == BFLOAT16 else dtype)) if floating else dtype
        if target == dtype:
            return np.frombuffer(self.bytes, dtype, count, begin)
        array = np.empty(count, target)
        # Not through the map, whose pages would stay in memory. Numbers too large for `target` become infinite, as in
        # torch.
        with open(self.path, "rb", buffering=0) as file, np.errstate(over="ignore", invalid="ignore"):
            file.seek(begin)
            for start in range(0, count, PIECE):
                array[start : start + PIECE] = _widened(np.fromfile(file, dtype, min(PIECE, count - start)))
        return array


def _widened(x):
    """bfloat16 as float32, (n,); other types unchanged."""
    return (x.view("<u2").astype("<u4") << 16).view("<f4") if x.dtype == BFLOAT16 else x
