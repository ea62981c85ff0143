"""Training: a run can be stopped and resumed, and a model learns."""

import signal

import numpy as np
import pytest
import torch

import miniclip
from miniclip import params
from miniclip.cli import main
from miniclip.formats import safetensors
from miniclip.loss import contrastive_loss
from miniclip.train import evaluation, loop, shapes

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


def stop_at(step, monkeypatch):
    """Ctrl-C before a step of the next training."""
    batch = shapes.batch

    def stops(seed, number, image_size):
        if number == step:
            raise KeyboardInterrupt
        return batch(seed, number, image_size)

    monkeypatch.setattr(shapes, "batch", stops)
    monkeypatch.setattr(loop.train_shapes, "__kwdefaults__", {"resume": False, "state_every": 2})


def test_ctrl_c_keeps_everything_learned_so_far(tmp_path, monkeypatch, capsys):
    out, real = tmp_path / "m.safetensors", shapes.batch
    monkeypatch.setattr(evaluation, "evaluate", lambda *loaded: {})
    interrupts = iter([False, True, False, False])  # in the second of four steps

    def batch(*arguments):
        if next(interrupts):
            signal.raise_signal(signal.SIGINT)
        return real(*arguments)

    monkeypatch.setattr(shapes, "batch", batch)
    command = ["train", "shapes", "--out", str(out), "--steps", "4"]
    assert main(command) == 130 and not out.exists()
    assert f"stopped; what it has learned is in {loop.state_of(out)}: add --resume" in capsys.readouterr().err
    assert main([*command, "--resume"]) == 0
    monkeypatch.setattr(shapes, "batch", real)
    loop.train_shapes(tmp_path / "whole.safetensors", loop.Recipe(steps=4))
    assert same_files(out, tmp_path / "whole.safetensors")


def test_nothing_to_resume_is_said(tmp_path, capsys):
    assert main(["train", "shapes", "--out", str(tmp_path / "m.safetensors"), "--resume"]) == 1
    assert "there is no unfinished training to resume: leave out --resume" in capsys.readouterr().err


def test_a_finished_file_is_written_over_only_if_asked(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(evaluation, "evaluate", lambda *loaded: {})
    out = tmp_path / "m.safetensors"
    out.write_text("a model")
    command = ["train", "shapes", "--out", str(out), "--steps", "0"]
    assert main(command) == 1 and out.read_text() == "a model"
    assert "pass --force to write over it" in capsys.readouterr().err
    assert main([*command, "--force"]) == 0 and len(out.read_bytes()) > 1e6


def test_a_folder_that_cannot_be_written_is_refused_before_training(monkeypatch):
    monkeypatch.setattr(shapes, "captions", lambda seed: pytest.fail("the training has begun"))
    with pytest.raises(miniclip.InputError, match=r"/proc/m: cannot be written: "):
        loop.train_shapes("/proc/m", SHORT)


@pytest.mark.parametrize("every", [2, 100])  # the state does not fit, the model does not fit
def test_a_full_disk_is_one_error_and_leaves_no_half_files(tmp_path, every):
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(miniclip.InputError, match=r"m(\.state)?: cannot be written: "):
            loop.train_shapes(tmp_path / "m", SHORT, state_every=every)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


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
