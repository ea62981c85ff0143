"""Which file a name means, and where it is: the manifest's files, and repositories on Hugging Face's hub.

`repository` knows a repository's files, and `download` fetches what is not on this machine. They are imported
only then, so that a command with a file starts fast.
"""

import os
import re
from pathlib import Path

from miniclip.errors import InputError
from miniclip.formats import ENDINGS
from miniclip.runtime import caches
from miniclip.weights import DIRECTORY, manifest, open_clip_names

OPEN_CLIP = ("hf-hub:", "local-dir:")  # before an id, or a path
REPOSITORY = re.compile(r"[A-Za-z0-9_][\w.-]*/[A-Za-z0-9_][\w.-]*", re.ASCII)  # "owner/name"


def find(
    name: str | os.PathLike,
    root: str | os.PathLike | None = None,
    *,
    weights: bool = True,
    local_files_only: bool = False,
    subfolder: str | None = None,
    revision: str | None = None,
) -> Path:
    """The file or directory that `load` reads for `name`, downloaded to `root` if needed. Raises InputError.

    weights           False: a repository's weights are not needed, only its configuration, vocabulary and settings
    local_files_only  the network is not used
    subfolder         the folder of a directory or a repository that has the model
    revision          of a repository: a branch, a tag or a commit; None: its newest version. A path has no other one
    """
    known = list(manifest()["models"])
    options = {"weights": weights, "local_files_only": local_files_only, "subfolder": subfolder, "revision": revision}
    if name in known:
        return model(name, root, **options)
    if not isinstance(name, (str, os.PathLike)):
        raise InputError(f"name is {name!r}, expected a model's name or a path")
    if str(name).startswith(OPEN_CLIP):  # OpenCLIP's way to say what a name is
        return _of_open_clip(str(name), root, options)
    path = Path(os.path.expanduser(name))  # expanduser leaves ~NOBODY as it is, Path.expanduser raises
    if str(name) and os.path.exists(path):  # Path.exists raises if a name is too long for a path
        return _inside(path, subfolder)
    _check_readable(path)
    if path.suffix in ENDINGS:
        raise InputError(f"{path}: no such file")
    meant = next((each for each in known if _plain(each) == _plain(str(name))), None)
    if meant:
        raise InputError(f"there is no model {str(name)!r} here: did you mean {meant!r}?")
    if (tags := open_clip_names()["tags"].get(str(name))) is not None:
        tag, entry = next(iter(tags.items()))
        raise InputError(
            f"{str(name)!r} is a model of OpenCLIP: say which weights, as in pretrained={tag!r}, or give their "
            f"repository, as in {entry['hub'].rstrip('/')!r}"
        )
    names = ", ".join(known)
    if not REPOSITORY.fullmatch(str(name)):
        raise InputError(
            f"there is no model {str(name)!r} here: it is neither one of {names} nor a path, and an id on Hugging "
            f"Face's hub has the form owner/name"
        )
    from miniclip.fetch.repository import snapshot

    try:
        return snapshot(str(name), root, **options)
    except InputError as error:
        raise InputError(
            f"{error}; {str(name)!r} was looked up on Hugging Face's hub, because it is neither a path here nor one of "
            f"{names}"
        ) from error


def _of_open_clip(name, root, options):
    kind, _, rest = name.partition(":")
    if kind == "hf-hub":
        if not REPOSITORY.fullmatch(rest):
            raise InputError(f"there is no model {name!r}: an id on Hugging Face's hub has the form owner/name")
        from miniclip.fetch.repository import snapshot

        return snapshot(rest, root, **options)
    if not os.path.isdir(rest):
        raise InputError(f"{rest}: no such directory")
    return _inside(Path(rest), options["subfolder"])


def find_adapted(
    name: str | os.PathLike, adapter: str | os.PathLike | None = None, root: str | os.PathLike | None = None
) -> tuple[Path, Path | None]:
    """(the path of a model, that of its adapter or None): `find` for a name that may be an adapter's own.

    An adapter of PEFT names its model in its adapter_config.json; `adapter` is for another model. Raises InputError.
    """
    path = find(name, root)
    if not path.is_dir():
        return path, None if adapter is None else find(adapter, root)
    from miniclip.checkpoints import peft

    if not peft.is_adapter(path):
        return path, None if adapter is None else find(adapter, root)
    if adapter is not None:
        raise InputError(f"{path}: is an adapter itself, and adapter is {str(adapter)!r}: give a model, or one adapter")
    base = peft.base_of(path)
    try:
        return find(base, root), path
    except InputError as error:
        remedy = f"load that model from where it is, with adapter='{path}'"
        raise InputError(f"{path}: belongs to the model {base!r}: {error}; {remedy}") from error


def _check_readable(path):
    """Raise InputError if the path may be there, but in a directory that this user may not look into."""
    try:
        path.stat()
    except PermissionError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except (OSError, ValueError):  # it is not there, or no path can have this name
        pass


def _plain(name):
    """A name without capitals and signs: what several spellings of it have in common."""
    return re.sub(r"[\W_]", "", name.lower())


def _inside(path, subfolder):
    if subfolder and not (path / subfolder).is_dir():
        raise InputError(f"{path}: has no folder {subfolder}")
    return path / (subfolder or "")


# ------------------------------------------------------------------------------------------ files of the manifest


def model(name, root=None, *, check=False, local_files_only=False, **options):
    """The Path of one of the manifest's models, fetched if it is not on this machine. Raises InputError.

    `check`: the sum of a file that is found must be right, not only its size. Other options as in `find`.
    """
    entry = manifest()["models"][name]
    if "repository" in entry:
        from miniclip.fetch.repository import snapshot

        return snapshot(entry["repository"], root, local_files_only=local_files_only, **options)
    found = find_model(name, root, check=check)
    if found is None and "urls" not in entry:
        raise InputError(f"{DIRECTORY / entry['file']}: is damaged or missing: install miniclip again")
    if found is None and local_files_only:
        raise InputError(f"{name} is not on this machine, and local_files_only forbids fetching it")
    return found or file(entry, root)


def find_model(name, root=None, *, check=False):
    """The Path of the model if it is on this machine, else None.

    It is in miniclip itself or in `root`. Without `root` it is in miniclip's cache, or in that of OpenAI's package,
    which checks its files.
    """
    entry = manifest()["models"][name]
    if "repository" in entry:
        from miniclip.fetch.repository import find_snapshot

        return find_snapshot(entry["repository"], root)
    if "urls" not in entry:
        places = [DIRECTORY]
    elif root is None and (home := caches.home()):
        places = [caches.cache_directory(), home / ".cache" / "clip"]
    else:
        places = [_directory(root)]
    fits = _is_right if check else _is_whole
    return next((place / entry["file"] for place in places if fits(place / entry["file"], entry)), None)


def file(entry, root=None):
    """The Path of the file that an entry of the manifest describes: in `root` (None: the cache), fetched if needed.

    A file with another size or sum is incomplete, damaged or a different one, and is replaced. Raises InputError.
    """
    path = _directory(root) / entry["file"]
    if not _is_right(path, entry):
        from miniclip.fetch import download

        download.fetch(entry["urls"], path, download.Expected(entry["bytes"], entry["sha256"]))
    return path


def _directory(root):
    return caches.cache_directory() if root is None else Path(root)


def _is_whole(path, entry):
    return os.path.isfile(path) and os.path.getsize(path) == entry["bytes"]


def _is_right(path, entry):
    from miniclip.fetch import download

    return download.Expected(entry["bytes"], entry["sha256"]).fits(path)
