"""What a training writes over and what it continues: states, files of its own, and nobody else's."""

import json
import shutil
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from training_pictures import write_colours

import miniclip
from miniclip.checkpoints import peft
from miniclip.cli import main
from miniclip.formats import safetensors
from miniclip.runtime import files
from miniclip.train import data, loop, metrics, run
from miniclip.train.recipe import Recipe
from miniclip.train.state import state_of


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_colours(tmp_path_factory.mktemp("photos"))


def train(*arguments):
    return main(["train", *map(str, arguments), "--batch", "4", "--warmup", "2"])


def test_a_stopped_fine_tuning_is_resumed(photos, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    options = ["--init", "shapes", "--learning-rate", 1e-3, "--steps", 6]
    assert train(photos, "--out", whole, *options) == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(loop.train.__kwdefaults__, "state_every", 2)
        patch.setattr(metrics.Metrics, "__call__", lambda self, step, **numbers: 1 / (5 - step))
        with pytest.raises(ZeroDivisionError):  # in step 5
            train(photos, "--out", parts, *options)
    assert train(photos, "--out", parts, *options) == 1  # there is a state
    assert train(photos, "--out", parts, *options, "--resume") == 0
    assert all(np.array_equal(x, y) for x, y in zip(*(safetensors.read(path)[0].values() for path in (whole, parts))))


def stopped(*arguments):
    """Train, and stop in step 3; its state is that of step 2."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(loop.train.__kwdefaults__, "state_every", 2)
        patch.setattr(metrics.Metrics, "__call__", lambda self, step, **numbers: 1 / (3 - step))
        with pytest.raises(ZeroDivisionError):
            train(*arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--batch", "6"], "batch was 4, and is 6"),
        (["--steps", "5"], "steps was 4, and is 5"),
        (["--no-augment"], "augment was Augment("),
        (["--lora", "3"], "rank=3"),
        (["--lora-targets", "text"], "targets=('text',)"),
        (["--validation", "PHOTOS"], "score was None, and is recall"),
        (["--seed", "1"], "seed was 0, and is 1"),
    ],
)
def test_a_state_of_another_training_is_refused(photos, tmp_path, capsys, options, message):
    out = tmp_path / "m"
    command = [photos, "--out", out, "--init", "shapes", "--lora", "2", "--steps", "4"]
    stopped(*command)
    state = state_of(out).read_bytes()
    options = [str(photos) if option == "PHOTOS" else option for option in options]
    assert main(["train", *map(str, command), "--batch", "4", "--warmup", "2", "--resume", *options]) == 1
    error = capsys.readouterr().err
    assert "belongs to another training: " in error and message in error
    assert state_of(out).read_bytes() == state and not out.exists()


def test_a_state_of_other_data_or_of_another_model_is_refused(photos, tmp_path, capsys):
    out, other = tmp_path / "m", tmp_path / "photos"
    shutil.copytree(photos, other)
    with open(other / "captions.csv", "a") as file:
        file.write("0.png,one more caption\n")
    stopped(photos, "--out", out, "--init", "shapes", "--steps", "4")
    assert train(other, "--out", out, "--init", "shapes", "--steps", "4", "--resume") == 1
    assert "belongs to another training: captions was" in capsys.readouterr().err
    tensors, metadata = safetensors.read(state_of(out))
    tensors["params.visual.projection.weight"] = np.zeros((2, 2), np.float32)
    safetensors.write(state_of(out), tensors, metadata)
    assert train(photos, "--out", out, "--init", "shapes", "--steps", "4", "--resume") == 1
    assert "belongs to a training of another model" in capsys.readouterr().err
    safetensors.write(state_of(out), tensors, {"format": "np"})
    assert train(photos, "--out", out, "--init", "shapes", "--steps", "4", "--resume") == 1
    assert "is not the state of a training" in capsys.readouterr().err


def test_an_adapter_is_written_again_after_a_stop_between_it_and_the_state_and_with_force(photos, tmp_path, capsys):
    out, whole = tmp_path / "adapter", tmp_path / "whole"
    options = ["--init", "shapes", "--lora", 2, "--steps", 2]
    assert train(photos, "--out", whole, *options) == 0
    unlink = Path.unlink
    with pytest.MonkeyPatch.context() as patch, pytest.raises(ZeroDivisionError):  # before the state is removed
        patch.setattr(Path, "unlink", lambda self, **how: 1 / (self != state_of(out)) and unlink(self, **how))
        train(photos, "--out", out, *options)
    assert out.is_dir() and state_of(out).exists()
    assert train(photos, "--out", out, *options, "--resume") == 0
    assert train(photos, "--out", out, *options) == 1 and "pass --force" in capsys.readouterr().err
    assert train(photos, "--out", out, *options, "--force") == 0
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert len((out / name).read_bytes()) == len((whole / name).read_bytes())
    assert not [*tmp_path.glob(".*")]
    (out / "notes.txt").write_text("mine")
    assert train(photos, "--out", out, *options, "--force") == 1
    assert "is not an adapter's folder" in capsys.readouterr().err and (out / "notes.txt").exists()
    assert train(photos, "--out", out, "--init", "shapes", "--force", "--steps", 1) == 1


def test_an_adapter_that_peft_cannot_have_is_refused_before_training(photos, tmp_path, capsys):
    options = ["--init", "shapes", "--lora", 2, "--steps", 2, "--lora-targets", "visual.patch_embed.position_embedding"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(peft, "to_peft", Mock(side_effect=miniclip.InputError("PEFT's files cannot have a pair for it")))
        assert train(photos, "--out", tmp_path / "m", *options) == 1
    assert "PEFT's files cannot have a pair for it" in capsys.readouterr().err and not [*tmp_path.iterdir()]


def test_no_file_but_its_own_is_replaced_by_a_curve_or_a_sheet(photos, tmp_path, capsys):
    table, folder = tmp_path / "pairs.jsonl", tmp_path / "photos"
    shutil.copytree(photos, folder)
    table.write_text("".join(json.dumps({"path": f"photos/{i}.png", "text": "a text"}) + "\n" for i in range(12)))
    kept = {path: path.read_bytes() for path in (table, folder / "0.png")}
    for data_of, out in [(table, tmp_path / "pairs"), (folder, folder / "0")]:
        assert train(data_of, "--out", out, "--steps", 1, "--force") == 1
        assert "would replace it: write to another path" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in kept} == kept
    for _ in range(2):  # those of an earlier training may be replaced
        assert train(folder, "--out", tmp_path / "m", "--steps", 1, "--force") == 0


def test_two_trainings_cannot_write_the_same_file(photos, tmp_path, capsys):
    out = tmp_path / "m"
    with files.locked(tmp_path / ".m.lock"):
        assert train(photos, "--out", out, "--steps", 1) == 1
    assert "m: another training is writing it" in capsys.readouterr().err and not [*tmp_path.iterdir()]
    for name in (".m.12345678.incomplete", ".m.state.12345678.incomplete", ".m.other.12345678.incomplete"):
        (tmp_path / name).write_text("left by a training that was killed")
    assert train(photos, "--out", out, "--steps", 1) == 0
    assert [path.name for path in tmp_path.glob(".*")] == [".m.other.12345678.incomplete"]  # of another model


def test_nothing_is_written_before_everything_is_checked(photos, tmp_path, capsys):
    out = tmp_path / "m"
    stopped(photos, "--out", out, "--steps", "4")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert train(photos, "--out", out, "--steps", "4") == 1 and "pass --resume" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before
    pairs, recipe = data.load(photos, 48, batch=5), Recipe(steps=1)
    with pytest.raises(miniclip.InputError, match="a batch of 5 cannot be divided among 2 processes"):
        run.train(tmp_path / "n", run.new(pairs.captions, recipe), pairs, recipe, world=2)
    assert not [*tmp_path.glob("n*")]
