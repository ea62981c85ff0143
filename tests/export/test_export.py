"""Exported models compute what the official ones do, in ONNX Runtime and in OpenVINO, for every size of a batch."""

# ruff: noqa: F811  fixtures are imported, and are arguments of the same name

import hf_models
import numpy as np
import pytest
import torch
from exports import RUNTIMES, exported, in_onnxruntime, in_openvino, onnx, openvino_ops  # noqa: F401

import miniclip
from miniclip.cli import main
from miniclip.export import export
from miniclip.weights import DIRECTORY

FILES = ("vision_model", "text_model", "model")
SHAPES = DIRECTORY / "shapes.safetensors"
MODULES = {"CLIP": ["q_proj", "fc1"], "Align": ["query", "dense"]}


@pytest.fixture(scope="module", params=RUNTIMES)
def runtime(request):
    return RUNTIMES[request.param]


def rows(inputs, images, texts):
    """The first pictures and the first texts."""
    return {name: x[: images if name == "pixel_values" else texts] for name, x in inputs.items()}


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_every_family_is_equal_to_its_official_model(exported, runtime, relative_error):
    programs = {name: runtime(exported.folder / "onnx" / f"{name}.onnx") for name in FILES}
    theirs = exported.outputs
    for images, texts in [(3, 3), (1, 3), (3, 1), (1, 1)]:
        inputs = rows(exported.inputs, images, texts)
        found = {**programs["vision_model"](inputs), **programs["text_model"](inputs)}
        assert relative_error(found["image_embeds"], theirs["image_embeds"][:images]) < 1e-5
        assert relative_error(found["text_embeds"], theirs["text_embeds"][:texts]) < 1e-5
        found = programs["model"](inputs)
        assert relative_error(found["image_embeds"], unit(theirs["image_embeds"][:images])) < 1e-5
        assert relative_error(found["text_embeds"], unit(theirs["text_embeds"][:texts])) < 1e-5
        if "logits_per_image" in theirs:
            assert relative_error(found["logits_per_image"], theirs["logits_per_image"][:images, :texts]) < 1e-5
        np.testing.assert_array_equal(found["logits_per_text"], found["logits_per_image"].T)


def test_onnx_accepts_every_file(exported):
    for name in FILES:
        onnx.checker.check_model(exported.folder / "onnx" / f"{name}.onnx", full_check=True)


def test_openvino_has_every_input(exported):
    """From memory, it reads no inputs that nothing depends on, and then refuses their values."""
    for name in FILES:
        path = exported.folder / "onnx" / f"{name}.onnx"
        found = {name for x in openvino_ops.core().read_model(path.read_bytes()).inputs for name in x.names}
        assert {x.name for x in onnx.load(path).graph.input} <= found


def test_what_the_mask_hides_is_no_end(runtime, tmp_path):
    export(SHAPES, tmp_path / "m")
    program = runtime(tmp_path / "m" / "onnx" / "text_model.onnx")
    tokens = np.array([[671, 320, 672, 300, 672]])  # two ends; the highest id, 672, ends a text
    hidden = program({"input_ids": tokens, "attention_mask": np.array([[1, 1, 0, 1, 1]])})["text_embeds"]
    ones = np.ones_like(tokens)
    np.testing.assert_array_equal(
        hidden, program({"input_ids": tokens * [1, 1, 0, 1, 1], "attention_mask": ones})["text_embeds"]
    )
    shown = program({"input_ids": tokens, "attention_mask": ones})["text_embeds"]
    np.testing.assert_array_equal(
        shown, program({"input_ids": tokens[:, :3], "attention_mask": ones[:, :3]})["text_embeds"]
    )
    assert np.abs(hidden - shown).max() > 0.1


def test_an_empty_batch_has_no_features(exported):
    """In ONNX Runtime: OpenVINO (2026.4) is not for empty batches, some towers end the process there."""
    width = exported.outputs["image_embeds"].shape[1]
    inputs = rows(exported.inputs, 0, 0)
    for name in ("vision_model", "text_model"):
        (found,) = in_onnxruntime(exported.folder / "onnx" / f"{name}.onnx")(inputs).values()
        assert found.shape == (0, width)
    for images, texts in [(0, 2), (2, 0)]:
        found = in_onnxruntime(exported.folder / "onnx" / "model.onnx")(rows(exported.inputs, images, texts))
        assert found["logits_per_image"].shape == found["logits_per_text"].T.shape == (images, texts)


def test_texts_of_every_length_are_equal(runtime, tmp_path, relative_error):
    sizes = hf_models.CLIP["end of text by id"]
    sizes = {**sizes, "text_config": {**sizes["text_config"], "max_position_embeddings": 77}}
    official = hf_models.official("CLIP", sizes)
    official.save_pretrained(tmp_path / "m")
    export(tmp_path / "m", tmp_path / "onnx")
    program, rng = runtime(tmp_path / "onnx" / "onnx" / "text_model.onnx"), np.random.default_rng(0)
    for length in range(1, 78):
        tokens = rng.integers(3, 50, (2, length))
        tokens[0, -1] = 50  # the end
        tokens[1, length // 2 :] = 50  # the end, and padding with the same id
        mask = np.array([np.ones(length), np.arange(length) <= length // 2]).astype(np.int64)
        with torch.no_grad():
            texts = official.text_model(torch.from_numpy(tokens), torch.from_numpy(mask)).pooler_output
            theirs = official.text_projection(texts)
        found = program({"input_ids": tokens, "attention_mask": mask})["text_embeds"]
        assert relative_error(found, theirs) < 1e-5
        without = program({"input_ids": tokens, "attention_mask": np.ones_like(mask)})["text_embeds"]
        np.testing.assert_array_equal(found, without)  # after the end there is nothing that a mask could hide


@pytest.mark.parametrize("tower", ["visual", "text"])
def test_of_one_tower_alone_there_is_one_file(tower, tmp_path, relative_error):
    official = hf_models.official("CLIP", hf_models.CLIP["end of text by id"])
    inputs = {name: x.numpy() for name, x in hf_models.batch(official.config).items()}
    part = official.vision_model if tower == "visual" else official.text_model
    part.save_pretrained(tmp_path / "m")  # without a projection: features have the tower's width
    export(tmp_path / "m", tmp_path / "onnx")
    (file,) = (tmp_path / "onnx" / "onnx").iterdir()
    assert file.name == {"visual": "vision_model.onnx", "text": "text_model.onnx"}[tower]
    names = ("pixel_values",) if tower == "visual" else ("input_ids", "attention_mask")
    with torch.no_grad():
        theirs = part(**{name: torch.from_numpy(inputs[name]) for name in names}).pooler_output
    for program in (in_onnxruntime(file), in_openvino(file)):
        (found,) = program(inputs).values()
        assert relative_error(found, theirs) < 1e-5


@pytest.mark.parametrize(("dtype", "most"), [("float16", 2e-3), ("bfloat16", 2e-2)])
def test_a_model_of_16_bits_computes_in_them_between_float32(dtype, most, exported, tmp_path, relative_error):
    """OpenVINO computes it in float32 where it can; ONNX Runtime has no bfloat16 on the CPU."""
    export(exported.source, tmp_path / "m", dtype=dtype)
    ending, kind = {"float16": ("_fp16", 10), "bfloat16": ("_bf16", 16)}[dtype]
    for name in FILES:
        path = tmp_path / "m" / "onnx" / f"{name}{ending}.onnx"
        onnx.checker.check_model(path, full_check=True)
        graph = onnx.load(path).graph
        assert {x.type.tensor_type.elem_type for x in graph.output} == {1}  # float32
        assert {x.data_type for x in graph.initializer if len(x.dims) > 1} <= {kind, 7}  # int64: axes
        for program in [in_openvino] if dtype == "bfloat16" else [in_openvino, in_onnxruntime]:
            for output, found in program(path)(exported.inputs).items():
                theirs = exported.outputs.get(output)
                if theirs is not None:
                    theirs = unit(theirs) if name == "model" and output.endswith("embeds") else theirs
                    assert relative_error(found, theirs) < most, (program, output)


def test_int8_keeps_directions(exported, tmp_path):
    """Weights of products are a quarter as large; features keep their directions, here with widths of 40 to 80."""
    export(exported.source, tmp_path / "m", dtype="int8")
    for name, output in (("vision_model", "image_embeds"), ("text_model", "text_embeds")):
        path = tmp_path / "m" / "onnx" / f"{name}_quantized.onnx"
        onnx.checker.check_model(path, full_check=True)
        assert any(x.data_type == onnx.TensorProto.INT8 for x in onnx.load(path).graph.initializer) or name[0] == "v"
        for program in (in_onnxruntime, in_openvino):
            found = unit(program(path)(exported.inputs)[output])
            assert (found * unit(exported.outputs[output])).sum(1).min() > 0.998


def test_a_picture_size_is_that_of_load(tmp_path, relative_error):
    export(SHAPES, tmp_path / "m", image_size=64)
    model, _ = miniclip.load("shapes", backend="numpy", image_size=64)
    images = np.random.default_rng(0).standard_normal((2, 3, 64, 64)).astype(np.float32)
    (found,) = in_onnxruntime(tmp_path / "m" / "onnx" / "vision_model.onnx")({"pixel_values": images}).values()
    assert relative_error(found, model.encode_image(images)) < 1e-5


@pytest.mark.parametrize("family", ["CLIP", "Align"])
def test_an_adapter_of_peft_is_added_to_the_weights(family, tmp_path, relative_error):
    peft_adapters = pytest.importorskip("peft_adapters", reason="pip install peft")
    base, adapter, inputs, _, merged = peft_adapters.made(tmp_path, family, target_modules=MODULES[family])
    assert main(["export", str(base), str(tmp_path / "m"), "--adapter", str(adapter)]) == 0
    inputs = {name: x.numpy() for name, x in inputs.items()}
    for name, theirs in zip(FILES, merged):
        (found,) = in_onnxruntime(tmp_path / "m" / "onnx" / f"{name}.onnx")(inputs).values()
        assert relative_error(found, theirs) < 1e-5
