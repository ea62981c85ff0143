"""Repositories in the caches on this machine: what is missing there, folders, versions, and no network."""

# ruff: noqa: F811  fixtures are imported, and are arguments of the same name

import json
import subprocess
import sys

import pytest
from hub_server import COMMIT, HF, home, publish, put, server  # noqa: F401
from scripted_server import files_in, sha256

from miniclip import InputError
from miniclip.fetch import hub, repository

OPEN_CLIP = {"open_clip_config.json": b"{}", "open_clip_model.safetensors": b"weights"}
ADAPTER = {"adapter_config.json": b'{"base_model_name_or_path": "there"}', "adapter_model.safetensors": b"pairs"}
ONLY_MODEL = {name: HF[name] for name in ("config.json", "model.safetensors")}


def cached(home, files, *, listed=None, absent=()):
    """Put files into Hugging Face's cache as huggingface_hub does; `listed` are the names in its list of all files."""
    theirs = home / ".cache" / "huggingface" / "hub" / "models--owner--name"
    put(theirs / "refs" / "main", COMMIT.encode())
    for name, content in files.items():
        blob = put(theirs / "blobs" / sha256(content), content)
        (theirs / "snapshots" / COMMIT).mkdir(parents=True, exist_ok=True)
        (theirs / "snapshots" / COMMIT / name).symlink_to(blob)
    for name in absent:
        put(theirs / ".no_exist" / COMMIT / name, b"")
    if listed is not None:
        content = {"format_version": 1, "files": {name: {"size": 1, "blob_id": "0"} for name in listed}}
        put(theirs / "trees" / f"{COMMIT}.json", json.dumps(content).encode())
    return theirs / "snapshots" / COMMIT


@pytest.mark.parametrize(
    "files, known, whole",
    [
        (ONLY_MODEL, {}, False),  # CLIPModel.from_pretrained alone
        (ONLY_MODEL, {"listed": [*ONLY_MODEL, "README.md"]}, True),
        (ONLY_MODEL, {"listed": [*ONLY_MODEL, "preprocessor_config.json"]}, False),
        (ONLY_MODEL | {"merges.txt": b""}, {}, False),
        (ONLY_MODEL | {"tokenizer.json": b"", "preprocessor_config.json": b"{}"}, {}, True),
        (ONLY_MODEL | {"merges.txt": b""}, {"absent": repository.huggingface.PREPROCESSORS}, True),
        (ONLY_MODEL | {"merges.txt": b""}, {"absent": repository.huggingface.PREPROCESSORS[:1]}, False),
        (OPEN_CLIP, {}, True),  # its configuration has the settings of its pictures
        (ADAPTER, {}, True),
        (ADAPTER, {"listed": [*ADAPTER, "tokenizer.json"]}, False),
    ],
)
def test_a_directory_of_the_cache_is_whole_if_nothing_of_the_repository_is_missing(home, server, files, known, whole):
    directory = cached(home, files, **known)
    assert repository.find_snapshot("owner/name") == (directory if whole else None)


def test_a_repository_may_have_an_adapter_instead_of_a_model(home, server, monkeypatch):
    publish(server, ADAPTER | {"README.md": b"#", "optimizer.pt": b"x"})
    (home / "there").mkdir()
    monkeypatch.chdir(home)
    base, adapter = hub.find_adapted("owner/name")
    assert str(base) == "there" and set(files_in(adapter)) == set(ADAPTER)
    assert server.asked[-1].endswith("adapter_config.json")  # the directory is whole when it has its configuration
    publish(server, HF | ADAPTER, repo_id="owner/both")  # as in transformers, the adapter counts
    base, adapter = hub.find_adapted("owner/both")
    assert str(base) == "there" and not (adapter / "model.safetensors").exists()
    assert hub.find_adapted("there", "owner/name")[1].name == COMMIT


def test_what_is_missing_is_fetched_and_the_weights_are_used_from_the_cache(home, server):
    cached(home, ONLY_MODEL)
    publish(server, HF)
    directory = hub.find("owner/name")
    assert directory.is_relative_to(home / "cache")
    assert {name: (directory / name).read_bytes() for name in files_in(directory)} == HF
    assert not any(path.endswith("model.safetensors") for path in server.asked)


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", None])
def test_the_hub_is_not_asked_if_that_is_forbidden(home, server, monkeypatch, variable):
    cached(home, ONLY_MODEL)
    publish(server, HF)
    if variable:
        monkeypatch.setenv(variable, "true")
    with pytest.raises(InputError, match=f"owner/name is not .* all its files, and {variable or 'local_files_only'} "):
        hub.find("owner/name", local_files_only=variable is None)
    assert server.asked == []
    monkeypatch.delenv(variable or "-", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("TRANSFORMERS_OFFLINE", "1")  # counts only without the other, as in huggingface_hub
    assert hub.find("owner/name").is_dir()


def test_without_weights_they_are_not_fetched_until_they_are_needed(home, server):
    publish(server, HF | OPEN_CLIP)
    directory = hub.find("owner/name", weights=False)
    small = {name: x for name, x in (HF | OPEN_CLIP).items() if "model" not in name or name in repository.VOCABULARIES}
    assert {name: (directory / name).read_bytes() for name in files_in(directory)} == small
    server.asked.clear()
    assert hub.find("owner/name", weights=False, local_files_only=True) == directory
    assert hub.find("owner/name") == directory and (directory / "open_clip_model.safetensors").exists()
    assert [path.rpartition("/")[2] for path in server.asked] == ["name?blobs=true", "open_clip_model.safetensors"]


def test_a_folder_of_a_repository(home, server):
    publish(server, {**HF, "text/config.json": b"{}", "text/model.safetensors": b"t", "text/README.md": b""})
    directory = hub.find("owner/name", subfolder="text")
    assert directory.name == "text" and files_in(directory) == ["config.json", "model.safetensors"]
    assert hub.find("owner/name", subfolder="text", local_files_only=True) == directory
    assert hub.find(directory.parent, subfolder="text") == directory
    with pytest.raises(InputError, match="has no folder vision"):
        hub.find(directory, subfolder="vision")
    with pytest.raises(InputError, match="owner/name/vision has no CLIP"):
        hub.find("owner/name", subfolder="vision")
    for options in ({"subfolder": "../text"}, {"subfolder": "/text"}, {"revision": "../main"}):
        with pytest.raises(InputError, match="is not the name of a folder or of a version"):
            hub.find("owner/name", **options)


def test_a_version_of_a_repository(home, server):
    publish(server, ONLY_MODEL)
    newest = hub.find("owner/name")
    publish(server, HF, COMMIT[::-1])
    listing = (server.directory / "api" / "models" / "owner" / "name").read_bytes()
    (server.directory / "api" / "models" / "owner" / "name").unlink()
    for revision in ("refs/pr/1", COMMIT[::-1]):
        put(server.directory / "api" / "models" / "owner" / "name" / "revision" / revision, listing)
        directory = hub.find("owner/name", revision=revision)
        assert directory.name == COMMIT[::-1] and files_in(directory) == sorted(HF)
        assert hub.find("owner/name", revision=revision, local_files_only=True) == directory
    assert hub.find("owner/name") == newest


def test_the_list_of_files_is_that_of_huggingface_hub(home, server):
    theirs = pytest.importorskip("huggingface_hub")
    publish(server, HF | {"README.md": b"#"})
    hub.find("owner/name")
    files = theirs.get_cached_repo_tree("owner/name", cache_dir=home / "cache")
    assert {file.path: file.size for file in files} == {name: len(x) for name, x in (HF | {"README.md": b"#"}).items()}
    whole = theirs.snapshot_download(
        "owner/name", cache_dir=home / "cache", local_files_only=True, allow_patterns=["*.txt", "model.*"]
    )
    assert whole == str(home / "cache" / "models--owner--name" / "snapshots" / COMMIT)


@pytest.mark.parametrize(
    "variables",
    [
        {"HF_HOME": "$WHERE/x", "HF_HUB_CACHE": None},
        {"HF_HOME": "~/x"},
        {"HUGGINGFACE_HUB_CACHE": "~/x/hub"},
        {"HF_HUB_CACHE": "$WHERE/x/hub", "HUGGINGFACE_HUB_CACHE": "~/y"},
        {"XDG_CACHE_HOME": "$WHERE/x"},
    ],
)
def test_the_cache_is_where_huggingface_hub_has_it(home, monkeypatch, variables):
    monkeypatch.setenv("WHERE", str(home))
    for name, value in variables.items():
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name, raising=False)
    code = "from huggingface_hub import constants; print(constants.HF_HUB_CACHE)"
    theirs = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert str(repository._hugging_face_cache()[0]) == theirs.stdout.strip()
