"""Flax's checkpoints of transformers' CLIP: the same parameters, bit for bit, as from PyTorch's files."""

import json

import ml_dtypes
import numpy as np
import pytest
from clip_directories import official_model, save_perturbed
from flax_models import flax_tree, packed

import miniclip
from miniclip import checkpoints, params
from miniclip.checkpoints import convert
from miniclip.families import flax_names
from miniclip.families.clip.huggingface import NAMES
from miniclip.formats import safetensors


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """(a directory with PyTorch's weights, Flax's tree of the same weights)."""
    directory = tmp_path_factory.mktemp("models") / "torch"
    model = save_perturbed(official_model(), directory)
    return directory, flax_tree(model)


@pytest.fixture
def flax(models, tmp_path):
    """A function that writes a directory with these files and PyTorch's config.json."""

    def write(files):
        directory = tmp_path / "flax"
        directory.mkdir()
        for name, content in {"config.json": (models[0] / "config.json").read_bytes(), **files}.items():
            (directory / name).write_bytes(content)
        return directory

    return write


def test_a_directory_is_read(models, flax, same_tree):
    theirs, tree = models
    config, expected, _ = checkpoints.load(theirs)
    found = checkpoints.load(flax({"flax_model.msgpack": packed(tree)}))
    assert found[0] == config
    assert same_tree(found[1], expected)


def test_several_files_are_read(models, flax, same_tree):
    theirs, tree = models
    names = list(params.flatten(tree))
    files = {f"flax_model-{i:05}-of-{len(names):05}.msgpack": one(name, tree) for i, name in enumerate(names)}
    index = {"weight_map": {name.replace(".", "/"): file for name, file in zip(names, files)}}
    files["flax_model.msgpack.index.json"] = json.dumps(index).encode()
    assert same_tree(checkpoints.load(flax(files))[1], checkpoints.load(theirs)[1])


def one(name, tree):
    """A file with only this parameter."""
    *path, last = name.split(".")
    for key in path:
        tree = tree[key]
    part = {last: tree[last]}
    for key in reversed(path):
        part = {key: part}
    return packed(part)


def test_the_names_and_layouts_in_safetensors(models, flax, same_tree):
    theirs, tree = models
    directory = flax({})
    safetensors.write(directory / "model.safetensors", params.flatten(tree), {"format": "flax"})
    assert same_tree(checkpoints.load(directory)[1], checkpoints.load(theirs)[1])
    mapped = checkpoints.load(directory, mmap=True)[1]
    assert same_tree(mapped, checkpoints.load(theirs)[1])


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_16_bits_are_read(dtype, models, flax, same_tree):
    theirs, tree = models
    rounded = params.tree_map(lambda x: np.asarray(x).astype(dtype), tree)
    expected = params.tree_map(lambda x: x.astype(dtype).astype(np.float32), checkpoints.load(theirs)[1])
    found = checkpoints.load(flax({"flax_model.msgpack": packed(rounded)}), dtype="float32")[1]
    assert same_tree(found, expected)


def test_a_file_alone_is_found_after_a_prefix(models, tmp_path, same_tree):
    theirs, tree = models
    config, expected, _ = checkpoints.load(theirs)
    more = {"step": 7, "params": tree, "opt_state": {"0": {"count": np.zeros((), np.int32)}}}
    (tmp_path / "state.msgpack").write_bytes(packed(more))
    found = checkpoints.load(tmp_path / "state.msgpack", as_openai=True)
    assert same_tree(found[1], expected)
    assert found[0].visual == config.visual
    with pytest.raises(miniclip.InputError, match=r"state\.msgpack: does not state its activation"):
        checkpoints.load(tmp_path / "state.msgpack")


@pytest.mark.parametrize("tower", ["text", "visual"])
def test_a_tower_is_read_alone(tower, models, flax, same_tree):
    theirs, tree = models
    kept = {"text": ("text_model", "text_projection"), "visual": ("vision_model", "visual_projection")}[tower]
    directory = flax({"flax_model.msgpack": packed({name: tree[name] for name in kept})})
    assert same_tree(checkpoints.load(directory)[1], {tower: checkpoints.load(theirs)[1][tower]})


def test_a_missing_parameter_is_named(models, flax):
    tree = {**models[1], "text_projection": {}}
    with pytest.raises(miniclip.InputError, match=r"missing text\.projection\.weight \(16, 64\)"):
        checkpoints.load(flax({"flax_model.msgpack": packed(tree)}))


def test_each_name_has_one_name_in_flax_and_there_is_a_way_back(models):
    theirs = {name for names in NAMES.values() for name in names}
    assert len({flax_names.name(name) for name in theirs}) == len(theirs)
    flat = params.flatten(models[1])
    back = flax_names.to_flax(flax_names.to_torch(dict(flat)))
    assert back.keys() == flat.keys()
    for name, x in flat.items():
        np.testing.assert_array_equal(back[name], x)


def test_it_is_converted(models, flax, tmp_path, same_tree):
    directory = flax({"flax_model.msgpack": packed(models[1])})
    convert.convert(directory / "flax_model.msgpack", tmp_path / "m.safetensors", "miniclip")
    assert same_tree(checkpoints.load(tmp_path / "m.safetensors")[1], checkpoints.load(models[0])[1])
