"""SigLIP against transformers' SiglipModel on the same random weights, stage by stage, so that a failure names it."""

# ruff: noqa: F811  fixtures are imported, and are arguments of the same name

import shutil

import numpy as np
import pytest
import torch
from backends import QUICK
from PIL import Image
from siglip_models import SIZES, batch, forward, official, pair, small  # noqa: F401
from stages import compare, siglip_block_stages, siglip_image_stages, traced
from transformers import SiglipConfig, SiglipImageProcessorPil, SiglipModel

import miniclip
from miniclip.checkpoints.convert import convert
from miniclip.loss import sigmoid_loss

# --------------------------------------------------------------------------------------------------------------- towers


@pytest.mark.parametrize("backend", QUICK)
def test_the_image_tower_equals_transformers_stage_by_stage(pair, backend, relative_error):
    official, directory = pair
    ours, _ = miniclip.load(directory, backend)
    images, tokens, _ = batch(official.config)
    output = forward(official, images, tokens).vision_model_output
    theirs = siglip_image_stages(official, output)
    compare(traced(ours, ours.encode_image, images), theirs, relative_error)
    assert relative_error(ours.ops.to_numpy(ours.encode_image(images)), output.pooler_output.numpy()) < 1e-5


@pytest.mark.parametrize("backend", QUICK)
def test_the_text_tower_equals_transformers_stage_by_stage(pair, backend, relative_error):
    official, directory = pair
    ours, _ = miniclip.load(directory, backend)
    images, tokens, lengths = batch(official.config)
    output = forward(official, images, tokens).text_model_output
    theirs = {
        **siglip_block_stages(official.text_model.encoder, output),
        "ln_final": output.last_hidden_state,
        "features": output.pooler_output,
    }
    compare(traced(ours, ours.encode_text, tokens), theirs, relative_error)
    assert relative_error(ours.ops.to_numpy(ours.encode_text(tokens)), output.pooler_output.numpy()) < 1e-5
    # with a mask, which the official models were not trained with
    expected = forward(official, images, tokens, lengths).text_model_output.pooler_output.numpy()
    assert relative_error(ours.ops.to_numpy(ours.encode_text(tokens, lengths=lengths)), expected) < 1e-5
    assert tokens.shape[1] == 7 or relative_error(output.pooler_output.numpy(), expected) > 1e-3


@pytest.mark.parametrize("backend", QUICK)
def test_logits_and_probabilities_equal_transformers(pair, backend, relative_error):
    official, directory = pair
    ours, _ = miniclip.load(directory, backend)
    images, tokens, _ = batch(official.config)
    theirs = forward(official, images, tokens[:2])
    for x, expected in zip(ours(images, tokens[:2]), (theirs.logits_per_image, theirs.logits_per_text)):
        assert relative_error(ours.ops.to_numpy(x), expected.numpy()) < 1e-5
    assert float(ours.logit_scale) == np.float32(2.3) and float(ours.logit_bias) == np.float32(-3.5)


def test_triton_computes_the_same(small, relative_error):
    reference, ours = miniclip.load(small)[0], miniclip.load(small, "triton")[0]
    images, tokens, _ = batch(SiglipConfig(**SIZES["small"]), count=2)
    for x, expected in zip(ours(images, tokens), reference(images, tokens)):
        assert relative_error(ours.ops.to_numpy(x), expected) < 1e-5


def test_a_model_of_official_widths_is_equal(tmp_path, relative_error):
    """google/siglip-base-patch16-224, with two blocks in each tower and a small vocabulary."""
    small = {"num_hidden_layers": 2, "vocab_size": 99, "bos_token_id": 1, "eos_token_id": 1}
    official_model = official({"text_config": small, "vision_config": {"num_hidden_layers": 2}})
    official_model.save_pretrained(tmp_path / "m")
    model, preprocess = miniclip.load(tmp_path / "m")
    config = model.config
    assert (config.visual.grid, config.visual.width, config.visual.heads) == ((14, 14), 768, 12)
    assert (config.text.context_length, config.text.width, config.embed_dim) == (64, 768, 768)
    assert preprocess.image_size == 224
    images, tokens, _ = batch(official_model.config, count=2)
    theirs = forward(official_model, images, tokens)
    assert relative_error(model.encode_image(images), theirs.vision_model_output.pooler_output.numpy()) < 1e-5
    assert relative_error(model.encode_text(tokens), theirs.text_model_output.pooler_output.numpy()) < 1e-5
    assert relative_error(model(images, tokens)[0], theirs.logits_per_image.numpy()) < 1e-4


@pytest.mark.parametrize("backend", ["numpy", "torch", "onnxruntime"])
def test_a_batch_in_chunks_is_the_whole_batch(small, backend, relative_error):
    if backend not in QUICK:
        pytest.skip(f"{backend} is not installed")
    model, _ = miniclip.load(small, backend)
    images, tokens, _ = batch(SiglipConfig(**SIZES["small"]))
    tokens, lengths = np.tile(tokens, (20, 1)), np.tile([16, 1, 4], 20)
    alone = model.ops.to_numpy(model.encode_text(tokens[:3], lengths=lengths[:3]))
    whole = model.ops.to_numpy(model.encode_text(tokens, lengths=lengths))
    assert relative_error(whole, np.tile(alone, (20, 1))) < 1e-6
    alone = model.ops.to_numpy(model.encode_image(images))
    whole = model.ops.to_numpy(model.encode_image(np.tile(images, (20, 1, 1, 1))))
    assert relative_error(whole, np.tile(alone, (20, 1))) < 1e-6


# ----------------------------------------------------------------------------------------------------------------- loss


def test_the_loss_of_its_logits_is_transformers(small):
    official = SiglipModel.from_pretrained(small).eval()
    images, tokens, _ = batch(official.config)
    with torch.no_grad():
        theirs = official(torch.from_numpy(tokens), torch.from_numpy(images), return_loss=True).loss
    model, _ = miniclip.load(small)
    assert sigmoid_loss(model(images, tokens)[0]) == pytest.approx(theirs.item(), rel=1e-5)


# ---------------------------------------------------------------------------------------------------- what is refused


def test_lengths_that_no_text_has_are_refused(small):
    with pytest.raises(miniclip.InputError, match=r"lengths are .* a number from 1 to 16"):
        miniclip.load(small)[0].encode_text(np.ones((2, 16), int), lengths=np.array([0, 16]))


def test_a_model_without_its_vocabulary_says_so(small):
    with pytest.raises(miniclip.InputError, match=r"came without vocabulary.*SentencePiece\.load"):
        miniclip.load(small)[0].tokenize("red")


def test_pictures_of_another_size(small, relative_error):
    model, preprocess = miniclip.load(small, image_size=(48, 40))
    official = SiglipModel.from_pretrained(small).eval()
    images = np.random.default_rng(0).standard_normal((2, 3, 48, 40)).astype(np.float32)
    with torch.no_grad():
        expected = official.get_image_features(torch.from_numpy(images), interpolate_pos_encoding=True).pooler_output
    assert relative_error(model.encode_image(images), expected.numpy()) < 1e-5
    assert preprocess("weights/example.png").shape == (3, 48, 40)


# ------------------------------------------------------------------------------------------------------------- pictures


@pytest.fixture(scope="module")
def prepared(small, tmp_path_factory):
    """A directory with a model, and the settings of its pictures as SigLIP 2 has them."""
    directory = tmp_path_factory.mktemp("prepared") / "m"
    shutil.copytree(small, directory)
    SiglipImageProcessorPil(size={"height": 30, "width": 30}, resample=2).save_pretrained(directory)
    return directory


@pytest.mark.parametrize("size", [(300, 400), (400, 300), (30, 30), (10, 7), (1, 1), (1000, 20)])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "1"])
@pytest.mark.parametrize("resample", [2, 3], ids=["SigLIP 2", "SigLIP"])
def test_pictures_are_prepared_as_in_transformers(small, prepared, size, mode, resample):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 4), np.uint8)
    image = Image.fromarray(pixels).convert("RGB").convert(mode) if mode != "RGBA" else Image.fromarray(pixels)
    official = SiglipImageProcessorPil(size={"height": 30, "width": 30}, resample=resample)
    theirs = official(image, return_tensors="np")["pixel_values"]
    _, preprocess = miniclip.load(prepared if resample == 2 else small)
    np.testing.assert_array_equal(preprocess([image]), theirs)


@pytest.mark.parametrize(
    "change",
    [
        {"do_normalize": False},
        {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.4]},
        {"resample": 1},
        {"do_rescale": False},
        {"size": {"height": 20, "width": 40}},
        {"size": {"shortest_edge": 35}},
    ],
)
def test_other_settings_of_pictures_are_as_in_transformers_and_are_kept(change, small, tmp_path):
    shutil.copytree(small, tmp_path / "m")
    official = SiglipImageProcessorPil(**{"size": {"height": 30, "width": 30}, **change})
    official.save_pretrained(tmp_path / "m")
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8))
    theirs = official(picture, return_tensors="np")["pixel_values"]
    convert(tmp_path / "m", tmp_path / "again", "hf")
    for directory in (tmp_path / "m", tmp_path / "again"):
        np.testing.assert_array_equal(miniclip.load(directory)[1]([picture]), theirs)
    again = SiglipImageProcessorPil.from_pretrained(tmp_path / "again")(picture, return_tensors="np")["pixel_values"]
    np.testing.assert_array_equal(again, theirs)
