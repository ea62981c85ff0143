"""miniclip.hf's Flax models against transformers' own, where there is a Python that has them."""

# ruff: noqa: F811  fixtures are imported, and are arguments of the same name

import numpy as np
import pytest
from flax_official import LACKING, PYTHON, calls, flat, gradients, official
from hf_flax import NAMES, PROJECTED, answers_to_files, check_calls, inputs_of, same, saved  # noqa: F401
from hf_models import LOOK

from miniclip import hf


@pytest.fixture(scope="module")
def answers(saved, tmp_path_factory):
    """{name: (its inputs, its answers, the directory where transformers' Flax model is saved)}."""
    if PYTHON is None:
        pytest.skip(LACKING)
    theirs, source, _ = saved
    place, tasks, found = tmp_path_factory.mktemp("answers"), [], {}
    for name in NAMES:
        inputs = inputs_of(name, theirs)
        np.savez(place / f"{name} inputs.npz", **inputs)
        files = [str(place / f"{name} {file}") for file in ("inputs.npz", "answers.npz", "saved")]
        tasks.append([name, str(source), options_of(name, theirs), files[0], LOOK, *files[1:]])
        found[name] = inputs, files[1], files[2]
    official(*tasks)
    return {name: (inputs, dict(np.load(file)), directory) for name, (inputs, file, directory) in found.items()}


def options_of(name, model):
    return {"projection_dim": model.config.projection_dim} if name == PROJECTED else {}


@pytest.mark.parametrize("name", NAMES)
def test_outputs_and_gradients_are_those_of_flax(saved, answers, name, relative_error):
    inputs, expected, _ = answers[name]
    model = getattr(hf, name).from_pretrained(saved[1], **options_of(name, saved[0]))
    gradient = {f"gradient{key}": x for key, x in gradients(model, inputs).items()}
    check_calls(calls(model, inputs, LOOK), gradient, expected, relative_error)


@pytest.mark.parametrize("name", NAMES)
def test_files_go_both_ways(saved, answers, name, tmp_path):
    inputs, expected, directory = answers[name]
    wanted = {key: x for key, x in expected.items() if key.startswith("params")}
    for form in ("", " safe", " pieces"):
        model = getattr(hf, name).from_pretrained(directory + form, **options_of(name, saved[0]))
        same(flat(model.params, "params"), wanted)
    for found in answers_to_files(model, inputs, official, tmp_path):
        same(found, expected)
