"""Parameter trees and configurations: a configuration gives the shapes, and the shapes give the configuration."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import miniclip
from miniclip import params
from miniclip.checkpoints.infer import infer_config
from miniclip.config import CLIPConfig, ResNetConfig, TextConfig, VisionConfig
from miniclip.families.align.config import EfficientNetConfig
from miniclip.towers import efficientnet

CONFIG = CLIPConfig(
    visual=VisionConfig(image_size=24, patch_size=8, width=128, layers=3, heads=2, mlp_width=60),
    text=TextConfig(context_length=9, vocab_size=530, width=64, layers=11, heads=1, mlp_width=70),
    embed_dim=20,
)
RESNET = dataclasses.replace(CONFIG, visual=ResNetConfig(96, width=8, layers=(3, 1, 11, 2), heads=4, channels=1))


@given(
    st.recursive(
        st.integers(),
        lambda branch: st.lists(branch, min_size=1) | st.dictionaries(st.text("abc", min_size=1), branch, min_size=1),
    ).filter(lambda t: not isinstance(t, int))
)
def test_unflatten_inverts_flatten(tree):
    assert params.unflatten(params.flatten(tree)) == tree


def test_check_reports_missing_unexpected_and_misshaped_together():
    tree = params.tree_map(np.zeros, CONFIG.shapes())
    del tree["text"]["ln_final"]["bias"]
    tree["visual"]["extra"] = np.zeros((2, 3))
    tree["logit_scale"] = np.zeros(1)
    with pytest.raises(miniclip.InputError) as error:
        params.check(tree, CONFIG.shapes(), "some/file")
    message = str(error.value)
    assert message.startswith("some/file: ")
    assert "missing text.ln_final.bias (64,)" in message
    assert "unexpected visual.extra (2, 3)" in message
    assert "logit_scale is (1,), expected ()" in message


@pytest.mark.parametrize("config", [CONFIG, RESNET], ids=["ViT", "ResNet"])
def test_config_is_read_off_the_shapes(config):
    shapes = params.flatten(config.shapes())
    assert infer_config(shapes) == config
    assert CLIPConfig.from_dict(config.to_dict()) == config
    assert CLIPConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    for tower, other in (("visual", "text"), ("text", "visual")):
        alone = infer_config({name: shape for name, shape in shapes.items() if name.startswith(tower)})
        assert alone == dataclasses.replace(config, **{other: None})


def test_a_resnet_without_an_embedding_has_features_of_its_own_width():
    alone = dataclasses.replace(RESNET, text=None, embed_dim=None)
    assert alone.shapes()["visual"]["attention_pool"]["out"] == {"weight": (256, 256), "bias": (256,)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": 100}, "image_size is 100, expected multiples of 32"),
        ({"image_size": (64, 100)}, r"image_size is \(64, 100\), expected multiples of 32"),
        ({"image_size": 0}, "image_size is 0"),
        ({"width": 7}, "width is 7, expected an even number"),
        ({"width": 0}, "width is 0, expected a positive integer"),
        ({"heads": 5}, "width 256 of the last grid cannot be shared by 5 heads"),
        ({"channels": "3"}, "channels is '3'"),
        ({"layers": 4}, "layers is 4, expected the numbers of blocks in 4 stages"),
        ({"layers": (3, 4, 6)}, r"layers is \(3, 4, 6\)"),
        ({"layers": (3, 4, 6, 0)}, "expected the numbers of blocks"),
        ({"layers": (3, 4, 6, 1001)}, "expected the numbers of blocks"),
        ({"layers": (3, 4, 6, 1.5)}, "expected the numbers of blocks"),
    ],
)
def test_a_resnet_that_cannot_be_is_refused(change, message):
    with pytest.raises(miniclip.InputError, match=message):
        dataclasses.replace(RESNET.visual, **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"stages": 300 * ((100, 65535, 65535, 1, 100),), "depth_coefficient": 100.0},
            "make 3,000,000 blocks, .* 1000",
        ),
        ({"stages": 1001 * ((1, 8, 3, 1, 1),)}, "make 1,001 blocks, expected at most 1000"),
        ({"square_padding": (0,) * 10_000}, "square_padding is .*expected numbers of blocks"),
    ],
)
def test_an_efficientnet_that_would_take_for_ever_to_lay_out_is_refused_before_that(change, message, monkeypatch):
    monkeypatch.setattr(efficientnet, "layout", None)
    with pytest.raises(miniclip.InputError, match=message):
        EfficientNetConfig(
            **{"image_size": 64, "resized": 64, "width_coefficient": 1.0, "depth_coefficient": 1, **change}
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": None}, "layers is None, expected the numbers of blocks in 4 stages"),
        ({"layers": 4}, "layers is 4, expected the numbers of blocks in 4 stages"),
        ({"patch_size": 32}, "not a miniclip configuration"),
    ],
)
def test_a_tower_of_neither_kind_is_refused(change, message):
    values = RESNET.to_dict()
    values["visual"] |= change
    with pytest.raises(miniclip.InputError, match=message):
        CLIPConfig.from_dict(values)


SHAPES = params.flatten(CONFIG.shapes())
RESNET_SHAPES = params.flatten(RESNET.shapes())


@pytest.mark.parametrize(
    "shapes",
    [
        {},
        {"a.b": (1,)},
        {"visual.patch_embed.weight": (4, 3, 2, 2)},
        {**SHAPES, "visual.patch_embed.weight": (4, 3)},
        {**SHAPES, "visual.patch_embed.position_embedding": (0, 128)},
        {**SHAPES, "text.blocks.0.mlp.fc.weight": ()},
        {**SHAPES, "visual.projection.weight": ()},
        {name: shape for name, shape in RESNET_SHAPES.items() if not name.startswith("visual.stages.2.")},
        {**RESNET_SHAPES, "visual.stages.0.0.conv1.weight": (8, 8)},
        {**RESNET_SHAPES, "visual.attention_pool.position_embedding": (1, 256)},
        {**RESNET_SHAPES, "visual.attention_pool.out.weight": ()},
    ],
)
def test_parameters_of_something_else_are_refused(shapes):
    with pytest.raises(miniclip.InputError, match="not the parameters of a CLIP"):
        infer_config(shapes)


@pytest.mark.parametrize("name", ["visual.patch_embed.weight", "text.embed.table", "text.blocks.0.mlp.fc.weight"])
def test_a_parameter_with_other_sides_is_named_with_its_shape(name):
    with pytest.raises(
        miniclip.InputError, match=rf"not the parameters of a CLIP: {name} has shape \(7,\), expected \d dimensions"
    ):
        infer_config({**SHAPES, name: (7,)})
