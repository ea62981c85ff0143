"""Other programs read exported folders: onnxruntime-web and transformers.js under Node, and Optimum.

Each is tested where it is installed. For the first two: npm install --ignore-scripts onnxruntime-web
@huggingface/transformers, in any folder, and MINICLIP_NODE_MODULES=FOLDER/node_modules.
"""

# ruff: noqa: F811  fixtures are imported, and are arguments of the same name

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from checkout import ROOT
from exports import exported  # noqa: F401
from PIL import Image

import miniclip
from miniclip import checkpoints, params
from miniclip import export as room
from miniclip.config import CLIPConfig, ResNetConfig
from miniclip.export import export
from miniclip.weights import DIRECTORY

SHAPES = DIRECTORY / "shapes.safetensors"
PACKAGES = {"onnxruntime-web": "onnxruntime-web", "transformers.js": "@huggingface/transformers"}
FILES = ("vision_model", "text_model", "model")


def read(reader, folder, inputs):
    """{output: numbers} of consumers.mjs."""
    modules = os.environ.get("MINICLIP_NODE_MODULES")
    package = PACKAGES[reader]
    if not (shutil.which("node") and modules and Path(modules, package).is_dir()):
        pytest.skip(f"npm install --ignore-scripts {package}, and set MINICLIP_NODE_MODULES to its node_modules")
    arrays = {name: x.tolist() if isinstance(x, np.ndarray) else x for name, x in inputs.items()}
    command = ["node", str(Path(__file__).with_name("consumers.mjs")), reader, str(folder)]
    done = subprocess.run(command, input=json.dumps(arrays), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return {name: np.array(x) for name, x in json.loads(done.stdout).items() if name != "classes"}, done.stdout


def test_onnxruntime_web_reads_every_family(exported, relative_error):
    found, _ = read("onnxruntime-web", exported.folder, {**exported.inputs, "files": FILES})
    for name in ("image_embeds", "text_embeds"):
        theirs = exported.outputs[name]
        file = {"image_embeds": "vision_model", "text_embeds": "text_model"}[name]
        assert relative_error(found[f"{file}.{name}"], theirs.ravel()) < 1e-5
        unit = theirs / np.linalg.norm(theirs, axis=1, keepdims=True)
        assert relative_error(found[f"model.{name}"], unit.ravel()) < 1e-5
    if "logits_per_image" in exported.outputs:
        assert relative_error(found["model.logits_per_image"], exported.outputs["logits_per_image"].ravel()) < 1e-5


def inputs_of_shapes(model):
    tokens = model.tokenize(["a red heart", "a small blue circle"]).astype(np.int64)
    images = np.random.default_rng(0).standard_normal((2, 3, 48, 48)).astype(np.float32)
    return {"pixel_values": images, "input_ids": tokens, "attention_mask": (tokens > 0) * 1}


@pytest.mark.parametrize(("dtype", "most"), [("float32", 1e-5), ("float16", 2e-3), ("int8", 0.05)])
def test_onnxruntime_web_reads_weights_beside_a_model(dtype, most, tmp_path, monkeypatch, relative_error):
    monkeypatch.setattr(room, "LIMIT", 0)
    export(SHAPES, tmp_path / "m", dtype=dtype)
    model, _ = miniclip.load("shapes", backend="numpy")
    inputs = inputs_of_shapes(model)
    files = [f"{name}{room.DTYPES[dtype][0]}" for name in FILES]
    found, _ = read("onnxruntime-web", tmp_path / "m", {**inputs, "files": files})
    logits, _ = model(inputs["pixel_values"], inputs["input_ids"])
    assert relative_error(found[f"{files[0]}.image_embeds"], model.encode_image(inputs["pixel_values"]).ravel()) < most
    assert relative_error(found[f"{files[1]}.text_embeds"], model.encode_text(inputs["input_ids"]).ravel()) < most
    assert relative_error(found[f"{files[2]}.logits_per_image"], logits.ravel()) < most


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("beside", [False, True])
def test_transformers_js_reads_texts_and_pictures(dtype, beside, tmp_path, monkeypatch, relative_error):
    """Its own processor prepares pictures a little differently, so its features are compared with its pixels."""
    if beside:
        monkeypatch.setattr(room, "LIMIT", 0)
    export(SHAPES, tmp_path / "m", dtype=dtype)
    pixels = np.kron(np.random.default_rng(0).integers(0, 256, (6, 6, 3), np.uint8), np.ones((10, 10, 1), np.uint8))
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    texts = ["a red heart", "a small blue circle"]
    found, printed = read("transformers.js", tmp_path / "m", {"picture": str(tmp_path / "picture.png"), "texts": texts})
    model, preprocess = miniclip.load("shapes", backend="numpy")
    tokens, most = model.tokenize(texts), 1e-5 if dtype == "float32" else 5e-3
    length = found["tokens.input_ids"].size // 2
    ids = found["tokens.input_ids"].reshape(2, length)
    for ours, theirs in zip(tokens, ids):
        end = list(ours).index(model.tokenizer.end_id)
        assert list(ours[: end + 1]) == list(theirs[: end + 1])
        assert {*theirs[end:]} == {model.tokenizer.end_id}  # it pads with the end
    images = found["pixels.pixel_values"].reshape(1, 3, 48, 48).astype(np.float32)
    assert np.abs(images - preprocess([tmp_path / "picture.png"])).mean() < 0.1
    assert relative_error(found["text_model.text_embeds"], model.encode_text(tokens).ravel()) < most
    assert relative_error(found["vision_model.image_embeds"], model.encode_image(images).ravel()) < most
    logits = model(images, tokens)[0].ravel()
    assert relative_error(found["model.logits_per_image"], logits) < most
    scores = {x["label"]: x["score"] for x in json.loads(printed)["classes"]}
    expected = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    np.testing.assert_allclose([scores[text] for text in texts], expected, atol=10 * most)


def test_transformers_js_reads_a_resnet(tmp_path, relative_error):
    """transformers has no configuration for it; ours is enough for a loader."""
    visual, text = ResNetConfig(32, 8, (1, 1, 1, 1), 4), checkpoints.load(SHAPES)[0].text
    config, rng = CLIPConfig(visual, text, 16), np.random.default_rng(0)
    tree = params.tree_map(lambda shape: 0.2 * rng.standard_normal(shape).astype(np.float32), config.shapes())
    checkpoints.save(tmp_path / "m.safetensors", config, tree, tokenizer=checkpoints.load(SHAPES)[2])
    export(tmp_path / "m.safetensors", tmp_path / "m")
    Image.new("RGB", (40, 50), "red").save(tmp_path / "picture.png")
    found, _ = read("transformers.js", tmp_path / "m", {"picture": str(tmp_path / "picture.png"), "texts": ["a", "b"]})
    model, preprocess = miniclip.load(tmp_path / "m.safetensors", backend="numpy")
    images = preprocess([tmp_path / "picture.png"])  # of one colour: every way to resize is the same
    np.testing.assert_allclose(found["pixels.pixel_values"], images.ravel(), atol=1e-5)
    assert relative_error(found["model.logits_per_image"], model(images, model.tokenize(["a", "b"]))[0].ravel()) < 1e-4


def test_optimum_reads_the_folder(tmp_path, relative_error):
    """Its version 0.1 needs transformers 4: it was tested in an environment of its own."""
    pytest.importorskip("optimum", reason="pip install optimum-onnx[onnxruntime]")
    try:
        from optimum.onnxruntime import ORTModelForZeroShotImageClassification
    except ImportError as error:
        pytest.skip(f"optimum-onnx does not fit the transformers that is installed: {error}")
    export(SHAPES, tmp_path / "m")
    theirs = ORTModelForZeroShotImageClassification.from_pretrained(
        tmp_path / "m", subfolder="onnx", file_name="model.onnx"
    )
    model, _ = miniclip.load("shapes", backend="numpy")
    inputs = inputs_of_shapes(model)
    logits, _ = model(inputs["pixel_values"], inputs["input_ids"])
    assert relative_error(theirs(**inputs)["logits_per_image"], logits) < 1e-5


def test_the_python_on_the_page_runs(tmp_path, monkeypatch, capsys):
    page = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 2
    monkeypatch.chdir(tmp_path)
    export(SHAPES, "exported")
    names: dict = {}
    for block in blocks:
        exec(block, names)
    expected = re.findall(r"print\(.*?\)  # (.*)", "".join(blocks))
    assert capsys.readouterr().out.splitlines() == expected
