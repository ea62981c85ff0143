"""Pictures and texts of Chinese-CLIP and AltCLIP are prepared as by transformers."""

# ruff: noqa: F811  fixtures are imported, and are arguments of the same name

import json
import shutil

import numpy as np
import pytest
import transformers
from chinese_clip_models import alt, small  # noqa: F401
from PIL import Image

import miniclip
from miniclip import hf

SIZES = [(300, 400), (401, 300), (30, 30), (31, 30), (10, 7), (1, 1), (1000, 20)]
SETTINGS = [
    {},
    {"size": {"height": 30, "width": 30}, "do_center_crop": False},  # as the official Chinese-CLIP's
    {"size": 30, "crop_size": 30},
    {"size": {"shortest_edge": 37}, "crop_size": {"height": 30, "width": 30}, "resample": 2},
    {"size": {"height": 35, "width": 40}, "crop_size": 30, "image_mean": [0.5] * 3, "do_rescale": False},
]


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("family", ["ChineseCLIP", "AltCLIP"])
def test_pictures_are_prepared_as_in_transformers(family, settings, alt, small, tmp_path):
    shutil.copytree({"ChineseCLIP": small, "AltCLIP": alt}[family], tmp_path / "m")
    kind = {"ChineseCLIP": "ChineseCLIPImageProcessor", "AltCLIP": "CLIPImageProcessor"}[family]
    theirs = getattr(transformers, f"{kind}Pil")(**{"size": {"shortest_edge": 30}, "crop_size": 30, **settings})
    theirs.save_pretrained(tmp_path / "m")
    preprocess = miniclip.load(tmp_path / "m")[1]
    ours = getattr(hf, f"{family}Processor").image_processor_class.from_pretrained(tmp_path / "m")
    for size in SIZES:
        for mode in ("RGB", "L", "RGBA"):
            pixels = np.random.default_rng(0).integers(0, 256, (*size, 4), np.uint8)
            picture = Image.fromarray(pixels).convert(mode)
            expected = theirs(picture, return_tensors="np")["pixel_values"]
            np.testing.assert_allclose(ours(picture, return_tensors="np")["pixel_values"], expected, atol=1e-6)
            np.testing.assert_allclose(preprocess([picture]), expected, atol=1e-6)
    again = json.loads(ours.to_json_string())
    assert again["image_processor_type"] == kind and type(ours).from_dict(again).to_dict() == ours.to_dict()
    ours.save_pretrained(tmp_path / "saved")
    same = getattr(transformers, f"{kind}Pil").from_pretrained(tmp_path / "saved")
    np.testing.assert_array_equal(same(picture)["pixel_values"], theirs(picture)["pixel_values"])


def test_without_settings_pictures_are_prepared_by_transformers_defaults(alt):
    preprocess = miniclip.load(alt)[1]
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (61, 40, 3), np.uint8))
    theirs = transformers.CLIPImageProcessorPil(size={"shortest_edge": 30}, crop_size=30)(picture, return_tensors="np")
    np.testing.assert_allclose(preprocess([picture]), theirs["pixel_values"], atol=1e-6)
    bigger = miniclip.load(alt, image_size=48)[1]
    assert bigger([picture]).shape == (1, 3, 48, 48)


TEXTS = ["一只猫的照片", "杰尼龟", "abc 妙蛙种子, bac", "", "皮卡丘" * 30]


def test_tokens_are_transformers(small):
    model, _ = miniclip.load(small)
    theirs = transformers.BertTokenizer.from_pretrained(small)
    options = {"padding": "max_length", "truncation": True, "max_length": 20, "return_tensors": "np"}
    expected = theirs(TEXTS, **options)["input_ids"]
    np.testing.assert_array_equal(model.tokenize(TEXTS, truncate=True), expected)
    np.testing.assert_array_equal(
        hf.ChineseCLIPProcessor.from_pretrained(small)(text=TEXTS, **options)["input_ids"], expected
    )


def test_an_altclip_without_its_vocabulary_says_so(alt):
    with pytest.raises(miniclip.InputError, match=r"came without vocabulary: set model.tokenizer = XLMRoberta\.load"):
        miniclip.load(alt)[0].tokenize("a cat")
    with pytest.raises(miniclip.InputError, match="has no vocabulary for a XLMRobertaTokenizer"):
        hf.AltCLIPProcessor.from_pretrained(alt)


def test_a_damaged_vocabulary_is_named(small, tmp_path):
    shutil.copytree(small, tmp_path / "m")
    for content in ("[]", '{"model": 3}', '{"model": {"vocab": 3}}', '{"model"'):
        (tmp_path / "m" / "tokenizer.json").write_text(content)
        with pytest.raises(miniclip.InputError, match=r"tokenizer\.json"):
            miniclip.load(tmp_path / "m")
