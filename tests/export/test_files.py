"""The folder that `miniclip export` writes: its files, weights beside a model, and what is refused."""

import dataclasses
import json
import sys

import hf_models
import numpy as np
import pytest
from clip_directories import official_model
from exports import configuration, in_onnxruntime, in_openvino, onnx

import miniclip
from miniclip import InputError, checkpoints, params
from miniclip import export as room
from miniclip.cli import main
from miniclip.config import CLIPConfig, PictureSettings, ResNetConfig, TextConfig, VisionConfig
from miniclip.export import export
from miniclip.weights import DIRECTORY

SHAPES = DIRECTORY / "shapes.safetensors"
VOCABULARY = {"tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"}
OTHERS = {"config.json", "preprocessor_config.json", *VOCABULARY}


@pytest.mark.parametrize(
    ("options", "ending", "known"),
    [
        ([], "", "fp32"),
        (["--dtype", "float16"], "_fp16", "fp16"),
        (["--dtype", "bfloat16"], "_bf16", None),
        (["--int8"], "_quantized", "q8"),
    ],
)
def test_the_command_writes_the_layout_of_optimum_and_transformers_js(options, ending, known, tmp_path, capsys):
    assert main(["export", "shapes", str(tmp_path / "m"), *options]) == 0
    folder = tmp_path / "m"
    names = {f"onnx/{name}{ending}.onnx" for name in ("vision_model", "text_model", "model")}
    assert {x.relative_to(folder).as_posix() for x in folder.rglob("*") if x.is_file()} == names | OTHERS
    printed = capsys.readouterr().out
    assert all(name in printed for name in names) and printed.endswith(f"written to {folder}\n")
    assert configuration(folder)["transformers.js_config"] == ({"dtype": known} if known else {})
    assert list(tmp_path.iterdir()) == [folder]


def test_inputs_and_outputs_have_the_names_and_the_order_of_optimum(tmp_path):
    """(optimum/exporters/onnx/model_configs.py, CLIPOnnxConfig; the inputs in the order of CLIPModel.forward.)"""
    export(SHAPES, tmp_path / "m")

    def named(name):
        graph = onnx.load(tmp_path / "m" / "onnx" / f"{name}.onnx").graph
        return [
            {x.name: [d.dim_param or d.dim_value for d in x.type.tensor_type.shape.dim] for x in values}
            for values in (graph.input, graph.output)
        ]

    texts, pixels = ["text_batch_size", "sequence_length"], ["image_batch_size", 3, 48, 48]
    features = {"text_embeds": ["text_batch_size", 128], "image_embeds": ["image_batch_size", 128]}
    assert named("vision_model") == [{"pixel_values": pixels}, {"image_embeds": features["image_embeds"]}]
    ids = {"input_ids": texts, "attention_mask": texts}
    assert named("text_model") == [ids, {"text_embeds": features["text_embeds"]}]
    inputs, outputs = named("model")
    assert list(inputs) == ["input_ids", "pixel_values", "attention_mask"] and inputs == {**ids, "pixel_values": pixels}
    assert list(outputs) == ["logits_per_image", "logits_per_text", "text_embeds", "image_embeds"]
    assert outputs["logits_per_image"] == ["image_batch_size", "text_batch_size"]
    assert {name: outputs[name] for name in features} == features


def test_nothing_of_this_machine_is_in_a_file(tmp_path):
    export(SHAPES, tmp_path / "m")
    for path in (tmp_path / "m").rglob("*.*"):
        assert str(tmp_path).encode() not in path.read_bytes() and str(DIRECTORY).encode() not in path.read_bytes()


def test_weights_of_more_than_two_gigabytes_are_beside_their_model(tmp_path, monkeypatch):
    export(SHAPES, tmp_path / "within")
    monkeypatch.setattr(room, "LIMIT", 3_000_000)  # bytes: more than the text tower has
    export(SHAPES, tmp_path / "beside", dtype="float32")
    names = {x.name for x in (tmp_path / "beside" / "onnx").iterdir()}
    assert names - {x.name for x in (tmp_path / "within" / "onnx").iterdir()} == {
        "model.onnx_data",
        "vision_model.onnx_data",
    }
    settings = configuration(tmp_path / "beside")["transformers.js_config"]
    assert settings == {"dtype": "fp32", "use_external_data_format": {"vision_model.onnx": 1, "model.onnx": 1}}
    path = tmp_path / "beside" / "onnx" / "model.onnx"
    onnx.checker.check_model(path, full_check=True)
    places = [
        {entry.key: entry.value for entry in x.external_data}
        for x in onnx.load(path, load_external_data=False).graph.initializer
        if x.external_data
    ]
    assert all(int(place["offset"]) % 4096 == 0 and place["location"] == "model.onnx_data" for place in places)
    assert path.stat().st_size < 300_000 < 5_000_000 < path.with_name("model.onnx_data").stat().st_size
    model, _ = miniclip.load("shapes", backend="numpy")
    tokens = model.tokenize(["a red heart", "a circle"]).astype(np.int64)
    images = np.random.default_rng(0).standard_normal((1, 3, 48, 48)).astype(np.float32)
    inputs = {"pixel_values": images, "input_ids": tokens, "attention_mask": np.ones_like(tokens)}
    for run in (in_onnxruntime, in_openvino):
        beside, within = (run(tmp_path / x / "onnx" / "model.onnx")(inputs) for x in ("beside", "within"))
        assert all(np.array_equal(beside[name], within[name]) for name in within)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_weights_of_16_bits_can_be_beside_their_model(dtype, tmp_path, monkeypatch):
    monkeypatch.setattr(room, "LIMIT", 0)
    export(SHAPES, tmp_path / "m", dtype=dtype)
    (path,) = (tmp_path / "m" / "onnx").glob("vision*.onnx")
    weights = {x.name: x for x in onnx.load(path).graph.initializer}
    _, tree, _ = checkpoints.load(SHAPES, dtype="float32")
    found = onnx.numpy_helper.to_array(weights["visual.blocks.0.mlp.fc.weight"]).astype(np.float32)
    np.testing.assert_allclose(found, tree["visual"]["blocks"][0]["mlp"]["fc"]["weight"], rtol=1e-2, atol=1e-6)


def save(tmp_path, config, tokenizer=None):
    rng = np.random.default_rng(0)
    tree = params.tree_map(lambda shape: 0.2 * rng.standard_normal(shape).astype(np.float32), config.shapes())
    checkpoints.save(tmp_path / "m.safetensors", config, tree, tokenizer=tokenizer)
    return tmp_path / "m.safetensors"


TEXT = TextConfig(context_length=9, vocab_size=60, width=16, layers=1, heads=2, mlp_width=24)


def test_a_resnet_has_a_configuration_that_loaders_can_use(tmp_path, capsys):
    """transformers has no class for it; transformers.js and Optimum need only what kind of model it is."""
    path = save(tmp_path, CLIPConfig(ResNetConfig(64, 8, (1, 1, 1, 1), 4), TEXT, 16))
    assert main(["export", str(path), str(tmp_path / "m")]) == 0
    found = configuration(tmp_path / "m")
    assert found["model_type"] == "clip" and found["text_config"]["vocab_size"] == 60
    assert found["vision_config"] == {"model_type": "clip_vision_model", "image_size": 64, "num_channels": 3}
    written = json.loads((tmp_path / "m" / "preprocessor_config.json").read_text())
    assert written["crop_size"] == {"height": 64, "width": 64}
    assert "the vocabulary is not written: this model has none of its own" in capsys.readouterr().err


def test_what_transformers_cannot_say_of_pictures_is_reported(tmp_path):
    visual = VisionConfig((16, 24), 8, 16, 1, 2, 24)
    missing = export(save(tmp_path, CLIPConfig(visual, None, 16)), tmp_path / "m")
    reason = "transformers cannot resize pictures to (16, 24) by their shortest side"
    assert missing == [f"preprocessor_config.json is not written: {reason}"]
    assert configuration(tmp_path / "m")["image_size"] == [16, 24]
    pictures = PictureSettings("longest", 16, 16, "bicubic", 1 / 255, ())
    square = dataclasses.replace(visual, image_size=16, pictures=pictures)
    missing = export(save(tmp_path, CLIPConfig(square, None, 16)), tmp_path / "n")
    assert len(missing) == 1 and "by their longest side" in missing[0]
    assert {x.name for x in (tmp_path / "m").iterdir()} == {"onnx", "config.json"}


def test_an_existing_directory_is_refused(tmp_path, capsys):
    (tmp_path / "m").mkdir()
    assert main(["export", "shapes", str(tmp_path / "m")]) == 1
    assert "m: exists already: move it away, or write to another path" in capsys.readouterr().err
    assert list((tmp_path / "m").iterdir()) == []


def test_a_directory_does_not_get_a_file_s_name(tmp_path):
    with pytest.raises(InputError, match=r"m\.onnx: is a file's name, and the files are in a directory"):
        export(SHAPES, tmp_path / "m.onnx")


def test_an_unknown_dtype_is_refused(tmp_path):
    with pytest.raises(InputError, match="dtype is 'float64', expected one of float32, float16, bfloat16, int8"):
        export(SHAPES, tmp_path / "m", dtype="float64")
    with pytest.raises(SystemExit):
        main(["export", "shapes", str(tmp_path / "m"), "--int8", "--dtype", "float16"])
    assert list(tmp_path.iterdir()) == []


def test_without_onnx_the_message_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    for name in [name for name in sys.modules if name.startswith(("miniclip.ops.graph", "miniclip.export.graphs"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "miniclip.ops.onnx_ops", raising=False)
    monkeypatch.delattr(room, "graphs", raising=False)
    with pytest.raises(InputError, match=r"to export a model, onnx is needed: .*pip install .*\[onnx\]"):
        export(SHAPES, tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(room, "write_graph", full)
    with pytest.raises(InputError, match="m: cannot be written: No space left on device"):
        export(SHAPES, tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_one_tower_has_transformers_class_of_one_tower(tmp_path):
    tower = official_model().vision_model
    tower.save_pretrained(tmp_path / "m")
    export(tmp_path / "m", tmp_path / "onnx")
    assert configuration(tmp_path / "onnx")["architectures"] == ["CLIPVisionModel"]
    assert not (tmp_path / "onnx" / "tokenizer.json").exists()


def test_of_align_the_configuration_is_transformers_own(tmp_path):
    official = hf_models.official("Align", hf_models.ALIGN["small"])
    official.save_pretrained(tmp_path / "m")
    (line,) = export(tmp_path / "m", tmp_path / "onnx")
    assert line == "the vocabulary is not written: this model came without its own, a WordPiece"
    found = configuration(tmp_path / "onnx")
    assert found["model_type"] == "align" and found["vision_config"]["image_size"] == 65
