"""Training: a run can be stopped and resumed, and a model learns."""

import numpy as np
import pytest
import torch

import miniclip
from miniclip import params
from miniclip.formats import safetensors
from miniclip.loss import contrastive_loss
from miniclip.train import loop, shapes

SHORT = loop.Recipe(steps=4, warmup=2)


def test_positions_that_are_near_start_alike():
    table = loop.sine_cosine(6, 128)
    assert table.shape == (36, 128)
    likeness = (table @ table.T).reshape(6, 6, 6, 6)
    for x in range(5):
        assert likeness[0, 0, 0, x] > likeness[0, 0, 0, x + 1]
    np.testing.assert_allclose(likeness[0, 0, 2, 3], likeness[0, 0, 3, 2])  # both axes have the same weight


def same_files(a, b):
    """Whether arrays and metadata are equal. The bytes may differ: the official writer orders metadata at random."""
    (tensors_a, metadata_a), (tensors_b, metadata_b) = safetensors.read(a), safetensors.read(b)
    return metadata_a == metadata_b and all(np.array_equal(tensors_a[name], x) for name, x in tensors_b.items())


class Stopped(Exception):
    pass


def test_a_resumed_training_ends_as_an_uninterrupted_one(tmp_path, monkeypatch):
    whole, parts = tmp_path / "whole.safetensors", tmp_path / "parts.safetensors"
    loop.train_shapes(whole, SHORT)
    batch = shapes.batch

    def stops(seed, step, image_size):
        if step == 3:
            raise Stopped
        return batch(seed, step, image_size)

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(shapes, "batch", stops)
        loop.train_shapes(parts, SHORT, state_every=2)
    state = tmp_path / "parts.safetensors.state"
    assert state.exists() and not parts.exists()
    with pytest.raises(miniclip.InputError, match="the state of an unfinished training"):
        loop.train_shapes(parts, SHORT)
    with pytest.raises(miniclip.InputError, match="another recipe"):
        loop.train_shapes(parts, loop.Recipe(steps=5), resume=True)
    loop.train_shapes(parts, SHORT, resume=True)
    assert same_files(parts, whole)
    assert not state.exists()


def test_the_seed_decides(tmp_path):
    for name, seed in [("a", 1), ("b", 1), ("c", 2)]:
        loop.train_shapes(tmp_path / name, loop.Recipe(steps=0, seed=seed))
    assert same_files(tmp_path / "a", tmp_path / "b")
    first, other = (safetensors.read(tmp_path / name)[0]["visual.projection.weight"] for name in "ac")
    assert not np.array_equal(first, other)


def test_a_short_training_learns_something(tmp_path):
    images, captions = shapes.batch(99, 0, 48)

    def loss(model):
        with torch.no_grad():
            return contrastive_loss(model(images, model.tokenize(captions))[0], ops=model.ops).item()

    trained = loop.train_shapes(tmp_path / "m.safetensors", loop.Recipe(steps=40, warmup=10))
    start = params.tree_map(torch.from_numpy, loop.init_params(trained.config, np.random.default_rng(0)))
    untrained = miniclip.CLIP(trained.config, start, trained.ops, tokenizer=trained.tokenizer)
    assert loss(trained) < loss(untrained) - 0.8
    loaded, preprocess = miniclip.load(tmp_path / "m.safetensors")
    assert loaded.tokenizer.merges == trained.tokenizer.merges
    assert preprocess.image_size == 48
