"""ALIGN's files: transformers and miniclip read each other's; what does not fit is refused by name."""

# ruff: noqa: F811  fixtures are imported, and are arguments of the same name

import json
import shutil

import numpy as np
import pytest
import torch
from align_models import SIZES, TEXT, VISION, batch, forward, pair, small  # noqa: F401
from PIL import Image
from stages import traced
from transformers import AlignConfig, AlignModel, AlignTextModel, AlignVisionModel, EfficientNetImageProcessorPil

import miniclip
from miniclip import checkpoints, families, params
from miniclip.checkpoints import huggingface
from miniclip.checkpoints.convert import convert
from miniclip.families.align.config import ALIGNConfig, BertConfig, EfficientNetConfig
from miniclip.families.align.model import ALIGN
from miniclip.families.clip.presets import VOCABULARY
from miniclip.fetch import vocabulary
from miniclip.formats import read


def test_every_canonical_name_is_hit_exactly_once(small):
    config, flat, _ = huggingface.load(small, lambda file, part: read(file))
    assert sorted(flat) == sorted(params.flatten(config.shapes()))


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
def test_transformers_loads_what_we_write_and_computes_the_same(pair, weights, tmp_path, relative_error, same_tree):
    official, directory = pair
    config, tree, _ = checkpoints.load(directory)
    huggingface.save(tmp_path / "m", config, tree)
    if weights != "model.safetensors":
        state = AlignModel.from_pretrained(tmp_path / "m").state_dict()
        torch.save(state, tmp_path / "m" / weights)
        (tmp_path / "m" / "model.safetensors").unlink()
    again, loading = AlignModel.from_pretrained(tmp_path / "m", output_loading_info=True)
    assert not any(loading.values())
    inputs = batch(official.config)
    theirs, expected = forward(again.eval(), *inputs), forward(official, *inputs)
    assert relative_error(theirs.logits_per_image.numpy(), expected.logits_per_image.numpy()) < 1e-5
    found, same, _ = checkpoints.load(tmp_path / "m")
    assert found == config
    assert same_tree(same, tree)


def test_one_file_of_ours_has_the_whole_model(small, tmp_path, same_tree):
    config, tree, tokenizer = checkpoints.load(small)
    checkpoints.save(tmp_path / "m.safetensors", config, tree, tokenizer=tokenizer)
    found, same, pieces = checkpoints.load(tmp_path / "m.safetensors")
    assert found == config and pieces.encoder == tokenizer.encoder
    assert same_tree(same, tree)
    model, preprocess = miniclip.load(tmp_path / "m.safetensors")
    assert isinstance(model, ALIGN) and preprocess.resized == 78


@pytest.mark.parametrize("vocab_size", [60, VOCABULARY])
def test_a_model_without_a_vocabulary_does_not_get_clips(vocab_size, tmp_path):
    config = ALIGNConfig(None, BertConfig(8, vocab_size, 4, 1, 2, 8), None)
    tree = params.tree_map(lambda shape: np.zeros(shape, np.float32), config.shapes())
    checkpoints.save(tmp_path / "m.safetensors", config, tree)
    lacking = convert(tmp_path / "m.safetensors", tmp_path / "m", "hf", official=vocabulary.official_tokenizer)
    assert lacking == "this model came without its own, a WordPiece"
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == ["config.json", "model.safetensors"]


@pytest.mark.parametrize("kind", [AlignVisionModel, AlignTextModel])
def test_towers_alone(kind, small, tmp_path, relative_error):
    official = kind.from_pretrained(small).eval()
    official.save_pretrained(tmp_path / "m")
    model, preprocess = miniclip.load(tmp_path / "m")
    images, tokens, lengths = batch(AlignConfig(**SIZES["small"]))
    with torch.no_grad():
        if kind is AlignVisionModel:
            theirs, ours = official(torch.from_numpy(images)).pooler_output, model.encode_image(images)
        else:
            mask = torch.from_numpy((np.arange(tokens.shape[1]) < lengths[:, None]) * 1)
            theirs, ours = official(torch.from_numpy(tokens), mask).last_hidden_state[:, 0], model.encode_text(tokens)
            assert preprocess is None
    assert relative_error(ours, theirs.numpy()) < 1e-5
    huggingface.save(tmp_path / "again", model.config, model.params)
    again = kind.from_pretrained(tmp_path / "again")
    with torch.no_grad():
        inputs = torch.from_numpy(images if kind is AlignVisionModel else tokens)
        same, expected = again.eval()(inputs), official(inputs)
    assert relative_error(same.pooler_output.numpy(), expected.pooler_output.numpy()) < 1e-5


def test_one_tower_of_a_whole_model(small):
    whole, _ = miniclip.load(small)
    images, tokens, _ = batch(AlignConfig(**SIZES["small"]))
    visual, preprocess = miniclip.load(small, tower="visual")
    text, nothing = miniclip.load(small, tower="text")
    assert preprocess and nothing is None
    np.testing.assert_array_equal(visual.encode_image(images), whole.encode_image(images))
    np.testing.assert_array_equal(text.encode_text(tokens), whole.encode_text(tokens))
    with pytest.raises(miniclip.InputError, match="no temperature"):
        text.logits(np.ones((1, 16)), np.ones((1, 16)))


def test_a_text_tower_without_a_pooler(small, tmp_path):
    shutil.copytree(small, tmp_path / "m")
    state = {name: x for name, x in AlignModel.from_pretrained(small).state_dict().items() if "pooler" not in name}
    (tmp_path / "m" / "model.safetensors").unlink()
    torch.save(state, tmp_path / "m" / "pytorch_model.bin")
    model, _ = miniclip.load(tmp_path / "m")
    assert not model.config.text.pooler
    tokens = batch(AlignConfig(**SIZES["small"]))[1]
    stages = traced(model, model.encode_text, tokens)
    assert "pooler" not in stages and "features" in stages
    with pytest.raises(miniclip.InputError, match=r"cannot express .*text\.pooler False"):
        huggingface.save(tmp_path / "again", model.config, model.params)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("config.json", {"model_type": "clipseg"}, "model_type is 'clipseg', expected one of clip, .*align"),
        ("config.json", {"projection_dim": 20}, "embed_dim is 20, but .* 16 wide"),
        ("config.json", {"vision_config": {**VISION, "in_channels": [32, 8, 12, 20, 20]}}, "in_channels is"),
        ("config.json", {"vision_config": {**VISION, "pooling_type": "max"}}, "pooling_type is 'max'"),
        ("config.json", {"vision_config": {**VISION, "kernel_sizes": [3, 3, 5, 3, 4]}}, "stages is .*odd"),
        ("config.json", {"vision_config": {**VISION, "strides": [1, 2, 2]}}, "zip"),
        ("config.json", {"vision_config": {**VISION, "width_coefficient": -1.0}}, "width_coefficient is -1"),
        ("config.json", {"vision_config": {**VISION, "hidden_act": "mish"}}, "activation is 'mish'"),
        ("config.json", {"vision_config": {**VISION, "batch_norm_eps": "small"}}, "batch_norm_eps is 'small'"),
        (
            "config.json",
            {"vision_config": {**VISION, "batch_norm_eps": 1}},
            "batch_norm_eps is 1, expected",
        ),
        ("config.json", {"vision_config": 7}, "not the configuration"),
        ("config.json", {"text_config": {**TEXT, "pad_token_id": 60}}, "pad_token_id is 60"),
        ("config.json", {"text_config": {**TEXT, "hidden_size": 65}}, "width 65 cannot be shared"),
        ("preprocessor_config.json", {"crop_size": {"height": 0, "width": 99}}, r"crop_size is \(0, 99\), expected"),
        ("preprocessor_config.json", {"resample": 9}, "resample is 9"),
        ("preprocessor_config.json", {"size": {"longest_edge": 3}}, "not the configuration"),
    ],
)
def test_configurations_that_do_not_fit_are_refused_by_name(file, change, message, small, tmp_path):
    shutil.copytree(small, tmp_path / "m")
    path = tmp_path / "m" / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(miniclip.InputError, match=rf"m/.*\.json: .*{message}"):
        miniclip.load(tmp_path / "m")


@pytest.mark.parametrize(
    "change",
    [
        {"do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.25] * 3},
        {"resample": 3},
        {"crop_size": {"height": 99, "width": 99}},
        {"do_center_crop": False},
        {"size": {"shortest_edge": 80}},
    ],
)
def test_other_settings_of_pictures_are_as_in_transformers_and_are_kept(change, small, tmp_path):
    shutil.copytree(small, tmp_path / "m")
    path = tmp_path / "m" / "preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8))
    theirs = EfficientNetImageProcessorPil.from_pretrained(tmp_path / "m")(picture, return_tensors="np")
    convert(tmp_path / "m", tmp_path / "again", "hf")
    for directory in (tmp_path / "m", tmp_path / "again"):
        preprocess = miniclip.load(directory)[1]
        np.testing.assert_allclose(preprocess([picture]), theirs["pixel_values"], atol=1e-6)


def test_configurations_survive_json():
    for config in (
        ALIGNConfig(EfficientNetConfig((64, 96), (80, 100), 0.5, 1, square_padding=(1, 2)), None, 160),
        ALIGNConfig(None, BertConfig(8, 9, 4, 1, 2, 8), None),
    ):
        values = json.loads(json.dumps(config.to_dict()))
        assert families.from_dict(values) == config
        del values["family"]  # as in older files
        assert families.from_dict(values) == config
