"""ALIGN against transformers' AlignModel on the same random weights, stage by stage, so that a failure names it."""

# ruff: noqa: F811  fixtures are imported, and are arguments of the same name

import dataclasses
import importlib.util

import numpy as np
import pytest
import torch
from align_models import SIZES, batch, forward, pair, small  # noqa: F401
from backends import QUICK
from PIL import Image
from stages import block_stages, compare, outputs, traced
from transformers import AlignConfig, AlignModel, EfficientNetImageProcessor

import miniclip
from miniclip.families.align.config import EfficientNetConfig
from miniclip.towers import efficientnet

# --------------------------------------------------------------------------------------------------------------- towers


@pytest.mark.parametrize("backend", QUICK)
def test_the_image_tower_equals_transformers_stage_by_stage(pair, backend, relative_error):
    official, directory = pair
    ours, _ = miniclip.load(directory, backend)
    images, *_ = batch(official.config)
    tower = official.vision_model
    parts = [tower.embeddings, *tower.encoder.blocks]
    stages, features = outputs(parts, lambda: tower(torch.from_numpy(images)).pooler_output)
    names = ["stem", *(f"blocks.{i}" for i in range(len(stages) - 1)), "features"]
    assert all(x.std() > 1e-2 for x in stages)
    compare(traced(ours, ours.encode_image, images), dict(zip(names, [*stages, features])), relative_error)
    assert relative_error(ours.ops.to_numpy(ours.encode_image(images)), features.numpy()) < 1e-5


@pytest.mark.parametrize("backend", QUICK)
def test_the_text_tower_equals_transformers_stage_by_stage(pair, backend, relative_error):
    official, directory = pair
    ours, _ = miniclip.load(directory, backend)
    images, tokens, lengths = batch(official.config)
    official.set_attn_implementation("eager")
    parts = [*(layer.attention for layer in official.text_model.encoder.layer), official.text_model.pooler]
    found, output = outputs(parts, lambda: forward(official, images, tokens, lengths).text_model_output)
    theirs = {**block_stages(output, found[:-1]), "pooler": found[-1]}
    with torch.no_grad():
        theirs["features"] = official.text_projection(output.last_hidden_state[:, 0])
    compare(traced(ours, ours.encode_text, tokens), theirs, relative_error)
    for given in ({}, {"lengths": lengths}):
        features = ours.ops.to_numpy(ours.encode_text(tokens, **given))
        assert relative_error(features, theirs["features"].numpy()) < 1e-5


@pytest.mark.parametrize("backend", QUICK)
def test_logits_equal_transformers(pair, backend, relative_error):
    official, directory = pair
    ours, _ = miniclip.load(directory, backend)
    images, tokens, lengths = batch(official.config)
    theirs = forward(official, images, tokens, lengths)
    for x, expected in zip(ours(images, tokens), (theirs.logits_per_image, theirs.logits_per_text)):
        assert relative_error(ours.ops.to_numpy(x), expected.numpy()) < 1e-5
    assert ours.temperature == np.float32(0.07)
    assert np.exp(ours.logit_scale) == pytest.approx(1 / 0.07)


def test_triton_computes_the_same(small, relative_error):
    reference, ours = miniclip.load(small)[0], miniclip.load(small, "triton")[0]
    images, tokens, _ = batch(AlignConfig(**SIZES["small"]), count=2, length=7)
    for x, expected in zip(ours(images, tokens), reference(images, tokens)):
        assert relative_error(ours.ops.to_numpy(x), expected) < 1e-5


def test_the_layout_is_that_of_efficientnet_b7():
    config = EfficientNetConfig(289, 346, 2.0, 3.1)
    blocks = efficientnet.layout(config)
    assert len(blocks) == 55 and efficientnet.scaled(32, config) == 64  # the paper's code, efficientnet_params
    assert [block.O for block in blocks if not block.residual] == [32, 48, 80, 160, 224, 384, 640]
    assert config.grid == (9, 9) and config.width == 640
    assert dataclasses.replace(config, image_size=(96, 289)).grid == (3, 9)


# ---------------------------------------------------------------------------------------------------------------- texts


def test_padding_changes_nothing_and_neither_does_the_batch(small, relative_error):
    model, _ = miniclip.load(small)
    tokens = model.tokenize(["red", "a heart"])
    assert tokens.shape == (2, 20)  # as many as fit, and at most 64
    expected = model.encode_text(tokens)
    for same in (tokens[:, :12], np.pad(model.tokenize(["red", "a heart"], 15), ((0, 0), (0, 5)))):
        assert relative_error(model.encode_text(same), expected) < 1e-6
    assert relative_error(model.encode_text(tokens[1:]), expected[1:]) < 1e-6


def test_token_types_are_looked_up(small, relative_error):
    model, directory = miniclip.load(small)[0], small
    official = AlignModel.from_pretrained(directory).eval()
    _, tokens, lengths = batch(official.config)
    types = np.random.default_rng(2).integers(0, 2, tokens.shape)
    with torch.no_grad():
        mask = torch.from_numpy((np.arange(tokens.shape[1]) < lengths[:, None]) * 1)
        output = official.text_model(torch.from_numpy(tokens), mask, token_type_ids=torch.from_numpy(types))
        expected = official.text_projection(output.last_hidden_state[:, 0]).numpy()
    ours = model.encode_text(tokens, lengths=lengths, token_types=types)
    assert relative_error(ours, expected) < 1e-5
    assert relative_error(model.encode_text(tokens, lengths=lengths), expected) > 1e-3


@pytest.mark.parametrize("lengths", [[0, 3, 3], [3, 3, 12], [3, 3]])
def test_lengths_that_no_text_has_are_refused(small, lengths):
    with pytest.raises(miniclip.InputError, match=r"lengths are .* a number from 1 to 11"):
        miniclip.load(small)[0].encode_text(np.ones((3, 11), int), lengths=np.array(lengths))


@pytest.mark.parametrize(
    "types, says",
    [
        (np.full((3, 11), 2), "run from 2 to 2, expected 0 to 1"),
        (np.full((3, 11), -1), "run from -1 to -1, expected 0 to 1"),
        (np.zeros((3, 10), int), r"are \(3, 10\) of int64, expected integers \(B, T\) = \(3, 11\)"),
        (np.zeros((3, 11)), r"are \(3, 11\) of float64, expected integers"),
    ],
)
@pytest.mark.parametrize("backend", ["numpy", "torch", "openvino"])  # OpenVINO alone would look up something
def test_types_that_bert_does_not_have_are_refused(small, backend, types, says):
    if backend == "openvino" and importlib.util.find_spec("openvino") is None:
        pytest.skip("openvino is not installed")
    with pytest.raises(miniclip.InputError, match=f"token_types {says}"):
        miniclip.load(small, backend)[0].encode_text(np.ones((3, 11), int), token_types=types)


def test_a_model_without_its_vocabulary_says_so(pair):
    with pytest.raises(miniclip.InputError, match=r"came without vocabulary.*WordPiece\.load"):
        miniclip.load(pair[1])[0].tokenize("red")


# ------------------------------------------------------------------------------------------------------------- pictures


@pytest.mark.parametrize("size", [(300, 400), (400, 300), (65, 65), (10, 7), (1, 1), (1000, 20)])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_pictures_are_prepared_as_in_transformers(small, size, mode):
    _, preprocess = miniclip.load(small)
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    image = Image.fromarray(pixels).convert(mode)
    theirs = EfficientNetImageProcessor.from_pretrained(small)(image.convert("RGB"), return_tensors="np")
    np.testing.assert_array_equal(preprocess([image]), theirs["pixel_values"])


def test_pictures_of_another_size(small, relative_error):
    model, preprocess = miniclip.load(small, image_size=(96, 70))
    official = AlignModel.from_pretrained(small).eval()
    images = np.random.default_rng(0).standard_normal((1, 3, 96, 70)).astype(np.float32)
    with torch.no_grad():
        expected = official.get_image_features(torch.from_numpy(images)).pooler_output.numpy()
    assert relative_error(model.encode_image(images), expected) < 1e-5
    assert preprocess("weights/example.png").shape == (3, 96, 70)
