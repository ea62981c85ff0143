"""miniclip.hf's TensorFlow models against transformers' own, where there is a Python that has them."""

# ruff: noqa: F811  fixtures are imported, and are arguments of the same name

import numpy as np
import pytest
from hf_flax import answers_to_files, check_calls, inputs_of
from hf_models import LOOK
from hf_tensorflow import NAMES, saved  # noqa: F401
from tensorflow_official import LACKING, PYTHON, calls, gradients, official

from miniclip import hf

pytest.importorskip("tensorflow")


@pytest.fixture(scope="module")
def answers(saved, tmp_path_factory):
    """{name: (its inputs, its answers, the directory where transformers' TensorFlow model is saved)}."""
    if PYTHON is None:
        pytest.skip(LACKING)
    theirs, source, _ = saved
    place, tasks, found = tmp_path_factory.mktemp("answers"), [], {}
    for name in NAMES:
        inputs = inputs_of(name, theirs)
        np.savez(place / f"{name} inputs.npz", **inputs)
        files = [str(place / f"{name} {file}") for file in ("inputs.npz", "answers.npz", "saved")]
        tasks.append([name, str(source), {"from_pt": True}, files[0], LOOK, *files[1:]])
        found[name] = inputs, files[1], files[2]
    official(*tasks)
    return {name: (inputs, dict(np.load(file)), directory) for name, (inputs, file, directory) in found.items()}


@pytest.mark.parametrize("name", NAMES)
def test_outputs_weights_and_gradients_are_those_of_transformers(saved, answers, name, relative_error):
    inputs, expected, _ = answers[name]
    model = getattr(hf, name).from_pretrained(saved[1])
    gradient = {f"gradient {key}": x for key, x in gradients(model, inputs).items()}
    check_calls(calls(model, inputs, LOOK), gradient, expected, relative_error)


@pytest.mark.parametrize("name", NAMES)
def test_files_go_both_ways(answers, name, tmp_path):
    inputs, expected, directory = answers[name]
    weights = [x for key, x in expected.items() if key.startswith("weight")]
    for form in ("", " safe", " pieces"):
        model = getattr(hf, name).from_pretrained(directory + form)
        assert all(map(np.array_equal, model.get_weights(), weights))
    for found in answers_to_files(model, inputs, official, tmp_path):
        assert found.keys() == expected.keys()
        assert all(np.array_equal(found[key], x) for key, x in expected.items() if not key.startswith("gradient"))
