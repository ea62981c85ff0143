"""Which parameters are trained, and how fast: their names, layers as OpenCLIP's, factors as BEiT's."""

import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest

from miniclip import InputError, params
from miniclip.config import CLIPConfig, ResNetConfig, TextConfig, VisionConfig
from miniclip.families.align.config import ALIGNConfig, BertConfig, EfficientNetConfig
from miniclip.families.clip.openai import restore
from miniclip.train import parameters

TEXT = TextConfig(context_length=9, vocab_size=60, width=64, layers=2, heads=2, mlp_width=256)
VISION = VisionConfig(image_size=16, patch_size=8, width=64, layers=12, heads=1, mlp_width=256)
VIT = CLIPConfig(visual=VISION, text=TEXT, embed_dim=16)
RESNET = CLIPConfig(ResNetConfig(image_size=64, width=8, layers=(1, 2, 1, 1), heads=4), TEXT, embed_dim=16)
ALIGN = ALIGNConfig(
    EfficientNetConfig(33, 40, 1.0, 1.0, stages=((1, 16, 3, 2, 1), (2, 24, 3, 2, 6))),
    BertConfig(16, 6, width=8, layers=2, heads=2, mlp_width=16),
    embed_dim=24,
)


def names(config):
    return list(params.flatten(config.shapes()))


@pytest.mark.parametrize(
    ("pattern", "first", "number"),
    [
        ("visual", "visual.patch_embed.weight", 152),
        ("text.blocks.1", "text.blocks.1.ln_1.weight", 12),
        ("visual.blocks.1", "visual.blocks.1.ln_1.weight", 12),  # and not those of 10 and 11
        ("*.mlp.fc", "visual.blocks.0.mlp.fc.weight", 28),
        ("visual.blocks.[0-3]", "visual.blocks.0.ln_1.weight", 48),
        ("embeddings", "visual.patch_embed.weight", 5),
        ("projections", "visual.projection.weight", 2),
        ("norms", "visual.ln_pre.weight", 62),
        ("biases", "visual.ln_pre.bias", 87),
        ("logit_scale", "logit_scale", 1),
    ],
)
def test_a_pattern_names_a_part_a_kind_or_a_name(pattern, first, number):
    found = parameters.select(reversed(names(VIT)), [pattern])
    assert found[-1] == first and len(found) == number
    assert parameters.select(names(VIT), ["logit_scale", pattern])[0] == first


@pytest.mark.parametrize(("pattern", "near"), [("visaul", "visual"), ("embedings", "embeddings"), ("12", "embeddings")])
def test_a_pattern_that_names_nothing_is_refused_with_near_ones(pattern, near):
    with pytest.raises(InputError, match=f"no parameter is named by '{pattern}': try .*{near}.*; miniclip info"):
        parameters.select(names(VIT), ["visual", pattern])


def test_a_tower_s_layers_go_from_the_pixels_to_the_projection():
    groups = parameters.layers(reversed(names(VIT)), "visual")
    assert len(groups) == 14 and sum(map(len, groups)) == 152
    assert sorted(groups[0])[-1] == "visual.patch_embed.weight" and "visual.ln_pre.weight" in groups[0]
    assert all(name.startswith("visual.blocks.10.") for name in groups[11])  # ordered by number, not by letters
    assert "visual.ln_post.bias" in groups[12] and groups[13] == ["visual.projection.weight"]


@pytest.mark.parametrize(("config", "towers"), [(RESNET, (7, 4)), (ALIGN, (4, 4)), (VIT, (14, 4))])
def test_every_tower_has_layers(config, towers):
    for tower, number in zip(("visual", "text"), towers):
        groups = parameters.layers(names(config), tower)
        assert len(groups) == number
        assert sorted(name for group in groups for name in group) == sorted(parameters.select(names(config), [tower]))


def test_towers_and_layers_that_are_not_there_are_refused():
    with pytest.raises(InputError, match="no parameter is named by 'image'"):
        parameters.layers(names(VIT), "image")
    with pytest.raises(InputError, match="15 layers of visual are to be trained, expected 0 to 14"):
        parameters.trained(names(VIT), unlocked={"visual": 15})
    with pytest.raises(InputError, match="every parameter is frozen"):
        parameters.trained(names(VIT), ["visual", "text", "logit_scale"])


def test_a_frozen_image_tower_is_lit():
    found = parameters.trained(names(VIT), ["visual"])
    assert list(found) == names(VIT)
    assert {name for name, is_trained in found.items() if not is_trained} == set(
        parameters.select(names(VIT), ["visual"])
    )


OFFICIAL = """
import json, sys
from unittest.mock import MagicMock

for name in ("", ".transforms", ".transforms.functional", ".ops", ".ops.misc"):
    sys.modules["torchvision" + name] = MagicMock()
sys.modules["transformers"] = None
import open_clip

found = []
for image, text in json.loads(sys.argv[1]):
    model = open_clip.CLIP(
        16, {"image_size": 16, "patch_size": 8, "width": 64, "layers": 12, "head_width": 64},
        {"context_length": 9, "vocab_size": 60, "width": 64, "heads": 2, "layers": 2},
    )
    model.lock_image_tower(image)
    model.lock_text_tower(text)
    found.append([name for name, x in model.named_parameters() if x.requires_grad])
print(json.dumps(found))
"""


@pytest.mark.skipif(importlib.util.find_spec("open_clip") is None, reason="pip install --no-deps open_clip_torch")
def test_unlocked_layers_are_openclip_s():
    cases = [(0, 0), (1, 4), (2, 1), (3, 2), (13, 3), (14, 0)]
    ran = subprocess.run(
        [sys.executable, "-c", OFFICIAL, json.dumps(cases)], capture_output=True, text=True, check=True
    )
    for (image, text), theirs in zip(cases, json.loads(ran.stdout)):
        is_trained = parameters.trained(names(VIT), unlocked={"visual": image, "text": text})
        tree = {name: np.full(shape, is_trained[name]) for name, shape in params.flatten(VIT.shapes()).items()}
        ours = {name for name, x in restore(VIT, params.unflatten(tree)).items() if np.all(x)}
        assert ours == set(theirs)


def test_early_layers_learn_more_slowly():
    """The factors of BEiT (optim_factory.py, get_num_layer_for_vit): decay^(depth + 1 - the number of the layer)."""
    factors = parameters.learning_rates(names(VIT), 0.5)
    assert list(factors) == names(VIT)
    assert factors["visual.projection.weight"] == factors["text.projection.weight"] == factors["logit_scale"] == 1
    assert factors["visual.blocks.11.ln_1.bias"] == factors["visual.ln_post.bias"] == 0.5
    assert factors["visual.blocks.3.attention.qkv.weight"] == 0.5 ** (12 - 3)
    assert factors["visual.patch_embed.class_token"] == factors["visual.ln_pre.bias"] == 0.5**13
    assert factors["text.embed.table"] == 0.5**3  # of its own tower
    assert set(parameters.learning_rates(names(VIT), 1).values()) == {1}
    for decay in (0, 1.1, float("nan")):
        with pytest.raises(InputError, match="expected more than 0 and at most 1"):
            parameters.learning_rates(names(VIT), decay)
