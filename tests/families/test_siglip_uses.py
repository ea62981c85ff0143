"""A SigLIP in use: independent probabilities in `zero_shot` and on the command line, training, and what is refused."""

# ruff: noqa: F811  fixtures are imported, and are arguments of the same name

import copy
import json

import numpy as np
import pytest
import torch
from commands import LABELS, miniclip
from siglip_vocabularies import gemma_directory  # noqa: F401
from training_pictures import write_colours

from miniclip import InputError, checkpoints, explain, load, params, zero_shot
from miniclip.chunked_loss import sigmoid_loss
from miniclip.cli import main
from miniclip.export import export
from miniclip.families.siglip import tokenizer_files
from miniclip.families.siglip.config import SigLIPConfig, SigLIPTextConfig, SigLIPVisionConfig
from miniclip.ops import numpy_ops
from miniclip.train import learners, parameters
from miniclip.train.recipe import Recipe

pytest_plugins = ["command_files"]

SIZES = {"width": 16, "layers": 2, "heads": 2, "mlp_width": 24}


@pytest.fixture(scope="module")
def model_file(gemma_directory, tmp_path_factory):
    """A random model with a vocabulary, in a file of ours."""
    tokenizer = tokenizer_files.load_tokenizer(gemma_directory["Siglip2Tokenizer"], None)
    text = SigLIPTextConfig(12, len(tokenizer), **SIZES)
    config, rng = SigLIPConfig(SigLIPVisionConfig(32, 8, **SIZES), text, embed_dim=16), np.random.default_rng(0)

    def draw(name, shape):
        if not shape:
            return np.float32({"logit_scale": 5.0, "logit_bias": -2.0}[name])  # above CLIP's limit, ln 100
        return (rng.standard_normal(shape) * 0.3 + (".ln_" in name and name.endswith("weight"))).astype(np.float32)

    tree = params.unflatten({name: draw(name, shape) for name, shape in params.flatten(config.shapes()).items()})
    path = tmp_path_factory.mktemp("siglip") / "m.safetensors"
    checkpoints.save(path, config, tree, tokenizer=tokenizer)
    return path


# ---------------------------------------------------------------------------------------------------------- zero-shot


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_probabilities_are_the_sigmoid_of_each_logit_whatever_the_other_labels_are(model_file, pictures, backend):
    model, preprocess = load(model_file, backend)
    images, labels = preprocess([*pictures]), LABELS[1:]
    logits = model.ops.to_numpy(model.logits(model.encode_image(images), model.encode_text(model.tokenize(labels))))
    found = model.ops.to_numpy(zero_shot.classify(model, images, labels))
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-logits.astype(float))), rtol=1e-4)
    alone = model.ops.to_numpy(zero_shot.classify(model, images, labels[:1]))
    np.testing.assert_allclose(alone[:, 0], found[:, 0], rtol=1e-4)
    precise = zero_shot.precise_probabilities(model, logits)
    assert precise.dtype == np.float64
    np.testing.assert_allclose(precise, found, rtol=1e-4)


def test_the_command_line_says_that_they_are_independent(model_file, pictures):
    done = miniclip("classify", pictures[0], *LABELS, "--model", model_file, "--json")
    assert done.returncode == 0
    assert "probabilities are independent" in done.stderr and "do not sum to 100%" in done.stderr
    (result,) = json.loads(done.stdout)
    model, preprocess = load(model_file)
    expected = zero_shot.classify(model, preprocess([pictures[0]]), LABELS[1:])[0]
    found = {entry["label"]: entry["probability"] for entry in result["labels"]}
    np.testing.assert_allclose([found[label] for label in LABELS[1:]], expected, rtol=1e-4)
    one = miniclip("classify", pictures[0], "--labels", "a star", "--model", model_file)
    assert "only label" not in one.stderr and "independent" in one.stderr
    clip = miniclip("classify", pictures[0], *LABELS)
    assert "independent" not in clip.stderr


def test_info_and_export_know_the_family(model_file, tmp_path, capsys):
    assert main(["info", str(model_file)]) in (0, None)
    assert "family: siglip" in capsys.readouterr().out
    pytest.importorskip("onnx")
    assert export(model_file, tmp_path / "onnx") == []
    names = sorted(path.name for path in (tmp_path / "onnx").iterdir() if path.is_file())
    assert names == ["config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"]


# ------------------------------------------------------------------------------------------------------------- training


def learner(model_file, backend, **changes):
    config, tree, tokenizer = checkpoints.load(model_file, dtype="float64")
    recipe = Recipe(steps=1, **{"loss": "sigmoid", "optimizer": "adamw", **changes})
    return learners.make(config, tree, recipe, backend=backend, tokenizer=tokenizer)


def test_it_learns_with_its_own_scale_and_bias(model_file):
    rng, texts = np.random.default_rng(1), ["a red cat", "two dogs", "a mat", "the cat sat", "yellow"]
    images, (one, other) = rng.standard_normal((5, 3, 32, 32)), (learner(model_file, x) for x in ("torch", "numpy"))
    tokens = one.model.tokenize(texts)
    loss = one.gradients(images, tokens)
    assert loss == pytest.approx(other.gradients(images, tokens), rel=1e-12)
    model, _ = load(model_file, dtype="float64")
    features = (numpy_ops.l2_normalize(x) for x in (model.encode_image(images), model.encode_text(tokens)))
    assert loss == pytest.approx(float(sigmoid_loss(*features, np.float64(5), np.float64(-2))), rel=1e-9)
    for name, p in one.trained.items():
        np.testing.assert_allclose(other.variables[name].gradient, p.grad.numpy(), rtol=1e-8, atol=1e-10, err_msg=name)
    assert one.trained["logit_bias"].grad.item() != 0
    one.update(1.0), other.update(1.0)
    ends = [x.parameters() for x in (one, other)]
    assert ends[0]["logit_scale"] > 4.9 and ends[0]["logit_bias"] != -2  # CLIP's limit is 4.6
    for name, x in ends[0].items():
        np.testing.assert_allclose(ends[1][name], x, rtol=1e-9, atol=1e-9, err_msg=name)


def test_it_is_not_trained_with_a_softmax(model_file):
    with pytest.raises(InputError, match="a siglip model is trained with the sigmoid loss"):
        learner(model_file, "numpy", loss="softmax")


def test_a_fine_tuned_one_keeps_its_vocabulary_and_its_bias(model_file, tmp_path):
    photos, out = tmp_path / "photos", tmp_path / "tuned.safetensors"
    photos.mkdir()
    write_colours(photos)
    arguments = ["--init", model_file, "--out", out, "--steps", 2, "--batch", 4, "--warmup", 1, "--loss", "sigmoid"]
    assert main(["train", str(photos), *map(str, arguments), "--backend", "numpy"]) == 0
    before, after = (load(path)[0] for path in (model_file, out))
    assert after.tokenizer.encode("A red cat") == before.tokenizer.encode("A red cat")
    assert after.logit_bias != before.logit_bias and after.logit_bias == pytest.approx(before.logit_bias, abs=0.1)


def test_its_towers_have_layers(model_file):
    names = list(params.flatten(checkpoints.load(model_file)[0].shapes()))
    image, text = (parameters.layers(names, tower) for tower in ("visual", "text"))
    assert len(image) == len(text) == 4
    assert all(name.startswith("visual.attention_pool.") for name in image[-1])
    assert text[-1] == ["text.head.weight", "text.head.bias"]


# ------------------------------------------------------------------------------------------------------------- refused


def test_there_is_no_explanation_yet(model_file):
    model, _ = load(model_file)
    images = np.zeros((1, 3, 32, 32), np.float32)
    for ask in (
        lambda: explain.relevance(model, images, model.tokenize("a")),
        lambda: explain.attention_maps(model, images),
    ):
        with pytest.raises(InputError, match="no explanation yet for towers of SigLIP"):
            ask()


def test_a_copy_of_a_model_computes_the_same(model_file):
    model, _ = load(model_file, "torch")
    images = torch.randn(2, 3, 32, 32)
    np.testing.assert_array_equal(copy.deepcopy(model).encode_image(images), model.encode_image(images))
