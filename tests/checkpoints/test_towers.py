"""transformers' towers alone, in every form it loads: the features of its own classes, on the same inputs."""

import json

import numpy as np
import pytest
import torch
import transformers
from clip_directories import save_perturbed
from transformers import CLIPConfig

import miniclip
from miniclip import hf
from miniclip.checkpoints import peft
from miniclip.checkpoints.convert import convert
from miniclip.formats import safetensors

TOWER = {"hidden_size": 64, "intermediate_size": 48, "num_attention_heads": 2, "num_hidden_layers": 2}
CONFIG = CLIPConfig(
    vision_config={**TOWER, "image_size": 32, "patch_size": 8, "projection_dim": 16},
    text_config={**TOWER, "vocab_size": 99, "eos_token_id": 98, "bos_token_id": 97, "projection_dim": 16},
    projection_dim=16,
)
IMAGES = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
TOKENS = np.array([[97, 5, 6, 98, 98], [97, 7, 98, 98, 98]])
TOWERS = ["CLIPTextModel", "CLIPTextModelWithProjection", "CLIPVisionModel", "CLIPVisionModelWithProjection"]


def saved(name, directory):
    """A directory of an official model with random weights, and the files in it that a test may change."""
    torch.manual_seed(0)
    part = {"CLIPT": CONFIG.text_config, "CLIPV": CONFIG.vision_config}.get(name[:5], CONFIG)
    save_perturbed(getattr(transformers, name)(part), directory)
    return directory, json.loads((directory / "config.json").read_text())


def features(name, directory):
    """(transformers' features of its class `name`, those of miniclip's, miniclip.load's)."""
    text, projected = "Text" in name, name.endswith("WithProjection")
    output = ("text_embeds" if text else "image_embeds") if projected else "pooler_output"
    inputs = TOKENS if text else IMAGES
    theirs = getattr(transformers, name).from_pretrained(directory).eval()
    with torch.no_grad():
        theirs = theirs(torch.from_numpy(inputs))[output].numpy()
    ours = getattr(hf, name).from_pretrained(directory, backend="numpy")(inputs)[output]
    model, _ = miniclip.load(directory, backend="numpy")
    return theirs, ours, (model.encode_text if text else model.encode_image)(inputs)


@pytest.mark.parametrize("prefixed", [True, False])
@pytest.mark.parametrize("architectures", [True, False])
@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("name", TOWERS)
def test_a_tower_alone_is_read_as_transformers_reads_it(name, whole, architectures, prefixed, tmp_path, relative_error):
    directory, config = saved(name, tmp_path / "m")
    if whole:  # the configuration of the model that the tower was taken from
        config = {**CONFIG.to_dict(), "architectures": ["CLIPModel"]}
    if not architectures:
        del config["architectures"]
    (directory / "config.json").write_text(json.dumps(config))
    if prefixed:
        tensors, _ = safetensors.read(directory / "model.safetensors")
        safetensors.write(directory / "model.safetensors", _prefixed(tensors, name), {"format": "pt"})
    for ours in features(name, directory)[1:]:
        assert relative_error(ours, features(name, directory)[0]) < 1e-5


def _prefixed(tensors, name):
    """The names of transformers 4."""
    tower = "text_model." if "Text" in name else "vision_model."
    return {x if x.startswith((tower, "text_proj", "visual_proj")) else tower + x: y for x, y in tensors.items()}


def test_the_tower_of_an_image_classifier_is_read(tmp_path, relative_error):
    directory, _ = saved("CLIPForImageClassification", tmp_path / "m")
    for path in (directory, directory / "model.safetensors"):
        model, preprocess = miniclip.load(path, backend="numpy")
        assert model.config.text is None and preprocess.image_size == 32
        theirs, ours, _ = features("CLIPVisionModel", directory)
        assert relative_error(ours, theirs) < 1e-5
        assert relative_error(model.encode_image(IMAGES), theirs) < 1e-5


@pytest.mark.parametrize("name", ["AlignTextModel", "AlignVisionModel"])
def test_a_tower_of_align_is_read_beside_the_whole_configuration(name, tmp_path):
    from align_models import TEXT, VISION

    parts = {
        "text_config": transformers.AlignTextConfig(**TEXT),
        "vision_config": transformers.AlignVisionConfig(**VISION),
    }
    part = "text_config" if "Text" in name else "vision_config"
    getattr(transformers, name)(parts[part]).save_pretrained(tmp_path)
    alone = miniclip.load(tmp_path, backend="numpy")[0].config
    whole = transformers.AlignConfig(**{key: value.to_dict() for key, value in parts.items()}, projection_dim=16)
    (tmp_path / "config.json").write_text(json.dumps(whole.to_dict()))
    assert miniclip.load(tmp_path, backend="numpy")[0].config == alone


@pytest.mark.parametrize(
    "name",
    [
        *("quick_gelu", "gelu", "gelu_python", "gelu_new", "gelu_fast", "gelu_accurate", "gelu_python_tanh"),
        *("gelu_pytorch_tanh", "relu", "sigmoid", "silu", "swish", "tanh"),
    ],
)
def test_activations_have_transformers_names(name, tmp_path, relative_error):
    directory, config = saved("CLIPTextModel", tmp_path / "m")
    (directory / "config.json").write_text(json.dumps({**config, "hidden_act": name}))
    theirs, ours, loaded = features("CLIPTextModel", directory)
    assert relative_error(ours, theirs) < 1e-5 and relative_error(loaded, theirs) < 1e-5
    convert(directory, tmp_path / "again", "hf")
    assert relative_error(features("CLIPTextModel", tmp_path / "again")[0], theirs) < 1e-5


def test_a_projection_that_the_class_has_must_be_in_the_weights(tmp_path):
    directory, _ = saved("CLIPTextModelWithProjection", tmp_path / "m")
    tensors, _ = safetensors.read(directory / "model.safetensors")
    safetensors.write(directory / "model.safetensors", {x: y for x, y in tensors.items() if "projection" not in x})
    with pytest.raises(miniclip.InputError, match=r"missing text\.projection\.weight"):
        miniclip.load(directory)


def test_an_adapter_beside_a_model_is_not_ignored(tmp_path):
    """transformers adds it to the weights of the model that the adapter names, if PEFT is installed."""
    directory, _ = saved("CLIPModel", tmp_path / "m")
    (directory / peft.CONFIG).write_text("{}")
    with pytest.raises(miniclip.InputError, match=r"m/adapter_config\.json: does not say which model it belongs to"):
        miniclip.load(directory)
    assert miniclip.load(directory / "model.safetensors", backend="numpy")[0].config.text
