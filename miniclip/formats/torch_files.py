"""PyTorch's files, without PyTorch: an uncompressed zip archive of one pickle and the bytes of its tensors.

    NAME/data.pkl   a state dict, or a TorchScript module's attributes; a tensor has a file, offset, size and strides
    NAME/data/0 …   the numbers                                               (torch/serialization.py, _save and _load)

Nothing in a file is run: `_find` has all that its pickle may be made of. TorchScript's code in the file is not read.
"""

import functools
import math
import pickle
import struct
import zipfile
from typing import NamedTuple

import numpy as np

from miniclip.errors import InputError
from miniclip.formats.arrays import BFLOAT16, MOST_NAME, FileOfNumbers, chosen
from miniclip.formats.pickles import Maker, Module, loads
from miniclip.runtime.files import atomic

STORAGES = {
    "DoubleStorage": np.dtype("<f8"),
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": BFLOAT16,
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}
MOST_PICKLE = 1 << 21  # bytes; the pickle of the largest CLIP has some hundred thousand
MOST_DIMENSIONS = 8  # of a tensor; the tensors of a CLIP have at most four
LEGACY = b"\x80\x02\x8a\x0al\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."  # the first bytes of a file by torch before 1.6
# Types of tensors that NumPy does not have, or no model: they are found, but cannot be read.
UNREADABLE = {
    *("ComplexDoubleStorage", "ComplexFloatStorage", "complex32", "uint16", "uint32", "uint64"),
    *("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu", "float4_e2m1fn_x2"),
}


def begins(head):
    """Whether a file's first bytes are those of a PyTorch file."""
    return head.startswith((LEGACY, b"PK\3\4"))


def read(path, dtype=None, select=None, mapped=False):
    """{name: array} of a file by `torch.save` or `torch.jit.save`; the other arguments as in `formats.read`.

    Views keep their strides and share memory as in torch. A tensor in a dict in a dict has the name "outer.inner".
    Raises InputError that names the file if it is of another kind, or holds more than data.
    """
    try:
        with FileOfNumbers(path, mapped) as file:
            if file.read(0, len(LEGACY)) == LEGACY:
                raise Refused("has the format of PyTorch before 1.6: load it with torch and save it again")
            tensors = _flat(_Archive(file).load(dtype), MOST_EXPANDED * file.size)
            return chosen({name: functools.partial(tensor.array, name) for name, tensor in tensors.items()}, select, {})
    except InputError:
        raise
    except Refused as error:
        raise InputError(f"{path}: {error}") from error
    except (
        *(ValueError, TypeError, LookupError, OverflowError),
        *(struct.error, zipfile.BadZipFile, NotImplementedError),  # zipfile's
    ) as error:
        raise InputError(f"{path}: not a PyTorch file, or a damaged one: {error}") from error


class Refused(ValueError):
    """A file is not damaged, but holds more than miniclip reads."""


class _Storage:
    """A row of numbers in the file: `read` returns them, and is called only if a tensor of the model uses them."""

    def __init__(self, count, dtype, read):
        self.count, self.dtype, self.read = count, dtype, read

    @functools.cached_property
    def numbers(self):
        return self.read()  # (count,)


class _Tensor(NamedTuple):
    """A view of a storage; offset and strides count numbers, not bytes."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def nbytes(self):
        return math.prod(self.size) * self.storage.dtype.itemsize

    def array(self, name):
        numbers = self.storage.numbers
        steps = [step * numbers.itemsize for step in self.stride]
        return np.lib.stride_tricks.as_strided(numbers[self.offset :], self.size, steps)


class _Unreadable(NamedTuple):
    """A type of tensors that miniclip does not read, and a tensor of this type."""

    type: str
    nbytes = 0

    def array(self, name):
        raise Refused(f"{name} is of type {self.type}, which miniclip does not read")


class _Archive:
    """The uncompressed entries of a zip archive, and the position of each in the file."""

    def __init__(self, file):
        self.file = file
        with zipfile.ZipFile(file.path) as archive:
            entries = archive.infolist()
        self.entries = {entry.filename: entry for entry in entries}
        if len(self.entries) < len(entries) or sum(entry.compress_size for entry in entries) > file.size:
            raise ValueError("its entries overlap, or several have the same name")
        pickles = [name for name in self.entries if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(pickles) != 1:
            raise ValueError(f"it has {len(pickles)} entries named */data.pkl, expected one")
        self.folder = pickles[0].removesuffix("data.pkl")

    def place(self, name):
        """(begin, size) of an entry's bytes in the file."""
        name = self.folder + name
        if name not in self.entries:
            raise ValueError(f"it has no entry {name}")
        entry = self.entries[name]
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 or entry.file_size != entry.compress_size:
            raise ValueError(f"its entry {name} is compressed, which torch.save never does")
        header = self.file.read(entry.header_offset, entry.header_offset + 30)
        signature, name_length, extra_length = struct.unpack("<4s22xHH", header)
        begin = entry.header_offset + 30 + name_length + extra_length
        if signature != b"PK\3\4" or begin + entry.file_size > self.file.size:
            raise ValueError(f"its entry {name} is not where the directory says")
        return begin, entry.file_size

    def load(self, dtype):
        begin, size = self.place("data.pkl")
        if size > MOST_PICKLE:
            raise ValueError(f"its pickle has {size:,} bytes, more than any model needs")
        if self.folder + "byteorder" in self.entries:
            start, length = self.place("byteorder")
            if self.file.read(start, start + length) != b"little":
                raise ValueError("it was written on a big-endian machine: load it with torch and save it again")
        storages = {}

        def storage(reference):
            kind, stored, key, _, count = reference
            if isinstance(stored, _Unreadable):
                return stored
            if kind != "storage" or not isinstance(stored, np.dtype) or type(key) is not str or type(count) is not int:
                raise ValueError("its pickle refers to something outside it that is not a storage")
            if key not in storages:
                begin, size = self.place(f"data/{key}")
                if not 0 <= count * stored.itemsize <= size:
                    raise ValueError(f"its storage {key} should have {count} numbers, but has {size} bytes")
                storages[key] = _Storage(count, stored, functools.partial(self.file.array, begin, count, stored, dtype))
            return storages[key]

        return loads(self.file.read(begin, begin + size), _find, storage)


def _find(module, name):
    """The object to use for a global that a pickle names. Raises Refused for all globals that are not data."""
    if type(module) is not str or type(name) is not str:
        raise TypeError("its pickle names a global, and its name is not a string")
    if module == "torch" and name in STORAGES:
        return STORAGES[name]
    if (module == "torch" and name in UNREADABLE) or (module, name) == ("torch.storage", "UntypedStorage"):
        return _Unreadable(name)
    if module.startswith("__torch__"):
        return Maker(Module)
    if (module, name) not in MAKERS:
        raise Refused(
            f"holds {module}.{name}, but miniclip reads only tensors, dicts, lists, numbers and strings, so that no "
            f"file can run code: save only the model's state_dict()"
        )
    return Maker(MAKERS[module, name])


def _tensor(storage, offset, size, stride, requires_grad=False, hooks=None, metadata=None):
    """A view of a storage. Whether it requires gradients does not matter."""
    if isinstance(storage, _Unreadable):
        return storage
    if not (isinstance(storage, _Storage) and type(size) is type(stride) is tuple and len(size) == len(stride)):
        raise ValueError("its pickle makes a tensor that has no storage or no shape")
    if len(size) > MOST_DIMENSIONS:
        raise ValueError(f"its pickle makes a tensor of {len(size)} dimensions, expected at most {MOST_DIMENSIONS}")
    if not all(type(n) is int and n >= 0 for n in (offset, *size, *stride)):
        raise ValueError("its pickle makes a tensor whose offset, size and stride are not all natural numbers")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride))
    if 0 not in size and last >= storage.count:
        raise ValueError(f"a tensor of size {size} reads number {last} of a storage that has {storage.count}")
    return _Tensor(storage, offset, size, stride)


def _tensor_of_new_type(storage, offset, size, stride, requires_grad, hooks, dtype, metadata=None):
    """A tensor of a type that torch got later: none of them is readable."""
    if not isinstance(dtype, _Unreadable):
        raise TypeError(f"its pickle makes a tensor of type {dtype}")
    return dtype


MAKERS = {
    ("collections", "OrderedDict"): lambda: {},
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _tensor_of_new_type,
    ("torch._utils", "_rebuild_parameter"): lambda data, requires_grad, hooks: data,
    ("torch.jit._pickle", "build_intlist"): lambda items: items,
    ("torch.jit._pickle", "build_doublelist"): lambda items: items,
    ("torch.jit._pickle", "build_boollist"): lambda items: items,
    ("torch.jit._pickle", "build_tensorlist"): lambda items: items,
    ("torch.jit._pickle", "restore_type_tag"): lambda value, _: value,
}

MOST_EXPANDED = 16  # times the file's size: a view may repeat the same numbers without end
MOST_VISITED, MOST_KEPT = 1_000_000, 100_000  # values, tensors and branches: a dict may be in several, and in itself


def _flat(tree, most_bytes):
    """The unpickled object -> {name: _Tensor}; everything that is not a tensor in a dict or a module is dropped."""
    if not isinstance(tree, (dict, Module)):
        kind = "tensor" if isinstance(tree, (_Tensor, _Unreadable)) else type(tree).__name__
        raise ValueError(f"it holds a {kind}, expected a dict of tensors")
    flat, branches, visited, total = {}, [("", tree)], 0, 0
    while branches:
        prefix, branch = branches.pop()
        items = branch.attributes if isinstance(branch, Module) else branch
        visited += len(items) + 1
        for key, value in items.items():
            name = f"{prefix}{key}"
            if isinstance(value, (dict, Module)):
                branches.append((f"{name}.", value))
            elif isinstance(value, (_Tensor, _Unreadable)):
                flat[name] = value
                total += value.nbytes
            kept = len(flat) + len(branches)
            if visited > MOST_VISITED or kept > MOST_KEPT or total > most_bytes or len(name) > MOST_NAME:
                raise ValueError("its contents would be many times as large as the file")
    return flat


# ---------------------------------------------------------------------------------------------------- writing


def write(path, tensors):
    """Write {name: array} as `torch.save` writes a state dict, whole or not at all."""
    names = {dtype: name for name, dtype in STORAGES.items()}
    arrays = {name: np.asarray(x, order="C") for name, x in tensors.items()}
    for name, x in arrays.items():
        if x.dtype not in names:
            raise InputError(f"{path}: {name} is {x.dtype}, which PyTorch's files cannot store")
    described = [
        _data(name) + _tensor_pickle(str(key), names[x.dtype], x.shape) for key, (name, x) in enumerate(arrays.items())
    ]
    content = (
        pickle.PROTO + b"\2" + pickle.EMPTY_DICT + pickle.MARK + b"".join(described) + pickle.SETITEMS + pickle.STOP
    )
    with atomic(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, data in [("data.pkl", content), ("byteorder", b"little"), ("version", b"3\n")]:
            archive.writestr(zipfile.ZipInfo(f"archive/{name}"), data)
        for key, x in enumerate(arrays.values()):
            entry = zipfile.ZipInfo(f"archive/data/{key}")
            # Padding between header and bytes, as torch.save adds it, so that mapped arrays begin at multiples of 64.
            fill = -(archive.start_dir + 30 + len(entry.filename) + 4) % 64
            entry.extra = struct.pack(f"<2sH{fill}x", b"FB", fill)
            archive.writestr(entry, x.tobytes())


def _tensor_pickle(key, storage, shape):
    """The instructions that make a tensor: _rebuild_tensor_v2(storage, offset, shape, stride, requires_grad, hooks)."""
    strides = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
    persistent = _tuple(_data("storage"), _global(f"torch {storage}"), *map(_data, (key, "cpu", math.prod(shape))))
    arguments = (
        persistent + pickle.BINPERSID,
        *map(_data, (0, shape, tuple(strides), False)),
        _call("collections OrderedDict"),
    )
    return _call("torch._utils _rebuild_tensor_v2", *arguments)


def _data(value):
    return pickle.dumps(value, 2)[2:-1]  # without the protocol and the stop


def _global(name):
    return pickle.GLOBAL + name.replace(" ", "\n").encode() + b"\n"


def _tuple(*items):
    return pickle.MARK + b"".join(items) + pickle.TUPLE


def _call(name, *arguments):
    return _global(name) + _tuple(*arguments) + pickle.REDUCE
