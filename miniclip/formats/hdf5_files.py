"""Reads and writes HDF5 files of weights as Keras makes them, such as tf_model.h5: {name: array}.

The h5py package finds the arrays, which are in one piece each, and this module reads their numbers, or maps them. Keras
neither compresses nor divides them; files that do, and links to other files, are refused.
"""

import functools
import importlib

import numpy as np

from miniclip.errors import InputError
from miniclip.formats.arrays import MOST_NAME, FileOfNumbers, chosen
from miniclip.runtime.files import atomic
from miniclip.runtime.installation import install

MOST_ARRAYS, MOST_DEPTH, MOST_DIMENSIONS = 10_000, 30, 8  # the largest CLIP has some thousand arrays


def begins(head):
    """Whether a file's first bytes are those of an HDF5 file."""
    return head.startswith(b"\x89HDF\r\n\x1a\n")


def read(path, dtype=None, select=None, mapped=False):
    """{name: array} of an HDF5 file; the other arguments as in `formats.read`. Names have "/" between their parts.

    Raises InputError that names the file if it is damaged, or if h5py is not installed.
    """
    h5py = _h5py(path)
    try:
        with FileOfNumbers(path, mapped) as file:
            with h5py.File(path, "r", locking=False) as root:
                arrays = dict(_arrays(h5py, root, file, dtype))
            return chosen(arrays, select, {})
    except InputError:
        raise
    except (OSError, RuntimeError, ValueError, TypeError, LookupError, OverflowError, MemoryError) as error:
        raise InputError(f"{path}: not a file of Keras, or a damaged one: {str(error)[:500]}") from error


def _h5py(path):
    try:
        return importlib.import_module("h5py")
    except ImportError as error:
        raise InputError(f"{path}: is HDF5, which needs h5py: {install('tensorflow')}") from error


def _arrays(h5py, group, file, wanted, path="", depth=0, count=None):
    """Yield (name, a function that reads the array) for all in a group."""
    count = [0] if count is None else count
    for key in group:
        count[0] += 1
        name = f"{path}/{key}" if path else key
        if count[0] > MOST_ARRAYS or depth > MOST_DEPTH or len(name) > MOST_NAME:
            raise ValueError("its contents are not those of a model: they are too many or too deep, or have long names")
        if not isinstance(group.get(key, getlink=True), h5py.HardLink):
            raise ValueError(f"{name} is a link to something else, which miniclip does not follow")
        branch = group[key]
        if isinstance(branch, h5py.Group):
            yield from _arrays(h5py, branch, file, wanted, name, depth + 1, count)
        elif isinstance(branch, h5py.Dataset) and branch.shape and branch.dtype.kind in "fiu":
            yield name, _reader(h5py, branch, file, name, wanted)


def _reader(h5py, dataset, file, name, wanted):
    """A function without arguments that reads a dataset's numbers from the file."""
    properties, shape, dtype = dataset.id.get_create_plist(), dataset.shape, dataset.dtype
    if properties.get_layout() != h5py.h5d.CONTIGUOUS or properties.get_external_count():
        raise ValueError(f"{name} is compressed or in pieces, which miniclip does not read")
    size = int(np.prod(shape, dtype=object))
    begin = dataset.id.get_offset() if size else 0
    if len(shape) > MOST_DIMENSIONS or begin is None or size * dtype.itemsize > file.size:
        raise ValueError(f"{name} is {shape}, for which the file has no numbers")
    target = np.dtype(wanted) if wanted and dtype.kind == "f" else dtype.newbyteorder("=")
    return functools.partial(_numbers, file, begin, size, dtype, target, shape)


def _numbers(file, begin, size, dtype, target, shape):
    return file.array(begin, size, dtype, target).astype(target, copy=False).reshape(shape)


# ---------------------------------------------------------------------------------------------------- writing


MOST_BYTES = 64_512  # of an attribute: HDF5 keeps them in 64 KB with what is around them


def write(path, layer, arrays):
    """Write {name: array} as Keras writes a model that is one layer, whole or not at all (hdf5_format.py)."""
    h5py = _h5py(path)
    with atomic(path) as temporary, h5py.File(temporary, "w", locking=False) as file:
        file.attrs["layer_names"] = [layer.encode()]
        file.attrs["backend"], file.attrs["keras_version"] = "tensorflow", "2.15.0"  # whose files these are like
        group, names = file.create_group(layer), [name.encode() for name in arrays]
        step = max(1, MOST_BYTES // max(map(len, names), default=1))
        parts = [names[start : start + step] for start in range(0, len(names), step)]
        for i, part in enumerate(parts):
            group.attrs["weight_names" if len(parts) == 1 else f"weight_names{i}"] = part
        for name, x in arrays.items():
            group.create_dataset(name, data=x)
        file.create_group("top_level_model_weights").attrs["weight_names"] = np.zeros(0)
