"""miniclip.hf's image processor and processor of SigLIP 2's NaFlex, against transformers' classes of the same names."""

# ruff: noqa: F811  fixtures are imported, and are arguments of the same name

import numpy as np
import pytest
import torch
import transformers
from naflex_models import image_processor, pictures, save_whole, small  # noqa: F401
from PIL import Image
from siglip_vocabularies import gemma_directory  # noqa: F401

import miniclip
from miniclip import InputError, hf
from miniclip.checkpoints.convert import convert


def same(found, expected):
    assert list(found) == list(expected)
    for name, x in expected.items():
        assert type(found[name]) is type(x), name
        if isinstance(x, list):
            assert [type(row) for row in found[name]] == [type(row) for row in x], name
        np.testing.assert_array_equal(np.asarray(found[name]), np.asarray(x), err_msg=name)
        assert getattr(found[name], "dtype", None) == getattr(x, "dtype", None)


# ------------------------------------------------------------------------------------------------------ image processor


@pytest.mark.parametrize("return_tensors", [None, "np", "pt"])
def test_pictures_are_prepared_as_by_transformers(return_tensors):
    ours, theirs = hf.Siglip2ImageProcessor(patch_size=8, max_num_patches=30), image_processor()
    arrays = pictures(6)
    kinds = {
        "arrays": arrays,
        "PIL": [Image.fromarray(x) for x in arrays],
        "tensors": [torch.from_numpy(x).permute(2, 0, 1) for x in arrays],
        "floats": [x.astype(np.float32) / 255 for x in arrays],
        "one": arrays[1],
    }
    for images in kinds.values():
        same(ours(images, return_tensors=return_tensors), theirs(images, return_tensors=return_tensors))


@pytest.mark.parametrize(
    "settings",
    [
        {"max_num_patches": 7},
        {"patch_size": 5},
        {"do_normalize": False},
        {"do_rescale": False},
        {"resample": 3},
        {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.4]},
        {"rescale_factor": 0.5},
    ],
    ids=str,
)
def test_settings_are_honoured_in_every_way(settings, tmp_path):
    for way in ("call", "constructor", "file"):
        results = []
        for kind in (hf.Siglip2ImageProcessor, transformers.Siglip2ImageProcessorPil):
            base = {"patch_size": 8, "max_num_patches": 30}
            processor = kind(**{**base, **(settings if way == "constructor" else {})})
            if way == "file":
                kind(**{**base, **settings}).save_pretrained(tmp_path / kind.__name__)
                processor = kind.from_pretrained(tmp_path / kind.__name__)
            results.append(processor(pictures(), return_tensors="np", **(settings if way == "call" else {})))
        same(*results)


def test_settings_are_transformers(tmp_path):
    ours, theirs = hf.Siglip2ImageProcessor(), transformers.Siglip2ImageProcessorPil()
    assert ours.to_dict() == theirs.to_dict()
    assert ours.model_input_names == theirs.model_input_names
    ours.save_pretrained(tmp_path)
    assert type(theirs).from_pretrained(tmp_path).to_dict() == theirs.to_dict()


def test_its_steps_are_transformers():
    ours, theirs = hf.Siglip2ImageProcessor(), transformers.Siglip2ImageProcessorPil()
    image = pictures(1)[0].transpose(2, 0, 1)
    size = transformers.image_utils.SizeDict(height=30, width=20)
    np.testing.assert_array_equal(ours.resize(image, {"height": 30, "width": 20}), theirs.resize(image, size))
    np.testing.assert_array_equal(ours.rescale(image, 0.5), theirs.rescale(image, 0.5))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"do_resize": False}, "do_resize is False, but pictures must be resized to whole patches"),
        ({"patch_size": "large"}, "patch_size is 'large', expected a number of pixels"),
        ({"max_num_patches": 0}, "size is 0, expected positive integers"),
        ({"size": {"height": 3, "width": 3}}, "takes no size here"),
    ],
    ids=str,
)
def test_other_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        hf.Siglip2ImageProcessor()(pictures(1), **settings)


def test_no_pictures_are_an_empty_batch():
    assert {name: len(x) for name, x in hf.Siglip2ImageProcessor()([]).items()} == {
        "pixel_values": 0,
        "pixel_attention_mask": 0,
        "spatial_shapes": 0,
    }


# ------------------------------------------------------------------------------------------------------------ processor


@pytest.fixture(scope="module", params=["GemmaTokenizer", "Siglip2Tokenizer"])
def directory(request, gemma_directory, tmp_path_factory):
    """A directory with a model, its vocabulary and the settings of its pictures, as transformers writes them."""
    directory = tmp_path_factory.mktemp("whole") / "m"
    save_whole(directory, request.param, gemma_directory[request.param])
    return directory


TEXTS = ["a red cat", "the dogs sat " * 40]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"max_num_patches": 30},
        {"padding": True, "max_length": 9},
        {"images_kwargs": {"max_num_patches": 12}, "text_kwargs": {"max_length": 20}},
    ],
    ids=str,
)
def test_a_processor_and_a_model_are_transformers(directory, options, relative_error):
    ours, theirs = (module.Siglip2Processor.from_pretrained(directory) for module in (hf, transformers))
    inputs = {"text": TEXTS, "images": pictures(2), "return_tensors": "pt", **options}
    found, expected = ours(**inputs), theirs(**inputs)
    same(found, expected)
    with torch.no_grad():
        logits = transformers.Siglip2Model.from_pretrained(directory).eval()(**expected).logits_per_image.numpy()
        same_logits = hf.Siglip2Model.from_pretrained(directory)(**found).logits_per_image.numpy()
    assert relative_error(same_logits, logits) < 1e-5


def test_texts_become_lower_case_whatever_the_files_say(directory):
    model, _ = miniclip.load(directory)
    theirs = transformers.AutoTokenizer.from_pretrained(directory)(["A RED Cat", "a red cat"], padding="max_length")
    assert theirs["input_ids"][0] == theirs["input_ids"][1]
    assert model.tokenize(["A RED Cat"], 16).tolist() == theirs["input_ids"][:1]
    for kind in (hf.Siglip2Tokenizer, hf.AutoTokenizer):
        ours = kind.from_pretrained(directory)(["A RED Cat", "a red cat"], padding="max_length")
        assert ours["input_ids"] == theirs["input_ids"]


def test_the_tokenizer_makes_texts_lower_case_without_a_model(gemma_directory):
    for directory in gemma_directory.values():
        ours, theirs = (module.Siglip2Tokenizer.from_pretrained(directory) for module in (hf, transformers))
        assert ours("A RED Cat")["input_ids"] == theirs("A RED Cat")["input_ids"] == ours("a red cat")["input_ids"]


def test_load_prepares_pictures_as_the_file_says(directory, relative_error):
    """transformers' processor always makes 256 patches of 16, if a call does not say how many."""
    model, preprocess = miniclip.load(directory)
    processor = transformers.Siglip2Processor.from_pretrained(directory)
    inputs = processor(text=["a red cat"], images=pictures(), max_num_patches=30, return_tensors="pt")
    with torch.no_grad():
        logits = transformers.Siglip2Model.from_pretrained(directory).eval()(**inputs).logits_per_image.numpy()
    assert relative_error(model(preprocess(pictures()), model.tokenize(["a red cat"]))[0], logits) < 1e-5


def test_a_processor_is_saved_for_transformers_and_read_from_our_file(directory, tmp_path):
    ours = hf.Siglip2Processor.from_pretrained(directory)
    ours.save_pretrained(tmp_path / "m")
    convert(directory, tmp_path / "m.safetensors", "miniclip")
    inputs = {"text": TEXTS, "images": pictures(2), "return_tensors": "np"}
    expected = ours(**inputs)
    for again in (
        transformers.Siglip2Processor.from_pretrained(tmp_path / "m"),
        hf.Siglip2Processor.from_pretrained(tmp_path / "m"),
        hf.Siglip2Processor.from_pretrained(tmp_path / "m.safetensors"),
    ):
        found = again(**inputs)
        same({name: found[name] for name in expected}, expected)  # our file does not say whether there is a mask
        assert again.image_processor.max_num_patches == 30
    with pytest.raises(InputError, match="SiglipImageProcessor cannot prepare pictures for this model"):
        hf.SiglipImageProcessor.from_pretrained(tmp_path / "m.safetensors")


def test_the_classes_are_those_that_the_files_name(directory):
    for kind in ("AutoModel", "AutoProcessor", "AutoTokenizer", "AutoImageProcessor", "AutoConfig"):
        expected = type(getattr(transformers, kind).from_pretrained(directory)).__name__.removesuffix("Pil")
        assert type(getattr(hf, kind).from_pretrained(directory)).__name__ == expected
    model, processor = hf.from_pretrained(directory, processor=True, backend="numpy")
    assert type(model) is hf.Siglip2Model and type(processor) is hf.Siglip2Processor
    inputs = processor(text="a red cat", images=pictures(1), return_tensors="np")
    assert model(**inputs).logits_per_image.shape == (1, 1)


# --------------------------------------------------------------------------------------------------------------- inputs


def test_inputs_that_do_not_fit_are_refused_by_name(small):
    model, processor = hf.Siglip2Model.from_pretrained(small), hf.Siglip2ImageProcessor.from_pretrained(small)
    inputs = processor(pictures(2), return_tensors="np")
    mask = inputs["pixel_attention_mask"]
    for change, message in (
        ({"spatial_shapes": None}, "spatial_shapes is missing"),
        ({"spatial_shapes": inputs["spatial_shapes"] + 9}, "grids are .* expected from 1 to 30 patches"),
        ({"pixel_attention_mask": mask[:, ::-1]}, "pixel_attention_mask is .* for patches .* ones and then zeros"),
        ({"pixel_values": inputs["pixel_values"][:, :, :-1]}, r"patches are .* expected \(B, N, 192\)"),
    ):
        with pytest.raises(InputError, match=message):
            model.get_image_features(**{**inputs, **change})
