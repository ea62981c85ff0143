"""Parameter trees and configurations: one is the other's shape."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import miniclip
from miniclip import params
from miniclip.config import CLIPConfig, TextConfig, VisionConfig, infer_config

CONFIG = CLIPConfig(
    visual=VisionConfig(image_size=24, patch_size=8, width=128, layers=3, heads=2, mlp_width=60),
    text=TextConfig(context_length=9, vocab_size=530, width=64, layers=11, heads=1, mlp_width=70),
    embed_dim=20,
)


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


def test_config_is_read_off_the_shapes():
    shapes = params.flatten(CONFIG.shapes())
    assert infer_config(shapes) == CONFIG
    assert CLIPConfig.from_dict(json.loads(json.dumps(CONFIG.to_dict()))) == CONFIG
    text_only = infer_config({name: shape for name, shape in shapes.items() if name.startswith("text.")})
    assert text_only == CLIPConfig(visual=None, text=CONFIG.text, embed_dim=20)


SHAPES = params.flatten(CONFIG.shapes())


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
    ],
)
def test_parameters_of_something_else_are_refused(shapes):
    with pytest.raises(miniclip.InputError, match="not the parameters of a CLIP"):
        infer_config(shapes)
