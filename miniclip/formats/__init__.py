"""Reads files of weights and of settings. A file's first bytes decide its format, not its name."""

import json

from miniclip.errors import InputError
from miniclip.formats import safetensors
from miniclip.runtime.files import open_regular

# A name that ends in one of these means a file.
ENDINGS = (".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".msgpack", ".h5", ".onnx", ".gguf")


def read(path, dtype=None, select=None, mapped=False):
    """({name: array}, metadata) of a safetensors file, or of a PyTorch, Flax or HDF5 file, whose metadata are empty.

    dtype   floating arrays become this type; None keeps theirs, except that bfloat16 becomes float32
    select  a function from the names in the file and its metadata to {name: new name} of those to read; None: all
    mapped  arrays that need no conversion are memory-mapped, not read

    Raises InputError that names the file.
    """
    try:
        with open_regular(path) as file:
            head = file.read(64)
        if safetensors.begins(head):
            return safetensors.read(path, dtype, select, mapped)
        if head.startswith(b"version https://git-lfs"):
            raise InputError(f"{path}: is a git-lfs pointer to the file, not the file itself: run git lfs pull")
        from miniclip.formats import torch_files  # with what it imports, a tenth of a short command's time

        if torch_files.begins(head):
            return torch_files.read(path, dtype, select, mapped), {}
        from miniclip.formats import flax_files

        if flax_files.begins(head):
            return flax_files.read(path, dtype, select, mapped), {}
        if head.startswith(b"GGUF"):
            raise InputError(f"{path}: is a GGUF file, which miniclip does not read: give what it was made of")
        from miniclip.formats import hdf5_files

        if hdf5_files.begins(head):
            return hdf5_files.read(path, dtype, select, mapped), {}
        if head:
            raise InputError(f"{path}: is neither a safetensors file nor a PyTorch file, nor one of Flax or Keras")
        return safetensors.read(path, dtype, select, mapped)  # which says what an empty file is
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def read_json(path, kind=dict):
    """The contents of a JSON file, which must be an object, or a list. Raises InputError that names the file."""
    try:
        with open_regular(path) as file:
            content = json.load(file)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON: {error}") from error
    if not isinstance(content, kind):
        raise InputError(f"{path}: expected a JSON {'object' if kind is dict else 'list'}")
    return content
