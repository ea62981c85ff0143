"""Variables of miniclip.hf's TensorFlow models: Keras's names, order, layouts and files."""

# ruff: noqa: F811  fixtures are imported, and are arguments of the same name

import json

import numpy as np
import pytest
import torch
from hf_flax import inputs_of, same
from hf_tensorflow import NAMES, clip, saved  # noqa: F401
from tensorflow_models import read_h5, variables, write_h5

from miniclip import InputError, hf
from miniclip.formats import safetensors

tf = pytest.importorskip("tensorflow")


BEFORE = dict(zip(NAMES, ("tfclip_model", "tfclip_text_model", "tfclip_vision_model")))


def named(model):
    """{the name of a variable without the model's: its value}."""
    return {x.name.partition("/")[2]: x.numpy() for x in model.weights}


def of_class(name, arrays):
    parts = {"TFCLIPTextModel": "clip/text_model/", "TFCLIPVisionModel": "clip/vision_model/"}
    return {key: x for key, x in arrays.items() if key.startswith(parts.get(name, ""))}


@pytest.mark.parametrize("name", NAMES)
def test_the_variables_have_keras_s_names_and_layouts(saved, name):
    theirs, *directories = saved
    for directory in directories:
        model = getattr(hf, name).from_pretrained(directory)
        same(named(model), of_class(name, variables(theirs)))
        assert {x.dtype for x in model.weights} == {tf.float32}
        assert {x.name.partition("/")[0] for x in model.weights} == {BEFORE[name]}
        assert model.num_parameters() == model.count_params() == sum(x.size for x in named(model).values())
    model, report = getattr(hf, name).from_pretrained(directory, output_loading_info=True)
    assert not any(report.values()) and [x.shape for x in model.get_weights()] == [x.shape for x in model.weights]


def test_weights_are_set(clip):
    _, _, ours, inputs = clip
    model = hf.TFCLIPModel(ours.config, name="other")
    assert {x.name.partition("/")[0] for x in model.variables} == {"other"}
    before = model(inputs).logits_per_image
    model.set_weights(ours.get_weights())
    found, expected = model(inputs).logits_per_image, ours(inputs).logits_per_image
    np.testing.assert_array_equal(found, expected)
    assert np.abs(before - expected).max() > 0.01
    for weights in (ours.get_weights()[1:], [x.T for x in ours.get_weights()]):
        with pytest.raises(InputError, match=r"weights, expected \d+; first wrong shape"):
            model.set_weights(weights)


def test_random_weights_have_transformers_distributions():
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 1, "intermediate_size": 128}
    config = hf.CLIPConfig(text_config={**sizes, "vocab_size": 1000}, vision_config=sizes)
    models = []
    for seed in (3, 3, 4):
        tf.random.set_seed(seed)
        models.append(hf.TFCLIPModel(config))
    first, again, other = map(named, models)
    same(first, again)
    name = "clip/text_model/embeddings/token_embedding/weight:0"
    assert not np.array_equal(first[name], other[name])
    deviations = {  # of the normal distribution that is truncated at two of them
        "token_embedding/weight": 0.02,
        "q_proj/kernel": 64**-0.5 * 4**-0.5,
        "out_proj/kernel": 64**-0.5,
        "fc1/kernel": 128**-0.5,
        "fc2/kernel": 64**-0.5 * 4**-0.5,
        "patch_embedding/kernel": 0.02,
        "_projection/kernel": 64**-0.5,
    }
    for ending, deviation in deviations.items():
        x = next(x for key, x in first.items() if key.endswith(f"{ending}:0"))
        assert 0.85 * deviation < x.std() < 0.91 * deviation and np.abs(x).max() <= 2 * deviation * 1.0001, ending
    assert first["clip/logit_scale:0"] == np.float32(2.6592)
    assert all((x == 0).all() for key, x in first.items() if key.endswith(("bias:0", "beta:0")))
    assert all((x == 1).all() for key, x in first.items() if key.endswith("gamma:0"))


# ------------------------------------------------------------------------------------------------------------ files


@pytest.mark.parametrize("name", NAMES)
def test_what_is_saved_are_keras_s_files(saved, name, tmp_path, relative_error):
    model = getattr(hf, name).from_pretrained(saved[1])
    model.save_pretrained(tmp_path / "m")
    arrays, attributes = read_h5(tmp_path / "m" / "tf_model.h5")
    same(arrays, {f"clip/{x.name}": x.numpy() for x in model.weights})
    assert attributes["clip"] == {"weight_names": [x.name for x in model.weights]}
    assert attributes[""]["layer_names"] == ["clip"] and attributes["top_level_model_weights"] == {"weight_names": []}
    assert json.loads((tmp_path / "m" / "config.json").read_text())["architectures"] == [name.removeprefix("TF")]
    inputs = inputs_of(name, saved[0])
    again = getattr(hf, name).from_pretrained(tmp_path / "m")
    np.testing.assert_array_equal(again(inputs)[0], model(inputs)[0])
    for_torch = getattr(hf, name.removeprefix("TF")).from_pretrained(tmp_path / "m", backend="numpy")
    assert relative_error(for_torch(**inputs)[0], model(inputs)[0].numpy()) < 1e-5
    model.save_pretrained(tmp_path / "safe", safe_serialization=True)
    with pytest.raises(InputError, match=r"has a model\.safetensors, which would be read instead of tf_model\.h5"):
        model.save_pretrained(tmp_path / "safe")
    assert {path.name for path in (tmp_path / "safe").iterdir()} == {"model.safetensors", "config.json"}
    assert safetensors.read(tmp_path / "safe" / "model.safetensors")[1]["format"] == "tf"
    same(named(getattr(hf, name).from_pretrained(tmp_path / "safe")), named(model))


def test_the_file_is_chosen_as_in_transformers(clip, tmp_path):
    theirs, directory, *_ = clip
    halves = {key: x / 2 for key, x in variables(theirs).items()}
    scale = {"whole": theirs.logit_scale.item(), "half": theirs.logit_scale.item() / 2}

    def of(kind, **options):
        return float(np.asarray(kind.from_pretrained(tmp_path, **options).get_weights()[0])[0])

    (tmp_path / "config.json").write_bytes((directory / "config.json").read_bytes())
    torch.save(theirs.state_dict(), tmp_path / "pytorch_model.bin")
    assert of(hf.TFCLIPModel) == scale["whole"]
    write_h5(tmp_path / "tf_model.h5", halves)
    assert of(hf.TFCLIPModel) == scale["half"] and of(hf.TFCLIPModel, from_pt=True) == scale["whole"]
    assert hf.CLIPModel.from_pretrained(tmp_path).logit_scale == scale["whole"]
    assert hf.CLIPModel.from_pretrained(tmp_path, from_tf=True).logit_scale == scale["half"]
    (tmp_path / "model.safetensors").write_bytes((directory / "model.safetensors").read_bytes())
    assert of(hf.TFCLIPModel) == scale["whole"] and of(hf.TFCLIPModel, from_tf=True) == scale["half"]
    (tmp_path / "tf_model.h5").unlink()
    with pytest.raises(InputError, match=r"has no tf_model\.h5 in one file, but model\.safetensors"):
        hf.CLIPModel.from_pretrained(tmp_path, from_tf=True)
