"""MetaCLIP 2 of transformers: CLIP's towers, where the id 2 ends a text, and XLM-V's tokenizer."""

import json
import string

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import (
    MetaClip2Config,
    MetaClip2Model,
    MetaClip2TextModel,
    MetaClip2TextModelWithProjection,
    MetaClip2VisionModel,
    MetaClip2VisionModelWithProjection,
    XLMRobertaTokenizer,
)

import miniclip
from miniclip import InputError, checkpoints
from miniclip.checkpoints.convert import convert
from miniclip.tokenizers.cleaned import Cleaned

TOWER = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 48, "intermediate_size": 72}
TEXT = {**TOWER, "vocab_size": 90, "eos_token_id": 2, "bos_token_id": 0, "max_position_embeddings": 12}
SIZES = {"text_config": TEXT, "vision_config": {**TOWER, "image_size": 32, "patch_size": 8}, "projection_dim": 24}
TOWERS = {
    MetaClip2TextModelWithProjection: "text_embeds",
    MetaClip2TextModel: "pooler_output",
    MetaClip2VisionModelWithProjection: "image_embeds",
    MetaClip2VisionModel: "pooler_output",
}
PIECES = [*("<s>", "<pad>", "</s>", "<unk>"), *(f"▁{x}" for x in "abcdefgst"), *string.ascii_lowercase, *"!,日é▁", "at"]
FAMILIAR = st.sampled_from([*string.printable, *"▁éßİ日本語\u00a0\u2028", "</s>", "<unk>", "<pad>", "cat", " a", "  "])
TEXTS = st.lists(st.one_of(st.characters(exclude_categories=["Cs"]), FAMILIAR, FAMILIAR)).map("".join)


def official(kind, config):
    torch.manual_seed(0)
    model = kind._from_config(config).eval()
    with torch.no_grad():
        for x in model.parameters():
            x.add_((0.1 if x.ndim < 2 else 0.02) * torch.randn_like(x))
    return model


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """(transformers' model, a directory with it and its tokenizer)."""
    directory = tmp_path_factory.mktemp("metaclip") / "m"
    model = official(MetaClip2Model, MetaClip2Config(**SIZES))
    model.save_pretrained(directory)
    tokenizer = XLMRobertaTokenizer([(piece, -i / 10) for i, piece in enumerate(PIECES)], model_max_length=12)
    tokenizer.save_pretrained(directory)
    return model, directory


@pytest.fixture(scope="module")
def tokenizers(saved):
    """(ours, transformers')."""
    return checkpoints.load(saved[1])[2], XLMRobertaTokenizer.from_pretrained(saved[1])


def batch():
    """Pictures, and texts with one end, two ends, an end at once and none."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(3, 90, (5, 12))
    tokens[0, 5] = tokens[1, 3] = tokens[1, 8] = tokens[2, 0] = tokens[3, 11] = 2
    return rng.standard_normal((2, 3, 32, 32), np.float32), tokens


@pytest.mark.parametrize("form", ["transformers", "miniclip", "written"])
def test_features_are_transformers(form, saved, tmp_path, relative_error):
    model, path = saved
    if form != "transformers":
        to = {"miniclip": ("m.safetensors", "miniclip"), "written": ("m", "hf")}[form]
        convert(path, tmp_path / to[0], to[1])
        path = tmp_path / to[0]
    if form == "written":
        assert type(MetaClip2Model.from_pretrained(path)) is MetaClip2Model
        assert json.loads((path / "config.json").read_text())["model_type"] == "metaclip_2"
    ours, (images, tokens) = miniclip.load(path, "numpy")[0], batch()
    with torch.no_grad():
        image = model.get_image_features(pixel_values=torch.from_numpy(images)).pooler_output.numpy()
        text = model.get_text_features(input_ids=torch.from_numpy(tokens)).pooler_output.numpy()
    assert relative_error(ours.encode_image(images), image) < 1e-5
    assert relative_error(ours.encode_text(tokens), text) < 1e-5


@pytest.mark.parametrize("kind", TOWERS)
def test_a_tower_alone_is_transformers(kind, tmp_path, relative_error):
    config, (images, tokens) = MetaClip2Config(**SIZES), batch()
    is_text = "Text" in kind.__name__
    model = official(kind, config.text_config if is_text else config.vision_config)
    model.save_pretrained(tmp_path / "m")
    ours = miniclip.load(tmp_path / "m", "numpy")[0]
    with torch.no_grad():
        theirs = model(torch.from_numpy(tokens if is_text else images))[TOWERS[kind]].numpy()
    assert relative_error(ours.encode_text(tokens) if is_text else ours.encode_image(images), theirs) < 1e-5
    convert(tmp_path / "m", tmp_path / "again", "hf")
    assert checkpoints.load(tmp_path / "again")[0] == checkpoints.load(tmp_path / "m")[0]


@given(texts=st.lists(TEXTS, min_size=1, max_size=3))
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_any_texts_become_the_tokens_of_transformers(tokenizers, texts):
    ours, theirs = tokenizers
    expected = theirs(texts, padding="max_length", max_length=12, truncation=True, return_tensors="np")["input_ids"]
    np.testing.assert_array_equal(ours.tokenize(texts, 12, truncate=True), expected)


def test_a_text_that_is_none_is_refused(tokenizers):
    assert type(tokenizers[0]) is Cleaned
    with pytest.raises(InputError, match="a character that is no text"):
        tokenizers[0].encode("\ud800")
