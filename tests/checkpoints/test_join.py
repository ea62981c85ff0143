"""The pictures of one model and the texts of another in one space: `load(..., text=...)` and `convert --text`."""

import json

import numpy as np
import pytest
from checkout import ROOT
from text_encoders import TEXTS, save_sentence_transformer

import miniclip
from miniclip import checkpoints
from miniclip.cli import main
from miniclip.families.multilingual.config import MultilingualConfig

PICTURE = ROOT / "weights" / "example.png"
LABELS = ["a red cat", "un chat rouge", "красная кошка"]


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """A text tower whose features have as many numbers as the built-in model's, without a tower for pictures."""
    directory = tmp_path_factory.mktemp("texts")
    save_sentence_transformer(directory, embed_dim=128)
    return directory


def test_pictures_and_the_scale_are_the_first_s_and_texts_the_second_s(texts, relative_error):
    model, preprocess = miniclip.load("shapes", "numpy", text=texts)
    (shapes, own), (encoder, _) = miniclip.load("shapes", "numpy"), miniclip.load(texts, "numpy")
    image, tokens = preprocess([PICTURE]), model.tokenize(TEXTS)
    np.testing.assert_array_equal(image, own([PICTURE]))
    np.testing.assert_array_equal(tokens, encoder.tokenize(TEXTS))
    np.testing.assert_array_equal(model.encode_image(image), shapes.encode_image(image))
    np.testing.assert_array_equal(model.encode_text(tokens), encoder.encode_text(tokens))
    a, b = shapes.encode_image(image, normalize=True), encoder.encode_text(tokens, normalize=True)
    assert relative_error(model(image, tokens)[0], np.exp(shapes.params["logit_scale"]) * a @ b.T) < 1e-5
    assert type(model.config) is MultilingualConfig


def test_the_command_line_uses_a_joined_file(texts, tmp_path, capsys):
    path = tmp_path / "joined.safetensors"
    assert main(["convert", "shapes", str(path), "--to", "miniclip", "--text", str(texts)]) == 0
    capsys.readouterr()
    assert main(["classify", str(PICTURE), "--model", str(path), "--json", "--labels", *LABELS]) == 0
    model, preprocess = miniclip.load("shapes", "numpy", text=texts)
    logits = model(preprocess([PICTURE]), model.tokenize(LABELS))[0][0]
    shares = np.exp(logits - logits.max())
    found = {each["label"]: each["probability"] for each in json.loads(capsys.readouterr().out)[0]["labels"]}
    assert [found[label] for label in LABELS] == pytest.approx((shares / shares.sum()).tolist(), rel=1e-4)
    again = miniclip.load(path, "numpy")[0]
    assert again.config == model.config
    np.testing.assert_array_equal(again.tokenize(TEXTS), model.tokenize(TEXTS))


def test_towers_that_do_not_fit_are_refused_by_name(texts, tmp_path):
    save_sentence_transformer(tmp_path)
    with pytest.raises(miniclip.InputError, match=r"features of shapes have 128 numbers and .* 16: they are not"):
        miniclip.load("shapes", text=tmp_path)
    with pytest.raises(miniclip.InputError, match=r"has no visual tower, so it cannot be joined with shapes"):
        miniclip.load(texts, text="shapes")
    with pytest.raises(miniclip.InputError, match="shapes: its text tower cannot be joined, only a BERT or a RoBERTa"):
        miniclip.load("shapes", text="shapes")
    config, tree, _ = checkpoints.load(texts)
    pictures = checkpoints.load(miniclip.fetch.hub.find("shapes"))
    for_pictures = {"visual": pictures[1]["visual"]}
    with pytest.raises(miniclip.InputError, match="the model: has no logit_scale"):
        checkpoints.join.join((pictures[0], for_pictures, None), (config, tree, None))
    with pytest.raises(miniclip.InputError, match=r"nothing\.safetensors: no such file"):
        miniclip.load("shapes", text=tmp_path / "nothing.safetensors")
