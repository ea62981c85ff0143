"""Files of weights and of settings, whatever their format: told by how they begin, not by what they are called."""

import json

from miniclip.errors import InputError
from miniclip.formats import safetensors, torch_files
from miniclip.runtime.files import open_regular


def read(path, dtype=None):
    """({name: array}, metadata) of a safetensors file or one of PyTorch's, whose metadata are empty.

    Floating arrays come as `dtype`, None: as they are, but bfloat16 as float32; what need not be converted is mapped,
    not read. Raises InputError naming the file.
    """
    try:
        with open_regular(path) as file:
            head = file.read(64)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    if torch_files.begins(head):
        return torch_files.read(path, dtype), {}
    if head.startswith(b"version https://git-lfs"):
        raise InputError(f"{path}: is git-lfs's pointer to a file and not the file: run git lfs pull")
    if head and not safetensors.begins(head):
        raise InputError(f"{path}: begins neither as a safetensors file nor as one of PyTorch's")
    return safetensors.read(path, dtype)


def read_json(path):
    """The contents of a JSON file that holds an object; InputError naming the file."""
    try:
        with open_regular(path) as file:
            content = json.load(file)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a JSON object")
    return content
