"""Which file a name means, where it is looked for, and what is fetched if it is not found."""

# ruff: noqa: F811  fixtures are imported, and are arguments of the same name

import math
import re
import sys

import pytest
from hub_server import RIGHT, VOCABULARY, home, manifest, put, server  # noqa: F401
from scripted_server import files_in, sha256

import miniclip
from miniclip import InputError, params, weights
from miniclip.doctor import report
from miniclip.families.clip.presets import PRESETS
from miniclip.fetch import download, hub, vocabulary

OPENAI = [name for name, entry in weights.manifest()["models"].items() if "configuration" in entry]


# --------------------------------------------------------------------------------------------------------- the manifest


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


# ------------------------------------------------------------------------------------------------ files of the manifest

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


def test_doctor_reports_which_models_are_here(home, manifest):
    assert report()["models"] == f"shapes in {weights.DIRECTORY}; downloaded when first used: ViT-B/32"
    put(home / ".cache" / "clip" / "ViT-B-32.pt", RIGHT)
    assert f"ViT-B/32 in {home / '.cache' / 'clip'}" in report()["models"]
    assert report()["cache"] == f"{home / 'cache'} (does not exist yet)"


# ------------------------------------------------------------------------------------------------------- the vocabulary


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
