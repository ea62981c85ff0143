"""miniclip.hf's TensorFlow models against transformers' models for torch; gradients; compiled calls; arguments."""

# ruff: noqa: F811  fixtures are imported, and are arguments of the same name

import inspect
import subprocess
import sys

import numpy as np
import pytest
import torch
import transformers
from checkout import ROOT
from hf_flax import inputs_of, tensors
from hf_models import LOOK, batch, compare, of_tower
from hf_tensorflow import NAMES, clip, saved  # noqa: F401
from tensorflow_models import variables

from miniclip import InputError, hf

tf = pytest.importorskip("tensorflow")

# -------------------------------------------------------------------------- against transformers' models for torch


@pytest.mark.parametrize("masked", [True, False], ids=["masked", "unmasked"])
def test_every_field_of_the_whole_model_is_transformers(saved, masked, relative_error):
    theirs, *directories = saved
    inputs = batch(theirs.config, np.asarray, masked)
    with torch.no_grad():
        expected = theirs(**tensors(inputs), **LOOK, return_loss=True)
        # transformers 5 has the features here, TensorFlow what they are projected from.
        for name, tower in (("Text", "text_model"), ("Vision", "vision_model")):
            pooled = getattr(theirs, tower)(**tensors(of_tower(inputs, name))).pooler_output
            expected[f"{tower}_output"].pooler_output = pooled
        expected.loss = expected.loss[None]
        texts = theirs.get_text_features(**tensors(of_tower(inputs, "Text"))).pooler_output
        images = theirs.get_image_features(torch.from_numpy(inputs["pixel_values"])).pooler_output
    for directory in directories:
        ours = hf.TFCLIPModel.from_pretrained(directory)
        output = ours(**inputs, **LOOK, return_loss=True)
        assert tf.is_tensor(output.logits_per_image)
        compare(output, expected, relative_error)
        compare(ours.get_text_features(**of_tower(inputs, "Text")), texts, relative_error)
        compare(ours.get_image_features({"pixel_values": inputs["pixel_values"]}), images, relative_error)


@pytest.mark.parametrize("name", NAMES[1:])
def test_every_field_of_each_tower_is_transformers(saved, name, relative_error):
    theirs, *directories = saved
    inputs = inputs_of(name, theirs)
    with torch.no_grad():
        expected = getattr(theirs, "vision_model" if "Vision" in name else "text_model")(**tensors(inputs), **LOOK)
    for directory in directories:
        ours = getattr(hf, name).from_pretrained(directory)
        compare(ours(inputs, **LOOK), expected, relative_error)
        compare(ours.call(*inputs.values(), return_dict=False, **LOOK), expected.to_tuple(), relative_error)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_gradients_are_torch_s(clip, compiled):
    theirs, _, ours, inputs = clip
    theirs.zero_grad()
    theirs(**tensors(inputs), return_loss=True).loss.backward()
    with torch.no_grad():
        expected = variables(_with_gradients(theirs))

    def gradients(**inputs):
        with tf.GradientTape() as tape:
            loss = ours(**inputs, return_loss=True, training=True).loss
        return [tf.convert_to_tensor(x) for x in tape.gradient(loss, ours.trainable_variables)]

    run = tf.function(gradients, autograph=False) if compiled else gradients
    found = run(**{name: tf.constant(x) for name, x in inputs.items()})
    assert len(found) == len(expected) and {x.dtype for x in found} == {tf.float32}
    largest = max(np.abs(x).max() for x in expected.values())
    for variable, x in zip(ours.trainable_variables, found):
        wanted = expected[variable.name.partition("/")[2]]
        assert largest > 0.01 and np.abs(x - wanted).max() < 1e-5 * largest, variable.name


def _with_gradients(model):
    """A copy of the model whose parameters are the model's gradients."""
    copy = type(model)(model.config)
    for x, own in zip(copy.parameters(), model.parameters()):
        x.copy_(own.grad)
    return copy


def test_a_step_of_training_changes_the_outputs(clip):
    _, directory, _, inputs = clip
    model = hf.TFCLIPModel.from_pretrained(directory)

    @tf.function(autograph=False)
    def step():
        with tf.GradientTape() as tape:
            loss = model(inputs, return_loss=True).loss
        for variable, slope in zip(model.trainable_variables, tape.gradient(loss, model.trainable_variables)):
            variable.assign_sub(1e-3 * tf.convert_to_tensor(slope))
        return loss

    losses = [float(step()[0]) for _ in range(4)]
    assert losses == sorted(losses, reverse=True) and losses[-1] < losses[0] - 0.01
    assert float(model(inputs, return_loss=True).loss[0]) < losses[-1]
    model.trainable = False
    assert model.trainable_variables == [] and len(model.non_trainable_weights) == len(model.weights)


# ------------------------------------------------------------------------------------------------ compiled functions


def test_calls_are_compiled_for_sizes_that_are_not_known(clip, relative_error):
    _, _, ours, inputs = clip
    kinds = {"input_ids": tf.int32, "pixel_values": tf.float32, "attention_mask": tf.int32}
    shapes = {"input_ids": (None, None), "pixel_values": (None, 3, 30, 30), "attention_mask": (None, None)}
    signature = {name: tf.TensorSpec(shapes[name], kinds[name], name) for name in inputs}

    @tf.function(autograph=False, input_signature=[signature])
    def run(inputs):
        return ours(inputs, return_loss=True, **LOOK)

    for batch_size, length in ((3, 11), (2, 11), (1, 2)):
        part = {name: x[1 : 1 + batch_size] if batch_size < 3 else x for name, x in inputs.items()}
        part |= {name: part[name][:, :length] for name in ("input_ids", "attention_mask")}
        found, expected = run({name: tf.constant(x, kinds[name]) for name, x in part.items()}), ours(part, **LOOK)
        assert found.text_model_output.attentions[0].shape == expected.text_model_output.attentions[0].shape
        assert relative_error(found.logits_per_image, expected.logits_per_image) < 1e-5
        plain = tf.function(ours.call, autograph=False)(**{name: tf.constant(x) for name, x in part.items()})
        assert plain.loss is None and plain.text_model_output.hidden_states is None
    with pytest.raises(AttributeError, match="no nothing"):
        _ = plain.nothing


def test_compiled_calls_give_nan_where_others_refuse(clip):
    _, _, ours, inputs = clip
    mask = inputs["attention_mask"].copy()
    mask[0, 3], mask[1, 1:] = 0, 0  # a hole; the end of the text is hidden
    compiled = tf.function(ours.get_text_features, autograph=False)
    features = compiled(tf.constant(inputs["input_ids"]), tf.constant(mask)).numpy()
    assert np.isnan(features).all(axis=1).tolist() == [True, True, False]
    for row, expected in ((0, "ones and then zeros"), (1, "hides the end of a text")):
        with pytest.raises(InputError, match=expected):
            ours.get_text_features(inputs["input_ids"][[row]], mask[[row]])
    with pytest.raises(InputError, match=r"input_ids are \(3, 21\), expected \(B, T\) with 1 <= T <= 20"):
        compiled(tf.zeros((3, 21), tf.int32))
    with pytest.raises(InputError, match=r"attention_mask is \(3, 10\), for tokens \(3, 11\)"):
        compiled(tf.constant(inputs["input_ids"]), tf.constant(mask[:, 1:]))


# ----------------------------------------------------------------------------------------- arguments and refusals

COMMON = "output_attentions output_hidden_states return_dict training"
ORDER = {  # modeling_tf_clip.py
    "TFCLIPModel": f"input_ids pixel_values attention_mask position_ids return_loss {COMMON}",
    "TFCLIPTextModel": f"input_ids attention_mask position_ids {COMMON}",
    "TFCLIPVisionModel": f"pixel_values {COMMON}",
}


@pytest.mark.parametrize("name", NAMES)
def test_arguments_have_transformers_order(name):
    kind = getattr(hf, name)
    assert [*inspect.signature(kind.call).parameters][1:] == ORDER[name].split()
    if name == "TFCLIPModel":
        for method, like in (("get_text_features", NAMES[1]), ("get_image_features", NAMES[2])):
            assert [*inspect.signature(getattr(kind, method)).parameters][1:] == ORDER[like].split()


def test_settings_of_the_configuration_count(clip):
    _, directory, _, inputs = clip
    model = hf.TFCLIPModel.from_pretrained(directory, output_hidden_states=True, return_dict=False)
    logits, _, _, _, text, vision = model(inputs)
    assert logits.shape == (3, 3) and len(text) == len(vision) == 3 and len(text[2]) == 3
    assert model(inputs, return_dict=True).vision_model_output.attentions is None
    assert len(model(inputs, return_loss=True)) == 7


def test_bad_input_is_refused(clip, tmp_path):
    _, _, ours, inputs = clip
    for change, expected in [
        ({"input_ids": None}, "input_ids is missing"),
        ({"pixel_values": None}, "pixel_values is missing"),
        ({"position_ids": inputs["input_ids"]}, "position_ids is given"),
        ({"input_ids": inputs["input_ids"] + 60}, "vocabulary has ids 0 to 59"),
        ({"input_ids": inputs["input_ids"][0]}, r"expected \(B, T\)"),
        ({"pixel_values": inputs["pixel_values"][..., 1:]}, r"expected \(B, C, height, width\)"),
        ({"pixel_values": inputs["pixel_values"].astype(int)}, "expected floats"),
        ({"pixel_values": inputs["pixel_values"] * np.nan}, "have a pixel of nan"),
        ({"pixel_values": inputs["pixel_values"][1:], "return_loss": True}, "2 pictures and 3 texts"),
    ]:
        with pytest.raises(InputError, match=expected):
            ours(**{**inputs, **change})
    with pytest.raises(InputError, match=r"takes a CLIPConfig of miniclip\.hf, not transformers's CLIPConfig"):
        hf.TFCLIPModel(transformers.CLIPConfig())
    with pytest.raises(InputError, match="pretrained_model_name_or_path is missing"):
        hf.TFCLIPModel.from_pretrained(None)
    for option in ("push_to_hub", "saved_model"):
        with pytest.raises(InputError, match=f"takes no {option} = True"):
            ours.save_pretrained(tmp_path / "m", **{option: True})
    with pytest.raises(OSError, match="no model 'nothing'"):
        hf.TFCLIPModel.from_pretrained("nothing")


def test_tensorflow_is_imported_for_its_models_only():
    code = """if True:
        import sys
        from miniclip import InputError, hf
        assert "tensorflow" not in sys.modules and "h5py" not in sys.modules
        sys.modules["tensorflow"] = None
        for use in (lambda: hf.TFCLIPModel(hf.CLIPConfig()), lambda: hf.outputs.as_batch({"x": [[1]]}, "tf")):
            try:
                use()
            except InputError as error:
                print(error)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.count("the tensorflow backend needs tensorflow: ") == 2 and "[tensorflow]" in done.stdout
