"""miniclip.hf's processors of texts and pictures, against transformers' classes of the same names."""

# ruff: noqa: F811  fixtures are imported, and are arguments of the same name

import types

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from small_vocabularies import directories  # noqa: F401

import miniclip
from miniclip import InputError, hf
from miniclip.families import clip

DIRECTORIES = {"CLIP": "CLIP", "Align": "Bert", "ChineseCLIP": "Chinese"}


def pictures():
    rng = np.random.default_rng(0)
    sizes = [(40, 40), (64, 64), (60, 90), (31, 31)]
    return [rng.integers(0, 256, (*size, 3), np.uint8) for size in sizes]


@pytest.mark.filterwarnings("ignore:.max_length. is ignored")
@pytest.mark.parametrize("family", DIRECTORIES)
def test_texts_and_pictures_go_together_as_in_transformers(directories, family, tmp_path):
    directory = directories[DIRECTORIES[family]]
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
    files = ours.save_pretrained(tmp_path / "m")
    assert all((tmp_path / "m" / file).exists() for file in files)
    again = type(theirs).from_pretrained(tmp_path / "m")
    for name, x in again(text=texts, images=images, return_tensors="np", padding=True).items():
        np.testing.assert_allclose(x, theirs(text=texts, images=images, return_tensors="np", padding=True)[name])
    with pytest.raises(InputError, match="neither text nor images"):
        ours()
    with pytest.raises(InputError, match="takes no nonsense"):
        ours(images=images, padding=True, nonsense=3)
    with pytest.raises(InputError, match=f"this {family}Processor was made without its image_processor"):
        type(ours)(tokenizer=ours.tokenizer)(text=texts, images=images)
    Image.fromarray(images[0]).save(tmp_path / "one.png")
    assert list(ours(images=str(tmp_path / "one.png"), return_tensors="np")) == ["pixel_values"]
    with pytest.raises(AttributeError, match="this encoding has no pixels, only input_ids"):
        _ = ours(text=texts).pixels


@pytest.mark.parametrize("family", DIRECTORIES)
def test_settings_of_a_call_and_groups_of_them_are_as_in_transformers(directories, family):
    directory = directories[DIRECTORIES[family]]
    ours, theirs = (getattr(module, f"{family}Processor").from_pretrained(directory) for module in (hf, transformers))
    inputs = {"text": ["a cat", "the dogs sat"], "images": pictures()[:2]}
    settings = {"do_normalize": False, "size": 30, "crop_size": 20}
    texts = {"padding": "max_length", "max_length": 20}
    for options in (
        {**settings, **texts, "return_tensors": "np"},
        {"images_kwargs": settings, "text_kwargs": texts, "common_kwargs": {"return_tensors": "np"}},
        {"images_kwargs": settings, "text_kwargs": {}, **texts, "return_tensors": "np"},
    ):
        found, expected = ours(**inputs, **options), theirs(**inputs, **options)
        assert list(found) == list(expected)
        for name in expected:
            np.testing.assert_allclose(found[name], expected[name], atol=1e-6)
    for processor in (ours, theirs):
        with pytest.raises(ValueError):
            processor(**inputs, padding=True, text_kwargs={"padding": False})
    assert ours.get_attributes() == theirs.get_attributes() and ours.chat_template is theirs.chat_template is None
    given = type(ours).from_pretrained(directory, image_processor=ours.image_processor, do_normalize=False)
    assert given.image_processor is ours.image_processor
    assert type(ours).from_pretrained(directory, do_normalize=False).image_processor.do_normalize is False
    kept = ours.to_dict()
    assert kept["processor_class"] == theirs.to_dict()["processor_class"] and str(kept["image_processor"]["size"])
    assert ours.to_json_string().startswith("{") and "image_processor" in repr(ours)


def test_inputs_change_their_dtype_where_they_are_floats(directories):
    inputs = hf.CLIPProcessor.from_pretrained(directories["CLIP"])(text="a", images=pictures(), return_tensors="pt")
    inputs.to("cpu", torch.float16)
    assert (inputs.pixel_values.dtype, inputs.input_ids.dtype) == (torch.float16, torch.int64)


def test_inputs_move_to_a_device(directories):
    inputs = hf.CLIPProcessor.from_pretrained(directories["CLIP"])(text="a", images=pictures(), return_tensors="pt")
    assert inputs.to("meta") is inputs and {x.device.type for x in inputs.values()} == {"meta"}


def test_families_that_prepare_pictures_alike_share_an_image_processor(monkeypatch):
    names = types.SimpleNamespace(preprocessor=clip.huggingface.preprocessor)
    monkeypatch.setattr(type(clip.FAMILY), "huggingface", names)
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
