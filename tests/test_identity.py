"""Which model it is: the same for the same weights, another one for others."""

import copy
import dataclasses

import numpy as np
import pytest
from backends import QUICK

import miniclip
from miniclip import identity
from miniclip.checkpoints.convert import WRITERS
from miniclip.errors import InputError


@pytest.fixture(scope="module")
def plain():
    return miniclip.load("shapes")[0]


@pytest.mark.parametrize("backend", QUICK)
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
def test_the_backend_and_the_dtype_make_no_difference(plain, backend, dtype):
    model = miniclip.load("shapes", backend=backend)[0]
    if dtype not in model.ops.DTYPES:
        pytest.skip(f"{backend} has no {dtype}")
    model = miniclip.load("shapes", backend=backend, dtype=dtype)[0]
    assert identity.same(identity.of(plain), identity.of(model))


@pytest.mark.parametrize("to", ["hf", "open_clip"])
def test_the_format_makes_no_difference(plain, to, tmp_path):
    path = tmp_path / "model"
    WRITERS[to](path, plain.config, plain.params, tokenizer=plain.tokenizer)
    model = miniclip.load(path)[0]
    assert identity.same(identity.of(plain), identity.of(model))


def test_other_weights_are_another_model(plain):
    params = copy.deepcopy(plain.params)
    params["text"]["blocks"][1]["mlp"]["fc"]["bias"][7] += 1e-6
    assert not identity.same(identity.of(plain), identity.of(type(plain)(plain.config, params, plain.ops)))


def test_another_activation_is_another_model(plain):
    config = dataclasses.replace(plain.config, visual=dataclasses.replace(plain.config.visual, activation="gelu"))
    assert not identity.same(identity.of(plain), identity.of(type(plain)(config, plain.params, plain.ops)))


def test_two_kinds_of_16_bits_cannot_be_compared():
    half, brain = (miniclip.load("shapes", backend="torch", dtype=dtype)[0] for dtype in ("float16", "bfloat16"))
    with pytest.raises(InputError, match="load it in float32"):
        identity.same(identity.of(half), identity.of(brain))


def test_rounding_to_bfloat16_is_torchs():
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).standard_normal(10_000).astype(np.float32)
    x = np.concatenate([x, np.float32([0, 1, 1 + 2**-8, 1 + 3 * 2**-8, -1 - 2**-8])])  # ties
    expected = torch.from_numpy(x).to(torch.bfloat16).view(torch.uint16).numpy()
    assert np.array_equal(identity._rounded(x, "bfloat16"), expected)
