"""miniclip.hf's Flax models against transformers' models for torch; functions of JAX; arguments."""

# ruff: noqa: F811  fixtures are imported, and are arguments of the same name

import copy
import inspect
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from checkout import ROOT
from flax_models import flax_tree
from flax_official import flat
from hf_flax import NAMES, PROJECTED, clip, inputs_of, same, saved, tensors  # noqa: F401
from hf_models import LOOK, batch, compare, of_tower

from miniclip import InputError, hf, params

# -------------------------------------------------------------------------- against transformers' models for torch


@pytest.mark.parametrize("masked", [True, False], ids=["masked", "unmasked"])
def test_every_field_of_the_whole_model_is_transformers(saved, masked, relative_error):
    theirs, *directories = saved
    inputs = batch(theirs.config, np.asarray, masked)
    with torch.no_grad():
        expected = theirs(**tensors(inputs), **LOOK)
        # transformers 5 has the features here, Flax what they are projected from.
        for name, tower in (("Text", "text_model"), ("Vision", "vision_model")):
            pooled = getattr(theirs, tower)(**tensors(of_tower(inputs, name))).pooler_output
            expected[f"{tower}_output"].pooler_output = pooled
        texts = theirs.get_text_features(**tensors(of_tower(inputs, "Text"))).pooler_output
        images = theirs.get_image_features(torch.from_numpy(inputs["pixel_values"])).pooler_output
    for directory in directories:
        ours = hf.FlaxCLIPModel.from_pretrained(directory)
        output = ours(**inputs, **LOOK)
        assert isinstance(output.logits_per_image, jax.Array)
        compare(output, expected, relative_error)
        compare(ours.get_text_features(**of_tower(inputs, "Text")), texts, relative_error)
        compare(ours.get_image_features(inputs["pixel_values"]), images, relative_error)


@pytest.mark.parametrize("name", NAMES[1:])
def test_every_field_of_each_tower_is_transformers(saved, name, relative_error):
    theirs, *directories = saved
    inputs = inputs_of(name, theirs)
    with torch.no_grad():
        expected = getattr(theirs, "vision_model" if "Vision" in name else "text_model")(**tensors(inputs), **LOOK)
        if name == PROJECTED:
            features = theirs.text_projection(expected.pooler_output)
            rest = {key: expected[key] for key in ("last_hidden_state", "hidden_states", "attentions")}
            expected = transformers.modeling_outputs.ModelOutput(text_embeds=features, **rest)
    for directory in directories:
        ours = getattr(hf, name).from_pretrained(directory)
        compare(ours(**inputs, **LOOK), expected, relative_error)


def test_a_gradient_is_torch_s(clip):
    theirs, _, ours, inputs = clip
    weights = np.linspace(-1, 2, 3, dtype=np.float32)
    theirs.zero_grad()
    (theirs(**tensors(inputs)).logits_per_image * torch.from_numpy(weights)).sum().backward()
    gradient = copy.deepcopy(theirs)
    for x, own in zip(gradient.parameters(), theirs.parameters()):
        x.data = own.grad
    expected = {name: np.asarray(x) for name, x in params.flatten(flax_tree(gradient)).items()}
    found = jax.grad(lambda p: (ours(**inputs, params=p, train=True)[0] * weights).sum())(ours.params)
    found = params.flatten(found)
    assert found.keys() == expected.keys()
    largest = max(np.abs(x).max() for x in expected.values())
    assert largest > 0.1 and all(np.abs(found[name] - x).max() < 1e-5 * largest for name, x in expected.items())
    theirs.zero_grad()


# ----------------------------------------------------------------------------------------------- functions of JAX


def test_calls_can_be_compiled(clip, relative_error):
    _, _, ours, inputs = clip
    expected = ours(**inputs, **LOOK)
    found = jax.jit(lambda p, given: ours(**given, **LOOK, params=p))(ours.params, inputs)
    assert list(found) == list(expected) and found.text_model_output.attentions is not None
    for name, x in flat(expected).items():
        assert relative_error(flat(found)[name], x) < 1e-5
    plain = jax.jit(ours.__call__)(**inputs)
    assert plain.text_model_output.attentions is None and plain[4][1].shape == (3, 48)
    images = jax.vmap(ours.get_image_features)(inputs["pixel_values"][:, None])
    compare(images[:, 0], torch.from_numpy(np.array(ours.get_image_features(inputs["pixel_values"]))), relative_error)
    mapped = jax.tree.map(lambda x: x * 2, expected)
    np.testing.assert_array_equal(mapped.logits_per_text, expected.logits_per_text * 2)


def test_what_is_kept_while_a_function_is_compiled_has_values(clip):
    _, directory, _, inputs = clip
    model = hf.FlaxCLIPModel.from_pretrained(directory)
    jax.jit(lambda x: x * model.params["logit_scale"])(1.0)
    assert {type(x) for x in jax.tree.leaves(model.params)} == {type(jnp.ones(2))}
    drawn = hf.FlaxCLIPModel(model.config)
    found = jax.jit(drawn.get_image_features)(inputs["pixel_values"])
    np.testing.assert_allclose(drawn.get_image_features(inputs["pixel_values"]), found, rtol=1e-3)


def test_compiled_calls_give_nan_where_others_refuse(clip):
    _, _, ours, inputs = clip
    mask = inputs["attention_mask"].copy()
    mask[0, 3], mask[1, 1:] = 0, 0  # a hole; the end of the text is hidden
    features = jax.jit(ours.get_text_features)(inputs["input_ids"], mask)
    assert np.isnan(features).all(axis=1).tolist() == [True, True, False]
    for row, expected in ((0, "ones and then zeros"), (1, "hides the end of a text")):
        with pytest.raises(InputError, match=expected):
            ours.get_text_features(inputs["input_ids"][[row]], mask[[row]])
    with pytest.raises(InputError, match=r"input_ids are \(3, 21\), expected \(B, T\) with 1 <= T <= 20"):
        jax.jit(ours.get_text_features)(np.zeros((3, 21), int))
    with pytest.raises(InputError, match=r"attention_mask is \(3, 10\), for tokens \(3, 11\)"):
        jax.jit(ours.get_text_features)(inputs["input_ids"], mask[:, 1:])


@pytest.mark.parametrize("dtype", [jnp.bfloat16, "float16", np.float16])
def test_the_dtype_is_that_of_the_computation(clip, dtype, relative_error):
    _, directory, ours, inputs = clip
    half = hf.FlaxCLIPModel.from_pretrained(directory, dtype)
    found, expected = half(**inputs), ours(**inputs)
    assert found.text_embeds.dtype == half.dtype == np.dtype(dtype) and half.params["logit_scale"].dtype == np.float32
    assert 1e-5 < relative_error(np.asarray(found[0], np.float32), np.asarray(expected[0])) < 0.03


# ----------------------------------------------------------------------------------------- arguments and refusals

COMMON = "params dropout_rng train output_attentions output_hidden_states return_dict"
ORDER = {  # modeling_flax_clip.py
    "FlaxCLIPModel": f"input_ids pixel_values attention_mask position_ids {COMMON}",
    "FlaxCLIPTextModel": f"input_ids attention_mask position_ids {COMMON}",
    PROJECTED: f"input_ids attention_mask position_ids {COMMON}",
    "FlaxCLIPVisionModel": f"pixel_values {COMMON}",
}


@pytest.mark.parametrize("name", NAMES)
def test_arguments_have_flax_s_order(name):
    assert " ".join(inspect.signature(getattr(hf, name).__call__).parameters) == f"self {ORDER[name]}"


def test_the_order_of_the_other_arguments():
    text = "self input_ids attention_mask position_ids params dropout_rng train"
    kind = hf.FlaxCLIPModel
    assert " ".join(inspect.signature(kind.get_text_features).parameters) == text
    assert (
        " ".join(inspect.signature(kind.get_image_features).parameters) == "self pixel_values params dropout_rng train"
    )
    assert " ".join(inspect.signature(kind).parameters) == "config input_shape seed dtype _do_init"
    assert next(iter(list(inspect.signature(kind.from_pretrained).parameters)[1:])) == "dtype"


@pytest.mark.parametrize("kind", [jnp.asarray, torch.from_numpy, lambda x: x.tolist()])
def test_inputs_of_any_kind(clip, kind):
    _, _, ours, inputs = clip
    found = ours(**{name: kind(x) for name, x in inputs.items()})
    assert isinstance(found[0], jax.Array)
    np.testing.assert_array_equal(found[0], ours(**inputs)[0])


def test_bad_input_is_refused(clip, tmp_path):
    _, directory, ours, inputs = clip
    for change, expected in [
        ({"input_ids": None}, "input_ids is missing"),
        ({"pixel_values": None}, "pixel_values is missing"),
        ({"position_ids": inputs["input_ids"]}, "position_ids is given"),
        ({"input_ids": inputs["input_ids"] + 60}, "vocabulary has ids 0 to 59"),
        ({"input_ids": inputs["input_ids"][0]}, r"expected \(B, T\)"),
        ({"pixel_values": inputs["pixel_values"][..., 1:]}, r"expected \(B, C, height, width\)"),
        ({"pixel_values": inputs["pixel_values"].astype(int)}, "expected floats"),
        ({"pixel_values": inputs["pixel_values"] * np.nan}, "have a pixel of nan"),
    ]:
        with pytest.raises(InputError, match=expected):
            ours(**{**inputs, **change})
    with pytest.raises(InputError, match=r"takes a CLIPConfig of miniclip\.hf, not transformers's CLIPConfig"):
        hf.FlaxCLIPModel(transformers.CLIPConfig())
    with pytest.raises(InputError, match="jax backend does not compute in float64"):
        hf.FlaxCLIPModel.from_pretrained(directory, np.float64)
    with pytest.raises(InputError, match="pretrained_model_name_or_path is missing"):
        hf.FlaxCLIPModel.from_pretrained(None)
    with pytest.raises(InputError, match="takes no push_to_hub = True"):
        ours.save_pretrained(tmp_path / "m", push_to_hub=True)
    with pytest.raises(OSError, match="no model 'nothing'"):
        hf.FlaxCLIPModel.from_pretrained("nothing")


def test_jax_is_imported_for_flax_s_models_only():
    code = """if True:
        import sys
        from miniclip import InputError, hf
        assert "jax" not in sys.modules
        sys.modules["jax"] = None
        try:
            hf.FlaxCLIPModel(hf.CLIPConfig())
        except InputError as error:
            print(error)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.startswith("the jax backend needs jax: ") and "[jax]" in done.stdout
