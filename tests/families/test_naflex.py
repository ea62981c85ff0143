"""SigLIP 2's NaFlex against transformers' Siglip2Model on the same random weights, stage by stage; and its pictures."""

# ruff: noqa: F811  fixtures are imported, and are arguments of the same name

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from backends import QUICK
from hypothesis import example, given
from hypothesis import strategies as st
from naflex_models import PATCHES, SIZES, forward, image_processor, official, pair, pictures, small, tokens  # noqa: F401
from PIL import Image
from stages import compare, siglip_image_stages, traced
from transformers import Siglip2Config
from transformers.models.siglip2.image_processing_pil_siglip2 import get_image_size_for_max_num_patches

import miniclip
from miniclip.families.clip.positions import bilinear
from miniclip.families.siglip import naflex

# --------------------------------------------------------------------------------------------------------------- tower


@pytest.mark.parametrize("backend", QUICK)
def test_the_image_tower_equals_transformers_stage_by_stage(pair, backend, relative_error):
    official, directory = pair
    ours, preprocess = miniclip.load(directory, backend)
    inputs = image_processor(official.config.vision_config.patch_size)(pictures(), return_tensors="np")
    output = forward(official, inputs, tokens(official.config)).vision_model_output
    mask = torch.from_numpy(inputs["pixel_attention_mask"]) > 0
    assert not mask.all() and len({tuple(grid) for grid in inputs["spatial_shapes"]}) > 2
    theirs = siglip_image_stages(official, output, mask)
    batch = preprocess(pictures())
    compare(traced(ours, ours.encode_image, batch), theirs, relative_error)
    assert relative_error(ours.ops.to_numpy(ours.encode_image(batch)), output.pooler_output.numpy()) < 1e-5


@pytest.mark.parametrize("backend", QUICK)
def test_texts_logits_and_probabilities_equal_transformers(pair, backend, relative_error):
    official, directory = pair
    ours, preprocess = miniclip.load(directory, backend)
    inputs = image_processor(official.config.vision_config.patch_size)(pictures(), return_tensors="np")
    ids = tokens(official.config)
    theirs = forward(official, inputs, ids)
    texts = theirs.text_model_output.pooler_output.numpy()
    assert relative_error(ours.ops.to_numpy(ours.encode_text(ids)), texts) < 1e-5
    for x, expected in zip(ours(preprocess(pictures()), ids), (theirs.logits_per_image, theirs.logits_per_text)):
        assert relative_error(ours.ops.to_numpy(x), expected.numpy()) < 1e-5


def test_triton_computes_the_same(small, relative_error):
    (reference, preprocess), ours = miniclip.load(small), miniclip.load(small, "triton")[0]
    batch = preprocess(pictures(2))
    assert relative_error(ours.ops.to_numpy(ours.encode_image(batch)), reference.encode_image(batch)) < 1e-5


@pytest.mark.parametrize(("backend", "dtype"), [("onnxruntime", "int8"), ("openvino", "int8"), ("torch", "bfloat16")])
def test_other_dtypes_come_close(small, backend, dtype):
    if backend not in QUICK:
        pytest.skip(f"{backend} is not installed")
    (reference, preprocess), ours = miniclip.load(small), miniclip.load(small, backend, dtype=dtype)[0]
    batch = preprocess(pictures())
    found = np.asarray(ours.ops.to_numpy(ours.encode_image(batch, normalize=True)), np.float32)
    assert (np.sum(found * reference.encode_image(batch, normalize=True), axis=1) > 0.999).all()


def test_a_model_of_official_widths_is_equal(tmp_path, relative_error):
    """google/siglip2-base-patch16-naflex, with two blocks in each tower and a small vocabulary."""
    few = {"num_hidden_layers": 2, "vocab_size": 99, "bos_token_id": 1, "eos_token_id": 1}
    theirs = official({"text_config": few, "vision_config": {"num_hidden_layers": 2}})
    theirs.save_pretrained(tmp_path / "m")
    model, preprocess = miniclip.load(tmp_path / "m")
    visual = model.config.visual
    assert (visual.grid, visual.patch_size, visual.width, visual.heads) == ((16, 16), 16, 768, 12)
    inputs = image_processor(16, max_num_patches=256)(pictures(2), return_tensors="np")
    output = forward(theirs, inputs, tokens(theirs.config))
    batch = preprocess(pictures(2))
    assert batch.pixels.shape == (2, 256, 768)
    assert relative_error(model.encode_image(batch), output.vision_model_output.pooler_output.numpy()) < 1e-5
    assert relative_error(model(batch, tokens(theirs.config))[0], output.logits_per_image.numpy()) < 1e-4


@pytest.mark.parametrize("backend", ["numpy", "torch", "onnxruntime"])
def test_a_batch_in_chunks_is_the_whole_batch(small, backend, relative_error):
    if backend not in QUICK:
        pytest.skip(f"{backend} is not installed")
    model, preprocess = miniclip.load(small, backend)
    alone = model.ops.to_numpy(model.encode_image(preprocess(pictures(4))))
    whole = model.ops.to_numpy(model.encode_image(preprocess(pictures(4) * 20)))
    assert relative_error(whole, np.tile(alone, (20, 1))) < 1e-6


@pytest.mark.parametrize("backend", QUICK)
def test_what_fills_a_picture_up_changes_nothing(small, backend, relative_error):
    model, preprocess = miniclip.load(small, backend)
    pixels, grids = preprocess(pictures())
    filled = np.array(model.ops.to_numpy(pixels))
    for x, grid in zip(filled, grids):
        x[math.prod(grid) :] = 1
    whole = model.ops.to_numpy(model.encode_image(naflex.Patches(filled, grids)))
    for i, grid in enumerate(grids):
        alone = naflex.Patches(pixels[i : i + 1, : math.prod(grid)], grid[None])
        assert relative_error(whole[i : i + 1], model.ops.to_numpy(model.encode_image(alone))) < 2e-6


# ----------------------------------------------------------------------------------------------------------- positions


@given(st.tuples(*[st.integers(1, 20)] * 4))
def test_positions_are_interpolated_as_by_torch(sizes):
    old, new = sizes[:2], sizes[2:]
    grid = np.random.default_rng(0).standard_normal((*old, 3))
    x, options = torch.from_numpy(grid).permute(2, 0, 1)[None], {"mode": "bilinear", "antialias": True}
    expected = F.interpolate(x, new, **options)[0]
    if new[1] == 1:  # on a CPU torch gets one column wrong (findings/torch_antialias_one_column.sh), but not one row
        expected = F.interpolate(x.mT, new[::-1], **options)[0].mT
    np.testing.assert_allclose(bilinear(old, new) @ grid.reshape(-1, 3), expected.flatten(1).T, rtol=0, atol=1e-12)


def test_positions_of_a_batch_fill_up_with_the_first():
    found = naflex.places(np.array([[2, 3], [4, 1]]), 7, side=5)
    assert found.shape == (2, 7, 25) and found.dtype == np.float32
    np.testing.assert_allclose(found[0, :6], bilinear((5, 5), (2, 3)), atol=1e-7)
    assert (found[1, 4:] == found[1, 0]).all() and (found[0, 6] == found[0, 0]).all()
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-6)


# ------------------------------------------------------------------------------------------------------------ pictures


@given(st.integers(1, 20000), st.integers(1, 20000), st.integers(1, 40), st.integers(1, 1100))
@example(1, 1, 16, 256)
@example(1, 20000, 16, 256)
@example(480, 640, 16, 1024)
@example(11348, 10628, 16, 256)  # where a coarser search would find one row less
def test_a_picture_gets_transformers_grid(height, width, patch_size, most):
    expected = get_image_size_for_max_num_patches(height, width, patch_size, most)
    assert tuple(patch_size * n for n in naflex.grid_of(height, width, patch_size, most)) == expected


@pytest.mark.parametrize("size", [(300, 400), (400, 300), (40, 40), (10, 7), (1, 1), (1000, 20)])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "1"])
def test_pictures_are_prepared_as_in_transformers(small, size, mode):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 4), np.uint8)
    image = Image.fromarray(pixels).convert("RGB").convert(mode) if mode != "RGBA" else Image.fromarray(pixels)
    theirs = image_processor(do_convert_rgb=True)(image, return_tensors="np")
    _, preprocess = miniclip.load(small)
    found, alone = preprocess([image]), preprocess(image)
    np.testing.assert_array_equal(found.pixels, theirs["pixel_values"])
    np.testing.assert_array_equal(found.grids, theirs["spatial_shapes"])
    np.testing.assert_array_equal(alone.pixels, found.pixels[0])
    np.testing.assert_array_equal(alone.grids, found.grids[0])
    assert (np.arange(PATCHES) < found.grids.prod(1)[:, None]).sum() == theirs["pixel_attention_mask"].sum()


def test_without_settings_pictures_are_prepared_as_siglip_2_s(tmp_path):
    official(SIZES["small"]).save_pretrained(tmp_path / "m")
    theirs = image_processor(8, max_num_patches=256)(pictures(), return_tensors="np")
    found = miniclip.load(tmp_path / "m")[1](pictures())
    np.testing.assert_array_equal(found.pixels, theirs["pixel_values"])
    assert Siglip2Config().vision_config.num_patches == 256 == naflex.PATCHES
