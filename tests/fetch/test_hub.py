"""Models on Hugging Face's hub: which files are fetched, where they are kept, and what is refused."""

# ruff: noqa: F811  fixtures are imported, and are arguments of the same name

import json

import numpy as np
import pytest
from hub_server import COMMIT, HF, home, publish, put, server  # noqa: F401
from scripted_server import files_in, sha256

import miniclip
from miniclip import InputError, params
from miniclip.checkpoints import huggingface, open_clip
from miniclip.families.align.config import ALIGNConfig, BertConfig, EfficientNetConfig
from miniclip.fetch import hub, repository
from miniclip.tokenizers.wordpiece import WordPiece

OPEN_CLIP = {"open_clip_config.json": b"{}", "open_clip_model.safetensors": b"weights"}
PIECES = {f"model-0000{n}-of-00002.safetensors": b"piece %d" % n for n in (1, 2)}
PIECES["model.safetensors.index.json"] = b"{}"
BIN_PIECES = {name.replace("model", "pytorch_model").replace("safetensors", "bin"): x for name, x in PIECES.items()}
FLAX_PIECES = {
    name.replace("model", "flax_model", 1).replace("safetensors", "msgpack"): x for name, x in PIECES.items()
}
IDLE = {"README.md": b"#", "pytorch_model.bin": b"other weights", "flax_model.msgpack": b"", "onnx/model.onnx": b""}

MODULES = {"modules.json": b"[]", "1_Pooling/config.json": b"{}", "2_Dense/config.json": b"{}"}
MODULES |= {"2_Dense/model.safetensors": b"dense", "sentence_bert_config.json": b"{}"}

CHOICES = {
    "transformers": (HF | IDLE, HF),
    "pieces": ({**HF, **PIECES} | IDLE, HF),
    "only pieces": (PIECES | IDLE | {"config.json": b"{}"}, PIECES | {"config.json": b"{}"}),
    "a piece is missing": (
        {**dict(list(PIECES.items())[1:]), "config.json": b"{}", "pytorch_model.bin": b"w"},
        {"config.json": b"{}", "pytorch_model.bin": b"w"},
    ),
    "pickles": ({"config.json": b"{}", "pytorch_model.bin": b"w"}, {"config.json": b"{}", "pytorch_model.bin": b"w"}),
    "Flax": ({"config.json": b"{}", "flax_model.msgpack": b"w"}, {"config.json": b"{}", "flax_model.msgpack": b"w"}),
    "Flax's pieces": ({"config.json": b"{}", **FLAX_PIECES}, {"config.json": b"{}", **FLAX_PIECES}),
    "TensorFlow": ({"config.json": b"{}", "tf_model.h5": b"w"}, {"config.json": b"{}", "tf_model.h5": b"w"}),
    "pickled pieces": ({"config.json": b"{}", **BIN_PIECES}, {"config.json": b"{}", **BIN_PIECES}),
    "sentence-transformers": (HF | MODULES | {"2_Dense/pytorch_model.bin": b"", "onnx/config.json": b""}, HF | MODULES),
    "OpenCLIP": (OPEN_CLIP | {"open_clip_pytorch_model.bin": b""}, OPEN_CLIP),
    "OpenCLIP's pickles": (
        {"open_clip_config.json": b"{}", "open_clip_pytorch_model.bin": b"w", "config.json": b"{}"},
        {"open_clip_config.json": b"{}", "open_clip_pytorch_model.bin": b"w"},
    ),
    "OpenCLIP's and transformers'": (HF | OPEN_CLIP, {**OPEN_CLIP, **{n: HF[n] for n in repository.COMPANIONS}}),
}


@pytest.mark.parametrize("published, chosen", CHOICES.values(), ids=CHOICES.keys())
def test_the_files_of_one_format_are_fetched_the_configuration_last(home, server, published, chosen):
    publish(server, published)
    directory = repository.snapshot("owner/name")
    assert directory == home / "cache" / "models--owner--name" / "snapshots" / COMMIT
    assert {name: (directory / name).read_bytes() for name in files_in(directory)} == chosen
    assert server.asked[0] == "/api/models/owner/name?blobs=true"
    fetched = [path.removeprefix(f"/owner/name/resolve/{COMMIT}/") for path in server.asked[1:]]
    assert sorted(fetched) == sorted(chosen) and fetched[-1] in ("config.json", "open_clip_config.json")
    server.asked.clear()
    assert repository.snapshot("owner/name") == directory and server.asked == []
    assert files_in(home / "cache" / "models--owner--name")[0] == "refs/main"


def test_the_names_are_those_that_directories_are_read_by():
    """The files that `hub` chooses are those that `checkpoints` reads."""
    files = ("model.safetensors", "pytorch_model.bin", "flax_model.msgpack", "tf_model.h5")
    assert files == huggingface.WEIGHTS
    assert (open_clip.CONFIG, open_clip.WEIGHTS[0]) == tuple(OPEN_CLIP)


def test_a_model_of_the_hub_is_loaded_by_its_id(home, server, tmp_path_factory):
    directory = tmp_path_factory.mktemp("model") / "hf"
    shapes, _ = miniclip.load("shapes", backend="numpy")
    huggingface.save(directory, shapes.config, shapes.params, shapes.tokenizer)
    publish(server, {name: (directory / name).read_bytes() for name in files_in(directory)})
    model, _ = miniclip.load("owner/name", backend="numpy", download_root=home / "root")
    assert model.config == shapes.config
    assert files_in(home / "root" / "models--owner--name" / "refs") == ["main"]


@pytest.mark.parametrize("name", ["align-base", "kakaobrain/align-base"])
def test_align_base_is_a_repository_on_the_hub(home, server, tmp_path_factory, name):
    stages = ((1, 16, 3, 2, 1), (1, 24, 3, 2, 6))
    visual = EfficientNetConfig(33, 40, 1.0, 1.0, stages=stages)
    config = ALIGNConfig(visual, BertConfig(16, 6, width=8, layers=1, heads=2, mlp_width=16), embed_dim=24)
    tree = params.tree_map(lambda shape: np.ones(shape, np.float32), config.shapes())
    directory = tmp_path_factory.mktemp("align") / "hf"
    huggingface.save(directory, config, tree, WordPiece(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red"]))
    published = {file: (directory / file).read_bytes() for file in files_in(directory)}
    publish(server, published, repo_id="kakaobrain/align-base")
    for _ in "ab":  # the second time without the network
        model, preprocess = miniclip.load(name, backend="numpy")
        assert model.config == config and preprocess.resized == 40
        assert model.tokenize("red").tolist() == [[2, 5, 3, *[0] * 13]]
        server.refused.update(dict.fromkeys(server.asked, 404))


@pytest.mark.parametrize("variables", [{}, {"HF_HOME": "x"}, {"HF_HUB_CACHE": "x/y"}, {"XDG_CACHE_HOME": "x"}])
@pytest.mark.parametrize("missing", [None, "config.json", "model.safetensors"])
def test_hugging_face_s_own_cache_is_used_if_it_has_all(home, server, monkeypatch, variables, missing):
    for name, value in variables.items():
        monkeypatch.setenv(name, str(home / value))
    hubs = {"HF_HOME": "x/hub", "HF_HUB_CACHE": "x/y", "XDG_CACHE_HOME": "x/huggingface/hub"}
    theirs = home / next((hubs[name] for name in variables), ".cache/huggingface/hub") / "models--owner--name"
    put(theirs / "refs" / "main", COMMIT.encode())
    snapshot = theirs / "snapshots" / COMMIT
    for name, content in HF.items():
        blob = put(theirs / "blobs" / sha256(content + name.encode()), content)
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).symlink_to(blob)
        if name == missing:
            blob.unlink()  # as if Hugging Face's code had not finished this file
    publish(server, HF)
    assert (hub.find("owner/name") == snapshot) == (missing is None)
    assert (server.asked == []) == (missing is None)


def test_an_interrupted_snapshot_is_resumed(home, server):
    publish(server, HF)
    server.refused[f"/owner/name/resolve/{COMMIT}/config.json"] = 503
    with pytest.raises(InputError, match=r"config\.json cannot be fetched: .*HTTP 503"):
        repository.snapshot("owner/name")
    assert repository.find_snapshot("owner/name") is None
    server.refused.clear()
    server.asked.clear()
    directory = repository.snapshot("owner/name")
    assert files_in(directory) == sorted(HF) and repository.find_snapshot("owner/name") == directory
    assert [path.rpartition("/")[2] for path in server.asked] == ["name?blobs=true", "config.json"]


def test_a_newer_version_is_not_mixed_with_an_older(home, server):
    publish(server, HF)
    server.refused[f"/owner/name/resolve/{COMMIT}/config.json"] = 503
    with pytest.raises(InputError):
        repository.snapshot("owner/name")
    newer = {"config.json": b"{ }", "pytorch_model.bin": b"w"}
    publish(server, newer, COMMIT[::-1])
    directory = repository.snapshot("owner/name")
    assert {name: (directory / name).read_bytes() for name in files_in(directory)} == newer


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_damaged_file_is_refused(home, server, name):
    publish(server, HF)
    put(server.directory / "owner" / "name" / "resolve" / COMMIT / name, HF[name][:-1] + b"!")
    with pytest.raises(InputError, match=f"{name} cannot be fetched: .*has the checksum"):
        repository.snapshot("owner/name")
    assert name not in {path.name for path in home.rglob("*")}
    assert repository.find_snapshot("owner/name") is None


@pytest.mark.parametrize("token", [None, "secret"])
def test_the_token_is_sent_along(server, monkeypatch, token):
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    publish(server, HF)
    repository.snapshot("owner/name")
    assert set(server.tokens) == {token and f"Bearer {token}"}


@pytest.mark.parametrize(
    "status, reason",
    [
        (404, "HTTP 404 Not Found: there is no owner/name$"),
        (401, "HTTP 401 Unauthorized: owner/name does not exist, or is private or gated: set HF_TOKEN to a token"),
        (403, "HTTP 403 Forbidden: owner/name does not exist, or is private or gated: set HF_TOKEN to a token"),
        (500, "HTTP 500 Internal Server Error: the server fails"),
    ],
)
def test_the_error_for_a_refused_model_says_why(home, server, status, reason):
    server.refused["/api/models/owner/name"] = status
    with pytest.raises(InputError, match=reason) as error:
        repository.snapshot("owner/name")
    assert f"{server.url}/api/models/owner/name: " in str(error.value) and files_in(home) == []


def test_the_error_for_refused_files_says_why(server):
    publish(server, HF)  # the listing of a gated model is public
    server.refused[f"/owner/name/resolve/{COMMIT}/model.safetensors"] = 403
    with pytest.raises(InputError, match=r"model\.safetensors: HTTP 403 Forbidden: owner/name .*gated: set HF_TOKEN"):
        repository.snapshot("owner/name")


@pytest.mark.parametrize(
    "files",
    [
        {},
        IDLE,
        {"config.json": b"{}"},
        {"model.safetensors": b""},
        {"open_clip_config.json": b"{}", "model.safetensors": b""},
        {"config.json": b"{}", "open_clip_model.safetensors": b""},
        {"config.json": b"{}", "model-00001-of-00001.safetensors": b""},  # without its index
        {"config.json": b"{}", "model.safetensors.index.json": b"{}"},  # without its pieces
        {"text_encoder/config.json": b"{}", "text_encoder/model.safetensors": b""},
    ],
)
def test_a_repository_without_a_clip_is_refused(home, server, files):
    publish(server, files)
    with pytest.raises(InputError, match=f"{server.url}/owner/name has no CLIP in a format that miniclip reads"):
        repository.snapshot("owner/name")
    assert files_in(home) == []


@pytest.mark.parametrize(
    "content",
    [
        b"<html>",
        b"[]",
        b"{}",
        b"null",
        b"\xff",
        b"[" * 100_000,
        json.dumps({"sha": COMMIT, "siblings": None}).encode(),
        json.dumps({"sha": COMMIT, "siblings": [None]}).encode(),
        json.dumps({"sha": COMMIT, "siblings": [{"rfilename": "config.json"}]}).encode(),
        json.dumps({"sha": COMMIT, "siblings": [{"rfilename": "a", "lfs": {"size": "many", "sha256": ""}}]}).encode(),
        *(
            json.dumps({"sha": COMMIT, "siblings": [{"rfilename": "a", "size": 1, "blobId": "b", **wrong}]}).encode()
            for wrong in (
                {"rfilename": 1},
                {"rfilename": ["a"]},
                {"size": float("inf")},
                {"size": -1},
                {"size": True},
                {"size": "1"},
                {"blobId": None},
                {"lfs": 1},
                {"lfs": {"size": 1, "sha256": 2}},
                {"lfs": {"size": float("nan"), "sha256": ""}},
            )
        ),
        json.dumps({"sha": "../../../outside", "siblings": []}).encode(),
        json.dumps({"sha": None, "siblings": []}).encode(),
    ],
)
def test_an_answer_that_is_not_a_listing_is_refused(home, server, content):
    put(server.directory / "api" / "models" / "owner" / "name", content)
    with pytest.raises(InputError, match="/api/models/owner/name: not a listing of a model's files"):
        repository.snapshot("owner/name")
    assert files_in(home) == []


@pytest.mark.parametrize(
    "name", ["../model.safetensors", "/tmp/model.safetensors", "a/../../model-00001-of-00001.safetensors"]
)
def test_names_in_a_listing_cannot_point_outside_the_directory(home, server, name):
    publish(server, {"config.json": b"{}", "pytorch_model.bin": b"w"})
    listing = json.loads((server.directory / "api" / "models" / "owner" / "name").read_bytes())
    for each in (name, "model.safetensors.index.json"):
        listing["siblings"].append({**listing["siblings"][1], "rfilename": each})
    put(server.directory / "api" / "models" / "owner" / "name", json.dumps(listing).encode())
    assert files_in(repository.snapshot("owner/name")) == ["config.json", "pytorch_model.bin"]


@pytest.mark.parametrize("content", [b"", b"nowhere", b"\xff\xfe", b"a\0b", b"x" * 9999])
def test_a_damaged_ref_to_the_newest_version_is_ignored(home, server, content):
    publish(server, HF)
    put(home / ".cache" / "huggingface" / "hub" / "models--owner--name" / "refs" / "main", content)
    assert repository.snapshot("owner/name").is_relative_to(home / "cache")


def test_offline_the_hub_is_not_asked(home, server, monkeypatch):
    publish(server, HF)
    directory = repository.snapshot("owner/name")
    server.asked.clear()
    monkeypatch.setenv("MINICLIP_OFFLINE", "1")
    assert repository.snapshot("owner/name") == directory
    with pytest.raises(InputError, match=r"MINICLIP_OFFLINE=1 forbids .*/api/models/owner/other"):
        repository.snapshot("owner/other")
    assert server.asked == []


@pytest.mark.parametrize("name, meant", [("vit-b/32", "ViT-B/32"), ("ViT-B-32", "ViT-B/32"), ("rn50X4", "RN50x4")])
def test_a_name_in_another_spelling_is_named(server, name, meant):
    with pytest.raises(InputError, match=f"no model '{name}' here: did you mean '{meant}'"):
        hub.find(name)
    assert server.asked == []
