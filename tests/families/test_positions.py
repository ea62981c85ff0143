"""Pictures of another size: position embeddings are interpolated as torch and transformers do it."""

import numpy as np
import pytest
import torch
from clip_directories import save_perturbed
from hypothesis import given
from hypothesis import strategies as st
from transformers import CLIPConfig, CLIPModel

import miniclip
from miniclip import checkpoints, families
from miniclip.config import VisionConfig
from miniclip.families.clip import positions
from miniclip.families.clip.presets import PRESETS

GRID = st.tuples(st.integers(1, 25), st.integers(1, 25))


@given(old=GRID, new=GRID, seed=st.integers(0, 99), antialias=st.booleans())
def test_positions_are_interpolated_as_in_torch(old, new, seed, antialias):
    x = np.random.default_rng(seed).standard_normal((1 + old[0] * old[1], 5))
    ours = positions.interpolate(x, old, new, antialias)
    grid = torch.from_numpy(x[1:]).reshape(1, *old, 5).permute(0, 3, 1, 2)
    theirs = torch.nn.functional.interpolate(grid, size=new, mode="bicubic", antialias=antialias)
    np.testing.assert_array_equal(ours[0], x[0])
    np.testing.assert_allclose(ours[1:], theirs.permute(0, 2, 3, 1).reshape(-1, 5).numpy(), atol=1e-12)


@given(grid=GRID, antialias=st.booleans())
def test_the_same_size_changes_nothing(grid, antialias):
    x = np.random.default_rng(0).standard_normal((1 + grid[0] * grid[1], 3)).astype(np.float32)
    np.testing.assert_array_equal(positions.interpolate(x, grid, grid, antialias), x)


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 48, "num_attention_heads": 1, "num_hidden_layers": 2}
    config = CLIPConfig(
        vision_config={**sizes, "image_size": 56, "patch_size": 8},
        text_config={**sizes, "vocab_size": 99, "eos_token_id": 98, "bos_token_id": 97},
    )
    directory = tmp_path_factory.mktemp("hf")
    return save_perturbed(CLIPModel(config), directory), directory


@pytest.mark.parametrize("size", [(40, 40), (56, 56), (88, 88), (24, 104), (99, 50)])
def test_other_sizes_equal_transformers_with_interpolated_positions(size, official, relative_error):
    model, directory = official
    ours, preprocess = miniclip.load(directory, backend="numpy", image_size=size)
    images = np.random.default_rng(1).standard_normal((2, 3, *size)).astype(np.float32)
    with torch.no_grad():
        output = model.vision_model(torch.from_numpy(images), interpolate_pos_encoding=True)
        theirs = model.visual_projection(output.pooler_output)
    assert relative_error(ours.encode_image(images), theirs.numpy()) < 1e-5
    assert preprocess(np.zeros((30, 70, 3), np.uint8)).shape == (3, *size)
    with pytest.raises(miniclip.InputError, match=r"expected \(B, C, height, width\)"):
        ours.encode_image(images[:, :, 1:])


def test_a_side_means_a_square(official):
    config, tree, _ = checkpoints.load(official[1], image_size=40)
    assert config.visual.image_size == 40
    assert checkpoints.load(official[1], image_size=(40, 40))[0] == config
    assert tree["visual"]["patch_embed"]["position_embedding"].shape == (26, 64)


@pytest.mark.parametrize("size", [np.int64(40), [40, 40], (np.int32(40), 40), [np.int64(40), np.uint8(40)]])
def test_a_size_may_have_numpys_integers_and_be_a_list(size, official):
    config, _, _ = checkpoints.load(official[1], image_size=size)
    assert config.visual.image_size == 40 and type(config.visual.image_size) is int
    long = checkpoints.load(official[1], image_size=[np.int64(40), 56])[0].visual.image_size
    assert long == (40, 56) and all(type(n) is int for n in long)


def test_a_resnet_for_another_size_has_its_pooling_interpolated(official_model):
    config = PRESETS["RN50"]
    rng = np.random.default_rng(0)
    x = rng.standard_normal((50, 8))
    tree = {"visual": {"stem": [], "attention_pool": {"position_embedding": x, "q": 1}}}
    wide, changed = positions.with_image_size(config, tree, (96, 320))
    assert wide.visual.grid == (3, 10)
    expected = positions.interpolate(x, (7, 7), (3, 10))
    np.testing.assert_array_equal(changed["visual"]["attention_pool"]["position_embedding"], expected)
    assert changed["visual"]["attention_pool"]["q"] == 1
    assert tree["visual"]["attention_pool"]["position_embedding"] is x
    with pytest.raises(miniclip.InputError, match="multiples of 32"):
        positions.with_image_size(config, tree, 100)


@pytest.mark.parametrize("size", [0, -8, 7, 2.5, "56", (56,), (56, 0), (56, 56, 3), True, 1 << 20])
def test_sizes_that_no_picture_has_are_refused(size, official):
    with pytest.raises(miniclip.InputError, match=r"image_size|do not fit a picture"):
        miniclip.load(official[1], image_size=size)


def test_a_text_tower_has_no_image_size(official, tmp_path):
    config, tree, _ = checkpoints.load(official[1])
    with pytest.raises(miniclip.InputError, match="no image tower"):
        families.with_image_size(miniclip.CLIPConfig(None, config.text, 512), {"text": tree["text"]}, 40)


# --------------------------------------------------------------------------------- pictures that are not square


@given(height=st.integers(1, 60), width=st.integers(1, 60), size=st.tuples(st.integers(1, 40), st.integers(1, 40)))
def test_a_picture_just_covers_the_size_and_keeps_its_middle(height, width, size):
    from PIL import Image

    from miniclip.image import resize_and_crop

    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))
    ours = np.asarray(resize_and_crop(picture, size))
    assert ours.shape == (*size, 3)
    scale = max(size[0] / height, size[1] / width)
    whole = picture.resize((int(width * scale + 1e-9), int(height * scale + 1e-9)), Image.Resampling.BICUBIC)
    x, y = round((whole.width - size[1]) / 2), round((whole.height - size[0]) / 2)
    np.testing.assert_array_equal(ours, np.asarray(whole)[y : y + size[0], x : x + size[1]])


def test_a_config_with_a_long_picture_survives_json(tmp_path):
    visual = VisionConfig((24, 40), 8, 64, 1, 1, 64)
    config = miniclip.config.CLIPConfig(visual, None, 8)
    rng = np.random.default_rng(0)
    tree = miniclip.params.tree_map(lambda shape: rng.standard_normal(shape).astype(np.float32), config.shapes())
    checkpoints.save(tmp_path / "m.safetensors", config, tree)
    assert checkpoints.load(tmp_path / "m.safetensors")[0] == config
