"""Training: a run can be stopped and resumed, and a model learns."""

import importlib
import signal
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import miniclip
from miniclip import params
from miniclip.cli import main
from miniclip.formats import safetensors
from miniclip.loss import contrastive_loss
from miniclip.train import evaluation, learners, loop, metrics, shapes
from miniclip.train.initialize import init_params, sine_cosine
from miniclip.train.recipe import Recipe
from miniclip.train.run import train_shapes
from miniclip.train.state import state_of

SHORT = Recipe(steps=4, warmup=2)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    """A state after every `state_every` steps, however long writing takes."""
    monkeypatch.setattr(loop, "PAUSE", 0)


def test_positions_that_are_near_start_alike():
    table = sine_cosine((6, 6), 128)
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
    train_shapes(whole, SHORT)
    batch = shapes.batch

    def stops(seed, step, image_size):
        if step == 3:
            raise Stopped
        return batch(seed, step, image_size)

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(shapes, "batch", stops)
        train_shapes(parts, SHORT, state_every=2)
    state = tmp_path / "parts.safetensors.state"
    assert state.exists() and not parts.exists()
    with pytest.raises(miniclip.InputError, match="the state of an unfinished training"):
        train_shapes(parts, SHORT)
    with pytest.raises(miniclip.InputError, match="belongs to another training: steps was 4, and is 5"):
        train_shapes(parts, Recipe(steps=5), resume=True)
    train_shapes(parts, SHORT, resume=True)
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
    monkeypatch.setitem(loop.train.__kwdefaults__, "state_every", 2)


def test_ctrl_c_keeps_everything_learned_so_far(tmp_path, monkeypatch, capsys):
    out, real = tmp_path / "m.safetensors", shapes.batch
    monkeypatch.setattr(evaluation, "evaluate", lambda *loaded: {})
    interrupts = iter([False, False, True, False, False])  # of the sheet of samples, and in the second of four steps

    def batch(*arguments):
        if next(interrupts):
            signal.raise_signal(signal.SIGINT)
        return real(*arguments)

    monkeypatch.setattr(shapes, "batch", batch)
    command = ["train", "shapes", "--out", str(out), "--steps", "4"]
    assert main(command) == 130 and not out.exists()
    assert f"stopped; what it has learned is in {state_of(out)}: add --resume" in capsys.readouterr().err
    assert main([*command, "--resume"]) == 0
    monkeypatch.setattr(shapes, "batch", real)
    train_shapes(tmp_path / "whole.safetensors", Recipe(steps=4, warmup=0))
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
        train_shapes("/proc/m", SHORT)


@pytest.mark.parametrize("every", [2, 100])  # the state does not fit, the model does not fit
def test_a_full_disk_is_one_error_and_leaves_no_half_files(tmp_path, every):
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(miniclip.InputError, match=r"m(\.state)?: cannot be written: "):
            train_shapes(tmp_path / "m", SHORT, state_every=every)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {path.name for path in tmp_path.iterdir()} <= {"m.jsonl", "m.png"}


@pytest.mark.parametrize("backend", ["torch", "numpy"])
def test_a_training_that_diverges_is_one_error_and_keeps_the_last_good_state(tmp_path, monkeypatch, backend):
    out = tmp_path / "m"
    out.write_text("an older model")
    learner = importlib.import_module(learners.LEARNERS[backend]).Learner
    update, steps = learner.update, iter(range(1, 9))

    def breaks(self, rate):
        update(self, rate)
        if next(steps) == 2:
            self.set_parameters({name: np.full_like(x, np.nan) for name, x in self.parameters().items()})

    monkeypatch.setattr(learner, "update", breaks)
    with pytest.raises(
        miniclip.InputError, match="a parameter is infinite or not a number in step 2: the training diverges"
    ):
        train_shapes(out, SHORT, backend=backend, state_every=1)
    assert safetensors.read(state_of(out))[1]["step"] == "1" and out.read_text() == "an older model"
    steps = iter(range(2, 9))
    with pytest.raises(miniclip.InputError, match="the loss is nan in step 3: the training diverges"):
        train_shapes(out, SHORT, backend=backend, resume=True, state_every=3)
    assert safetensors.read(state_of(out))[1]["step"] == "1" and out.read_text() == "an older model"
    assert [step for step, _ in curve(out)] == [1, 2]


def test_the_seed_decides(tmp_path):
    for name, seed in [("a", 1), ("b", 1), ("c", 2)]:
        train_shapes(tmp_path / name, Recipe(steps=0, seed=seed))
    assert same_files(tmp_path / "a", tmp_path / "b")
    first, other = (safetensors.read(tmp_path / name)[0]["visual.projection.weight"] for name in "ac")
    assert not np.array_equal(first, other)


def test_a_short_training_learns_something(tmp_path):
    images, captions = shapes.batch(99, 0, 48)

    def loss(model):
        with torch.no_grad():
            return contrastive_loss(model(images, model.tokenize(captions))[0], ops=model.ops).item()

    trained = train_shapes(tmp_path / "m.safetensors", Recipe(steps=40, warmup=10))
    start = params.tree_map(torch.from_numpy, init_params(trained.config, np.random.default_rng(0)))
    untrained = miniclip.CLIP(trained.config, start, trained.ops, tokenizer=trained.tokenizer)
    assert loss(trained) < loss(untrained) - 0.8
    loaded, preprocess = miniclip.load(tmp_path / "m.safetensors")
    assert loaded.tokenizer.merges == trained.tokenizer.merges
    assert preprocess.image_size == 48


def curve(path):
    return [(line["step"], line["loss"]) for line in metrics.read(metrics.curve_of(path))]


KILLED = """
import os, sys
from miniclip.train import loop
from miniclip.train.run import train_shapes
from miniclip.train.recipe import Recipe

save, steps = loop.Metrics.__call__, iter(range(int(sys.argv[2])))
def kill(self, step, **numbers):
    save(self, step, **numbers)
    if next(steps, None) is None:
        os.kill(os.getpid(), 9)
loop.Metrics.__call__ = kill
resume = os.path.exists(sys.argv[1] + ".state")
train_shapes(sys.argv[1], Recipe(steps=12, warmup=2), resume=resume, state_every=3)
"""


def test_a_training_that_is_killed_again_and_again_has_the_curve_of_one_that_is_not(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    train_shapes(whole, Recipe(steps=12, warmup=2))
    for steps in (4, 1, 3, 5, 100):  # until it is killed; a state is written every third
        run = [sys.executable, "-c", KILLED, str(killed), str(steps)]
        done = subprocess.run(run, capture_output=True, text=True, timeout=300)
        assert done.returncode == (0 if steps == 100 else -9), done.stderr
    assert curve(killed) == curve(whole) and len(curve(whole)) == 12
    assert same_files(killed, whole)


def test_half_a_line_of_the_curve_is_left_out(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_text('{"step": 1, "loss": 2.5}\n{"step": 2, "lo')
    assert metrics.read(path) == [{"step": 1, "loss": 2.5}]


def test_tensorboard_gets_all_numbers_of_all_steps(tmp_path, monkeypatch):
    out, numbers = tmp_path / "m.safetensors", []
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "tensorboard.summary", None)
        with pytest.raises(miniclip.InputError, match="pip install tensorboard"):
            train_shapes(out, SHORT, tensorboard=tmp_path / "tb")

    class Writer:  # as tensorboard.summary.Writer of 2.21
        def __init__(self, folder):
            assert folder == str(tmp_path / "tb")

        def add_scalar(self, tag, data, step, *, wall_time=None, description=None):
            numbers.append((tag, data, step))

        def close(self):
            numbers.append("closed")

    monkeypatch.setitem(sys.modules, "tensorboard.summary", SimpleNamespace(Writer=Writer))
    monkeypatch.setitem(sys.modules, "tensorboard", SimpleNamespace(summary=sys.modules["tensorboard.summary"]))
    train_shapes(out, SHORT, tensorboard=tmp_path / "tb")
    lines = metrics.read(metrics.curve_of(out))
    assert numbers == [(k, x, line["step"]) for line in lines for k, x in line.items() if k != "step"] + ["closed"]


class Scores:
    """An evaluation with given scores, and the model's scale as it was at each."""

    def __init__(self, *scores):
        self.scores, self.seen = iter(scores), []

    def __call__(self, model):
        self.seen.append(model.logit_scale.item())
        return {"score": next(self.scores)}


def test_early_stopping_keeps_the_best_parameters(tmp_path):
    measure = Scores(1.0, 3.0, 2.0, 2.5, 9.0)
    evaluation = loop.Evaluation(measure, every=2, score="score", patience=2)
    model = train_shapes(tmp_path / "m", Recipe(steps=20, warmup=2), evaluation=evaluation)
    assert len(measure.seen) == 4 and len(curve(tmp_path / "m")) == 8
    assert model.logit_scale.item() == measure.seen[1] != measure.seen[3]


def test_early_stopping_survives_a_stop(tmp_path, monkeypatch):
    out, real = tmp_path / "m", shapes.batch
    recipe = Recipe(steps=20, warmup=2)
    stop_at(6, monkeypatch)
    measure = Scores(1.0, 3.0, 2.0, 2.5)
    with pytest.raises(KeyboardInterrupt):
        train_shapes(out, recipe, evaluation=loop.Evaluation(measure, every=2, score="score", patience=2))
    monkeypatch.setattr(shapes, "batch", real)
    evaluation = loop.Evaluation(measure, every=2, score="score", patience=2)
    model = train_shapes(out, recipe, evaluation=evaluation, resume=True)
    assert len(measure.seen) == 4 and model.logit_scale.item() == measure.seen[1]
