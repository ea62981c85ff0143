"""Commands for what fine-tuning leaves: an adapter of PEFT, and a model that is mixed with the one before."""

import json

import numpy as np
import pytest

import miniclip
from miniclip import InputError, checkpoints, params
from miniclip.checkpoints import peft
from miniclip.checkpoints.convert import convert
from miniclip.checkpoints.interpolate import interpolate
from miniclip.cli import main
from miniclip.config import CLIPConfig, TextConfig, VisionConfig
from miniclip.formats import safetensors
from miniclip.train import lora
from miniclip.weights import DIRECTORY

SHAPES = DIRECTORY / "shapes.safetensors"


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    """(the directory of an adapter of the built-in model, the adapted parameters)."""
    config, tree, _ = checkpoints.load(SHAPES, dtype="float32")
    rng = np.random.default_rng(0)
    start = lora.init(tree, 2, lora.targets(tree), rng)
    pairs = {name: (A, rng.standard_normal(B.shape).astype(np.float32)) for name, (A, B) in start.items()}
    directory = tmp_path_factory.mktemp("adapter") / "a"
    peft.save(directory, config, pairs, 4, base="shapes")
    return directory, params.flatten(lora.merge(tree, pairs, 2.0))


def same(path, wanted, tolerance=1e-6):
    for name, x in params.flatten(checkpoints.load(path, dtype="float32")[1]).items():
        assert np.abs(x - wanted[name]).max() <= tolerance, name


def test_an_adapter_is_used_by_every_command_that_loads_a_model(adapter, tmp_path, capsys):
    directory, wanted = adapter
    labels = ["--labels", "a red heart", "a blue circle", "--json"]
    picture = str(next(DIRECTORY.glob("*.png")))
    found = []
    for model in (["--adapter", str(directory)], ["--model", str(directory)], []):
        assert main(["classify", picture, *labels, *model]) == 0
        found.append({x["label"]: x["cosine"] for x in json.loads(capsys.readouterr().out)[0]["labels"]})
    assert found[0] == found[1] != found[2]
    for model, hints in (["--adapter", str(directory)], 0), ([], 1):  # what the built-in model knows, others may not
        assert main(["classify", picture, "--labels", "a dog", "a cat", *model]) == 0
        assert capsys.readouterr().err.count("the built-in model knows drawn shapes") == hints
    assert main(["convert", "shapes", str(tmp_path / "a"), "--to", "miniclip", "--adapter", str(directory)]) == 0
    assert main(["convert", str(directory), str(tmp_path / "b"), "--to", "hf", "--dtype", "float32"]) == 0
    same(tmp_path / "a", wanted, 1e-2)  # stored in float16, as the built-in model is
    same(tmp_path / "b", wanted, 1e-2)
    assert main(["info", str(directory)]) == 0
    assert "parameters: visual" in capsys.readouterr().out


def test_an_adapter_of_another_model_is_one_sentence(adapter, tmp_path, capsys):
    directory, _ = adapter
    text = TextConfig(context_length=9, vocab_size=60, width=64, layers=1, heads=1, mlp_width=256)
    config = CLIPConfig(VisionConfig(16, 8, width=64, layers=1, heads=1, mlp_width=256), text, embed_dim=16)
    tree = params.tree_map(lambda shape: np.ones(shape, np.float32), config.shapes())
    checkpoints.save(tmp_path / "other", config, tree)
    out = str(tmp_path / "m")
    assert main(["convert", str(tmp_path / "other"), out, "--to", "miniclip", "--adapter", str(directory)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "adapter_model.safetensors: changes " in error
    assert main(["convert", str(directory), out, "--to", "miniclip", "--adapter", str(directory)]) == 1
    assert "is an adapter itself" in capsys.readouterr().err
    assert not (tmp_path / "m").exists()


# ------------------------------------------------------------------------------------------------------- WiSE-FT


def changed(path, change=lambda name, x: x, dtype="float16"):
    """A copy of the built-in model, whose parameters `change` has changed."""
    config, tree, tokenizer = checkpoints.load(SHAPES, dtype="float32")
    flat = {name: np.asarray(change(name, x), np.float32) for name, x in params.flatten(tree).items()}
    checkpoints.save(path, config, params.unflatten(flat), tokenizer=tokenizer, dtype=dtype)
    return path


def test_the_ends_are_the_two_models_and_the_middle_is_their_mean(tmp_path, capsys):
    rng = np.random.default_rng(0)
    second = changed(tmp_path / "b.safetensors", lambda name, x: x + rng.standard_normal(x.shape), "float32")
    out = str(tmp_path / "m-{alpha}.safetensors")
    assert main(["interpolate", "shapes", str(second), "--alpha", "0", "0.25", "1", "-o", out]) == 0
    printed = capsys.readouterr().out
    assert printed == "".join(f"written to {tmp_path}/m-{alpha}.safetensors\n" for alpha in ("0", "0.25", "1"))
    a, b, first, middle, last = (
        safetensors.read(path)[0]
        for path in (SHAPES, second, *(tmp_path / f"m-{alpha}.safetensors" for alpha in ("0", "0.25", "1")))
    )
    assert a.keys() == first.keys() == middle.keys()
    for name in a:
        assert first[name].dtype == middle[name].dtype == np.float32
        assert np.array_equal(first[name], a[name].astype(np.float32)) and np.array_equal(last[name], b[name])
        mean = 0.75 * a[name].astype(np.float64) + 0.25 * b[name].astype(np.float64)
        assert middle[name] == pytest.approx(mean, rel=1e-6, abs=1e-6), name
    assert middle["logit_scale"] != a["logit_scale"]
    config, _, tokenizer = checkpoints.load(tmp_path / "m-0.25.safetensors")
    assert (config, tokenizer.lines()) == (lambda model: (model[0], model[2].lines()))(checkpoints.load(SHAPES))


def test_the_ends_are_kept_bit_for_bit():
    """Also the sign of zero, and what is not a number in the other model."""
    config, tree, tokenizer = checkpoints.load(SHAPES)
    signed = params.tree_map(lambda x: np.full_like(x, -0.0), tree)
    broken = params.tree_map(lambda x: np.full_like(x, np.nan), tree)
    models = (config, signed, tokenizer), (config, broken, None)
    for alpha, order in ((0, models), (1, models[::-1])):
        for x in params.flatten(interpolate(*order, alpha)[1]).values():
            assert np.signbit(x).all() and not x.any()


def test_halves_are_mixed_in_float32_and_stored_as_halves(tmp_path):
    config, tree, tokenizer = checkpoints.load(SHAPES)
    double = params.tree_map(lambda x: x * np.asarray(3, x.dtype), tree)
    found = params.flatten(interpolate((config, tree, tokenizer), (config, double, tokenizer), 0.3)[1])
    for name, x in params.flatten(tree).items():
        exact = (1 - 0.3) * x.astype(np.float32) + 0.3 * params.flatten(double)[name].astype(np.float32)
        assert found[name].dtype == x.dtype and np.array_equal(found[name], exact.astype(x.dtype))


@pytest.mark.parametrize("to", ["hf", "miniclip"])
def test_any_two_forms_are_mixed_and_any_is_written(to, adapter, tmp_path):
    directory, wanted = adapter
    convert(SHAPES, tmp_path / "a", "hf")
    arguments = [str(tmp_path / "a"), str(directory), "--alpha", "0.5", "-o", str(tmp_path / "m"), "--to", to]
    assert main(["interpolate", *arguments, "--dtype", "float32"]) == 0
    before = params.flatten(checkpoints.load(SHAPES, dtype="float32")[1])
    same(tmp_path / "m", {name: (x + wanted[name]) / 2 for name, x in before.items()}, 1e-2)
    assert miniclip.load(tmp_path / "m", backend="numpy")[0].tokenizer is not None


def other_shapes(config, tree, tokenizer):
    text = TextConfig(context_length=9, vocab_size=60, width=64, layers=1, heads=1, mlp_width=256)
    config = CLIPConfig(config.visual, text, config.embed_dim)
    return config, params.tree_map(lambda shape: np.ones(shape, np.float32), config.shapes()), None


def other_words(config, tree, tokenizer):
    lines = list(tokenizer.lines())
    return config, tree, type(tokenizer).from_lines([*lines[:-2], lines[-1], lines[-2]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_shapes, r"a and .*b: the two models differ, and .*: text\.context_length 32 and 9; text\.vocab_size"),
        (other_words, r"a and .*b: the two models have different vocabularies"),
    ],
)
def test_models_that_cannot_be_mixed_are_refused(change, message, tmp_path, capsys):
    model = checkpoints.load(SHAPES)
    for path, (config, tree, tokenizer) in ((tmp_path / "a", model), (tmp_path / "b", change(*model))):
        checkpoints.save(path, config, tree, tokenizer=tokenizer)
    paths = [str(tmp_path / name) for name in "ab"]
    assert main(["interpolate", *paths, "--alpha", "0.5", "-o", str(tmp_path / "m")]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    with pytest.raises(InputError, match=message):
        raise InputError(error)
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--alpha", "1.5", "-o", "m"], "alpha is 1.5, expected 0 (the first model) to 1"),
        (["--alpha", "nan", "-o", "m"], "alpha is nan, expected 0"),
        (["--alpha", "0.5", "2", "-o", "m{alpha}"], "alpha is 2.0, expected 0"),
        (["--alpha", "0", "1", "-o", "m"], "there are 2 values of --alpha, but one --out: write {alpha} into its name"),
        (["--alpha", "0", "-o", "there"], "there: exists already"),
        (["--alpha", "0", "-o", "m.pt", "--to", "hf"], "m.pt: the form 'hf' is a directory"),
        (["--alpha", "0", "-o", "none/m"], "none/m: cannot be written"),
    ],
)
def test_what_cannot_be_written_is_one_sentence(arguments, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").touch()
    assert main(["interpolate", "shapes", "shapes", *arguments]) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
    assert main(["interpolate", "shapes", "shapes", "--alpha", "0", "-o", "there", "--overwrite"]) == 0
