"""NaFlex's files: transformers and miniclip read each other's; a model in use; what does not fit is refused by name."""

# ruff: noqa: F811  fixtures are imported, and are arguments of the same name

import copy
import json
import shutil

import numpy as np
import pytest
import torch
from commands import miniclip as run
from naflex_models import VISION, forward, image_processor, pair, pictures, save_whole, small, tokens  # noqa: F401
from PIL import Image
from siglip_vocabularies import gemma_directory  # noqa: F401
from transformers import Siglip2ImageProcessorPil, Siglip2Model, Siglip2TextModel, Siglip2VisionModel

import miniclip
from miniclip import InputError, checkpoints, embed, encode, families, params, zero_shot
from miniclip.checkpoints import huggingface
from miniclip.checkpoints.convert import convert
from miniclip.export import export
from miniclip.families.siglip.config import SIGLIP_BASE, NaFlexVisionConfig, SigLIPConfig
from miniclip.families.siglip.huggingface import config_from
from miniclip.families.siglip.naflex import Patches, own_settings
from miniclip.formats import read
from miniclip.train import data

# --------------------------------------------------------------------------------------------------------------- files


def test_every_canonical_name_is_hit_exactly_once(small):
    config, flat, _ = huggingface.load(small, lambda file, part: read(file))
    assert sorted(flat) == sorted(params.flatten(config.shapes()))


def test_an_empty_configuration_is_the_base_model():
    base = NaFlexVisionConfig(patch_size=16, width=768, layers=12, heads=12, mlp_width=3072)
    assert config_from({"model_type": "siglip2"}) == SigLIPConfig(base, SIGLIP_BASE.text, 768)
    assert config_from({"model_type": "siglip2_vision_model"}).visual == base
    assert config_from({"model_type": "siglip2_text_model"}).text == SIGLIP_BASE.text


def test_transformers_loads_what_we_write_and_computes_the_same(pair, tmp_path, relative_error, same_tree):
    official, directory = pair
    config, tree, _ = checkpoints.load(directory)
    huggingface.save(tmp_path / "m", config, tree)
    again, loading = Siglip2Model.from_pretrained(tmp_path / "m", output_loading_info=True)
    assert not any(loading.values())
    ids, inputs = tokens(official.config), Siglip2ImageProcessorPil.from_pretrained(tmp_path / "m")(pictures())
    inputs = {name: np.stack(x) for name, x in inputs.items()}
    theirs, expected = forward(again.eval(), inputs, ids), forward(official, inputs, ids)
    assert relative_error(theirs.logits_per_image.numpy(), expected.logits_per_image.numpy()) < 1e-5
    assert inputs["pixel_values"].shape[1] == 30
    found, same, _ = checkpoints.load(tmp_path / "m")
    assert found == config and same_tree(same, tree)


def test_one_file_of_ours_has_the_whole_model_and_comes_back_bit_for_bit(small, tmp_path):
    convert(small, tmp_path / "m.safetensors", "miniclip")
    assert checkpoints.load(tmp_path / "m.safetensors")[0] == checkpoints.load(small)[0]
    (expected, preprocess), (model, ours) = (miniclip.load(path) for path in (small, tmp_path / "m.safetensors"))
    for x, y in zip(ours(pictures()), preprocess(pictures())):
        np.testing.assert_array_equal(x, y)
    batch = ours(pictures())
    np.testing.assert_array_equal(model.encode_image(batch), expected.encode_image(batch))
    convert(tmp_path / "m.safetensors", tmp_path / "again", "hf")
    before, after = (read(path / "model.safetensors")[0] for path in (small, tmp_path / "again"))
    assert before.keys() == after.keys() and all(np.array_equal(x, after[name]) for name, x in before.items())


def test_configurations_survive_json():
    sizes = {"width": 4, "layers": 1, "heads": 2, "mlp_width": 8}
    for settings in (None, own_settings(1024)):
        config = SigLIPConfig(NaFlexVisionConfig(16, side=7, pictures=settings, **sizes), None, 4)
        assert families.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize("kind", [Siglip2VisionModel, Siglip2TextModel])
def test_towers_alone(kind, small, tmp_path, relative_error):
    official = kind.from_pretrained(small).eval()
    official.save_pretrained(tmp_path / "m")
    image_processor().save_pretrained(tmp_path / "m")
    model, preprocess = miniclip.load(tmp_path / "m")
    inputs = image_processor()(pictures(), return_tensors="pt")
    ids = tokens(Siglip2Model.from_pretrained(small).config)
    with torch.no_grad():
        theirs = official(**inputs) if kind is Siglip2VisionModel else official(torch.from_numpy(ids))
    ours = model.encode_image(preprocess(pictures())) if kind is Siglip2VisionModel else model.encode_text(ids)
    assert relative_error(ours, theirs.pooler_output.numpy()) < 1e-5
    huggingface.save(tmp_path / "again", model.config, model.params)
    np.testing.assert_array_equal(
        params.flatten(checkpoints.load(tmp_path / "again")[1]).popitem()[1], params.flatten(model.params).popitem()[1]
    )


@pytest.mark.parametrize(
    ("change", "file", "message"),
    [
        ({"num_patches": 24}, "config", "num_patches is 24, expected a square number"),
        ({"num_patches": "many"}, "config", "num_patches is 'many', expected a square number"),
        ({"patch_size": [16, 16]}, "config", r"patch_size is \[16, 16\], expected a positive integer"),
        ({"vision_use_head": False}, "config", "vision_use_head is False"),
        ({"patch_size": 16}, "preprocessor_config", "patch_size is 16, but the model's is 8"),
        ({"do_resize": False}, "preprocessor_config", "do_resize is False, but pictures must be resized"),
        ({"max_num_patches": -1}, "preprocessor_config", "size is -1, expected positive integers"),
    ],
)
def test_settings_that_do_not_fit_are_refused_by_name(change, file, message, small, tmp_path):
    shutil.copytree(small, tmp_path / "m")
    path = tmp_path / "m" / f"{file}.json"
    source = json.loads(path.read_text())
    (source["vision_config"] if file == "config" else source).update(change)
    path.write_text(json.dumps(source))
    with pytest.raises(InputError, match=rf"m/{file}\.json: .*{message}"):
        miniclip.load(tmp_path / "m")


def test_other_settings_of_pictures_are_as_in_transformers_and_are_kept(small, tmp_path):
    for i, change in enumerate([{"resample": 3}, {"do_normalize": False}, {"max_num_patches": 9}]):
        shutil.copytree(small, tmp_path / f"{i}")
        official = image_processor(**change)
        official.save_pretrained(tmp_path / f"{i}")
        convert(tmp_path / f"{i}", tmp_path / f"again {i}", "hf")
        theirs = official(pictures(), return_tensors="np")["pixel_values"]
        for directory in (tmp_path / f"{i}", tmp_path / f"again {i}"):
            np.testing.assert_array_equal(miniclip.load(directory)[1](pictures()).pixels, theirs)
        again = Siglip2ImageProcessorPil.from_pretrained(tmp_path / f"again {i}")(pictures(), return_tensors="np")
        np.testing.assert_array_equal(again["pixel_values"], theirs)


# --------------------------------------------------------------------------------------------------------------- in use


@pytest.fixture(scope="module")
def whole(gemma_directory, tmp_path_factory):
    """A directory with a model and its vocabulary, and the files of three pictures of different shapes."""
    directory = tmp_path_factory.mktemp("whole")
    save_whole(directory / "m", "Siglip2Tokenizer", gemma_directory["Siglip2Tokenizer"])
    files = [directory / f"{i}.png" for i in range(3)]
    for path, picture in zip(files, pictures(3)):
        Image.fromarray(picture).save(path)
    return directory / "m", files


LABELS = ["a red cat", "two dogs", "a mat"]


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_pictures_of_several_shapes_are_classified_and_embedded(whole, backend, tmp_path, relative_error):
    directory, files = whole
    model, preprocess = miniclip.load(directory, backend)
    batch = preprocess(files)
    logits = model.ops.to_numpy(model(batch, model.tokenize(LABELS))[0])
    found = model.ops.to_numpy(zero_shot.classify(model, batch, LABELS))
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-logits.astype(float))), rtol=1e-4)
    broken = []
    parts = [*encode.pictures(model, preprocess, [*files, "no.png"], broken=lambda *x: broken.append(x), batch=2)]
    features = np.concatenate([x for _, x in parts])
    assert relative_error(features, model.ops.to_numpy(model.encode_image(batch))) < 1e-5 and len(broken) == 1
    done = embed.pictures(tmp_path / "index", model, preprocess, files, name=str(directory))
    assert (done.rows, done.failed) == (3, 0)
    np.testing.assert_array_equal(copy.deepcopy(model).encode_image(batch), model.encode_image(batch))


def test_the_command_line_classifies_them(whole):
    directory, files = whole
    done = run("classify", *files, "--labels", *LABELS, "--model", directory, "--json")
    assert done.returncode == 0 and "probabilities are independent" in done.stderr
    model, preprocess = miniclip.load(directory)
    expected = zero_shot.classify(model, preprocess(files), LABELS)
    for result, row in zip(json.loads(done.stdout), expected):
        found = {entry["label"]: entry["probability"] for entry in result["labels"]}
        np.testing.assert_allclose([found[label] for label in LABELS], row, rtol=1e-4)


# ------------------------------------------------------------------------------------------------------------- refused


def test_what_is_no_batch_of_patches_is_refused(small):
    model, preprocess = miniclip.load(small)
    pixels, grids = preprocess(pictures(2))
    for images, message in (
        (pixels, "images are ndarray, expected the Patches that this model's preprocess makes"),
        (preprocess(pictures(1)[0]), r"patches are \(30, 192\), expected \(B, N, 192\): pass preprocess a list"),
        (Patches(pixels[..., 1:], grids), r"patches are \(2, 30, 191\), expected \(B, N, 192\)"),
        (Patches(pixels.astype(int), grids), "images are of int64, expected floats"),
        (Patches(pixels * 1e9, grids), "images have a pixel of .* expected numbers near 0"),
        (Patches(pixels, grids[:1]), r"grids are \(1, 2\) of int64, expected integers \(B, 2\) = \(2, 2\)"),
        (Patches(pixels, grids * 0), "grids are .* expected from 1 to 30 patches for each picture"),
        (Patches(pixels, grids + 9), "grids are .* expected from 1 to 30 patches for each picture"),
    ):
        with pytest.raises(InputError, match=message):
            model.encode_image(images)
    with pytest.raises(InputError, match=r"lengths are .* expected a number from 1 to 30"):
        model.encode_image(Patches(pixels, grids), lengths=[31, 1])
    assert model.encode_image(preprocess([])).shape == (0, 40)


def test_what_has_no_meaning_for_pictures_of_any_shape_is_refused(small, tmp_path):
    with pytest.raises(InputError, match="pictures of any shape, so that image_size means nothing: leave it out"):
        miniclip.load(small, image_size=64)
    pytest.importorskip("onnx")
    with pytest.raises(InputError, match=r"an ONNX file cannot interpolate .* load this one with backend='onnxrunt"):
        export(small, tmp_path / "onnx")
    pairs = data.read([(pictures(1)[0], "a")])
    with pytest.raises(InputError, match=r"any shape, and a batch here has one: train it as a miniclip\.hf\.Siglip2M"):
        data.Batches(pairs, miniclip.load(small)[1], batch=1)
    assert VISION["num_patches"] == 25
