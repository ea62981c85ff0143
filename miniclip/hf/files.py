"""Where the files of a model are, from the arguments of `from_pretrained`."""

import inspect
from pathlib import Path
from typing import Any

from miniclip.errors import InputError
from miniclip.fetch import hub

WHERE = ("cache_dir", "local_files_only", "subfolder")


def find(name: Any, options: dict[str, Any]) -> Path:
    """The path of a model's files; takes `WHERE` out of the options. Raises InputError."""
    where = {key: options.pop(key, None) for key in WHERE}
    path = _find(name, where["cache_dir"], where)
    if where["subfolder"]:
        path = path / where["subfolder"]
        if not path.is_dir():
            raise InputError(f"{path}: is not a directory: subfolder is the name of one in a model's directory")
    return path


def _find(name, cache_dir, options):
    """`hub.find`, which looks only on this machine with `local_files_only`."""
    if options.get("local_files_only") and "local_files_only" in inspect.signature(hub.find).parameters:
        return hub.find(name, cache_dir, local_files_only=True)
    return hub.find(name, cache_dir)
