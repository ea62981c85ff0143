"""Where the files of a model are, from the arguments of `from_pretrained`."""

from pathlib import Path
from typing import Any

from miniclip.errors import InputError
from miniclip.fetch import hub

UNSUPPORTED = ("force_download", "resume_download", "proxies", "mirror")
WHERE = ("cache_dir", "local_files_only", "revision", "subfolder", "token", "use_auth_token", *UNSUPPORTED)


class NotFoundError(InputError, OSError):
    """A model that is not there. Code for transformers expects an OSError."""


def find(name: Any, options: dict[str, Any], *, weights: bool = True) -> Path:
    """The path of a model's files, from the arguments of `from_pretrained` in `WHERE`, which leave the options.

    `weights` False: they are not fetched. Raises InputError, and NotFoundError if there are no such files.
    """
    where = {key: options.pop(key, None) for key in WHERE}
    for key in UNSUPPORTED:
        if where[key]:
            raise InputError(f"{key} is not supported: leave it out")
    if isinstance(where["token"] or where["use_auth_token"], str):
        raise InputError("token is a str: set the environment variable HF_TOKEN instead")
    for key in ("revision", "subfolder"):
        if not isinstance(where[key], (str, type(None))):
            raise InputError(f"{key} is {where[key]!r}, expected a str")
    try:
        return hub.find(
            name,
            where["cache_dir"],
            weights=weights,
            local_files_only=bool(where["local_files_only"]),
            subfolder=where["subfolder"] or None,
            revision=where["revision"],
        )
    except InputError as error:
        raise NotFoundError(str(error)) from error


def find_adapted(name: Any, options: dict[str, Any]) -> tuple[Path, Path | None]:
    """(the path of a model's files, that of its adapter or None), as `find` and `hub.find_adapted`."""
    root = options.get("cache_dir")
    path = find(name, options)
    try:
        return hub.find_adapted(path, root=root)
    except InputError as error:
        raise NotFoundError(str(error)) from error
