"""A Chinese-CLIP and an AltCLIP in use: zero-shot, the command line, explanations, adapters."""

# ruff: noqa: F811  fixtures are imported, and are arguments of the same name

import copy
import json

import hf_models
import numpy as np
import peft_adapters
import pytest
import torch
import transformers
from chinese_clip_models import alt, small  # noqa: F401
from commands import miniclip as command

import miniclip
from miniclip import InputError, explain, zero_shot
from miniclip.cli import main

LABELS = ["一只猫的照片", "杰尼龟"]
PICTURE = "weights/example.png"


@pytest.fixture(scope="module")
def expected(small):
    """transformers' probabilities of both labels for the picture."""
    processor = transformers.ChineseCLIPProcessor.from_pretrained(small)
    official = transformers.ChineseCLIPModel.from_pretrained(small).eval()
    with torch.no_grad():
        inputs = processor(text=LABELS, images=processor.image_processor.fetch_images(PICTURE), padding=True)
        logits = official(**inputs.convert_to_tensors("pt")).logits_per_image
    return logits.softmax(-1).numpy()


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_zero_shot_gives_transformers_probabilities(backend, small, expected):
    model, preprocess = miniclip.load(small, backend)
    found = model.ops.to_numpy(zero_shot.classify(model, preprocess([PICTURE]), LABELS))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_the_command_line_takes_chinese_labels(small, expected, capsys):
    done = command("classify", PICTURE, "--labels", *LABELS, "--model", small, "--json")
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(done.stdout)
    found = {entry["label"]: entry["probability"] for entry in result["labels"]}
    np.testing.assert_allclose([found[label] for label in LABELS], expected[0], rtol=1e-4)
    assert main(["info", str(small)]) in (0, None)
    assert "family: multilingual" in capsys.readouterr().out


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize("family", ["small", "alt"])
def test_pictures_and_texts_are_explained(family, backend, request):
    model, _ = miniclip.load(request.getfixturevalue(family), backend)
    inputs = hf_models.batch(transformers.AutoConfig.from_pretrained(request.getfixturevalue(family)), np.asarray)
    images, tokens, mask = inputs["pixel_values"], inputs["input_ids"], inputs["attention_mask"]
    found = explain.relevance(model, images, tokens, layers=2)
    assert found.patches.shape == (3, 3, 3) and found.tokens.shape == tokens.shape
    assert found.patches.min() >= 0 and found.tokens.min() >= 0 and found.patches.max() > 0
    assert not found.tokens[mask == 0].any() and (found.tokens[:, 0] > 0).all()
    np.testing.assert_allclose(found.score, np.diag(model.ops.to_numpy(model(images, tokens)[0])), rtol=1e-4)
    assert explain.attention_maps(model, images).shape == (3, 3, 5, 3, 3)


def test_a_mean_of_tokens_has_no_explanation(small):
    from dataclasses import replace

    model, _ = miniclip.load(small)
    model.config = replace(model.config, text=replace(model.config.text, pool="mean"))
    with pytest.raises(InputError, match="no explanation yet for towers of BertCLIP"):
        explain.relevance(model, np.zeros((3, 30, 30), np.float32), np.ones(4, int))


@pytest.mark.parametrize("family", ["ChineseCLIP", "AltCLIP"])
def test_an_adapter_of_peft_is_added_to_the_weights(family, tmp_path):
    sizes = {"ChineseCLIP": hf_models.CHINESE, "AltCLIP": hf_models.ALT}[family]["small"]
    base, adapter, inputs, _, merged = peft_adapters.made(tmp_path, family, sizes, target_modules="all-linear")
    found = peft_adapters.ours(miniclip.load(base, adapter=adapter)[0], inputs)
    peft_adapters.check(found, merged, 1e-5)


@pytest.mark.parametrize("family", ["small", "alt"])
def test_a_copy_of_a_model_computes_the_same(family, request):
    model, _ = miniclip.load(request.getfixturevalue(family), "torch")
    tokens = np.array([[7, 8, 1, 9]])
    np.testing.assert_array_equal(copy.deepcopy(model).encode_text(tokens), model.encode_text(tokens))
