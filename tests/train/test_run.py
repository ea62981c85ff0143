"""Training on a folder of pictures: the command, what it writes, and what is refused."""

import csv
import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image

import miniclip
from miniclip import checkpoints, params
from miniclip.checkpoints import peft
from miniclip.cli import main
from miniclip.families.align.config import ALIGNConfig, BertConfig, EfficientNetConfig
from miniclip.families.clip.presets import PRESETS
from miniclip.fetch import vocabulary
from miniclip.formats import safetensors
from miniclip.runtime import files
from miniclip.tokenizers.wordpiece import WordPiece
from miniclip.train import data, evaluation, initialize, loop, metrics, run, shapes, validation
from miniclip.train.recipe import Recipe
from miniclip.train.sheet import COLUMNS, SIDE, sheet
from miniclip.train.state import state_of

COLOURS = {"red": (220, 20, 20), "green": (20, 180, 40), "blue": (30, 60, 220), "black": (0, 0, 0)}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder with 12 pictures of plain colours, captions.csv, and a broken picture."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    rows = []
    for i in range(12):
        name = [*COLOURS][i % 4]
        pixels = np.clip(np.array(COLOURS[name]) + rng.normal(0, 20, (40, 50, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
        rows.append((f"{i}.png", f"a {name} picture"))
    (folder / "broken.png").write_bytes(b"no picture")
    with open(folder / "captions.csv", "w", newline="") as file:
        csv.writer(file).writerows([("file_name", "caption"), *rows, ("broken.png", "a broken picture")])
    return folder


def train(*arguments):
    return main(["train", *map(str, arguments), "--batch", "4", "--warmup", "2"])


@pytest.mark.parametrize("backend", ["torch", "numpy"])
def test_a_new_model_learns_a_folder_of_pictures(photos, tmp_path, backend, caplog):
    out = tmp_path / "m.safetensors"
    assert train(photos, "--out", out, "--steps", 25, "--backend", backend, "--validation", photos, "--every", 9) == 0
    assert "broken.png" in caplog.text
    lines = metrics.read(metrics.curve_of(out))
    assert [line["step"] for line in lines] == list(range(1, 26)) and lines[-1]["recall"] == 1
    model, preprocess = miniclip.load(out)
    labels = [f"a {name} picture" for name in COLOURS]
    picture = Image.new("RGB", (64, 64), COLOURS["blue"])
    assert miniclip.zero_shot.classify(model, preprocess([picture]), labels).argmax() == labels.index("a blue picture")
    with Image.open(f"{out}.png") as page:
        assert page.width == COLUMNS * (SIDE + 8)
    assert not (tmp_path / "m.safetensors.state").exists()


def test_fine_tuning_with_a_frozen_tower_and_a_learning_rate_for_each_layer(photos, tmp_path):
    out = tmp_path / "tuned.safetensors"
    options = ["--init", "shapes", "--freeze", "visual", "--layer-decay", 0.5, "--learning-rate", 1e-3, "--steps", 3]
    options += ["--lr-scale", "text.projection=0"]
    assert train(photos, "--out", out, *options) == 0
    before, after = (miniclip.load(name)[0].params for name in ("shapes", out))
    assert np.array_equal(before["visual"]["projection"]["weight"], after["visual"]["projection"]["weight"])
    changes = [
        np.abs(
            before["text"]["blocks"][i]["mlp"]["fc"]["weight"] - after["text"]["blocks"][i]["mlp"]["fc"]["weight"]
        ).max()
        for i in range(2)
    ]
    assert 0 < changes[0] < 0.7 * changes[1]
    assert np.array_equal(before["text"]["projection"]["weight"], after["text"]["projection"]["weight"])


def test_lora_writes_an_adapter_that_load_reads(photos, tmp_path):
    out = tmp_path / "adapter"
    options = ["--init", "shapes", "--lora", 2, "--lora-targets", "text", "--learning-rate", 1e-2, "--steps", 3]
    assert train(photos, "--out", out, *options) == 0
    assert json.loads((out / "adapter_config.json").read_text())["r"] == 2
    base, _ = miniclip.load("shapes")
    adapted, _ = miniclip.load("shapes", adapter=out)
    tokens = base.tokenize(["a red picture"])
    assert not np.allclose(base.encode_text(tokens), adapted.encode_text(tokens), atol=1e-3)


def test_an_adapter_is_merged_and_trained_further_as_a_whole(photos, tmp_path, capsys):
    adapter, out = tmp_path / "adapter", tmp_path / "m.safetensors"
    options = ["--init", "shapes", "--lora", 2, "--lora-targets", "text", "--learning-rate", 1e-2, "--steps", 2]
    assert train(photos, "--out", adapter, *options) == 0
    start = run.existing(str(adapter))
    merged, _ = miniclip.load("shapes", adapter=adapter)
    flat = params.flatten(merged.params)
    assert all(np.array_equal(x, flat[name]) for name, x in params.flatten(start.params).items())
    assert train(photos, "--out", out, "--init", adapter, "--steps", 1) == 0
    assert miniclip.load(out)[0].config == merged.config
    assert train(photos, "--out", tmp_path / "other", "--init", adapter, "--lora", 2) == 1
    assert "miniclip convert ADAPTER merged.safetensors --to miniclip" in capsys.readouterr().err


def test_a_new_model_for_larger_pictures(photos, tmp_path):
    out = tmp_path / "m.safetensors"
    assert train(photos, "--out", out, "--steps", 2, "--image-size", 64) == 0
    model, preprocess = miniclip.load(out)
    assert model.config.visual.image_size == preprocess.image_size == 64
    assert train(photos, "--out", out, "--force", "--steps", 1, "--init", out, "--image-size", 32) == 0
    assert miniclip.load(out)[0].config.visual.grid == (4, 4)


def test_drawn_shapes_are_trained_on_with_all_options(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(evaluation, "evaluate", lambda *loaded: {})
    out = tmp_path / "m.safetensors"
    command = ["train", "shapes", "--steps", "1", "--image-size", "24", "--validation", str(photos)]
    assert main([*command, "--out", str(out)]) == 0
    assert miniclip.load(out)[0].config.visual.image_size == 24
    assert "recall" in metrics.read(metrics.curve_of(out))[-1]
    assert main([*command, "--init", "shapes", "--out", str(tmp_path / "tuned")]) == 0  # a batch has their number
    assert main([*command, "--columns", "a", "b", "--out", str(tmp_path / "other")]) == 1
    assert "take neither augment nor columns" in capsys.readouterr().err


def test_a_new_model_of_another_configuration():
    small = initialize.CONFIGS["small"]
    visual = dataclasses.replace(small.visual, image_size=(16, 24), width=16, layers=1)
    text = dataclasses.replace(small.text, width=16, layers=1, vocab_size=530)
    start = run.new(["a cat on a mat"] * 2, Recipe(), dataclasses.replace(small, visual=visual, text=text))
    assert start.config.visual == visual and len(start.tokenizer) == start.config.text.vocab_size <= 530
    official = dataclasses.replace(text, vocab_size=49408)
    start = run.new([], Recipe(), dataclasses.replace(small, visual=visual, text=official))
    assert start.tokenizer is vocabulary.official_tokenizer and start.preprocess.image_size == (16, 24)
    assert params.flatten(start.params)["text.embed.table"].shape == (49408, 16)
    assert "ViT-L/14" in initialize.CONFIGS and "RN50" not in initialize.CONFIGS
    for wrong in (PRESETS["RN50"], dataclasses.replace(small, text=None)):
        with pytest.raises(miniclip.InputError, match="only a CLIP with a Vision Transformer and a text tower"):
            run.new([], Recipe(), wrong)


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


def test_accuracy_on_folders_of_classes(photos, tmp_path):
    for name in ("red_square", "blue_heart"):
        (tmp_path / name).mkdir()
        rng = np.random.default_rng(3)
        for i in range(3):
            scene = shapes.one_object(rng, tuple(name.split("_")), 0.3)
            shapes.draw(scene, rng).save(tmp_path / name / f"{i}.png")
    (tmp_path / "red_square" / "broken.png").write_bytes(b"no picture")
    model, preprocess = miniclip.load("shapes")
    (tmp_path / "red_square" / ".DS_Store").write_bytes(b"a Mac's file")
    measure = validation.ZeroShot(tmp_path, preprocess, ["a {}"])
    assert measure.labels == ["blue heart", "red square"] and measure(model) == {"accuracy": 1.0}
    with pytest.raises(miniclip.InputError, match="expected pictures of at least two classes"):
        validation.ZeroShot(photos, preprocess)


def test_accuracy_on_a_list_of_labelled_pictures_with_several_templates(photos):
    model, preprocess = miniclip.load("shapes")
    rng = np.random.default_rng(3)
    labels = ["red square", "blue heart"] * 3
    pictures = [shapes.draw(shapes.one_object(rng, tuple(label.split()), 0.3), rng) for label in labels]
    templates = ["a {}", "{}"]
    measure = validation.ZeroShot(zip(pictures, labels), preprocess, templates)
    assert measure(model) == {"accuracy": 1.0}
    best = miniclip.zero_shot.classify(model, preprocess(pictures), measure.labels, templates).argmax(axis=-1)
    assert [measure.labels[i] for i in best] == labels
    for wrong, options, message in [
        ([(pictures[0], 3), (pictures[1], 4)], {}, "the label 3 is not a text"),
        (zip(pictures, labels), {"templates": ["a photo"]}, "the template 'a photo' has no {}"),
        ([(pictures[0], "one")], {}, "the list: expected pictures of at least two classes"),
    ]:
        with pytest.raises(miniclip.InputError, match=message):
            validation.ZeroShot(wrong, preprocess, **options)


def test_a_wrong_template_is_refused_before_training(photos, tmp_path, capsys):
    (tmp_path / "classes").mkdir()
    for name in "ab":
        (tmp_path / "classes" / name).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / "classes" / name / "0.png")
    options = ["--classes", tmp_path / "classes", "--template", "a {}", "--template", "a photo"]
    assert train(photos, "--init", "shapes", "--out", tmp_path / "m", *options) == 1
    assert "the template 'a photo' has no {}" in capsys.readouterr().err
    assert not (tmp_path / "m.png").exists()


def test_recall_counts_equal_captions_as_one(photos):
    _, preprocess = miniclip.load("shapes")
    pairs = data.read(photos, None)
    measure = validation.Retrieval(pairs, preprocess)
    order = {caption: i for i, caption in enumerate(sorted(set(measure.captions)))}

    class Perfect:
        ops = miniclip.ops.numpy_ops

        def tokenize(self, texts, truncate):
            return np.array([order[text] for text in texts])

        def encode_text(self, tokens, normalize):
            return np.eye(len(order))[tokens]

        def encode_image(self, images, normalize):
            start = next(i for i in range(len(measure.images)) if np.array_equal(measure.images[i], images[0]))
            return np.eye(len(order))[[order[text] for text in measure.captions[start : start + len(images)]]]

    assert measure(Perfect()) == {"recall": 1.0}


def test_the_best_measurement_is_said(photos, tmp_path, caplog):
    caplog.set_level("INFO", "miniclip.train")
    options = ["--steps", 7, "--validation", photos, "--every", 3]
    assert train(photos, "--out", tmp_path / "m", *options) == 0
    scores = {
        line["step"]: line["recall"] for line in metrics.read(metrics.curve_of(tmp_path / "m")) if "recall" in line
    }
    best = max(scores, key=scores.get)
    assert [*scores] == [3, 6, 7]
    assert f"the best recall is {scores[best]:.3f}, after {best} steps: these parameters are written" in caplog.text


def test_warmup_is_at_most_a_tenth_of_the_steps(photos, tmp_path):
    assert main(["train", str(photos), "--out", str(tmp_path / "m"), "--steps", "20", "--batch-size", "4"]) == 0
    rates = [line["learning_rate"] for line in metrics.read(metrics.curve_of(tmp_path / "m"))]
    assert rates[0] == 0.5e-3 and rates[1] == rates[2] == 1e-3 and rates[-1] < 1e-5


@pytest.mark.parametrize("ending", ["pt", "pth", "bin"])
def test_a_model_has_no_ending_of_torch(photos, tmp_path, capsys, ending):
    assert train(photos, "--out", tmp_path / f"m.{ending}", "--steps", 1) == 1
    assert (
        f"m.{ending}: a model is written in the format of safetensors: name it .safetensors" in capsys.readouterr().err
    )
    assert not [*tmp_path.iterdir()]


def test_a_sheet_has_all_pictures_and_captions():
    images = np.random.default_rng(0).standard_normal((7, 3, 8, 8))
    page = sheet(images, ["a very long caption " * 20] * 7)
    assert page.height > 2 * SIDE and page.width == COLUMNS * (SIDE + 8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--batch", "40"], "too few for a batch of 40"),
        (["--freeze", "nose", "--init", "shapes"], "no parameter is named by 'nose'"),
        (["--lora", "2", "--init", "shapes", "--optimizer", "muon"], "Muon is for whole matrices"),
        (["--lora", "2", "--freeze", "visual", "--init", "shapes"], "with LoRA the model is frozen"),
        (["--lora", "2", "--optimizer", "adamw"], "LoRA's matrices belong to a model in a file or with a name"),
        (["--image-size", "4"], "patches of 8 pixels do not fit a picture of 4"),
        (["--patience", "2"], "patience needs something to measure"),
        (["--template", "a {}"], "templates are for the labels of classes: pass --classes, too"),
        (["--lora", "2"], "LoRA's matrices belong to a model in a file or with a name: begin with one (--init MODEL)"),
        (["--backend", "numpy", "--precision", "bfloat16"], "the numpy backend has no mixed precision"),
        (
            ["--backend", "numpy", "--grad-checkpointing"],
            "the numpy backend has no mixed precision, chunks and checkpoints",
        ),
        (["--init", "no-such-model"], "no-such-model"),
        (["--batch", "0"], "batch is 0, expected a positive number"),
        (["--batch", "1"], "a batch of one pair has nothing to compare"),
        (["--patience", "0", "--validation", "PHOTOS"], "patience is 0, expected at least 1"),
        (["--every", "0", "--validation", "PHOTOS"], "every is 0, expected at least 1"),
        (["--lora", "2", "--init", "shapes", "--lora-alpha", "0"], "LoRA's alpha is 0.0, expected a number above 0"),
        (["--lora", "2", "--init", "shapes", "--lora-alpha", "nan"], "LoRA's alpha is nan"),
        (["--init", "shapes", "--lora-alpha", "2"], "alpha and targets are LoRA's: pass a rank"),
        (["--init", "shapes", "--lr-scale", "visual=nan"], "the share of visual in the learning rate is nan"),
        (["--init", "shapes", "--lr-scale", "visual=-1"], "the share of visual in the learning rate is -1.0"),
        (["--label-smoothing", "1.5"], "label_smoothing is 1.5"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(photos, tmp_path, capsys, options, message):
    options = [str(photos) if option == "PHOTOS" else option for option in options]
    assert main(["train", str(photos), "--out", str(tmp_path / "m"), "--steps", "2", "--batch", "4", *options]) == 1
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--freeze", "nose"], "no parameter is named by 'nose'"),
        (["--batch", "9"], "a batch of the built-in shapes has 76 pictures"),
        (["--columns", "a", "b"], "take neither augment nor columns"),
        (["--lora", "2", "--optimizer", "adamw"], "LoRA's matrices belong to a model in a file"),
        (["--validation", "no-such-folder"], "no-such-folder: no such file or folder"),
        (["--patience", "2"], "patience needs something to measure"),
        (["--device", "no-such-device"], "no-such-device"),
    ],
)
def test_no_option_is_ignored_when_the_drawn_shapes_are_the_data(tmp_path, capsys, options, message):
    assert main(["train", "shapes", "--out", str(tmp_path / "m"), "--steps", "0", *options]) == 1
    assert message in capsys.readouterr().err


def test_a_model_is_fine_tuned_on_the_drawn_shapes(tmp_path):
    assert main(["train", "shapes", "--init", "shapes", "--out", str(tmp_path / "m"), "--steps", "1"]) == 0
    assert len(metrics.read(metrics.curve_of(tmp_path / "m"))) == 1


WITHOUT_TORCH = """
import sys
class Refuse:
    def find_spec(self, name, *rest):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
sys.meta_path.insert(0, Refuse())
from miniclip.checkpoints import peft
from miniclip.cli import main
sys.exit(main(["train", "shapes", "--backend", "numpy", "--steps", "2", "--out", sys.argv[1]]))
"""


def test_training_on_torch_without_torch_is_one_line(photos, tmp_path):
    code = WITHOUT_TORCH.replace('"shapes", "--backend", "numpy"', repr(str(photos)))
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "m")], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("miniclip: the torch backend needs torch: ")


def test_the_built_in_model_is_trained_without_torch(tmp_path, monkeypatch):
    out = tmp_path / "m.safetensors"
    run = [
        sys.executable,
        "-c",
        "from miniclip.train import evaluation; evaluation.evaluate = lambda *_: {}" + WITHOUT_TORCH,
    ]
    done = subprocess.run([*run, str(out)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert len(safetensors.read(out)[0]) > 50


def test_a_fine_tuned_align_keeps_its_vocabulary(photos, tmp_path):
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "picture", *COLOURS]
    stages = (1, 8, 3, 1, 1), (1, 12, 3, 2, 6)
    visual = EfficientNetConfig(
        image_size=33, resized=33, width_coefficient=0.5, depth_coefficient=1.0, depth_divisor=2, stages=stages
    )
    text = BertConfig(context_length=9, vocab_size=len(pieces), width=16, layers=1, heads=2, mlp_width=24)
    config, rng = ALIGNConfig(visual, text, embed_dim=visual.width), np.random.default_rng(0)
    tree = params.tree_map(lambda shape: (rng.random(shape) + (shape == ())).astype(np.float32), config.shapes())
    checkpoints.save(tmp_path / "align", config, tree, tokenizer=WordPiece(pieces))
    assert train(photos, "--init", tmp_path / "align", "--out", tmp_path / "tuned", "--steps", 1) == 0
    before, after = (miniclip.load(tmp_path / name)[0] for name in ("align", "tuned"))
    assert after.tokenizer.lines() == before.tokenizer.lines() == pieces
    assert not np.array_equal(before.params["temperature"], after.params["temperature"])


def test_wrong_arguments_are_input_errors_before_anything_is_written(photos, tmp_path):
    for name, x in [
        ("steps", 2.5),
        ("steps", "3"),
        ("seed", -1),
        ("warmup", None),
        ("learning_rate", "1"),
        ("chunk", 0.5),
    ]:
        with pytest.raises(miniclip.InputError, match=f"{name} is {x!r}, expected"):
            Recipe(**{name: x})
    recipe = Recipe(steps=1, optimizer="adamw")
    pairs = data.load(photos, 48, batch=4)
    for options, message in [
        ({"dtype": "int8"}, "dtype is 'int8', expected one of float16"),
        ({"trainable": run.Trainable(rank=1.5)}, "the rank is 1.5, expected an integer"),
        ({"trainable": run.Trainable(rank=-1)}, "the rank is -1, expected an integer"),
    ]:
        with pytest.raises(miniclip.InputError, match=message):
            run.train(tmp_path / "m", run.existing("shapes"), pairs, recipe, **options)
    assert not [*tmp_path.iterdir()]
    with pytest.raises(miniclip.InputError, match="state_every is 0, expected at least 1 step"):
        run.train(tmp_path / "m", run.existing("shapes"), pairs, recipe, state_every=0)
