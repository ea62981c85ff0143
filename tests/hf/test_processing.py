"""miniclip.hf's processors of pictures, and of texts and pictures, against transformers' classes of the same names."""

# ruff: noqa: F811  fixtures are imported, and are arguments of the same name

import types

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from small_vocabularies import directories  # noqa: F401

import miniclip
from miniclip import InputError, families, hf
from miniclip.families import clip

# ------------------------------------------------------------------------------------------------------------- pictures


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


def test_settings_are_transformers(image_processors, tmp_path):
    ours, theirs = image_processors
    idle = (
        {"image_processor_type", "image_mean", "image_std"}
        if theirs.do_normalize is False
        else {"image_processor_type"}
    )
    for name in theirs.to_dict().keys() - idle:
        value = theirs.to_dict()[name]
        assert ours.to_dict()[name] == getattr(ours, name) == (list(value) if isinstance(value, tuple) else value), name
    ours.save_pretrained(tmp_path)
    np.testing.assert_array_equal(
        theirs.from_pretrained(tmp_path)(pictures(), return_tensors="np")["pixel_values"],
        theirs(pictures(), return_tensors="np")["pixel_values"],
    )
    assert type(ours).from_pretrained(tmp_path).to_dict() == ours.to_dict()


def test_other_ways_to_prepare_pictures_are_refused(image_processors):
    ours, _ = image_processors
    with pytest.raises(InputError, match=f"{type(ours).__name__} takes no nonsense here"):
        ours(pictures(), nonsense=3)
    for settings in ({"do_resize": False}, {"resample": 0}, {"rescale_factor": 0.5}):
        with pytest.raises(InputError, match=rf"{type(ours).__name__}: prepares pictures with {next(iter(settings))}"):
            ours.preprocess(pictures(), **settings)
        with pytest.raises(InputError, match=next(iter(settings))):
            type(ours)(**settings)
    same = {name: tuple(x) if isinstance(x, list) else x for name, x in ours.to_dict().items()}
    assert type(ours)(**same).to_dict() == ours.to_dict()
    with pytest.raises(InputError, match=r"crop_size is \{'side': 3\}, expected a height and a width"):
        type(ours)(crop_size={"side": 3})
    assert hf.CLIPFeatureExtractor is hf.CLIPImageProcessor
    assert hf.CLIPImageProcessor().size == {"shortest_edge": 224}


# ----------------------------------------------------------------------------------------------------------- processors


@pytest.mark.filterwarnings("ignore:.max_length. is ignored")
@pytest.mark.parametrize("family", ["CLIP", "Align"])
def test_texts_and_pictures_go_together_as_in_transformers(directories, family, tmp_path):
    directory = directories["CLIP" if family == "CLIP" else "Bert"]
    ours, theirs = (getattr(module, f"{family}Processor").from_pretrained(directory) for module in (hf, transformers))
    texts, images = ["a cat", "the dogs sat"], pictures()[:2]
    for inputs in ({"text": texts, "images": images}, {"text": texts}, {"images": images}, {"text": "a cat"}):
        for kind in ("np", "pt"):
            found = ours(**inputs, return_tensors=kind, padding=True)
            expected = theirs(**inputs, return_tensors=kind, padding=True)
            assert list(found) == list(expected)
            for name in expected:
                assert found[name].dtype == expected[name].dtype
                np.testing.assert_allclose(found[name], expected[name], atol=1e-6)
    default = ours(text=texts, images=images), theirs(text=texts, images=images)
    assert default[0].input_ids == default[1].input_ids  # ALIGN's texts are padded to 64
    for x, y in zip(
        *(ours(*pair, return_tensors="np", padding=True).values() for pair in ((images, texts), (texts, images)))
    ):
        np.testing.assert_array_equal(x, y)
    ids = theirs(text=texts)["input_ids"]
    assert ours.batch_decode(ids) == theirs.batch_decode(ids) and ours.decode(ids[0]) == theirs.decode(ids[0])
    assert sorted(ours.model_input_names) == sorted(theirs.model_input_names)
    assert ours.feature_extractor is ours.image_processor
    ours.save_pretrained(tmp_path / "m")
    again = type(theirs).from_pretrained(tmp_path / "m")
    for name, x in again(text=texts, images=images, return_tensors="np", padding=True).items():
        np.testing.assert_allclose(x, theirs(text=texts, images=images, return_tensors="np", padding=True)[name])
    with pytest.raises(InputError, match="neither text nor images"):
        ours()
    for options, message in (({"do_resize": False}, "do_resize = False"), ({"nonsense": 3}, "takes no nonsense")):
        with pytest.raises(InputError, match=message):
            ours(images=images, padding=True, **options)
    with pytest.raises(InputError, match=f"this {family}Processor was made without its image_processor"):
        type(ours)(tokenizer=ours.tokenizer)(text=texts, images=images)
    Image.fromarray(images[0]).save(tmp_path / "one.png")
    assert list(ours(images=str(tmp_path / "one.png"), return_tensors="np")) == ["pixel_values"]
    with pytest.raises(AttributeError, match="this encoding has no pixels, only input_ids"):
        _ = ours(text=texts).pixels


def test_inputs_change_their_dtype_where_they_are_floats(directories):
    inputs = hf.CLIPProcessor.from_pretrained(directories["CLIP"])(text="a", images=pictures(), return_tensors="pt")
    inputs.to("cpu", torch.float16)
    assert (inputs.pixel_values.dtype, inputs.input_ids.dtype) == (torch.float16, torch.int64)


def test_inputs_move_to_a_device(directories):
    inputs = hf.CLIPProcessor.from_pretrained(directories["CLIP"])(text="a", images=pictures(), return_tensors="pt")
    assert inputs.to("meta") is inputs and {x.device.type for x in inputs.values()} == {"meta"}


def test_families_that_prepare_pictures_alike_share_an_image_processor(monkeypatch):
    names = types.SimpleNamespace(preprocessor=clip.huggingface.preprocessor)
    monkeypatch.setattr(families, "FAMILIES", (clip.FAMILY._replace(huggingface=names),))
    assert hf.CLIPImageProcessor.from_pretrained("shapes").crop_size == {"height": 48, "width": 48}


def test_a_model_of_another_source_has_its_processor():
    processor = hf.CLIPProcessor.from_pretrained("shapes")
    model, preprocess = miniclip.load("shapes")
    inputs = processor(text=["a red heart"], images="weights/example.png", return_tensors="np")
    np.testing.assert_array_equal(inputs.pixel_values, preprocess(["weights/example.png"]))
    assert inputs.input_ids[0].tolist() == [*model.tokenize("a red heart")[0, : inputs.input_ids.shape[1]]]
    assert processor.tokenizer.model_max_length == 32
    with pytest.raises(InputError, match="EfficientNetImageProcessor cannot prepare pictures for this model"):
        hf.EfficientNetImageProcessor.from_pretrained("shapes")
