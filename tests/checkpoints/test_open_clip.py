"""OpenCLIP's models: we read the files that OpenCLIP writes, and OpenCLIP loads the files that we write."""

import importlib.util
import json
import re

import numpy as np
import pytest
from checkout import ROOT
from open_clip_models import CONFIGS, TEXT, VISION, arrays, check_written, official, save

import miniclip
from miniclip import checkpoints, params
from miniclip.checkpoints import open_clip
from miniclip.checkpoints.convert import convert
from miniclip.checkpoints.infer import infer_config
from miniclip.config import VisionConfig

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("open_clip") is None, reason="pip install --no-deps open_clip_torch"
)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """{name: (directory that OpenCLIP wrote, its inputs and features)}."""
    return save(tmp_path_factory.mktemp("open_clip"), CONFIGS)


def check(path, batch, relative_error, **options):
    model = miniclip.load(path, backend="numpy", **options)[0]
    assert relative_error(model.encode_image(batch["images"]), batch["image"]) < 1e-5
    assert relative_error(model.encode_text(batch["tokens"]), batch["text"]) < 1e-5
    return model


@pytest.mark.parametrize("name", CONFIGS)
def test_a_directory_of_openclip_is_read_as_openclip_reads_it(name, saved, relative_error):
    directory, batch = saved[name]
    check(directory, batch, relative_error)
    for file in open_clip.WEIGHTS:
        assert (directory / file).exists()
        check(directory / file, batch, relative_error)  # beside its configuration
    (directory / open_clip.WEIGHTS[0]).unlink()
    check(directory, batch, relative_error)  # the other format


@pytest.mark.parametrize(("name", "activation"), [("gelu", "gelu"), ("quickgelu", "quick_gelu")])
def test_a_file_without_a_configuration_needs_its_activation(name, activation, saved, tmp_path, relative_error):
    # Without a configuration the width of a head is assumed to be 64, but this text tower has two heads of 32.
    directory, batch = saved[name]
    (tmp_path / "m.bin").write_bytes((directory / open_clip.WEIGHTS[1]).read_bytes())
    with pytest.raises(miniclip.InputError, match=r"m\.bin: does not state its activation: .* give activation="):
        miniclip.load(tmp_path / "m.bin")
    with pytest.raises(
        miniclip.InputError, match=r"m\.bin: its .* tower is .* only a configuration says how many heads"
    ):
        miniclip.load(tmp_path / "m.bin", activation=activation)
    model = miniclip.load(tmp_path / "m.bin", backend="numpy", activation=activation, as_openai=True)[0]
    assert relative_error(model.encode_image(batch["images"]), batch["image"]) < 1e-5
    (tmp_path / open_clip.CONFIG).write_bytes((directory / open_clip.CONFIG).read_bytes())
    check(tmp_path / "m.bin", batch, relative_error)  # whatever the name of the weights file
    with pytest.raises(miniclip.InputError, match=r"m\.bin: the file states its activation, and it is not relu"):
        miniclip.load(tmp_path / "m.bin", activation="relu")


def test_the_heads_of_a_tower_wider_than_openais_do_not_follow_from_its_weights():
    shapes = params.flatten(miniclip.CLIPConfig(VisionConfig(28, 14, 1280, 1, 16, 64), None, 8).shapes())
    with pytest.raises(miniclip.InputError, match="1280 wide, and only a configuration says how many heads"):
        infer_config(shapes)


def test_openclip_loads_what_we_write(saved, tmp_path, relative_error):
    check_written(saved, tmp_path, relative_error)


def test_another_size_is_that_of_openclip(saved, tmp_path, relative_error):
    directory, batch = saved["gelu"]
    sizes, tasks = [(16, 16), (40, 40), (48, 8)], []
    for size in sizes:
        images = np.random.default_rng(0).standard_normal((2, 3, *size)).astype(np.float32)
        np.savez(tmp_path / f"{size}.npz", images=images, tokens=batch["tokens"])
        tasks.append(["load", str(directory), size, str(tmp_path / f"{size}.npz"), ""])
    official(tasks)
    convert(directory, tmp_path / "m.safetensors", "miniclip")  # our own files say it too
    for size in sizes:
        theirs = arrays(tmp_path / f"{size}.npz")
        for path in (directory, tmp_path / "m.safetensors"):
            model = miniclip.load(path, backend="numpy", image_size=size)[0]
            assert relative_error(model.encode_image(theirs["images"]), theirs["image"]) < 1e-5
    convert(directory, tmp_path / "openai", "hf")  # in other forms, the rule is that of their library
    assert not checkpoints.load(tmp_path / "openai")[0].visual.antialias


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"init_logit_bias": -10}, "logits have a bias, init_logit_bias = -10, which miniclip does not have"),
        ({"vision_cfg": {**VISION, "pool_type": "none"}}, "setting pool_type = 'none'"),
        ({"vision_cfg": {**VISION, "attentional_pool": "parallel"}}, "setting attentional_pool = 'parallel'"),
        ({"vision_cfg": {**VISION, "qk_norm": True}}, "setting qk_norm = True"),
        (
            {"vision_cfg": {**VISION, "timm_model_name": "vit_small"}},
            "its image tower is timm's 'vit_small', which miniclip does not have",
        ),
        ({"vision_cfg": {**VISION, "norm_kwargs": {"elementwise_affine": True}}}, "setting elementwise_affine"),
        (
            {"text_cfg": {**TEXT, "hf_model_name": "bert-base"}},
            "its text tower is transformers' 'bert-base', and",
        ),
        ({"text_cfg": {**TEXT, "pool_type": "none"}}, "setting pool_type = 'none'"),
        ({"text_cfg": {**TEXT, "embed_cls": True}}, "embed_cls is for models with custom_text"),
        ({"text_cfg": {**TEXT, "proj_type": "none"}}, "width 64 is not embed_dim 16"),
        ({"text_cfg": {**TEXT, "act_kwargs": {"approximate": "sigmoid"}}}, "approximate is 'sigmoid'"),
        ({"quick_gelu": True, "text_cfg": {**TEXT, "act_kwargs": {"approximate": "tanh"}}}, "setting approximate"),
        ({"text_cfg": {"hf_tokenizer_name": "bert-base-uncased"}}, "'bert-base-uncased', and miniclip would use"),
        ({"text_cfg": {**TEXT, "no_causal_mask": True, "layers": 3}}, "missing text.blocks.2"),
        ({"text_cfg": {**TEXT, "layers": 3}}, "missing text.blocks.2"),
        ({"text_cfg": None}, "NoneType"),
        ({"vision_cfg": {**VISION, "head_width": 0}}, "division"),
    ],
)
def test_settings_that_we_do_not_have_are_refused_by_name(change, message, saved, tmp_path):
    directory, _ = saved["gelu"]
    (tmp_path / open_clip.WEIGHTS[1]).write_bytes((directory / open_clip.WEIGHTS[1]).read_bytes())
    (tmp_path / open_clip.CONFIG).write_text(json.dumps({"model_cfg": {**CONFIGS["gelu"], **change}}))
    with pytest.raises(miniclip.InputError, match=message) as error:
        miniclip.load(tmp_path)
    assert str(tmp_path) in str(error.value)


def test_another_preprocessing_is_kept(saved, tmp_path):
    directory, _ = saved["gelu"]
    (tmp_path / open_clip.WEIGHTS[1]).write_bytes((directory / open_clip.WEIGHTS[1]).read_bytes())
    source = json.loads((directory / open_clip.CONFIG).read_text())
    source["preprocess_cfg"] |= {"mean": [0.5, 0.5, 0.5], "resize_mode": "squash", "interpolation": "bilinear"}
    (tmp_path / open_clip.CONFIG).write_text(json.dumps(source))
    convert(tmp_path, tmp_path / "again", "open_clip")
    again = json.loads((tmp_path / "again" / open_clip.CONFIG).read_text())["preprocess_cfg"]
    assert {name: again[name] for name in source["preprocess_cfg"]} == source["preprocess_cfg"]
    assert again == miniclip.families.clip.open_clip.preprocessing_to(miniclip.load(tmp_path)[0].config.visual)


def test_the_example_of_the_page_runs_with_another_import(tmp_path, relative_error):
    """docs/migrating.md's, on a model that OpenCLIP saved; OpenCLIP encodes the same pictures and texts."""
    page = (ROOT / "docs" / "migrating.md").read_text()
    (code,) = re.findall(r"```python\n([^`]*instead of: import open_clip\n.*?)```", page, re.DOTALL)
    text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1}
    config, file = {"embed_dim": 16, "vision_cfg": VISION, "text_cfg": text}, tmp_path / "arrays.npz"
    np.savez(file, images=np.zeros((1, 3, 24, 24), np.float32), tokens=np.full((1, 77), 49407))
    official([["save", str(tmp_path / "m"), config, str(file), "m"]])
    replaced = {"laion/CLIP-ViT-B-32-laion2B-s34B-b79K": str(tmp_path / "m"), "CLIP.png": "weights/example.png"}
    for old, new in replaced.items():
        assert code.count(f'"{old}"') == 1
        code = code.replace(f'"{old}"', repr(new))
    found = {}
    exec(code, found)
    np.savez(file, images=found["image"], tokens=found["text"])
    official([["load", str(tmp_path / "m"), None, str(file), "m"]])
    theirs = {name: x / np.linalg.norm(x, axis=-1, keepdims=True) for name, x in arrays(file).items()}
    assert relative_error(found["image_features"], theirs["image"]) < 1e-5
    assert relative_error(found["text_features"], theirs["text"]) < 1e-5
    scores = 100 * theirs["image"] @ theirs["text"].T  # (1, 3)
    expected = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
    assert found["text_probs"].shape == (1, 3) and relative_error(found["text_probs"], expected) < 1e-4
