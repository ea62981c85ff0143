"""Chinese-CLIP and AltCLIP against transformers' models on the same random weights, stage by stage."""

# ruff: noqa: F811  fixtures are imported, and are arguments of the same name

import hf_models
import numpy as np
import pytest
import torch
from backends import HERE, QUICK
from chinese_clip_models import SIZES, alt, pair, small  # noqa: F401
from stages import block_stages, compare, outputs, traced

import miniclip
from miniclip.families.bert import BertConfig
from miniclip.towers import bert


@pytest.mark.parametrize("backend", QUICK)
def test_the_image_tower_equals_transformers_stage_by_stage(pair, backend, relative_error):
    official, directory = pair
    ours, _ = miniclip.load(directory, backend)
    images, tower = hf_models.batch(official.config)["pixel_values"], official.vision_model
    halves = [half for layer in tower.encoder.layers for half in (layer.layer_norm2, layer)]
    parts = [tower.embeddings, tower.pre_layrnorm, *halves, tower.post_layernorm, official.visual_projection]
    found, _ = outputs(parts, lambda: official.get_image_features(images))
    count = len(tower.encoder.layers)
    names = ["embeddings", "ln_pre", *(f"blocks.{i}.mlp" for i in range(count)), "ln_post", "features"]
    theirs = dict(zip(names, [*found[:2], *found[3:-2:2], *found[-2:]]))
    images = images.numpy()
    stages = traced(ours, ours.encode_image, images)
    compare({name: stages[name] for name in names}, theirs, relative_error)
    assert relative_error(ours.ops.to_numpy(ours.encode_image(images)), theirs["features"].numpy()) < 1e-5


@pytest.mark.parametrize("backend", QUICK)
def test_the_text_tower_equals_transformers_stage_by_stage(pair, backend, relative_error):
    official, directory = pair
    ours, _ = miniclip.load(directory, backend)
    inputs = hf_models.of_tower(hf_models.batch(official.config), "Text")
    tokens, lengths = inputs["input_ids"].numpy(), inputs["attention_mask"].numpy().sum(1)
    is_alt, tower = hasattr(official.config.text_config, "project_dim"), official.text_model
    encoder = tower.roberta.encoder.layers if is_alt else tower.encoder.layer
    parts = [*(layer.attention for layer in encoder), official.text_projection]
    found, output = outputs(parts, lambda: official.get_text_features(**inputs, **hf_models.LOOK))
    theirs = block_stages(output, found[:-1])
    if is_alt:
        theirs |= {"tokens": output.last_hidden_state, "pooler": output.last_hidden_state[:, 0]}
    theirs["features"] = found[-1]
    compare(traced(ours, ours.encode_text, tokens), theirs, relative_error)
    for given in ({}, {"lengths": lengths}):
        features = ours.ops.to_numpy(ours.encode_text(tokens, **given))
        assert relative_error(features, theirs["features"].numpy()) < 1e-5


@pytest.mark.parametrize("backend", QUICK)
def test_logits_equal_transformers(pair, backend, relative_error):
    official, directory = pair
    ours, _ = miniclip.load(directory, backend)
    inputs = hf_models.batch(official.config)
    with torch.no_grad():
        theirs = official(**inputs)
    found = ours(inputs["pixel_values"].numpy(), inputs["input_ids"].numpy())
    for x, expected in zip(found, (theirs.logits_per_image, theirs.logits_per_text)):
        assert relative_error(ours.ops.to_numpy(x), expected.numpy()) < 1e-5


def test_triton_computes_the_same(alt, relative_error):
    if "triton" not in HERE:
        pytest.skip("Triton is not installed")
    reference, ours = miniclip.load(alt)[0], miniclip.load(alt, "triton")[0]
    tokens = np.array([[7, 8, 1, 9], [7, 9, 1, 1]])
    assert relative_error(ours.ops.to_numpy(ours.encode_text(tokens)), reference.encode_text(tokens)) < 1e-5


def test_padding_before_a_text_would_be_the_text(alt):
    ours, _ = miniclip.load(alt)
    with pytest.raises(miniclip.InputError, match="a text begins with padding"):
        ours.encode_text(np.array([[1, 1, 7, 8, 9], [7, 8, 9, 1, 1]]))
    ours.encode_text(np.array([[1, 1, 1, 1, 1], [7, 8, 9, 1, 1]]))


def test_padding_is_not_counted_and_only_a_mask_hides_it(alt, relative_error):
    """modeling_altclip.py, create_position_ids_from_input_ids."""
    official = hf_models.official("AltCLIP", hf_models.ALT["small"])
    ours, _ = miniclip.load(alt)
    tokens = np.array([[7, 1, 1, 8, 9, 1, 1, 1], [1, 1, 7, 8, 1, 9, 1, 1]])
    for lengths in ([5, 6], [8, 8], [7, 6]):
        mask = torch.from_numpy((np.arange(8) < np.array(lengths)[:, None]) * 1)
        with torch.no_grad():
            expected = official.get_text_features(torch.from_numpy(tokens), mask).pooler_output.numpy()
        assert relative_error(ours.encode_text(tokens, lengths=np.array(lengths)), expected) < 1e-5
    other = ours.encode_text(np.array([[7, 8, 9, 1, 1, 1, 1, 1], [7, 8, 9, 1, 1, 1, 1, 1]]))
    assert relative_error(other, expected) > 1e-2


@pytest.mark.parametrize("family", ["ChineseCLIP", "AltCLIP"])
def test_the_widths_of_the_official_models(family, tmp_path, relative_error):
    """Two blocks of OFA-Sys/chinese-clip-vit-base-patch16 and BAAI/AltCLIP; AltCLIP with a smaller vocabulary."""
    few = {"num_hidden_layers": 2}
    sizes = {
        "ChineseCLIP": {
            "text_config": {**few, "vocab_size": 21128},
            "vision_config": {**few, "patch_size": 16},
            "projection_dim": 512,
        },
        "AltCLIP": {
            "text_config": {**few, "vocab_size": 999},
            "vision_config": {
                **{**few, "hidden_size": 1024, "intermediate_size": 4096},
                **{"num_attention_heads": 16, "patch_size": 14},
            },
            "projection_dim": 768,
        },
    }[family]
    official = hf_models.official(family, sizes)
    official.save_pretrained(tmp_path / "m")
    model, _ = miniclip.load(tmp_path / "m")
    rng, pad = np.random.default_rng(0), official.config.text_config.pad_token_id
    tokens = rng.integers(2, 999, (2, model.config.text.text_length))
    tokens[1, 9:] = pad
    images = rng.standard_normal((2, 3, 224, 224)).astype(np.float32)
    with torch.no_grad():
        theirs = official(torch.from_numpy(tokens), torch.from_numpy(images), torch.from_numpy((tokens != pad) * 1))
    assert tokens.shape[1] == {"ChineseCLIP": 52, "AltCLIP": 77}[family]
    assert relative_error(model(images, tokens)[0], theirs.logits_per_image.numpy()) < 1e-4


SMALL = {"context_length": 8, "vocab_size": 9, "width": 4, "layers": 1, "heads": 2, "mlp_width": 8}


@pytest.mark.parametrize(
    "fields, says",
    [
        ({"pool": "last"}, "pool is 'last', expected one of first, mean"),
        ({"head": "pre_LN"}, "head is 'pre_LN', expected one of bias, linear, mlp, norm"),
        ({"head": "norm"}, "hidden_width is None: heads 'mlp' and 'norm' have one, others None"),
        ({"head": "linear", "hidden_width": 4}, "hidden_width is 4: heads"),
        ({"head": "norm", "hidden_width": 4, "pool": "mean"}, "pool is 'mean': a head 'norm' takes the first token"),
        ({"first_position": -1}, "first_position is -1, expected 0 or a small integer"),
        ({"token_types": True}, "token_types is True, expected 0 or a small integer"),
        ({"pad_token_id": 9}, "pad_token_id is 9, expected an id below 9"),
    ],
)
def test_texts_that_no_bert_encodes_are_refused(fields, says):
    with pytest.raises(miniclip.InputError, match=says):
        BertConfig(**{**SMALL, **fields})


@pytest.mark.parametrize("lengths", [[5, 5], [5, 1], [2, 4]])
def test_the_mean_is_of_a_text_s_own_tokens(lengths):
    rng, lengths = np.random.default_rng(0), np.array(lengths)
    x = rng.standard_normal((2, 5, 12))
    expected = np.stack([row[:length].mean(0) for row, length in zip(x, lengths)])
    np.testing.assert_allclose(bert.mean(miniclip.ops.numpy_ops, x, lengths, heads=3), expected, rtol=1e-12)


@pytest.mark.parametrize("key", SIZES, ids=" ".join)
def test_embeddings_depend_on_token_types(key, tmp_path, relative_error):
    official = hf_models.official(key[0], SIZES[key])
    official.save_pretrained(tmp_path / "m")
    inputs = hf_models.of_tower(hf_models.batch(official.config), "Text")
    types = (torch.arange(11) > 4).expand(3, 11) * 1
    with torch.no_grad():
        expected = official.get_text_features(**inputs, token_type_ids=types).pooler_output.numpy()
    found = miniclip.load(tmp_path / "m")[0].encode_text(inputs["input_ids"].numpy(), token_types=types.numpy())
    assert relative_error(found, expected) < 1e-5
