"""The numbers in a file as arrays: mapped where they lie as they are wanted, else read and converted piece by piece.

Mapped arrays cost no memory until they are touched, and converted ones never lie in memory in both types: loading
takes hardly more than the model itself.
"""

import mmap

import numpy as np

from miniclip.errors import InputError
from miniclip.runtime.files import open_regular

BFLOAT16 = np.dtype([("upper half of a float32", "<u2")])  # NumPy has none
PIECE = 1 << 16  # numbers converted at a time


class FileOfNumbers:
    """A file, mapped: `bytes` are its bytes, `array` reads some of them as numbers.

    Raises InputError naming the file where it cannot be read or is empty.
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
        """`count` numbers of `dtype` from byte `begin` on, floating ones as `wanted` (None: as they are): (count,).

        Mapped arrays are private to this process when written to. bfloat16 comes as float32 unless something else is
        wanted. Raises ValueError where the file ends before.
        """
        if begin < 0 or count < 0 or begin + count * dtype.itemsize > len(self.bytes):
            raise ValueError(f"{count} numbers from byte {begin} on lie beyond its end at {len(self.bytes)}")
        floating = dtype == BFLOAT16 or dtype.kind == "f"
        target = np.dtype(wanted or (np.float32 if dtype == BFLOAT16 else dtype)) if floating else dtype
        if target == dtype:
            return np.frombuffer(self.bytes, dtype, count, begin)
        array = np.empty(count, target)
        # Not through the map, which would keep what it has read in memory; too large becomes infinite, as in torch.
        with open(self.path, "rb", buffering=0) as file, np.errstate(over="ignore", invalid="ignore"):
            file.seek(begin)
            for start in range(0, count, PIECE):
                array[start : start + PIECE] = _widened(np.fromfile(file, dtype, min(PIECE, count - start)))
        return array


def _widened(x):
    """bfloat16 as float32, (n,); anything else as it is."""
    return (x.view("<u2").astype("<u4") << 16).view("<f4") if x.dtype == BFLOAT16 else x
