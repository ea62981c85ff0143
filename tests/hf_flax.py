"""Models of `miniclip.hf` with Flax's names, beside transformers' for torch with the same weights; and their inputs."""

import numpy as np
import pytest
import torch
from flax_models import flax_tree, packed
from hf_models import CLIP, LOOK, batch, of_tower
from hf_models import official as torch_model

from miniclip import hf

NAMES = ["FlaxCLIPModel", "FlaxCLIPTextModel", "FlaxCLIPTextModelWithProjection", "FlaxCLIPVisionModel"]
PROJECTED = "FlaxCLIPTextModelWithProjection"


@pytest.fixture(scope="module", params=CLIP)
def saved(request, tmp_path_factory):
    """(transformers' model for torch, its directory with PyTorch's weights, one with Flax's)."""
    model, directory = torch_model("CLIP", CLIP[request.param]), tmp_path_factory.mktemp("flax")
    model.save_pretrained(directory / "torch")
    write_flax(directory / "torch", directory / "flax", model)
    return model, directory / "torch", directory / "flax"


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """(transformers' model for torch, its directory, our Flax model, inputs)."""
    model, directory = torch_model("CLIP", CLIP["end of text by id"]), tmp_path_factory.mktemp("clip") / "m"
    model.save_pretrained(directory)
    return model, directory, hf.FlaxCLIPModel.from_pretrained(directory), batch(model.config, np.asarray)


def write_flax(source, directory, model):
    directory.mkdir()
    (directory / "config.json").write_bytes((source / "config.json").read_bytes())
    (directory / "flax_model.msgpack").write_bytes(packed(flax_tree(model)))


def inputs_of(name, model, masked=True):
    inputs = batch(model.config, np.asarray, masked)
    tower = next((tower for tower in ("Text", "Vision") if tower in name), None)
    return of_tower(inputs, tower) if tower else inputs


def tensors(inputs):
    return {name: torch.from_numpy(x) for name, x in inputs.items()}


def same(found, expected):
    assert found.keys() == expected.keys()
    for name, x in expected.items():
        np.testing.assert_array_equal(found[name], x)


def check_calls(found, gradients, expected, error):
    """Outputs and gradients, {name: array}, of one of our models, and what transformers 4 answered to the same task."""
    wanted = {key: x for key, x in expected.items() if not key.startswith("gradient")}
    assert found.keys() == wanted.keys()
    for key, x in wanted.items():
        assert found[key].shape == x.shape and error(found[key], x) < 1e-5, key
    assert found.keys() | gradients.keys() == expected.keys()
    largest = max(np.abs(expected[key]).max() for key in gradients)
    assert all(np.abs(x - expected[key]).max() < 1e-5 * largest for key, x in gradients.items())


def answers_to_files(model, inputs, official, place):
    """What transformers 4 answers with the files that our model writes: a dictionary of arrays for each form."""
    np.savez(place / "inputs.npz", **inputs)
    tasks, files = [], [place / form for form in ("plain", "safe")]
    for file in files:
        model.save_pretrained(file, safe_serialization=file.name == "safe")
        inputs_and_answers = str(place / "inputs.npz"), LOOK, f"{file}.npz"
        tasks.append([type(model).__name__, str(file), {}, *inputs_and_answers, None])
    official(*tasks)
    return [dict(np.load(f"{file}.npz")) for file in files]
