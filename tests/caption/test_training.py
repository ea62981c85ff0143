"""Training a decoder: it learns, its CLIP does not change, it can be resumed, and the command refuses what it lacks."""

import json

import numpy as np
import pytest

import miniclip
from miniclip import caption, params
from miniclip.caption import training
from miniclip.caption.decoder import Decoder
from miniclip.cli import main
from miniclip.errors import InputError
from miniclip.formats import safetensors
from miniclip.ops import torch_ops
from miniclip.train import data, loop, torch_learner
from miniclip.train.recipe import Recipe

SHORT = Recipe(steps=4, warmup=2)


@pytest.fixture(scope="module")
def clip():
    return miniclip.load(backend="torch")


@pytest.fixture
def pairs(clip):
    return data.load("shapes", clip[1], seed=0)


def new_learner(clip):
    config = training.new_config(clip, 128)
    leaves = params.tree_map(torch_learner.leaf, training.init_params(config, np.random.default_rng(0)))
    return training.Learner(Decoder(config, leaves, torch_ops), Recipe())


def test_rows_are_captions_without_a_start_and_without_padding(clip):
    model = clip[0]
    rows = training.rows(model, ["a red heart", "look, a blue cross on the left!"])
    end = model.tokenizer.end_id
    ids = [[*model.tokenizer.encode(text), end] for text in ("a red heart", "look, a blue cross on the left!")]
    assert rows.shape == (2, len(ids[1]))
    assert rows[0].tolist() == ids[0] + [training.IGNORED] * (len(ids[1]) - len(ids[0]))
    assert rows[1].tolist() == ids[1]


def test_the_longest_caption_fits(clip):
    """A caption of the model's whole context, and what the search may write."""
    model, preprocess = clip
    rows = training.rows(model, ["a red heart " * 40])
    learner = new_learner(model)
    assert rows.shape == (1, model.config.text.context_length - 1)
    assert np.isfinite(learner.gradients(np.zeros((1, 128), np.float32), rows))
    longest = caption.Captioner(model, preprocess, learner.model, end=None, decode=None).longest
    assert longest == rows.shape[1]


def test_it_learns(clip, pairs):
    """After thirty steps with one batch its captions are likely."""
    model = clip[0]
    before = {name: x.clone() for name, x in params.flatten(model.params).items()}
    learner, batch = new_learner(model), next(training.batches(model, pairs, 0))
    losses = [learner.step(*batch, rate=1.0) for _ in range(30)]
    assert losses[0] == pytest.approx(np.log(len(model.tokenizer)), rel=0.05)  # all tokens are equally likely
    assert losses[-1] < 1.5
    assert all((before[name] == x).all() for name, x in params.flatten(model.params).items())


def test_a_resumed_training_ends_as_an_uninterrupted_one(clip, pairs, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "PAUSE", 0)
    whole, parts = tmp_path / "whole.safetensors", tmp_path / "parts.safetensors"
    training.train(whole, clip[0], pairs, SHORT, progress=False)
    batch = pairs.batch

    def stops(step, rank=0, world=1):
        if step == 3:
            raise KeyboardInterrupt
        return batch(step, rank, world)

    monkeypatch.setattr(pairs, "batch", stops)
    with pytest.raises(KeyboardInterrupt):
        training.train(parts, clip[0], pairs, SHORT, state_every=2, progress=False)
    monkeypatch.setattr(pairs, "batch", batch)
    training.train(parts, clip[0], pairs, SHORT, resume=True, progress=False)
    first, second = (safetensors.read(path) for path in (whole, parts))
    assert first[1] == second[1]
    assert all(np.array_equal(x, second[0][name]) for name, x in first[0].items())


def test_the_command_trains_one_that_captions(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "shapes", "--caption", "--init", "shapes", "--steps", "2"]) == 0
    assert "written to captions.safetensors" in capsys.readouterr().out
    assert json.loads((tmp_path / "captions.safetensors.jsonl").read_text().splitlines()[-1])["step"] == 2
    captions = caption.load(decoder="captions.safetensors")(np.zeros((1, 3, 48, 48), np.float32), 2)[0]
    assert len(captions) == 2


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (["--lora", "8"], "--lora"),
        (["--loss", "sigmoid"], "--loss"),
        (["--freeze", "visual"], "--freeze"),
        (["--backend", "numpy"], "--backend"),
        (["--every", "7"], "--every"),
    ],
)
def test_options_that_a_decoder_lacks_are_refused(options, name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main(["train", "shapes", "--caption", *options])
    assert caught.value.code == 2
    assert f"{name} is not for --caption" in capsys.readouterr().err
    assert [*tmp_path.iterdir()] == []


def test_a_recipe_for_another_loss_is_refused(clip, pairs, tmp_path):
    with pytest.raises(InputError, match="chunk is 8, but a decoder learns without it"):
        training.train(tmp_path / "x.safetensors", clip[0], pairs, Recipe(chunk=8))


def test_a_model_without_texts_is_refused(clip):
    model = miniclip.load(backend="torch", tower="visual")[0]
    with pytest.raises(InputError, match="a decoder writes in the vocabulary of its model"):
        training.new_config(model, 128)
