"""A repository on Hugging Face's hub: which files a CLIP or an adapter is loaded from, and the directory that has them.

`download` fetches files that are not on this machine. It is imported only then, so that `import miniclip` stays fast.
"""

import itertools
import json
import os
import re
import shutil
from pathlib import Path
from urllib.parse import quote

from miniclip.checkpoints import huggingface, open_clip, peft, sentence_transformers
from miniclip.errors import InputError
from miniclip.families import tokenizer_settings
from miniclip.runtime import caches
from miniclip.runtime.files import write_atomically, write_json

VOCABULARIES = ("merges.txt", "vocab.txt", "spiece.model", "sentencepiece.bpe.model", "tokenizer.json")
# Fetched besides weights and configuration, in this order.
_OTHERS = ("vocab.json", *tokenizer_settings.FILES, *huggingface.PREPROCESSORS, peft.CONFIG)
COMPANIONS = tuple(dict.fromkeys((*VOCABULARIES, *_OTHERS)))


def snapshot(repo_id, root=None, *, weights=True, local_files_only=False, subfolder=None, revision=None):
    """The directory with the files of a CLIP on Hugging Face's hub: repo_id "owner/name", options as in `find`.

    It is looked for in `root`; without `root`, in Hugging Face's own cache and in miniclip's, which has the same
    layout. If it is not found, it is fetched into `root` or miniclip's cache; if it is found, we do not look for a
    newer version. $HF_ENDPOINT names another hub, $HF_TOKEN is sent along. Raises InputError.
    """
    revision = revision or "main"
    found = find_snapshot(repo_id, root, weights=weights, subfolder=subfolder, revision=revision)
    if found is not None:
        return found
    _check_allowed(repo_id, local_files_only)
    from miniclip.fetch import download

    endpoint = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
    token = os.environ.get("HF_TOKEN")
    closed = f"{repo_id} does not exist, or is private or gated: set HF_TOKEN to a token that may read it"
    version = "" if revision == "main" else f"/revision/{quote(revision, safe='')}"
    ask = {
        "headers": {"Authorization": f"Bearer {token}"} if token else {},
        "explain": {404: f"there is no {repo_id}{version}", 401: closed, 403: closed},
    }
    listing = f"{endpoint}/api/models/{repo_id}{version}?blobs=true"
    commit, files = _parse(download.without_credentials(listing), download.read(listing, **ask))
    names = _chosen(files, weights, subfolder)
    if not names:
        raise InputError(
            f"{'/'.join(filter(None, (download.without_credentials(endpoint), repo_id, subfolder)))} has no CLIP in a "
            f"format that miniclip reads: expected weights, and transformers' config.json, an {open_clip.CONFIG} or an "
            f"{peft.CONFIG}"
        )
    place = _place(caches.cache_directory() if root is None else Path(root), repo_id)
    for name in names:
        url, path = f"{endpoint}/{repo_id}/resolve/{commit}/{name}", place / "snapshots" / commit / name
        expected = download.Expected(**_expected(files[name]))
        _use_blob(repo_id, root, path, expected)
        download.fetch([url], path, expected, **ask)
    # In the form of huggingface_hub (_tree_cache.py): which files there are, so that a missing one is noticed.
    listed, ref = _list(place, commit), place / "refs" / revision
    for path in (listed, ref):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_json(listed, {"format_version": 1, "files": files})
    write_atomically(ref, commit.encode())
    return place / "snapshots" / commit / (subfolder or "")


def find_snapshot(repo_id, root=None, *, weights=True, subfolder=None, revision="main"):
    """The directory as in `snapshot` if it is on this machine with all its files, else None.

    A directory lacks a file if the repository has it, according to the list of its files (`trees`) that huggingface_hub
    and miniclip keep. transformers may leave no list: then a kind of file that it never looked for may be missing too.
    """
    _check_relative(subfolder, revision)
    for place in _places(repo_id, root):
        try:
            ref = place / "refs" / revision
            commit = ref.read_text().strip() if ref.is_file() else revision
            directory = place / "snapshots" / commit / (subfolder or "")
            here = {path.name for path in directory.iterdir() if path.exists()}
            listed = _chosen(_listed_files(place, commit, here, subfolder), weights, subfolder)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):  # missing, not readable, or not a commit
            continue
        if listed and here.issuperset(name.rpartition("/")[2] for name in listed):
            return directory
    return None


def _listed_files(place, commit, here, subfolder):
    """The names of a repository's files, as far as this machine knows them; `here` are those in the directory."""
    inside = f"{subfolder}/" if subfolder else ""
    try:
        return json.loads(_list(place, commit).read_bytes())["files"].keys()
    except FileNotFoundError:
        absent = {path.name for path in (place / ".no_exist" / commit / inside).glob("*")}
        # These configurations say everything; the others need a file of each kind, or to know that there is none.
        whole = not here.isdisjoint((open_clip.CONFIG, peft.CONFIG))
        kinds = () if whole else (VOCABULARIES, huggingface.PREPROCESSORS)
        unknown = {kind[0] for kind in kinds if here.isdisjoint(kind) and not absent.issuperset(kind)}
        return {inside + name for name in here | unknown}


def _list(place, commit):
    return place / "trees" / f"{commit}.json"


def _check_relative(*paths):
    for path in filter(None, paths):
        if Path(path).is_absolute() or ".." in Path(path).parts:
            raise InputError(f"{path!r} is not the name of a folder or of a version in a repository")


def _check_allowed(repo_id, local_files_only):
    """Raise InputError if the caller or a variable of huggingface_hub forbids asking the hub."""
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    name = next((name for name in names if os.environ.get(name)), None)  # the second counts if the first is not set
    on = name and os.environ[name].upper() in ("1", "ON", "YES", "TRUE")
    if local_files_only or on:
        raise InputError(
            f"{repo_id} is not on this machine with all its files, and {'local_files_only' if not on else name} "
            f"forbids fetching them: give the path of a directory to use it as it is"
        )


def _use_blob(repo_id, root, path, expected):
    """Link `path` to the same file of another version, or in Hugging Face's own cache, if there is one."""
    blobs = [place / "blobs" / expected.sum for place in _places(repo_id, root)]
    blob = next((blob for blob in blobs if os.path.isfile(blob)), None)
    if blob and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)  # a link to a file that is gone
        try:
            path.symlink_to(blob.resolve())
        except OSError:  # not everybody may make links on Windows
            shutil.copyfile(blob, path)


def _places(repo_id, root):
    """The directories that may have this repository, in the layout of Hugging Face's cache."""
    hubs = (*_hugging_face_cache(), caches.cache_directory()) if root is None else (Path(root),)
    return [_place(hub, repo_id) for hub in hubs]


def _hugging_face_cache():
    """[Hugging Face's own cache], or [] if this user has no home for it (huggingface_hub/constants.py)."""
    cache = caches.user_cache()
    home = os.environ.get("HF_HOME") or (cache and cache / "huggingface")
    theirs = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE") or (home and Path(home, "hub"))
    return [Path(os.path.expandvars(os.path.expanduser(theirs)))] if theirs else []


def _place(hub, repo_id):
    return hub / f"models--{repo_id.replace('/', '--')}"


def _parse(url, content):
    """Hugging Face's listing of a repository -> (commit, {file name: its sizes and sums as huggingface_hub has them}).

    Large files are listed with their SHA-256, small ones with git's sum.
    """
    try:
        listing = json.loads(content)
        if not re.fullmatch(r"[0-9a-f]{40}", listing["sha"]):
            raise ValueError("sha")
        return listing["sha"], {entry["rfilename"]: _entry(entry) for entry in listing["siblings"]}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{url}: not a listing of a model's files: {error!r}") from error


def _entry(source):
    entry = {"size": source["size"], "blob_id": source["blobId"]}
    if source.get("lfs"):
        entry |= {"lfs_sha256": source["lfs"]["sha256"], "lfs_size": source["lfs"]["size"]}
    for name, value in {**entry, "rfilename": source["rfilename"]}.items():
        if type(value) is not (int if name.endswith("size") else str) or (type(value) is int and value < 0):
            raise ValueError(f"{name} is {value!r}")
    return entry


def _expected(entry):
    """Arguments of `download.Expected`."""
    if "lfs_size" in entry:
        return {"size": entry["lfs_size"], "sha256": entry["lfs_sha256"]}
    return {"size": entry["size"], "git_blob": entry["blob_id"]}


def _chosen(names, weights=True, subfolder=None):
    """The files of a repository that a CLIP or an adapter is loaded from, in one format, or [].

    Formats have the same order as in `checkpoints.load`. The configuration is the last file. Without weights, all
    formats' configurations are chosen.
    """
    inside = f"{subfolder}/" if subfolder else ""
    names = {name.removeprefix(inside) for name in names if name.startswith(inside)}
    companions = [name for name in COMPANIONS if name in names]
    configs = {peft.CONFIG: peft.WEIGHTS, open_clip.CONFIG: open_clip.WEIGHTS, "config.json": huggingface.WEIGHTS}
    if not weights:
        return [inside + name for name in dict.fromkeys((*companions, *(each for each in configs if each in names)))]
    for config, formats in configs.items():
        files = next(filter(None, (_weights(names, name) for name in formats)), None)
        if config in names and files:
            others = [name for name in (*companions, *_modules(names)) if name != config]
            return [inside + name for name in (*files, *others, config)]
    return []


def _modules(names):
    """The files of a sentence-transformers model that are not its transformer's: of each folder one of weights."""
    if sentence_transformers.MODULES not in names:
        return []
    own = (sentence_transformers.MODULES, sentence_transformers.SETTINGS)
    folders = sorted({name.rpartition("/")[0] for name in names if re.fullmatch(r"\d_\w+/config\.json", name)})
    weights = [[x for name in huggingface.WEIGHTS if (x := f"{folder}/{name}") in names][:1] for folder in folders]
    configs = (f"{folder}/config.json" for folder in folders)
    return [*filter(names.__contains__, own), *itertools.chain(*weights), *configs]


def _weights(names, name):
    """[name] if `names` has it, else all its pieces (model-00001-of-00002.safetensors) and their index, else []."""
    if name in names:
        return [name]
    stem, suffix = name.split(".")
    pieces = sorted(filter(re.compile(rf"{stem}-\d{{5}}-of-\d{{5}}\.{suffix}").fullmatch, names))
    index = f"{name}.index.json"
    whole = index in names and all(f"-of-{len(pieces):05}." in piece for piece in pieces)
    return [*pieces, index] if pieces and whole else []
