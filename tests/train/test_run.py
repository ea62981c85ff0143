"""Training on a folder of pictures: the command, what it writes, and what is refused."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from training_pictures import COLOURS, write_colours

import miniclip
from miniclip import checkpoints, params
from miniclip.cli import main
from miniclip.families.align.config import ALIGNConfig, BertConfig, EfficientNetConfig
from miniclip.families.clip.presets import PRESETS
from miniclip.families.open_clip.config import OpenCLIPConfig, OpenCLIPVisionConfig
from miniclip.fetch import vocabulary
from miniclip.formats import safetensors
from miniclip.tokenizers.wordpiece import WordPiece
from miniclip.train import data, evaluation, initialize, metrics, run
from miniclip.train.recipe import Recipe
from miniclip.train.sheet import COLUMNS, SIDE, sheet


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_colours(tmp_path_factory.mktemp("photos"))


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
    pooled = OpenCLIPVisionConfig(16, 8, 16, 1, 2, 8, pool_queries=3)
    own = OpenCLIPConfig(pooled, text, embed_dim=small.embed_dim)
    for wrong in (PRESETS["RN50"], dataclasses.replace(small, text=None), own):
        with pytest.raises(miniclip.InputError, match="only a CLIP with a Vision Transformer and a text tower"):
            run.new([], Recipe(), wrong)


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
