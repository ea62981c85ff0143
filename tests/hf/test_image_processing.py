"""miniclip.hf's image processors against transformers' classes of the same names, on Pillow."""

# ruff: noqa: F811  fixtures are imported, and are arguments of the same name

import base64
import io
import json

import numpy as np
import pytest
import torch
import transformers
from official_pictures import noise, official
from PIL import Image
from small_vocabularies import directories  # noqa: F401

from miniclip import InputError, hf


def pictures():
    rng = np.random.default_rng(0)
    sizes = [(40, 40), (64, 64), (60, 90), (31, 31)]
    return [rng.integers(0, 256, (*size, 3), np.uint8) for size in sizes]


@pytest.fixture(scope="module", params=["CLIP", "Bert"])
def image_processors(request, directories):
    """(ours, theirs)"""
    name = {"CLIP": "CLIPImageProcessor", "Bert": "EfficientNetImageProcessor"}[request.param]
    return [
        getattr(module, name).from_pretrained(directories[request.param])
        for module, name in ((hf, name), (transformers, f"{name}Pil"))
    ]


def test_pictures_are_prepared_as_by_transformers(image_processors):
    ours, theirs = image_processors
    arrays = pictures()
    expected = theirs(arrays, return_tensors="np")["pixel_values"]
    kinds = {
        "arrays": arrays,
        "PIL": [Image.fromarray(x) for x in arrays],
        "tensors": [torch.from_numpy(x) for x in arrays],
        "channels first": [torch.from_numpy(x).permute(2, 0, 1) for x in arrays],
        "lists": [[arrays[0]], arrays[1:]],
        "floats": [x.astype(np.float32) for x in arrays],
    }
    for images in kinds.values():
        found = ours.preprocess(images, return_tensors="np")
        np.testing.assert_allclose(found.pixel_values, expected, atol=1e-6)
    assert isinstance(ours(arrays, return_tensors="pt")["pixel_values"], torch.Tensor)
    lists = ours(arrays[0])["pixel_values"]
    assert isinstance(lists, list) and lists[0].shape == expected.shape[1:]
    square = np.stack([arrays[0], arrays[0][::-1]])
    np.testing.assert_array_equal(ours(square, return_tensors="np").pixel_values[0], lists[0])
    assert ours(torch.from_numpy(square), return_tensors="np").pixel_values.shape == (2, *expected.shape[1:])
    last = ours(arrays, return_tensors="np", data_format="channels_last").pixel_values
    np.testing.assert_allclose(last.transpose(0, 3, 1, 2), expected, atol=1e-6)


def test_settings_are_transformers(image_processors, tmp_path):
    ours, theirs = image_processors
    assert ours.to_dict() == theirs.to_dict() and json.loads(ours.to_json_string()) == json.loads(
        theirs.to_json_string()
    )
    for name, value in theirs.to_dict().items():
        assert name == "image_processor_type" or getattr(ours, name) == value, name
    (file,) = ours.save_pretrained(tmp_path)
    assert theirs.from_pretrained(tmp_path).to_dict() == theirs.to_dict()
    for again in (
        type(ours).from_pretrained(tmp_path),
        type(ours).from_pretrained(file),
        type(ours).from_json_file(file),
        type(ours).from_dict(ours.to_dict()),
        type(ours)(**ours.to_dict()),
    ):
        assert again.to_dict() == ours.to_dict()
    ours.to_json_file(tmp_path / "other.json")
    assert json.loads((tmp_path / "other.json").read_text()) == json.loads(ours.to_json_string())
    changed, rest = type(ours).from_pretrained(tmp_path, do_normalize=True, foo=1, return_unused_kwargs=True)
    assert changed.do_normalize is True and rest == {"foo": 1}
    assert type(ours).get_image_processor_dict(tmp_path, foo=1) == (json.loads(ours.to_json_string()), {"foo": 1})


@pytest.mark.parametrize("name", ["CLIPImageProcessor", "EfficientNetImageProcessor"])
def test_without_settings_they_are_transformers_own(name):
    ours, theirs = getattr(hf, name)(), getattr(transformers, f"{name}Pil")()
    assert ours.to_dict() == theirs.to_dict()
    assert hf.CLIPFeatureExtractor is hf.CLIPImageProcessor


SETTINGS = [
    {"do_rescale": False},
    {"do_normalize": False},
    {"do_rescale": False, "do_normalize": False, "include_top": False},
    {"do_resize": False},
    {"do_center_crop": False, "size": {"height": 30, "width": 44}},
    {"image_mean": [0.5, 0.4, 0.3], "image_std": 0.25},
    {"size": 50, "crop_size": 30},
    {"size": {"shortest_edge": 33}, "crop_size": (30, 70), "resample": 0},
    {"rescale_factor": -1.0},
]


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("way", ["constructor", "attribute", "call"])
def test_settings_are_honoured_in_every_way(image_processors, settings, way):
    settings = {name: x for name, x in settings.items() if name != "include_top" or hasattr(image_processors[0], name)}
    results = []
    for processor in image_processors:
        changed = type(processor)(**processor.to_dict() | (settings if way == "constructor" else {}))
        if way == "attribute":
            for name, value in settings.items():
                setattr(changed, name, value)
        for picture in pictures():
            results.append(changed(picture, return_tensors="np", **(settings if way == "call" else {}))["pixel_values"])
    for found, expected in zip(results[:4], results[4:]):
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK"])
def test_transparency_is_white_and_rgb_comes_first(mode):
    picture = noise(mode, 60, 60)
    ours, theirs = hf.CLIPImageProcessor(), transformers.CLIPImageProcessorPil()
    found, expected = (processor(picture, return_tensors="np")["pixel_values"] for processor in (ours, theirs))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    grey = ours(noise("L", 60, 60), do_convert_rgb=False, image_mean=0.5, image_std=0.5, return_tensors="np")
    assert grey.pixel_values.shape == (1, 1, 224, 224)


def test_a_clip_crops_as_openai_does_and_other_settings_as_transformers():
    picture, ours = noise("RGB", 60, 41), hf.CLIPImageProcessor(size=20, crop_size=20)  # a margin of 29 - 20 columns
    np.testing.assert_array_equal(ours(picture, return_tensors="np").pixel_values[0], official(picture, 20))


@pytest.mark.parametrize("form", ["path", "bytes", "open file", "base64", "data"])
def test_files_are_turned_and_opened_as_by_load_image(form, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    noise("RGBA", 60, 40).convert("RGB").save(tmp_path / "turned.png", exif=exif)
    content = (tmp_path / "turned.png").read_bytes()
    text = base64.b64encode(content).decode()
    given = {
        "path": str(tmp_path / "turned.png"),
        "bytes": content,
        "open file": io.BytesIO(content),
        "base64": text,
        "data": f"data:image/png;base64,{text}",
    }[form]
    expected = transformers.CLIPImageProcessorPil()(str(tmp_path / "turned.png"), return_tensors="np")["pixel_values"]
    np.testing.assert_allclose(hf.CLIPImageProcessor()(given, return_tensors="np").pixel_values, expected, atol=1e-6)


def test_the_four_steps_are_transformers(image_processors):
    ours, theirs = image_processors
    pixels = pictures()[2].transpose(2, 0, 1)  # (3, 60, 90)
    from transformers.image_utils import SizeDict

    for name, arguments, others in (
        ("resize", ({"height": 20, "width": 31},), (SizeDict(height=20, width=31),)),
        ("resize", ({"shortest_edge": 20}, 3), (SizeDict(shortest_edge=20), 3)),
        ("center_crop", ({"height": 31, "width": 100},), (SizeDict(height=31, width=100),)),
        ("rescale", (1 / 255,), (1 / 255,)),
        ("normalize", ([0.5, 0.4, 0.3], 0.25), ([0.5, 0.4, 0.3], 0.25)),
    ):
        found, expected = getattr(ours, name)(pixels, *arguments), getattr(theirs, name)(pixels, *others)
        np.testing.assert_allclose(found, expected, atol=1e-6)
    last = ours.resize(pixels.transpose(1, 2, 0), 20, input_data_format="channels_last")
    assert last.shape[2] == 3
    if isinstance(ours, hf.EfficientNetImageProcessor):
        np.testing.assert_array_equal(ours.rescale(pixels, 0.5, True), theirs.rescale(pixels, 0.5, True))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (None, "picture 0 is an object of type NoneType, expected a path"),
        (3, "picture 0 is an object of type int"),
        ([pictures()[0], [None]], "picture 1 is an object of type NoneType"),
        ([[1, 2], [3]], "picture 0 is an object of type int"),
        (np.zeros((5, 5, 7), np.uint8), r"picture 0 is an array of uint8 \(5, 5, 7\), expected 1, 3 or 4 channels"),
        (np.zeros((5, 5, 3), np.int64), "picture 0 is an array of int64"),
        (np.full((5, 5, 3), 300.0), "picture 0 has floats from 300 to 300, expected 0 to 1"),
        (np.full((5, 5, 3), np.nan), "picture 0 has floats from nan"),
        (np.zeros((0, 5, 3), np.uint8), "no pixels"),
        ("there is no such file", "there is no such file: no such file"),
        ("https://example.com/cat.png", "miniclip fetches no pictures: pass its bytes"),
    ],
)
def test_what_is_not_a_picture_is_named(images, message):
    with pytest.raises(InputError, match=message):
        hf.CLIPImageProcessor()(images, return_tensors="np")


@pytest.mark.parametrize("kind", [hf.CLIPImageProcessor, hf.EfficientNetImageProcessor])
def test_impossible_settings_are_named_in_every_way(kind):
    for settings, message in (
        ({"crop_size": 0, "do_center_crop": True}, "crop_size is 0, expected positive"),
        ({"crop_size": 8.5, "do_center_crop": True}, "crop_size is 8.5"),
        ({"size": -1}, "size is -1"),
        ({"size": {"side": 3}}, ".*expected a shortest_edge, or a height and a width"),
        ({"resample": "best"}, "resample is 'best'"),
        ({"image_mean": "grey"}, "image_mean is 'grey'"),
    ):
        with pytest.raises(InputError, match=f"{kind.__name__}: {message}"):
            kind(**settings)
        with pytest.raises(InputError, match=f"{kind.__name__}: {message}"):
            kind()(pictures(), **settings)
        processor = kind()
        for name, value in settings.items():
            setattr(processor, name, value)
        with pytest.raises(InputError, match=f"{kind.__name__}: {message}"):
            processor(pictures())
    with pytest.raises(InputError, match=f"{kind.__name__} takes no nonsense here"):
        kind()(pictures(), nonsense=3)
    with pytest.raises(InputError, match=r"the pictures become .*: one tensor needs one size"):
        kind()(pictures(), return_tensors="np", do_resize=False, do_center_crop=False)
    with pytest.raises(InputError, match="has 3 channels, but mean and std have 2 and 2"):
        kind()(pictures(), image_mean=[0.5, 0.5], image_std=[1, 1])
    with pytest.raises(AttributeError, match="has no nonsense, only size, crop_size"):
        _ = kind().nonsense
    with pytest.raises(InputError, match="token is a str: set the environment variable HF_TOKEN"):
        kind.from_pretrained("shapes", token="hf_1")


@pytest.mark.parametrize("kind", [hf.CLIPImageProcessor, hf.EfficientNetImageProcessor])
@pytest.mark.parametrize("step", ["do_resize", "do_center_crop", "do_rescale", "do_normalize"])
def test_a_step_that_is_none_is_left_out(kind, step):
    theirs = getattr(transformers, f"{kind.__name__}Pil")(**{step: None})
    expected = theirs(pictures()[:1], return_tensors="np")["pixel_values"]
    found = kind(**{step: None})(pictures()[:1], return_tensors="np")["pixel_values"]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-5)
