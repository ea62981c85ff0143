"""Learners: the same step in chunks, in mixed precision, and in several processes."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from miniclip import params
from miniclip.config import VisionConfig
from miniclip.families.align.config import ALIGNConfig, BertConfig, EfficientNetConfig
from miniclip.families.multilingual.config import MultilingualConfig
from miniclip.tokenizer import Tokenizer
from miniclip.train import learners, loop, lora
from miniclip.train.initialize import init_params, shapes_config
from miniclip.train.recipe import LOSSES, Recipe

CAPTIONS = [f"{word} {number}" for word in ("one", "two", "three") for number in range(4)]
TOKENIZER = Tokenizer.train(CAPTIONS, vocab_size=540)
CONFIG = shapes_config(len(TOKENIZER))
CONFIG = dataclasses.replace(
    CONFIG,
    visual=dataclasses.replace(CONFIG.visual, image_size=16, width=16, heads=2, layers=2, mlp_width=32),
    text=dataclasses.replace(CONFIG.text, width=16, heads=2, layers=2, mlp_width=32),
    embed_dim=8,
)
RECIPE = Recipe(steps=3, warmup=1)


def batch(step, dtype="float64"):
    rng = np.random.default_rng(step)
    return rng.standard_normal((12, 3, 16, 16)).astype(dtype), [CAPTIONS[i] for i in rng.permutation(12)]


def learner(recipe=RECIPE, dtype="float64", **options):
    start = params.tree_map(lambda x: x.astype(dtype), init_params(CONFIG, np.random.default_rng(0)))
    return learners.make(CONFIG, start, recipe, tokenizer=TOKENIZER, **options)


def gradients(learner, dtype="float64"):
    """The loss and the gradients of a batch: (float, {name: ndarray})."""
    images, captions = batch(0, dtype)
    loss = learner.gradients(images, learner.model.tokenize(captions))
    if learner.model.backend == "numpy":
        return loss, {name: x.gradient for name, x in learner.variables.items()}
    return loss, {name: p.grad.numpy() for name, p in learner.trained.items()}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("chunk", [1, 5, 11])
def test_a_batch_in_chunks_has_the_gradient_of_the_whole(chunk, loss):
    recipe = dataclasses.replace(RECIPE, loss=loss)
    whole_loss, whole = gradients(learner(recipe))
    loss, parts = gradients(learner(dataclasses.replace(recipe, chunk=chunk)))
    assert loss == pytest.approx(whole_loss, rel=1e-12)
    for name, gradient in whole.items():
        np.testing.assert_allclose(parts[name], gradient, rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("chunk", [None, 5])
def test_checkpoints_change_no_gradient_and_keep_less(chunk):
    loss, plain = gradients(learner())
    kept = {}
    for checkpoint in (False, True):
        saved = []
        one = learner(dataclasses.replace(RECIPE, grad_checkpointing=checkpoint, chunk=chunk))
        with torch.autograd.graph.saved_tensors_hooks(lambda x, saved=saved: saved.append(x.numel()) or x, lambda x: x):
            again, found = gradients(one)
        kept[checkpoint] = sum(saved)
        assert again == pytest.approx(loss, rel=1e-12)
        for name, gradient in plain.items():
            np.testing.assert_allclose(found[name], gradient, rtol=1e-9, atol=1e-12, err_msg=name)
    assert kept[True] < kept[False] / 2


@pytest.mark.parametrize("loss", LOSSES)
def test_numpy_has_the_gradient_of_torch(loss):
    recipe = dataclasses.replace(RECIPE, loss=loss)
    torch_loss, expected = gradients(learner(recipe))
    loss, found = gradients(learner(recipe, backend="numpy"))
    assert loss == pytest.approx(torch_loss, rel=1e-12)
    for name, gradient in expected.items():
        np.testing.assert_allclose(found[name], gradient, rtol=1e-9, atol=1e-12, err_msg=name)


STAGES = (1, 8, 3, 1, 1), (1, 12, 3, 2, 6)
EFFICIENT = EfficientNetConfig(
    image_size=33, resized=33, width_coefficient=0.5, depth_coefficient=1.0, depth_divisor=2, stages=STAGES
)
BERT = BertConfig(context_length=9, vocab_size=40, width=16, layers=2, heads=2, mlp_width=24, pad_token_id=0)


def align(recipe, **options):
    """A learner with a small ALIGN, 5 pictures and the tokens of 5 texts."""
    config = ALIGNConfig(EFFICIENT, BERT, embed_dim=EFFICIENT.width)
    rng = np.random.default_rng(0)
    start = params.tree_map(lambda shape: rng.standard_normal(shape) * 0.3 + 0.4 * (shape == ()), config.shapes())
    images, tokens = rng.standard_normal((5, 3, 33, 33)), rng.integers(1, 40, (5, 9))
    return learners.make(config, start, recipe, **options), images, tokens


def test_align_learns_with_its_temperature():
    """ALIGN divides cosines by a temperature instead of multiplying them by a scale."""
    recipe = Recipe(steps=1, label_smoothing=0.1)
    (one, images, tokens), (other, _, _) = (align(recipe, backend=backend) for backend in ("torch", "numpy"))
    start = one.parameters()["temperature"].copy()
    assert one.gradients(images, tokens) == pytest.approx(other.gradients(images, tokens), rel=1e-12)
    for name, p in one.trained.items():
        np.testing.assert_allclose(other.variables[name].gradient, p.grad.numpy(), rtol=1e-8, atol=1e-11)
    assert one.trained["temperature"].grad.item() != 0
    one.update(1.0), other.update(1.0)
    ends = [x.parameters()["temperature"] for x in (one, other)]
    np.testing.assert_allclose(*ends, rtol=1e-12)
    assert not np.array_equal(ends[0], start)


ALT = dataclasses.replace(BERT, pad_token_id=1, first_position=2, head="norm", hidden_width=12, pooler=False)
TEXTS = {
    "Chinese-CLIP": dataclasses.replace(BERT, head="linear", pooler=False),
    "AltCLIP": ALT,
    "mean of tokens": dataclasses.replace(ALT, pool="mean", head="linear", hidden_width=None),
    "MLP": dataclasses.replace(ALT, pool="mean", head="mlp"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_clips_of_many_languages_learn(name):
    config = MultilingualConfig(VisionConfig(16, 8, 8, 2, 2, 16), TEXTS[name], embed_dim=8)
    rng = np.random.default_rng(0)
    start = params.tree_map(lambda shape: rng.standard_normal(shape) * 0.3 + 0.4 * (shape == ()), config.shapes())
    images, tokens = rng.standard_normal((5, 3, 16, 16)), rng.integers(1, 40, (5, 9))
    tokens[1, 4:], tokens[2, 3] = config.text.pad_token_id, config.text.pad_token_id
    one, other = (learners.make(config, start, Recipe(steps=1), backend=backend) for backend in ("torch", "numpy"))
    assert one.gradients(images, tokens) == pytest.approx(other.gradients(images, tokens), rel=1e-12)
    for parameter, p in one.trained.items():
        np.testing.assert_allclose(other.variables[parameter].gradient, p.grad.numpy(), rtol=1e-8, atol=1e-11)
    assert one.trained["text.projection.weight"].grad.abs().max() > 1e-4


@pytest.mark.parametrize("backend", ["torch", "numpy"])
def test_cosines_are_multiplied_by_at_most_100(backend):
    """`F.clamp_(logit_scale, 0, math.log(100))` in open_clip_train/train.py; ALIGN's temperature is the reciprocal."""
    clip, (aligned, images, tokens) = learner(backend=backend), align(RECIPE, backend=backend)
    clip.set_parameters(clip.parameters() | {"logit_scale": np.array(7.0)})
    aligned.set_parameters(aligned.parameters() | {"temperature": np.array(0.001)})
    gradients(clip), aligned.gradients(images, tokens)
    clip.update(1.0), aligned.update(1.0)
    assert clip.parameters()["logit_scale"] == np.log(100) and aligned.parameters()["temperature"] == 0.01


@pytest.mark.parametrize("backend", ["torch", "numpy"])
def test_the_sigmoid_loss_has_the_start_of_siglip(backend):
    """Sec. 3.2: t' = log 10 and b = -10, together: at CLIP's scale of 100 every wrong pair has a loss of its own."""
    recipe = dataclasses.replace(RECIPE, loss="sigmoid")
    clip, (aligned, _, _) = learner(recipe, backend=backend), align(recipe, backend=backend)
    starts = [one.parameters() for one in (clip, aligned)]
    assert [x["logit_bias"] for x in starts] == [-10, -10]
    assert (starts[0]["logit_scale"], starts[1]["temperature"]) == (np.log(10), 0.1)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_the_curve_of_numpy_follows_that_of_torch(optimizer):
    recipe = Recipe(steps=12, warmup=4, optimizer=optimizer)
    curves = [
        [loss for _, loss in loop.fit(learner(recipe, backend=backend), map(batch, range(12)), recipe)]
        for backend in ("torch", "numpy")
    ]
    # torch's Muon makes updates orthogonal in bfloat16
    np.testing.assert_allclose(*curves, rtol={"adamw": 1e-6, "muon": 0.05}[optimizer])
    assert curves[0][-1] < curves[0][0] - 0.5


def adapter(rank=2):
    start = init_params(CONFIG, np.random.default_rng(0))
    return lora.init(start, rank, lora.targets(start), np.random.default_rng(1))


@pytest.mark.parametrize("low_rank", [False, True])
def test_a_finished_model_computes_no_gradients(low_rank):
    trained = learner(dtype="float32", adapter=adapter() if low_rank else None)
    images, captions = batch(0, "float32")
    trained.step(images, captions, 1.0)
    if low_rank:
        assert all(p.grad is None for p in params.flatten(trained.model.params).values())
    # with a trace both use torch's own operations; without one, the finished model has faster products
    look = {"trace": lambda name, x: None}
    expected = trained.current_model().encode_image(images, **look).detach().numpy()
    model = trained.finished_model()
    np.testing.assert_array_equal(np.asarray(model.encode_image(images, **look)), expected)
    np.testing.assert_allclose(np.asarray(model.encode_image(images)), expected, rtol=0, atol=1e-5)
    assert np.asarray(model.encode_text(model.tokenize(captions))).shape == (12, 8)


@pytest.mark.parametrize("backend", ["torch", "numpy"])
def test_an_adapter_learns_and_the_model_stays(backend):
    recipe = Recipe(steps=3, warmup=1, optimizer="adamw")
    low_rank = learner(recipe, "float32", backend=backend, adapter=adapter(), lora_scale=2.0)
    before = params.tree_map(lambda x: low_rank.model.ops.to_numpy(x).copy(), low_rank.model.params)
    images, captions = batch(0, "float32")
    first = low_rank.step(images, captions, 1.0)
    second = low_rank.step(images, captions, 1.0)
    assert second < first
    after = params.tree_map(low_rank.model.ops.to_numpy, low_rank.model.params)
    assert all(np.array_equal(x, y) for x, y in zip(*(params.flatten(tree).values() for tree in (before, after))))
    merged = low_rank.current_model().params["visual"]["projection"]["weight"]
    assert not np.array_equal(low_rank.model.ops.to_numpy(merged), before["visual"]["projection"]["weight"])


def test_what_is_frozen_stays_and_the_rest_learns():
    trained = {name: name.startswith("text.") for name in learner().trained}
    frozen = learner(dataclasses.replace(RECIPE, chunk=4), trained=trained)
    before = {name: x.detach().numpy().copy() for name, x in frozen.model.params["visual"]["patch_embed"].items()}
    start = {name: x.copy() for name, x in frozen.parameters().items()}
    list(loop.fit(frozen, map(batch, range(3)), RECIPE))
    after = frozen.model.params["visual"]["patch_embed"]
    assert all(np.array_equal(after[name].detach().numpy(), x) for name, x in before.items())
    assert {name for name, p in params.flatten(frozen.model.params).items() if p.grad is not None} == set(start)
    assert all(not np.array_equal(x, start[name]) for name, x in frozen.parameters().items() if "weight" in name)


def test_gains_biases_and_scales_do_not_decay():
    """CLIP, sec. 2.5; the rule is that of open_clip_train/main.py."""
    _, groups = learner(dataclasses.replace(RECIPE, optimizer="adamw", loss="sigmoid", weight_decay=0.2)).groups()
    decays = {name: group["weight_decay"] for group in groups for name in group["params"]}
    dimensions = {name: len(shape) for name, shape in params.flatten(CONFIG.shapes()).items()} | {"logit_bias": 0}
    assert decays == {
        name: 0.2 * (n >= 2 and not any(part in name for part in ("ln_", "bias", "logit_scale")))
        for name, n in dimensions.items()
    }


def test_a_share_of_the_learning_rate():
    name = "visual.projection.weight"
    whole, half = learner(), learner(rates={name: 0.5})
    for one in (whole, half):
        before = one.parameters()[name].copy()
        one.recipe = dataclasses.replace(RECIPE, weight_decay=0.0)
        images, captions = batch(0)
        one.step(images, captions, 1.0)
        one.change = one.parameters()[name] - before
    np.testing.assert_allclose(half.change, whole.change / 2, rtol=0.01)


def test_mixed_precision_is_near_and_not_equal():
    wide, exact = gradients(learner(dtype="float32"), "float32")
    mixed, found = gradients(learner(dataclasses.replace(RECIPE, precision="bfloat16"), dtype="float32"), "float32")
    assert mixed != wide and mixed == pytest.approx(wide, rel=0.02)
    for name, x in found.items():
        assert x.dtype == np.float32
        # bfloat16 has 3 digits, and random layers amplify errors; a gradient that lacks a part is farther off
        assert np.linalg.norm(x - exact[name]) <= 0.25 * np.linalg.norm(exact[name]), name


def test_the_scale_never_exceeds_100():
    trained = learner()
    with torch.no_grad():
        trained.model.logit_scale.fill_(np.log(100) + 1)
    images, captions = batch(0)
    trained.step(images, captions, 0.0)
    assert trained.model.logit_scale.item() == pytest.approx(np.log(100))


PROCESS = """
import sys
import test_learners as t
from miniclip.train import distributed
import numpy as np

chunk, folder, kind = sys.argv[1:]
world, _ = distributed.join()
rank = distributed.rank()
losses, gradients = t.two_steps(kind, eval(chunk), rank, world)
np.savez(f"{folder}/{rank}.npz", losses=losses, **gradients)
distributed.leave()
"""


def two_steps(kind, chunk=None, rank=0, world=1):
    """The losses of two steps with a process's part of a batch, and the gradients of the first: (2,), {name: ndarray}.

    kind  a loss, or "align" for CLIP's loss of a small ALIGN
    """
    recipe = dataclasses.replace(RECIPE, optimizer="adamw", chunk=chunk, loss="softmax" if kind == "align" else kind)
    if kind == "align":
        one, images, tokens = align(recipe)
        images, tokens = images[:4], tokens[:4]
    else:
        one, (images, captions) = learner(recipe), batch(0)
        tokens = one.model.tokenize(captions)
    mine = slice(rank * len(images) // world, (rank + 1) * len(images) // world)
    losses = [one.gradients(images[mine], tokens[mine])]
    found = {name: p.grad.numpy().copy() for name, p in one.trained.items()}
    one.update(1.0)
    return [*losses, one.gradients(images[mine], tokens[mine])], found


@pytest.mark.parametrize(
    ("chunk", "kind"), [(None, "softmax"), (4, "softmax"), (4, "sigmoid"), (None, "align")], ids=str
)
def test_two_processes_have_the_loss_and_the_gradient_of_one(chunk, kind, tmp_path):
    """With gradients of gathered features that were averaged instead of summed, they would be half as large."""
    (tmp_path / "process.py").write_text(PROCESS)
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    places = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*run, str(tmp_path / "process.py"), repr(chunk), str(tmp_path), kind],
        env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    losses, gradients = two_steps(kind)
    for rank in range(2):
        found = dict(np.load(tmp_path / f"{rank}.npz"))
        np.testing.assert_allclose(found.pop("losses"), losses, rtol=1e-9)
        assert found.keys() == gradients.keys()
        for name, gradient in gradients.items():
            np.testing.assert_allclose(found[name], gradient, rtol=1e-9, atol=1e-12, err_msg=name)
