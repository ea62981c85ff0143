"""TensorFlow's checkpoints of transformers' CLIP: the same parameters, bit for bit, as from PyTorch's files."""

import json

import numpy as np
import pytest
from clip_directories import official_model, save_perturbed
from tensorflow_models import variables, write_h5

import miniclip
from miniclip import checkpoints, params
from miniclip.checkpoints import convert
from miniclip.families import flax_names, tensorflow_names
from miniclip.families.clip.huggingface import NAMES
from miniclip.formats import safetensors


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """(a directory with PyTorch's weights, TensorFlow's variables of the same weights)."""
    directory = tmp_path_factory.mktemp("models") / "torch"
    model = save_perturbed(official_model(), directory)
    return directory, variables(model)


@pytest.fixture
def directory(models, tmp_path):
    """A directory with PyTorch's config.json and no weights."""
    (tmp_path / "config.json").write_bytes((models[0] / "config.json").read_bytes())
    return tmp_path


@pytest.mark.parametrize("before", ["tfclip_model/", "tf_clip_model_3/", "outer/tfclip_model_1/"])
def test_a_directory_is_read(models, directory, before, same_tree):
    config, expected, _ = checkpoints.load(models[0])
    write_h5(directory / "tf_model.h5", models[1], before)
    for mmap in (False, True):
        found = checkpoints.load(directory, mmap=mmap)
        assert found[0] == config and same_tree(found[1], expected)


def test_several_files_are_read(models, directory, same_tree):
    names, files = list(models[1]), {}
    for i, name in enumerate(names):
        files[name] = f"tf_model-{i + 1:05}-of-{len(names):05}.h5"
        write_h5(directory / files[name], {name.removeprefix("clip/"): models[1][name]}, "")
    (directory / "tf_model.h5.index.json").write_text(json.dumps({"weight_map": files}))
    assert same_tree(checkpoints.load(directory)[1], checkpoints.load(models[0])[1])


def test_the_names_and_layouts_in_safetensors(models, directory, same_tree):
    safetensors.write(directory / "model.safetensors", models[1], {"format": "tf"})
    assert same_tree(checkpoints.load(directory)[1], checkpoints.load(models[0])[1])


def test_a_file_alone_is_found(models, tmp_path, same_tree):
    write_h5(tmp_path / "m.h5", models[1])
    assert same_tree(checkpoints.load(tmp_path / "m.h5", as_openai=True)[1], checkpoints.load(models[0])[1])
    with pytest.raises(miniclip.InputError, match=r"m\.h5: does not state its activation"):
        checkpoints.load(tmp_path / "m.h5")
    (tmp_path / "config.json").write_bytes((models[0] / "config.json").read_bytes())
    convert.convert(tmp_path / "m.h5", tmp_path / "m.safetensors", "miniclip")
    assert same_tree(checkpoints.load(tmp_path / "m.safetensors")[1], checkpoints.load(models[0])[1])


@pytest.mark.parametrize("tower", ["text", "visual"])
def test_a_tower_is_read_alone(tower, models, directory, same_tree):
    part = {"text": "text_", "visual": "vis"}[tower]
    kept = {name: x for name, x in models[1].items() if name.startswith(f"clip/{part}")}
    write_h5(directory / "tf_model.h5", kept)
    assert same_tree(checkpoints.load(directory)[1], {tower: checkpoints.load(models[0])[1][tower]})


def test_a_missing_parameter_is_named(models, directory):
    kept = {name: x for name, x in models[1].items() if "text_projection" not in name}
    write_h5(directory / "tf_model.h5", kept)
    with pytest.raises(miniclip.InputError, match=r"missing text\.projection\.weight \(16, 64\)"):
        checkpoints.load(directory)


def test_each_name_has_one_name_in_tensorflow_and_there_is_a_way_back(models):
    flax = {flax_names.name(name) for names in NAMES.values() for name in names}
    theirs = {tensorflow_names.from_flax(name.replace("{}", "12")) for name in flax}
    assert len(theirs) == len(flax) and {tensorflow_names.to_flax(name) for name in theirs} == {
        name.replace("{}", "12") for name in flax
    }
    found = flax_names.to_flax(safetensors.read(models[0] / "model.safetensors")[0])
    assert {tensorflow_names.from_flax(name) for name in found} == models[1].keys()
    for name, x in found.items():
        np.testing.assert_array_equal(np.atleast_1d(x), models[1][tensorflow_names.from_flax(name)])
    assert len(params.flatten(checkpoints.load(models[0])[1])) < len(found)  # some are joined
