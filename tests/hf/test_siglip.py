"""miniclip.hf's tokenizers and processors of SigLIP, against transformers' classes of the same names."""

# ruff: noqa: F811  fixtures are imported, and are arguments of the same name

import warnings

import numpy as np
import pytest
import transformers
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from siglip_models import SIZES, official
from siglip_vocabularies import gemma_directory, sentencepiece, spiece_directory  # noqa: F401

import miniclip
from miniclip import InputError, hf
from miniclip.checkpoints.convert import convert

TEXTS = ["a photo of cats", "Dogs!", "the cat sat, on the red mat and the mat sat on a dog", ""]
KINDS = ["SiglipTokenizer", "GemmaTokenizer", "Siglip2Tokenizer"]


@pytest.fixture(scope="module", params=KINDS)
def tokenizers(request, gemma_directory):
    """(ours, theirs)"""
    kind = request.param
    directory = gemma_directory.get(kind) or request.getfixturevalue("spiece_directory")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [getattr(module, kind).from_pretrained(directory) for module in (hf, transformers)]


def plain(encoding):
    return {name: x.tolist() if hasattr(x, "tolist") else x for name, x in encoding.items()}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"padding": True},
        {"padding": "max_length"},
        {"padding": "max_length", "max_length": 9, "truncation": True},
        {"truncation": True, "max_length": 5},
        {"add_special_tokens": False, "padding": True},
        {"add_special_tokens": False, "truncation": True, "max_length": 3},
        {"padding": True, "return_attention_mask": True},
        {"padding": True, "padding_side": "left", "return_special_tokens_mask": True},
    ],
    ids=str,
)
def test_batches_are_encoded_as_by_transformers(tokenizers, options):
    ours, theirs = tokenizers
    assert plain(ours(TEXTS, **options)) == plain(theirs(TEXTS, **options))
    for one in TEXTS:
        assert plain(ours(one, **options)) == plain(theirs(one, **options))
    pairs = [("a cat", "the red dog")]
    assert plain(ours(pairs, **options)) == plain(theirs(pairs, **options))


@pytest.mark.filterwarnings("ignore:This sequence already has")
@given(text=st.lists(st.sampled_from(["a", " ", "</s>", "<unk>", "<eos>", "Cat", "日本", ".", "▁"])).map("".join))
def test_any_text_is_a_row_of_transformers(tokenizers, text):
    ours, theirs = tokenizers
    assert ours(text)["input_ids"] == theirs(text)["input_ids"]
    assert ours.tokenize(text) == theirs.tokenize(text)


def test_names_of_tokens_are_transformers(tokenizers):
    ours, theirs = tokenizers
    assert ours.special_tokens_map == {name: str(x) for name, x in theirs.special_tokens_map.items()}
    assert ours.all_special_ids == theirs.all_special_ids and ours.get_vocab() == theirs.get_vocab()
    for name in ("pad_token_id", "eos_token_id", "unk_token_id", "model_max_length", "padding_side", "vocab_size"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert ours.model_input_names == list(theirs.model_input_names) and len(ours) == len(theirs)
    ids = theirs(TEXTS[2])["input_ids"]
    assert ours.decode(ids) == theirs.decode(ids)
    assert ours.decode(ids, skip_special_tokens=True) == theirs.decode(ids, skip_special_tokens=True)
    assert ours.convert_ids_to_tokens(ids) == theirs.convert_ids_to_tokens(ids)


def test_each_reads_what_the_other_writes(tokenizers, tmp_path):
    ours, theirs = tokenizers
    ours.save_pretrained(tmp_path / "ours")
    theirs.save_pretrained(tmp_path / "theirs")
    for again in (type(theirs).from_pretrained(tmp_path / "ours"), type(ours).from_pretrained(tmp_path / "theirs")):
        assert again(TEXTS, padding="max_length")["input_ids"] == theirs(TEXTS, padding="max_length")["input_ids"]


def test_new_tokens_are_refused(tokenizers):
    ours, _ = tokenizers
    with pytest.raises(InputError, match=r"'<new>' is not in the vocabulary: a .* takes no new tokens"):
        ours.add_tokens(["<new>"])
    assert ours("<new> a")["input_ids"] == ours("<new> a")["input_ids"]


def test_offsets_are_those_of_transformers_or_refused(tokenizers):
    ours, theirs = tokenizers
    if isinstance(ours, hf.SiglipTokenizer):
        with pytest.raises(InputError, match="does not say where its tokens are"):
            ours(TEXTS, return_offsets_mapping=True)
    else:
        options = {"return_offsets_mapping": True}
        assert plain(ours(TEXTS, **options)) == plain(theirs(TEXTS, **options))


def test_tokenizers_are_made_of_a_file(spiece_directory, gemma_directory):
    with pytest.raises(InputError, match="SiglipTokenizer has no vocabulary of its own"):
        hf.SiglipTokenizer()
    with pytest.raises(InputError, match="GemmaTokenizer has no vocabulary of its own"):
        hf.GemmaTokenizer()
    for kind in (hf.SiglipTokenizer, hf.GemmaTokenizer, hf.Siglip2Tokenizer):
        with pytest.raises(InputError, match="nothing: "):
            kind("nothing")
    ours = hf.SiglipTokenizer(spiece_directory / "spiece.model")
    assert ours.model_max_length == 64 and ours.do_lower_case and ours.canonicalize_text("A T-shirt!") == "a tshirt"
    theirs = transformers.SiglipTokenizer(str(spiece_directory / "spiece.model"))
    assert plain(ours(TEXTS, padding=True)) == plain(theirs(TEXTS, padding=True))  # with a mask, as in transformers
    capitals = hf.SiglipTokenizer(spiece_directory / "spiece.model", do_lower_case=False)
    assert capitals("Dogs")["input_ids"] != ours("Dogs")["input_ids"]
    ours = hf.GemmaTokenizer(gemma_directory["GemmaTokenizer"] / "tokenizer.json", padding_side="right")
    assert (
        ours("a cat")["input_ids"]
        == hf.GemmaTokenizer.from_pretrained(gemma_directory["GemmaTokenizer"])("a cat")["input_ids"]
    )


# ------------------------------------------------------------------------------------------------------------ processor


@pytest.fixture(scope="module", params=["SigLIP", "SigLIP 2"])
def directory(request, gemma_directory, tmp_path_factory):
    """A directory with a model, its vocabulary and the settings of its pictures, as transformers writes them."""
    directory, second = tmp_path_factory.mktemp("whole") / "m", request.param == "SigLIP 2"
    kind, source = transformers.SiglipTokenizer, None
    if second:
        kind, source = transformers.GemmaTokenizer, gemma_directory["GemmaTokenizer"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tokenizer = kind.from_pretrained(source or request.getfixturevalue("spiece_directory"))
    sizes = {**SIZES["small"], "text_config": {**SIZES["small"]["text_config"], "vocab_size": len(tokenizer)}}
    official(sizes).save_pretrained(directory)
    images = transformers.SiglipImageProcessorPil(size={"height": 30, "width": 30}, resample=2 if second else 3)
    transformers.SiglipProcessor(images, tokenizer).save_pretrained(directory)
    return directory


def pictures():
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)) for size in [(40, 40), (60, 90)]]


def test_a_processor_and_a_model_are_transformers(directory, relative_error):
    ours, theirs = (module.SiglipProcessor.from_pretrained(directory) for module in (hf, transformers))
    inputs = {"text": ["a cat", "the dogs sat"], "images": pictures(), "padding": "max_length", "return_tensors": "pt"}
    found, expected = ours(**inputs), theirs(**inputs)
    assert list(found) == list(expected)
    for name, x in expected.items():
        assert found[name].dtype == x.dtype
        np.testing.assert_array_equal(found[name], x)
    model = transformers.SiglipModel.from_pretrained(directory).eval()
    logits = model(**expected).logits_per_image.detach().numpy()
    same = hf.SiglipModel.from_pretrained(directory)(**found).logits_per_image.detach().numpy()
    assert relative_error(same, logits) < 1e-5
    whole, preprocess = miniclip.load(directory)
    images, tokens = preprocess(inputs["images"]), whole.tokenize(inputs["text"])
    assert relative_error(whole(images, tokens)[0], logits) < 1e-5
    probabilities = miniclip.zero_shot.classify(whole, images, inputs["text"])
    np.testing.assert_allclose(probabilities, 1 / (1 + np.exp(-logits)), rtol=1e-5)


def test_a_processor_is_saved_for_transformers_and_read_from_our_file(directory, tmp_path):
    ours = hf.SiglipProcessor.from_pretrained(directory)
    ours.save_pretrained(tmp_path / "m")
    convert(directory, tmp_path / "m.safetensors", "miniclip")
    inputs = {"text": ["a cat", "the dogs sat"], "images": pictures(), "padding": "max_length", "return_tensors": "np"}
    expected = ours(**inputs)
    for again in (
        transformers.SiglipProcessor.from_pretrained(tmp_path / "m"),
        hf.SiglipProcessor.from_pretrained(tmp_path / "m"),
        hf.SiglipProcessor.from_pretrained(tmp_path / "m.safetensors"),
    ):
        for name in ("input_ids", "pixel_values"):
            np.testing.assert_array_equal(again(**inputs)[name], expected[name])


def test_settings_of_pictures_are_transformers(tmp_path):
    ours, theirs = hf.SiglipImageProcessor(), transformers.SiglipImageProcessorPil()
    assert {name: x for name, x in ours.to_dict().items() if x is not None} == {
        name: x for name, x in theirs.to_dict().items() if x is not None
    }
    for settings in ({}, {"size": 30}, {"size": {"height": 20, "width": 30}, "do_normalize": False}, {"resample": 2}):
        for image in pictures():
            found = ours(image, return_tensors="np", **settings)["pixel_values"]
            np.testing.assert_array_equal(found, theirs(image, return_tensors="np", **settings)["pixel_values"])
