"""Which file a name means, and where it is: the manifest's files, and repositories on Hugging Face's hub.

`download` fetches files that are not on this machine. It is imported only then, so that `import miniclip` stays fast.
"""

import json
import os
import re
from pathlib import Path

from miniclip.checkpoints import huggingface, open_clip
from miniclip.errors import InputError
from miniclip.runtime import caches
from miniclip.runtime.files import write_atomically
from miniclip.weights import DIRECTORY, manifest

REPOSITORY = re.compile(r"[A-Za-z0-9_][\w.-]*/[A-Za-z0-9_][\w.-]*", re.ASCII)  # "owner/name"
# Fetched besides weights and configuration, in this order.
COMPANIONS = ("merges.txt", "vocab.json", "vocab.txt", "tokenizer.json", *huggingface.PREPROCESSORS)
FILES = (".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".onnx")  # a name that ends in one of these means a file


def find(name: str | os.PathLike, root: str | os.PathLike | None = None) -> Path:
    """The file or directory that `load` reads for `name`, downloaded to `root` if needed. Raises InputError."""
    known = list(manifest()["models"])
    if name in known:
        return model(name, root)
    if not isinstance(name, (str, os.PathLike)):
        raise InputError(f"name is {name!r}, expected a model's name or a path")
    path = Path(os.path.expanduser(name))  # expanduser leaves ~NOBODY as it is, Path.expanduser raises
    if str(name) and os.path.exists(path):  # Path.exists raises if a name is too long for a path
        return path
    if path.suffix in FILES:
        raise InputError(f"{path}: no such file")
    names = ", ".join(known)
    if not REPOSITORY.fullmatch(str(name)):
        raise InputError(
            f"there is no model {str(name)!r} here: it is neither one of {names} nor a path, and an id on Hugging "
            f"Face's hub has the form owner/name"
        )
    try:
        return snapshot(str(name), root)
    except InputError as error:
        raise InputError(
            f"{error}; {str(name)!r} was looked up on Hugging Face's hub, because it is neither a path here nor one of "
            f"{names}"
        ) from error


# ------------------------------------------------------------------------------------------ files of the manifest


def model(name, root=None, *, check=False):
    """The Path of one of the manifest's models, fetched if it is not on this machine. Raises InputError.

    `check`: the sum of a file that is found must be right, not only its size.
    """
    entry = manifest()["models"][name]
    if "repository" in entry:
        return snapshot(entry["repository"], root)
    found = find_model(name, root, check=check)
    if found is None and "urls" not in entry:
        raise InputError(f"{DIRECTORY / entry['file']}: is damaged or missing: install miniclip again")
    return found or file(entry, root)


def find_model(name, root=None, *, check=False):
    """The Path of the model if it is on this machine, else None.

    It is in miniclip itself or in `root`. Without `root` it is in miniclip's cache, or in that of OpenAI's package,
    which checks its files.
    """
    entry = manifest()["models"][name]
    if "repository" in entry:
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
    return path.is_file() and path.stat().st_size == entry["bytes"]


def _is_right(path, entry):
    from miniclip.fetch import download

    return download.Expected(entry["bytes"], entry["sha256"]).fits(path)


# ------------------------------------------------------------------------------------------------ Hugging Face's hub


def snapshot(repo_id, root=None):
    """The directory with the files of a CLIP on Hugging Face's hub: repo_id "owner/name", its newest version.

    It is looked for in `root`; without `root`, in Hugging Face's own cache and in miniclip's, which has the same
    layout. If it is not found, it is fetched into `root` or miniclip's cache; if it is found, we do not look for a
    newer version. $HF_ENDPOINT names another hub, $HF_TOKEN is sent along. Raises InputError.
    """
    found = find_snapshot(repo_id, root)
    if found is not None:
        return found
    from miniclip.fetch import download

    endpoint = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
    token = os.environ.get("HF_TOKEN")
    closed = f"{repo_id} does not exist, or is private or gated: set HF_TOKEN to a token that may read it"
    ask = {
        "headers": {"Authorization": f"Bearer {token}"} if token else {},
        "explain": {404: f"there is no {repo_id}", 401: closed, 403: closed},
    }
    listing = f"{endpoint}/api/models/{repo_id}?blobs=true"
    commit, files = _parse(download.without_credentials(listing), download.read(listing, **ask))
    names = _chosen(files)
    if not names:
        raise InputError(
            f"{download.without_credentials(endpoint)}/{repo_id} has no CLIP in a format that miniclip reads: expected "
            f"weights, and transformers' config.json or an open_clip_config.json"
        )
    place = _repository(_directory(root), repo_id)
    for name in names:
        url, path = f"{endpoint}/{repo_id}/resolve/{commit}/{name}", place / "snapshots" / commit / name
        download.fetch([url], path, download.Expected(**files[name]), **ask)
    (place / "refs").mkdir(exist_ok=True)
    write_atomically(place / "refs" / "main", commit.encode())
    return place / "snapshots" / commit


def find_snapshot(repo_id, root=None):
    """The directory as in `snapshot` if it is on this machine with all its files, else None."""
    for hub in (*_hugging_face_cache(), caches.cache_directory()) if root is None else (Path(root),):
        place = _repository(hub, repo_id)
        try:
            directory = place / "snapshots" / (place / "refs" / "main").read_text().strip()
            if _chosen([path.name for path in directory.iterdir() if path.exists()]):
                return directory
        except (OSError, ValueError):  # missing, not readable, or not a commit
            continue
    return None


def _hugging_face_cache():
    """[Hugging Face's own cache], or [] if this user has no home for it."""
    cache = caches.user_cache()
    home = os.environ.get("HF_HOME") or (cache and cache / "huggingface")
    theirs = os.environ.get("HF_HUB_CACHE") or (home and Path(home, "hub"))
    return [Path(os.path.expanduser(theirs))] if theirs else []


def _repository(hub, repo_id):
    return hub / f"models--{repo_id.replace('/', '--')}"


def _parse(url, content):
    """Hugging Face's listing of a repository -> (commit, {file name: arguments of `download.Expected`})."""
    try:
        listing = json.loads(content)
        if not re.fullmatch(r"[0-9a-f]{40}", listing["sha"]):
            raise ValueError("sha")
        return listing["sha"], {entry["rfilename"]: _expected(entry) for entry in listing["siblings"]}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{url}: not a listing of a model's files: {error!r}") from error


def _expected(entry):
    """Arguments of `download.Expected`: large files are listed with their SHA-256, small ones with git's sum."""
    if entry.get("lfs"):
        return {"size": int(entry["lfs"]["size"]), "sha256": str(entry["lfs"]["sha256"])}
    return {"size": int(entry["size"]), "git_blob": str(entry["blobId"])}


def _chosen(names):
    """The files of a repository that a CLIP is loaded from, in one format, or [].

    Formats have the same order as in `checkpoints.load`. The configuration is the last file: a directory that has it
    is complete.
    """
    for config, formats in ((open_clip.CONFIG, open_clip.WEIGHTS), ("config.json", huggingface.WEIGHTS)):
        weights = next(filter(None, (_weights(names, name) for name in formats)), None)
        if config in names and weights:
            return [*weights, *(name for name in COMPANIONS if name in names), config]
    return []


def _weights(names, name):
    """[name] if `names` has it, else all its pieces (model-00001-of-00002.safetensors) and their index, else []."""
    if name in names:
        return [name]
    stem, suffix = name.split(".")
    pieces = sorted(filter(re.compile(rf"{stem}-\d{{5}}-of-\d{{5}}\.{suffix}").fullmatch, names))
    index = f"{name}.index.json"
    whole = index in names and all(f"-of-{len(pieces):05}." in piece for piece in pieces)
    return [*pieces, index] if pieces and whole else []
