"""Which file a name means, where it is looked for, and what is fetched if it is not found."""

import hashlib
import json
import math
import re
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

import miniclip
from miniclip import InputError, api, cli, params, weights
from miniclip.checkpoints import huggingface, open_clip
from miniclip.doctor import report
from miniclip.families.align.config import ALIGNConfig, BertConfig, EfficientNetConfig
from miniclip.families.clip.presets import PRESETS
from miniclip.fetch import download, hub, vocabulary
from miniclip.runtime import caches
from miniclip.tokenizers.wordpiece import WordPiece

OPENAI = [name for name, entry in weights.manifest()["models"].items() if "configuration" in entry]
VOCABULARY = "bpe_simple_vocab_16e6.txt.gz"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
PROXIES = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")
OURS = ("MINICLIP_VOCAB", "MINICLIP_OFFLINE", "XDG_CACHE_HOME", "HF_HUB_CACHE", "HF_HOME", "HF_TOKEN", *PROXIES)


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def files_in(directory):
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if not path.is_dir())


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """An empty home directory."""
    for name in OURS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MINICLIP_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def server(tmp_path_factory, monkeypatch):
    """A server of the files in `server.directory`; paths in `server.refused`, {path: HTTP status}, are refused."""
    directory = tmp_path_factory.mktemp("server")

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self):
            path = self.path.partition("?")[0]
            self.server.asked.append(self.path)
            self.server.tokens.append(self.headers.get("Authorization"))
            super().do_GET() if path not in self.server.refused else self.send_error(self.server.refused[path])

        def __init__(self, *arguments):
            super().__init__(*arguments, directory=directory)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.directory, server.asked, server.tokens, server.refused = directory, [], [], {}
        server.url = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("HF_ENDPOINT", f"{server.url}/")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


# --------------------------------------------------------------------------------------------------- the manifest


def test_the_manifest_has_openai_s_models_under_openai_s_addresses(official_clip):
    assert official_clip.available_models() == OPENAI
    for name, url in official_clip._MODELS.items():
        entry = weights.manifest()["models"][name]
        assert entry["urls"][0] == url
        assert url.split("/")[-2:] == [entry["sha256"], entry["file"]]  # OpenAI's code reads the sum from the address
        assert all(mirror.startswith("https://") and mirror.endswith(f"/{entry['file']}") for mirror in entry["urls"])


@pytest.mark.parametrize("name", OPENAI)
def test_the_manifest_describes_models_that_have_a_configuration(name):
    entry = weights.manifest()["models"][name]
    config = PRESETS[entry["configuration"]]
    ours = sum(math.prod(shape) for shape in params.flatten(config.shapes()).values())
    # A ResNet's BatchNorms have two parameters for each channel; one of them is folded into the convolution before.
    assert entry["parameters"] == ours if name.startswith("ViT") else 0.999 < ours / entry["parameters"] < 1
    assert 2 * entry["parameters"] < entry["bytes"] < 4 * entry["parameters"]  # most are in float16
    assert entry["licence"] == "MIT"


def test_the_manifest_describes_the_vocabulary_that_the_official_package_installs(official_vocabulary):
    entry = weights.manifest()["vocabulary"]
    content = official_vocabulary.read_bytes()
    assert (entry["file"], entry["sha256"], entry["bytes"]) == (VOCABULARY, sha256(content), len(content))
    assert entry["urls"][0] == f"https://github.com/openai/CLIP/raw/main/clip/{VOCABULARY}"


def test_every_file_of_the_manifest_can_be_checked():
    manifest = weights.manifest()
    models = [entry for entry in manifest["models"].values() if "repository" not in entry]
    for entry in [*models, *manifest["test_files"].values(), manifest["vocabulary"]]:
        assert re.fullmatch("[0-9a-f]{64}", entry["sha256"]) and entry["bytes"] > 0 and entry["licence"]


def test_available_models():
    assert miniclip.available_models() == ["shapes", *OPENAI, "align-base"]


# ------------------------------------------------------------------------------------------- files of the manifest


@pytest.fixture
def manifest(server, monkeypatch):
    """A manifest of the same form, with files from this server."""
    content = {name: name.encode() * 1000 for name in ("ViT-B-32.pt", "CLIP.png")}
    entries = {
        name: {"file": name, "urls": [f"{server.url}/{name}"], "sha256": sha256(each), "bytes": len(each)}
        for name, each in content.items()
    }
    for name, each in content.items():
        put(server.directory / name, each)
    manifest = {
        "models": {"shapes": weights.manifest()["models"]["shapes"], "ViT-B/32": entries["ViT-B-32.pt"]},
        "test_files": {"CLIP.png": entries["CLIP.png"]},
    }
    for module in (api, hub, weights):
        monkeypatch.setattr(module, "manifest", lambda: manifest)
    return content


RIGHT = b"ViT-B-32.pt" * 1000  # a file in a cache was checked before: only its size is compared
PLACES = ["cache", "theirs", "nowhere"]


@pytest.mark.parametrize("first", range(3))
def test_the_first_place_that_has_a_model_wins(home, server, manifest, first):
    places = {"cache": home / "cache", "theirs": home / ".cache" / "clip", "nowhere": None}
    for place in PLACES[first:-1]:
        put(places[place] / "ViT-B-32.pt", RIGHT[::-1])
    for place in PLACES[:first]:  # a file of another size is ignored
        if place != "cache":
            put(places[place] / "ViT-B-32.pt", b"cut off")
    found = hub.find("ViT-B/32")
    expected = places[PLACES[first]] or places["cache"]
    assert found == expected / "ViT-B-32.pt"
    assert found.read_bytes() == (RIGHT[::-1] if first < 2 else RIGHT)
    assert server.asked == ([] if first < 2 else ["/ViT-B-32.pt"])
    assert hub.find_model("ViT-B/32") == found


def test_a_file_is_fetched_into_root_even_if_it_is_elsewhere(home, server, manifest):
    for place in (home / "cache", home / ".cache" / "clip"):
        put(place / "ViT-B-32.pt", RIGHT)
    for _ in range(2):
        assert hub.find("ViT-B/32", home / "root") == home / "root" / "ViT-B-32.pt"
    assert server.asked == ["/ViT-B-32.pt"]


def test_a_model_that_is_nowhere_is_not_found(home, manifest):
    assert hub.find_model("ViT-B/32") is None
    assert hub.find_model("shapes") == weights.DIRECTORY / "shapes.safetensors"


def test_a_file_of_another_size_in_the_cache_is_fetched_again(home, server, manifest):
    path = put(home / "cache" / "ViT-B-32.pt", RIGHT[:-1])
    assert hub.find("ViT-B/32") == path and path.read_bytes() == RIGHT
    path.write_bytes(RIGHT + b"!")
    server.refused["/ViT-B-32.pt"] = 503
    with pytest.raises(InputError, match="HTTP 503"):
        hub.find("ViT-B/32")


def test_files_on_this_machine_need_no_network(home, server, manifest, monkeypatch):
    monkeypatch.setenv("MINICLIP_OFFLINE", "1")
    path = put(home / "cache" / "CLIP.png", manifest["CLIP.png"])
    assert hub.file(weights.manifest()["test_files"]["CLIP.png"]) == path and server.asked == []


def test_a_wrong_sum_is_refused(home, server, manifest):
    put(server.directory / "ViT-B-32.pt", RIGHT[::-1])
    with pytest.raises(InputError, match=f"ViT-B-32.pt: has the checksum {sha256(RIGHT[::-1])}"):
        hub.find("ViT-B/32")
    assert files_in(home) == []


@pytest.mark.parametrize("damaged", [RIGHT[:-1] + b"!", RIGHT[:-1]])
@pytest.mark.parametrize("root", [None, "root"])
def test_download_checks_the_sums_of_existing_files(home, server, manifest, capsys, damaged, root):
    directory = home / (root or "cache")
    for name in ("ViT-B-32.pt", "CLIP.png"):
        put(directory / name, manifest[name][:-1] + damaged[-1:])
    options = ["--root", str(directory)] if root else []
    for _ in range(2):
        assert cli.main(["download", "ViT-B/32", "CLIP.png", *options]) == 0
        assert {name: (directory / name).read_bytes() for name in files_in(directory)} == manifest
        assert server.asked == ["/ViT-B-32.pt", "/CLIP.png"]


def test_download_does_not_change_the_cache_of_openai_s_package(home, server, manifest, capsys):
    theirs = put(home / ".cache" / "clip" / "ViT-B-32.pt", RIGHT[::-1])
    assert cli.main(["download", "ViT-B/32"]) == 0
    assert capsys.readouterr().out == f"ViT-B/32: {home / 'cache' / 'ViT-B-32.pt'}\n"
    assert theirs.read_bytes() == RIGHT[::-1] and (home / "cache" / "ViT-B-32.pt").read_bytes() == RIGHT
    put(home / "cache" / "ViT-B-32.pt", RIGHT[::-1])
    theirs.write_bytes(RIGHT)
    assert cli.main(["download", "ViT-B/32"]) == 0
    assert capsys.readouterr().out == f"ViT-B/32: {theirs}\n" and server.asked == ["/ViT-B-32.pt"]


def test_download_checks_the_built_in_model_too(manifest, capsys):
    weights.manifest()["models"]["shapes"] = {**weights.manifest()["models"]["shapes"], "sha256": "0" * 64}
    assert cli.main(["download", "shapes"]) == 1
    assert "shapes.safetensors: is damaged or missing: install miniclip again" in capsys.readouterr().err
    assert hub.find_model("shapes") == weights.DIRECTORY / "shapes.safetensors"


def test_download_checks_the_vocabulary_too(home, server, monkeypatch, capsys, official_vocabulary):
    content = official_vocabulary.read_bytes()
    put(server.directory / VOCABULARY, content)
    entry = {**weights.manifest()["vocabulary"], "urls": [f"{server.url}/{VOCABULARY}"]}
    monkeypatch.setattr(vocabulary, "manifest", lambda: {"vocabulary": entry})
    path = put(home / "cache" / VOCABULARY, bytes([*content[:-1], content[-1] ^ 1]))
    assert cli.main(["download", "vocabulary"]) == 0
    assert path.read_bytes() == content


def test_a_file_without_read_permission_is_fetched_again(home, server, manifest, monkeypatch):
    def forbidden(path, mode, **options):
        if path.name == "CLIP.png":
            raise PermissionError(13, "Permission denied")
        return open(path, mode, **options)

    path = put(home / "cache" / "CLIP.png", manifest["CLIP.png"])
    monkeypatch.setattr(download, "open", forbidden, raising=False)
    assert hub.file(weights.manifest()["test_files"]["CLIP.png"]) == path
    assert path.read_bytes() == manifest["CLIP.png"] and server.asked == ["/CLIP.png"]


def test_a_model_is_loaded_from_download_root(home, server, manifest, monkeypatch):
    shapes = weights.DIRECTORY / weights.manifest()["models"]["shapes"]["file"]
    entry = {"file": "a.safetensors", "urls": [f"{server.url}/a.safetensors"], "bytes": shapes.stat().st_size}
    weights.manifest()["models"]["ViT-B/32"] = {**entry, "sha256": sha256(shapes.read_bytes())}
    put(server.directory / "a.safetensors", shapes.read_bytes())
    model, _ = miniclip.load("ViT-B/32", backend="numpy", download_root=home / "root")
    assert model.config == miniclip.load("shapes", backend="numpy")[0].config
    assert files_in(home) == ["root/a.safetensors"]


def test_the_error_for_an_unknown_name_lists_the_known_ones(home, server):
    for name in ("ViT-Z", "a/b/c", "../..x/y", "owner/..", "./model", "a b/c", "né/e"):
        with pytest.raises(InputError, match=r"there is no model .*shapes, RN50, .* nor a path, .*owner/name"):
            hub.find(name)
    assert server.asked == []
    reason = rf"^{server.url}/.*: HTTP 404 .*: there is no models/vit; 'models/vit' was looked up on .*shapes, RN50, "
    with pytest.raises(InputError, match=reason):
        hub.find("models/vit")


def test_the_home_of_an_unknown_user_is_a_missing_path(home, server):
    with pytest.raises(InputError, match="there is no model '~nobody-of-that-name/x' here"):
        hub.find("~nobody-of-that-name/x")
    assert server.asked == []


def test_a_name_that_exists_is_a_path_and_not_an_id(home, server, monkeypatch):
    monkeypatch.chdir(home)
    (home / "openai" / "clip").mkdir(parents=True)
    assert str(hub.find("openai/clip")) == "openai/clip" and server.asked == []


# --------------------------------------------------------------------------------------------------- the vocabulary


def test_a_vocabulary_that_is_nowhere_is_fetched_once(home, server, monkeypatch, official_vocabulary):
    content = official_vocabulary.read_bytes()
    put(server.directory / VOCABULARY, content)
    entry = {**weights.manifest()["vocabulary"], "urls": [f"{server.url}/{VOCABULARY}"]}
    monkeypatch.setattr(vocabulary, "manifest", lambda: {"vocabulary": entry})
    monkeypatch.setitem(sys.modules, "clip", None)  # for Python this means that the package does not exist
    tokenizer = vocabulary.official_tokenizer()
    assert tokenizer.encode("Hello World!") == [3306, 1002, 256]  # as in the official notebook
    assert files_in(home) == [f"cache/{VOCABULARY}"] and (home / "cache" / VOCABULARY).read_bytes() == content
    monkeypatch.setenv("MINICLIP_OFFLINE", "1")  # forbids fetching, not finding
    assert vocabulary.find() == home / "cache" / VOCABULARY
    vocabulary.official_tokenizer()
    assert server.asked == [f"/{VOCABULARY}"]
    (home / "cache" / VOCABULARY).unlink()
    with pytest.raises(InputError, match=r"MINICLIP_OFFLINE=1 .*set MINICLIP_VOCAB to the path of a copy"):
        vocabulary.official_tokenizer()


# ----------------------------------------------------------------------------------------------- Hugging Face's hub

HF = {"config.json": b"{}", "model.safetensors": b"weights" * 99, "merges.txt": b"a b", "vocab.json": b"{}"}
HF |= dict.fromkeys(("vocab.txt", "tokenizer.json", "preprocessor_config.json", "processor_config.json"), b"{}")
OPEN_CLIP = {"open_clip_config.json": b"{}", "open_clip_model.safetensors": b"weights"}
PIECES = {f"model-0000{n}-of-00002.safetensors": b"piece %d" % n for n in (1, 2)}
PIECES["model.safetensors.index.json"] = b"{}"
BIN_PIECES = {name.replace("model", "pytorch_model").replace("safetensors", "bin"): x for name, x in PIECES.items()}
IDLE = {"README.md": b"#", "pytorch_model.bin": b"other weights", "flax_model.msgpack": b"", "onnx/model.onnx": b""}


def publish(server, files, commit=COMMIT, repo_id="owner/name"):
    """Put files on the server as on Hugging Face: files of weights have a SHA-256, the others git's sum."""
    siblings = []
    for name, content in files.items():
        put(server.directory / repo_id / "resolve" / commit / name, content)
        git = subprocess.run(["git", "hash-object", "--stdin"], input=content, capture_output=True, check=True)
        entry = {"rfilename": name, "size": len(content), "blobId": git.stdout.decode().strip()}
        if name.endswith((".safetensors", ".bin")):
            entry["lfs"] = {"size": len(content), "sha256": sha256(content), "pointerSize": 134}
            entry["blobId"] = COMMIT  # the sum of the git-lfs pointer, not of the file
        siblings.append(entry)
    listing = {"id": repo_id, "sha": commit, "siblings": siblings}
    put(server.directory / "api" / "models" / repo_id, json.dumps(listing).encode())


CHOICES = {
    "transformers": (HF | IDLE, HF),
    "pieces": ({**HF, **PIECES} | IDLE, HF),
    "only pieces": (PIECES | IDLE | {"config.json": b"{}"}, PIECES | {"config.json": b"{}"}),
    "a piece is missing": (
        {**dict(list(PIECES.items())[1:]), "config.json": b"{}", "pytorch_model.bin": b"w"},
        {"config.json": b"{}", "pytorch_model.bin": b"w"},
    ),
    "pickles": ({"config.json": b"{}", "pytorch_model.bin": b"w"}, {"config.json": b"{}", "pytorch_model.bin": b"w"}),
    "pickled pieces": ({"config.json": b"{}", **BIN_PIECES}, {"config.json": b"{}", **BIN_PIECES}),
    "OpenCLIP": (OPEN_CLIP | {"open_clip_pytorch_model.bin": b""}, OPEN_CLIP),
    "OpenCLIP's pickles": (
        {"open_clip_config.json": b"{}", "open_clip_pytorch_model.bin": b"w", "config.json": b"{}"},
        {"open_clip_config.json": b"{}", "open_clip_pytorch_model.bin": b"w"},
    ),
    "OpenCLIP's and transformers'": (HF | OPEN_CLIP, {**OPEN_CLIP, **{n: HF[n] for n in hub.COMPANIONS}}),
}


@pytest.mark.parametrize("published, chosen", CHOICES.values(), ids=CHOICES.keys())
def test_the_files_of_one_format_are_fetched_the_configuration_last(home, server, published, chosen):
    publish(server, published)
    directory = hub.snapshot("owner/name")
    assert directory == home / "cache" / "models--owner--name" / "snapshots" / COMMIT
    assert {name: (directory / name).read_bytes() for name in files_in(directory)} == chosen
    assert server.asked[0] == "/api/models/owner/name?blobs=true"
    fetched = [path.removeprefix(f"/owner/name/resolve/{COMMIT}/") for path in server.asked[1:]]
    assert sorted(fetched) == sorted(chosen) and fetched[-1] in ("config.json", "open_clip_config.json")
    server.asked.clear()
    assert hub.snapshot("owner/name") == directory and server.asked == []
    assert files_in(home / "cache" / "models--owner--name")[0] == "refs/main"


def test_the_names_are_those_that_directories_are_read_by():
    """The files that `hub` chooses are those that `checkpoints` reads."""
    assert huggingface.WEIGHTS == ("model.safetensors", "pytorch_model.bin")
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
        hub.snapshot("owner/name")
    assert hub.find_snapshot("owner/name") is None
    server.refused.clear()
    server.asked.clear()
    directory = hub.snapshot("owner/name")
    assert files_in(directory) == sorted(HF) and hub.find_snapshot("owner/name") == directory
    assert [path.rpartition("/")[2] for path in server.asked] == ["name?blobs=true", "config.json"]


def test_a_newer_version_is_not_mixed_with_an_older(home, server):
    publish(server, HF)
    server.refused[f"/owner/name/resolve/{COMMIT}/config.json"] = 503
    with pytest.raises(InputError):
        hub.snapshot("owner/name")
    newer = {"config.json": b"{ }", "pytorch_model.bin": b"w"}
    publish(server, newer, COMMIT[::-1])
    directory = hub.snapshot("owner/name")
    assert {name: (directory / name).read_bytes() for name in files_in(directory)} == newer


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_damaged_file_is_refused(home, server, name):
    publish(server, HF)
    put(server.directory / "owner" / "name" / "resolve" / COMMIT / name, HF[name][:-1] + b"!")
    with pytest.raises(InputError, match=f"{name} cannot be fetched: .*has the checksum"):
        hub.snapshot("owner/name")
    assert name not in {path.name for path in home.rglob("*")}
    assert hub.find_snapshot("owner/name") is None


@pytest.mark.parametrize("token", [None, "secret"])
def test_the_token_is_sent_along(server, monkeypatch, token):
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    publish(server, HF)
    hub.snapshot("owner/name")
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
        hub.snapshot("owner/name")
    assert f"{server.url}/api/models/owner/name: " in str(error.value) and files_in(home) == []


def test_the_error_for_refused_files_says_why(server):
    publish(server, HF)  # the listing of a gated model is public
    server.refused[f"/owner/name/resolve/{COMMIT}/model.safetensors"] = 403
    with pytest.raises(InputError, match=r"model\.safetensors: HTTP 403 Forbidden: owner/name .*gated: set HF_TOKEN"):
        hub.snapshot("owner/name")


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
        hub.snapshot("owner/name")
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
        json.dumps({"sha": "../../../outside", "siblings": []}).encode(),
        json.dumps({"sha": None, "siblings": []}).encode(),
    ],
)
def test_an_answer_that_is_not_a_listing_is_refused(home, server, content):
    put(server.directory / "api" / "models" / "owner" / "name", content)
    with pytest.raises(InputError, match="/api/models/owner/name: not a listing of a model's files"):
        hub.snapshot("owner/name")
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
    assert files_in(hub.snapshot("owner/name")) == ["config.json", "pytorch_model.bin"]


@pytest.mark.parametrize("content", [b"", b"nowhere", b"\xff\xfe", b"a\0b", b"x" * 9999])
def test_a_damaged_ref_to_the_newest_version_is_ignored(home, server, content):
    publish(server, HF)
    put(home / ".cache" / "huggingface" / "hub" / "models--owner--name" / "refs" / "main", content)
    assert hub.snapshot("owner/name").is_relative_to(home / "cache")


def test_offline_the_hub_is_not_asked(home, server, monkeypatch):
    publish(server, HF)
    directory = hub.snapshot("owner/name")
    server.asked.clear()
    monkeypatch.setenv("MINICLIP_OFFLINE", "1")
    assert hub.snapshot("owner/name") == directory
    with pytest.raises(InputError, match=r"MINICLIP_OFFLINE=1 forbids .*/api/models/owner/other"):
        hub.snapshot("owner/other")
    assert server.asked == []


# -------------------------------------------------------------------------------------------------- printed output


def test_download_prints_the_path_of_each_file(home, server, manifest, capsys):
    publish(server, HF)
    assert cli.main(["download", "shapes", "ViT-B/32", "CLIP.png", "owner/name"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"shapes: {weights.DIRECTORY / 'shapes.safetensors'}",
        f"ViT-B/32: {home / 'cache' / 'ViT-B-32.pt'}",
        f"CLIP.png: {home / 'cache' / 'CLIP.png'}",
        f"owner/name: {home / 'cache' / 'models--owner--name' / 'snapshots' / COMMIT}",
    ]
    assert (home / "cache" / "CLIP.png").read_bytes() == manifest["CLIP.png"]


def test_download_all(home, server, manifest, capsys, monkeypatch):
    monkeypatch.setattr(vocabulary, "fetch", lambda root: f"{root}/vocabulary")
    assert cli.main(["download", "all", "--root", str(home / "root")]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"shapes: {weights.DIRECTORY / 'shapes.safetensors'}",
        f"ViT-B/32: {home / 'root' / 'ViT-B-32.pt'}",
        f"vocabulary: {home / 'root' / 'vocabulary'}",
    ]
    assert files_in(home) == ["root/ViT-B-32.pt"]


def test_download_fails_with_one_line(home, capsys, monkeypatch):
    monkeypatch.setenv("MINICLIP_OFFLINE", "1")
    for name in ("vocabulary", "CLIP.png", "RN50", "owner/name", "nothing at all"):
        assert cli.main(["download", name]) == 1
        out, err = capsys.readouterr()
        assert out == "" and err.startswith("miniclip: ") and err.count("\n") == 1
    assert files_in(home) == []


def test_doctor_reports_which_models_are_here(home, manifest):
    assert report()["models"] == f"shapes in {weights.DIRECTORY}; downloaded when first used: ViT-B/32"
    put(home / ".cache" / "clip" / "ViT-B-32.pt", RIGHT)
    assert f"ViT-B/32 in {home / '.cache' / 'clip'}" in report()["models"]
    assert report()["cache"] == f"{home / 'cache'} (does not exist yet)"


@pytest.mark.parametrize(
    "variables, expected",
    [
        ({"MINICLIP_CACHE": "/a", "XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/a"),
        ({"MINICLIP_CACHE": "~/a", "HOME": "/c"}, "/c/a"),
        ({"XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/b/miniclip"),
        ({"HOME": "/c"}, "/c/.cache/miniclip"),
        ({"MINICLIP_CACHE": "", "XDG_CACHE_HOME": "", "HOME": "/c"}, "/c/.cache/miniclip"),  # set, but empty
    ],
)
def test_the_cache_is_where_the_variables_say(monkeypatch, variables, expected):
    for name in ("MINICLIP_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert caches.cache_directory().as_posix() == expected


@pytest.fixture
def homeless(monkeypatch):
    """A user without a home, as in some containers: HOME is not set, and the system does not list the user."""
    pwd = pytest.importorskip("pwd")

    def unknown(_):
        raise KeyError

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", unknown)


def test_without_a_home_the_cache_of_the_variable_is_used(home, server, manifest, homeless):
    assert hub.find("ViT-B/32") == home / "cache" / "ViT-B-32.pt"
    publish(server, HF)
    assert hub.find("owner/name").is_relative_to(home / "cache")


@pytest.mark.parametrize("name", ["ViT-B/32", "owner/name"])
def test_without_a_home_and_a_cache_the_error_asks_for_one(server, manifest, homeless, monkeypatch, name):
    monkeypatch.delenv("MINICLIP_CACHE")
    with pytest.raises(InputError, match="there is no home directory: set MINICLIP_CACHE"):
        hub.find(name)
    assert hub.find("shapes").exists() and server.asked == []


def test_without_a_home_root_is_enough(home, server, manifest, homeless, monkeypatch):
    monkeypatch.delenv("MINICLIP_CACHE")
    publish(server, HF)
    for name in ("ViT-B/32", "owner/name"):
        assert hub.find(name, home / "root").is_relative_to(home / "root")
