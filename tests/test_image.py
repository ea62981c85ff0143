"""Preprocessing equals the official pipeline bit for bit, whatever the form of a picture."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from official_pictures import BICUBIC, noise, official
from PIL import Image

import miniclip
from miniclip.image import NORMALIZED, STD, Preprocess, normalize, resize_and_crop
from miniclip.ops import torch_ops
from miniclip.runtime import pictures

# -------------------------------------------------------------------------------------------- equal to the official one

MODES = ["L", "LA", "P", "RGB", "RGBA", "CMYK", "1", "I", "F", "YCbCr", "HSV", "PA"]


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=25)
@given(width=st.integers(1, 60), height=st.integers(1, 60), size=st.integers(1, 40), seed=st.integers(0, 99))
def test_any_picture_equals_the_official_pipeline(mode, width, height, size, seed):
    picture = noise(mode, width, height, seed)
    ours = Preprocess(size)(picture)
    assert np.array_equal(ours, official(picture, size))
    assert ours.shape == (3, size, size) and ours.dtype == np.float32 and ours.flags.c_contiguous


@pytest.mark.filterwarnings("ignore:Palette images with Transparency")  # Pillow's, in the official pipeline too
@pytest.mark.parametrize("mode", ["P", "RGB", "L"])
@pytest.mark.parametrize("entire", [True, False])
def test_a_transparent_colour_equals_the_official_pipeline(mode, entire):
    picture = noise(mode, 30, 20)
    # PNG's tRNS is one transparent colour, or, with a palette, the opacity of each colour.
    colour = {"P": 7, "RGB": (7, 8, 9), "L": 7}[mode]
    picture.info["transparency"] = bytes(range(256)) if mode == "P" and not entire else colour
    assert np.array_equal(Preprocess(16)(picture), official(picture, 16))


@pytest.mark.parametrize("size", [224, 336])
@pytest.mark.parametrize("width, height", [(640, 480), (333, 500), (224, 224), (1, 1), (1, 9), (100, 37)])
def test_the_sizes_of_the_models_equal_the_official_pipeline(size, width, height):
    picture = noise("RGB", width, height)
    assert np.array_equal(Preprocess(size)(picture), official(picture, size))


def test_the_long_side_is_truncated_the_corner_rounded_to_even_and_the_colour_converted_last():
    # CLIP.png, the picture of the official README, has this size, and transparent pixels too.
    picture = noise("RGBA", 2162, 762)

    def square(long, corner, picture=picture):
        resized = picture.resize((long, 224), BICUBIC)
        return np.asarray(resized.crop((corner, 0, corner + 224, 224)).convert("RGB"))

    ours = np.asarray(resize_and_crop(picture, (224, 224)).convert("RGB"))
    assert np.array_equal(ours, square(635, 206))
    for slip in (square(636, 206), square(635, 205), square(635, 206, picture.convert("RGB"))):
        assert not np.array_equal(ours, slip)  # each of these mistakes was found in another library
    assert np.array_equal(Preprocess(224)(picture), official(picture, 224))


@pytest.mark.filterwarnings("ignore")  # the library's deprecation warnings
@pytest.mark.parametrize("size, side", [(8, 1), (32, 50), (224, 224), (224, 300), (224, 100)])
def test_a_square_picture_equals_hugging_faces_processor(size, side):
    # Square, because for other sizes it rounds the corner down.
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    processor = CLIPImageProcessorPil(size={"shortest_edge": size}, crop_size={"height": size, "width": size})
    picture = noise("RGB", side, side)
    theirs = np.asarray(processor(picture, return_tensors="np")["pixel_values"])[0]
    # It may multiply by 1/255 instead of dividing by 255: the error is one rounding of a number up to 1, over std.
    assert np.abs(Preprocess(size)(picture) - theirs).max() <= np.finfo(np.float32).eps / min(STD)


def test_what_is_looked_up_is_what_the_formula_gives():
    levels = np.arange(256, dtype=np.uint8)
    assert np.array_equal(NORMALIZED, normalize(np.stack([levels] * 3, axis=1)).T)
    assert NORMALIZED.dtype == np.float32


# ---------------------------------------------------------------------------------------------------- forms of pictures


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
@pytest.mark.parametrize("form", ["str", "Path", "open file", "array", "list"])
def test_each_form_of_a_picture_gives_the_same(tmp_path, mode, form):
    picture = noise(mode, 30, 20)
    path = tmp_path / "picture.png"
    picture.save(path)
    if form == "open file":  # Pillow reads the pixels only when they are needed
        with Image.open(path) as lazy:
            ours = Preprocess(8)(lazy)
    elif form == "list":
        ours = Preprocess(8)([path])[0]
    else:
        ours = Preprocess(8)({"str": str(path), "Path": path, "array": np.asarray(picture)}[form])
    assert np.array_equal(ours, official(picture, 8))


@pytest.mark.parametrize("shape", [(9, 12), (9, 12, 1), (9, 12, 3), (9, 12, 4)])
@pytest.mark.parametrize("step", [1, 2])  # 2: a view of every second pixel
def test_an_array_is_grey_rgb_or_rgba(shape, step):
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)[::step, ::-step]
    mode = {(): "L", (1,): "L", (3,): "RGB", (4,): "RGBA"}[shape[2:]]
    picture = Image.frombytes(mode, (array.shape[1], array.shape[0]), array.tobytes())
    assert np.array_equal(Preprocess(8)(array), official(picture, 8))


def test_a_list_of_pictures_is_a_batch_of_each():
    several = [noise("RGB", 30, 20), np.asarray(noise("L", 9, 9)), noise("P", 7, 31)]
    preprocess = Preprocess(8)
    for batch in (preprocess(several), preprocess(tuple(several))):
        assert batch.shape == (3, 3, 8, 8) and batch.dtype == np.float32
        assert all(np.array_equal(row, preprocess(picture)) for row, picture in zip(batch, several))


def test_no_picture_is_a_batch_of_none():
    batch = Preprocess(8)([])
    assert batch.shape == (0, 3, 8, 8) and batch.dtype == np.float32


def test_a_backend_gets_its_own_arrays():
    preprocess, picture = Preprocess(8, torch_ops.asarray), noise("RGB", 30, 20)
    for one, shape in ((picture, (3, 8, 8)), ([picture, picture], (2, 3, 8, 8)), ([], (0, 3, 8, 8))):
        ours = preprocess(one)
        assert isinstance(ours, torch.Tensor) and ours.dtype == torch.float32 and ours.shape == shape
        assert np.array_equal(ours.numpy(), Preprocess(8)(one))


def test_the_picture_given_is_left_as_it_was():
    picture = noise("P", 30, 20)
    before = picture.copy()
    Preprocess(8)(picture)
    assert picture.mode == "P" and picture.size == (30, 20) and picture.tobytes() == before.tobytes()


def test_exif_rotation_is_not_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: to be turned by 90 degrees
    noise("RGB", 30, 20).save(tmp_path / "turned.jpg", exif=exif)
    noise("RGB", 30, 20).save(tmp_path / "plain.jpg")
    assert np.array_equal(Preprocess(8)(tmp_path / "turned.jpg"), Preprocess(8)(tmp_path / "plain.jpg"))


def turned(path):
    """A picture in a file that says that it is to be turned by 90 degrees; and the picture after that."""
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = noise("RGB", 30, 20)
    picture.save(path, exif=exif)
    return picture.transpose(Image.Transpose.ROTATE_270)


@pytest.mark.parametrize("form", ["path", "open image"])
def test_exif_rotation_is_applied_if_asked_for(tmp_path, form):
    upright, path = turned(tmp_path / "turned.png"), tmp_path / "turned.png"
    picture = path if form == "path" else Image.open(path)
    assert pictures.is_turned(picture) and not pictures.is_turned(upright)
    for preprocess in (Preprocess(8, exif=True), miniclip.load("shapes", exif=True)[1]):
        assert np.array_equal(preprocess(picture), type(preprocess)(preprocess.image_size)(upright))


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_its_steps_are_openais(backend):
    _, preprocess = miniclip.load("shapes", backend=backend)
    for mode in ("RGB", "RGBA", "P", "L"):
        picture = x = noise(mode, 61, 40)
        for step in preprocess.transforms:
            x = step(x)
        assert type(x) is type(preprocess(picture)) and np.array_equal(np.asarray(x), official(picture, 48))
    assert [step.name for step in preprocess.transforms][-1] == "normalize"
