"""OpenCLIP's names of models and tags: which repository they mean, and how its weights are read."""

# ruff: noqa: F811  fixtures are imported, and are arguments of the same name

import importlib.util
import json

import numpy as np
import pytest
from hub_server import home, publish, server  # noqa: F401
from official_pictures import noise, official_open_clip
from open_clip_models import CONFIGS, SIGLIP, few_blocks, has_timm, save
from siglip_vocabularies import gemma_directory  # noqa: F401

import miniclip
from miniclip import InputError, cli
from miniclip.checkpoints import open_clip
from miniclip.checkpoints.convert import convert
from miniclip.fetch import hub, open_clip_names

MEAN, STD, HALF = [0.5, 0.4, 0.3], [0.2, 0.3, 0.4], [0.5, 0.5, 0.5]
WORDS = {"vocab_size": 1000, "hf_tokenizer_name": "owner/words", "tokenizer_kwargs": {"clean": "canonicalize"}}
WORDY = {**SIGLIP, "text_cfg": {**SIGLIP["text_cfg"], **WORDS}}
TABLE = {
    "models": {
        "tiny-A": CONFIGS["clipa"],
        "tiny-quickgelu": CONFIGS["quickgelu"],
        "tiny": CONFIGS["gelu"],
        "tiny-SigLIP": WORDY,
    },
    "tags": {
        "tiny-A": {"data_s1": {"hub": "owner/name/", "resize_mode": "squash", "mean": MEAN, "std": STD}},
        "tiny": {"data_s1": {"hub": "owner/name/", "quick_gelu": True}, "data_s2": {"hub": "owner/other/"}},
        "tiny-quickgelu": {"data_s1": {"hub": "owner/name/", "quick_gelu": True}},
        "tiny-SigLIP": {"webli": {"hub": "owner/name/", "resize_mode": "squash", "mean": HALF, "std": HALF}},
    },
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    if importlib.util.find_spec("open_clip") is None:
        pytest.skip("pip install --no-deps open_clip_torch")
    return save(tmp_path_factory.mktemp("open_clip"), {name: CONFIGS[name] for name in ("clipa", "quickgelu", "gelu")})


@pytest.fixture
def table(monkeypatch):
    for module in (hub, open_clip_names):
        monkeypatch.setattr(module, "open_clip_names", lambda: TABLE)


def files(directory, config=None):
    """The files of a repository; its configuration is for another model, or this one."""
    weights = {name: (directory / name).read_bytes() for name in open_clip.WEIGHTS}
    return {**weights, open_clip.CONFIG: json.dumps(config or {"model_cfg": {}}).encode()}


def test_a_model_and_a_tag_are_openclips_configuration_and_the_hubs_weights(home, server, table, saved, relative_error):
    directory, batch = saved["clipa"]
    publish(server, files(directory))
    for name, tag in (("tiny-A", "data_s1"), ("tiny/A", "Data-S1")):  # as OpenCLIP reads them
        model, preprocess = miniclip.load(name, "numpy", pretrained=tag)
        assert relative_error(model.encode_image(batch["images"]), batch["image"]) < 1e-5
        assert relative_error(model.encode_text(batch["tokens"]), batch["text"]) < 1e-5
        picture = noise("RGB", 40, 30)
        expected = official_open_clip(picture, 24, "squash", "bicubic", MEAN, STD, 0)
        np.testing.assert_array_equal(preprocess(picture), expected)
    server.asked.clear()
    miniclip.load("tiny-A", "numpy", pretrained="data_s1", tower="text")
    assert not server.asked  # it is in the cache


@pytest.mark.skipif(not has_timm(), reason="pip install --no-deps timm")
def test_a_siglip_is_found_by_its_name_and_by_its_repository(
    home, server, table, gemma_directory, tmp_path_factory, relative_error
):
    directory, batch = save(tmp_path_factory.mktemp("siglip"), {"m": WORDY})["m"]
    words = {path.name: path.read_bytes() for path in gemma_directory["GemmaTokenizer"].iterdir()}
    publish(server, {**files(directory, {"model_cfg": WORDY}), **words})
    with few_blocks():
        for name, options in (("tiny-SigLIP", {"pretrained": "webli"}), ("hf-hub:owner/name", {})):
            model, _ = miniclip.load(name, "numpy", **options)
            assert relative_error(model.encode_image(batch["images"]), batch["image"]) < 1e-5
            assert relative_error(model.encode_text(batch["tokens"]), batch["text"]) < 1e-5
            assert np.array_equal(*model.tokenize(["A red_Cat!", "a red cat"]))  # as OpenCLIP cleans texts


def test_weights_of_a_model_may_be_a_file(home, table, saved, tmp_path, relative_error):
    for name, kind in (("clipa", "tiny-A"), ("quickgelu", "tiny-quickgelu")):
        directory, batch = saved[name]
        path = tmp_path / f"{name}.bin"
        path.write_bytes((directory / open_clip.WEIGHTS[1]).read_bytes())
        model, _ = miniclip.load(kind, "numpy", pretrained=path)
        assert relative_error(model.encode_image(batch["images"]), batch["image"]) < 1e-5
        assert relative_error(model.encode_text(batch["tokens"]), batch["text"]) < 1e-5
    with pytest.raises(InputError, match=r"clipa\.bin: the parameters do not fit"):
        miniclip.load("tiny", pretrained=tmp_path / "clipa.bin")
    with pytest.raises(InputError, match=r"no\.bin', and there is no such file"):
        miniclip.load("tiny", pretrained=tmp_path / "no.bin")
    convert(saved["gelu"][0], tmp_path / "own.safetensors", "miniclip")
    with pytest.raises(InputError, match=r"own\.safetensors: is miniclip's own file"):
        miniclip.load("tiny", pretrained=tmp_path / "own.safetensors")


def test_the_command_line_takes_a_model_and_its_weights(home, table, saved, tmp_path, capsys):
    file, pictures = saved["clipa"][0] / open_clip.WEIGHTS[1], [tmp_path / f"{i}.png" for i in range(2)]
    for i, path in enumerate(pictures):
        noise("RGB", 40, 30 + i).save(path)
    command = ["compare", *pictures, "--model", "tiny-A", "--pretrained", file, "--backend", "numpy", "--json"]
    assert cli.main([*map(str, command)]) == 0
    model, preprocess = miniclip.load("tiny-A", "numpy", pretrained=file)
    first, second = model.encode_image(preprocess(pictures), normalize=True)
    assert json.loads(capsys.readouterr().out)["cosines"][0][1] == pytest.approx(float(first @ second), abs=1e-5)


def test_a_repository_and_a_directory_by_openclips_prefixes(home, server, saved, relative_error):
    directory, batch = saved["gelu"]
    publish(server, files(directory, {"model_cfg": CONFIGS["gelu"]}))
    for name in ("hf-hub:owner/name", f"local-dir:{directory}"):
        model, _ = miniclip.load(name, "numpy")
        assert relative_error(model.encode_image(batch["images"]), batch["image"]) < 1e-5


@pytest.mark.parametrize(
    ("name", "pretrained", "message"),
    [
        ("tiny-B", "data_s1", "OpenCLIP has no model 'tiny-B': did you mean tiny-A"),
        ("huge", "data_s1", "OpenCLIP has no model 'huge'$"),
        ("tiny-A", "data_s2", r"pretrained is 'data_s2', expected a tag of tiny-A \(data_s1\) or a file"),
        ("tiny-A", 3, "pretrained is 3, expected one of OpenCLIP.s tags or a file.s path"),
        ("tiny", "data_s1", "trained with quick-GELU, which this name does not mean: load tiny-quickgelu"),
        ("tiny", "data_s2", "there is no owner/other"),
        (
            "tiny",
            None,
            "'tiny' is a model of OpenCLIP: say which weights, as in pretrained='data_s1', or .* 'owner/name'",
        ),
        ("hf-hub:tiny", None, "an id on Hugging Face's hub has the form owner/name"),
        ("local-dir:nowhere", None, "nowhere: no such directory"),
    ],
)
def test_what_is_not_there_is_refused(name, pretrained, message, home, server, table):
    with pytest.raises(InputError, match=message):
        miniclip.load(name, pretrained=pretrained)


def test_a_model_that_miniclip_does_not_have_is_refused_before_anything_is_fetched(home, server):
    with pytest.raises(InputError, match="model convnext_base_w: its image tower is timm's 'convnext_base'"):
        miniclip.load("convnext_base_w", pretrained="laion2b_s13b_b82k")
    assert not server.asked
