"""AltCLIP's processor with XLM-RoBERTa's tokenizer, against transformers' classes of the same names."""

# ruff: noqa: F811  fixtures are imported, and are arguments of the same name

import numpy as np
import pytest
import torch
import transformers
from chinese_clip_models import save_alt
from PIL import Image
from xlm_roberta_vocabularies import sentencepiece_bytes, xlm_roberta_directories  # noqa: F401

import miniclip
from miniclip import hf

TEXTS = ["a photo of a red cat", "красная кошка, <mask>", "日本語の猫"]


@pytest.fixture(scope="module")
def directory(xlm_roberta_directories, tmp_path_factory):
    """A directory with an AltCLIP, its tokenizer and the settings of its pictures, as transformers writes them."""
    place = tmp_path_factory.mktemp("altclip") / "m"
    save_alt(place, xlm_roberta_directories["tokenizer.json"])
    return place


def test_the_processor_and_the_model_do_what_transformers_do(directory, relative_error):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 41, 3), np.uint8))
    ours, theirs = (module.AltCLIPProcessor.from_pretrained(directory) for module in (hf, transformers))
    found, expected = (each(text=TEXTS, images=picture, padding=True, return_tensors="pt") for each in (ours, theirs))
    assert found.keys() == expected.keys() and type(ours.tokenizer) is hf.XLMRobertaTokenizer
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], atol=2e-6)
    model, processor = hf.from_pretrained(directory, processor=True)
    assert type(processor) is hf.AltCLIPProcessor
    with torch.no_grad():
        logits = transformers.AltCLIPModel.from_pretrained(directory)(**expected).logits_per_image
        assert relative_error(model(**found).logits_per_image, logits) < 1e-5


def test_its_tokens_are_those_of_the_processor(directory):
    model = miniclip.load(directory, "numpy")[0]
    tokens = model.tokenize(TEXTS)
    expected = hf.AutoTokenizer.from_pretrained(directory)(TEXTS, padding="max_length", max_length=tokens.shape[1])
    np.testing.assert_array_equal(tokens, expected["input_ids"])
