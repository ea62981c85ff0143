"""M-CLIP's text encoders, against its formula over transformers' models."""

# ruff: noqa: F811  fixtures are imported, and are arguments of the same name

import json

import numpy as np
import pytest
from backends import HERE
from text_encoders import TEXTS, E, save_mclip, small
from xlm_roberta_vocabularies import sentencepiece_bytes, xlm_roberta_directories  # noqa: F401

import miniclip
from miniclip import checkpoints
from miniclip.checkpoints.convert import convert
from miniclip.families.multilingual import bases
from miniclip.tokenizers.wordpiece import WordPiece
from miniclip.tokenizers.xlm_roberta import XLMRoberta

BASES = {"xlm-roberta-large": XLMRoberta, "setu4993/LaBSE": WordPiece}


def test_official_sizes():
    assert bases.name_of(bases.bert("xlm-roberta-large")) == bases.name_of(bases.bert("FacebookAI/xlm-roberta-large"))
    assert (bases.bert("setu4993/LaBSE").vocab_size, bases.bert("xlm-roberta-large").width) == (501153, 1024)


@pytest.fixture(scope="module", params=BASES)
def saved(request, xlm_roberta_directories, tmp_path_factory):
    """(the BERT's name, the directory, the features of TEXTS)"""
    directory = tmp_path_factory.mktemp("mclip")
    expected = save_mclip(directory, request.param, xlm_roberta_directories["tokenizer.json"])
    vocab = checkpoints.huggingface.MODEL_TYPES["M-CLIP"].load_tokenizer(directory, None)
    with small(request.param, len(vocab)):
        yield request.param, directory, expected


def test_texts_have_mclips_features(saved, relative_error):
    base, directory, expected = saved
    for path in (directory, directory / "pytorch_model.bin"):
        model, preprocess = miniclip.load(path, "numpy")
        assert preprocess is None and model.config.embed_dim == E
        assert isinstance(model.tokenizer, BASES[base])
        assert relative_error(model.encode_text(model.tokenize(TEXTS)), expected) < 1e-5
        for text, row in zip(TEXTS, expected):
            assert relative_error(model.encode_text(model.tokenize(text))[0], row) < 1e-5


def test_a_robertas_padding_may_be_before_a_text(saved, relative_error):
    base, directory, expected = saved
    model = miniclip.load(directory, "numpy")[0]
    tokens = np.roll(model.tokenize(TEXTS), 3, axis=1)  # the last three of all are padding
    assert (tokens[:, :3] == model.config.text.pad_token_id).all()
    same = relative_error(model.encode_text(tokens), expected) < 1e-5
    assert same == (base == "xlm-roberta-large")  # a BERT counts the places of tokens


@pytest.mark.parametrize("backend", HERE)
def test_texts_have_mclips_features_on_every_backend(backend, saved, relative_error):
    _, directory, expected = saved
    model = miniclip.load(directory, backend, device="cpu")[0]
    assert relative_error(model.ops.to_numpy(model.encode_text(model.tokenize(TEXTS))), expected) < 1e-5


def test_our_own_file_and_mclips_form_keep_it(saved, tmp_path):
    _, directory, _ = saved
    ours = miniclip.load(directory, "numpy")[0]
    convert(directory, tmp_path / "m.safetensors", "miniclip")
    convert(directory, tmp_path / "again", "hf")
    for path in (tmp_path / "m.safetensors", tmp_path / "again"):
        again = miniclip.load(path, "numpy")[0]
        assert again.config == ours.config and type(again.tokenizer) is type(ours.tokenizer)
        np.testing.assert_array_equal(again.encode_text(again.tokenize(TEXTS)), ours.encode_text(ours.tokenize(TEXTS)))
    config = json.loads((directory / "config.json").read_text())
    written = json.loads((tmp_path / "again" / "config.json").read_text())
    assert {name: written[name] for name in config} == config


def test_other_configurations_are_refused(saved, tmp_path):
    _, directory, _ = saved
    source = json.loads((directory / "config.json").read_text())
    (tmp_path / "pytorch_model.bin").write_bytes((directory / "pytorch_model.bin").read_bytes())
    for change, message in (
        (
            {"modelBase": "bert-base-cased"},
            "text tower is transformers' 'bert-base-cased', and miniclip knows those of",
        ),
        ({"transformerDimensions": 768}, "transformerDimensions is 768, but its BERT is 24 wide"),
        ({"numDims": 17}, r"text\.projection\.weight"),
    ):
        (tmp_path / "config.json").write_text(json.dumps({**source, **change}))
        with pytest.raises(miniclip.InputError, match=message):
            miniclip.load(tmp_path)
    model = miniclip.load(directory, "numpy")[0]
    with pytest.raises(miniclip.InputError, match="no visual tower"):
        model.encode_image(np.zeros((1, 3, 8, 8), np.float32))
