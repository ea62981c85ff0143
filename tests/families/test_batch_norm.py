"""BatchNorms are folded into convolutions and unfolded again: the function stays the same, and no bit is lost."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import miniclip
from miniclip.families import batch_norm
from miniclip.families.clip.openai import BATCH_NORMS, EPS

# The names of a convolution and of its BatchNorm, for each kind in OpenAI's ResNets.
PAIRS = [
    ("visual.conv1", "visual.bn1"),
    ("visual.conv3", "visual.bn3"),
    ("visual.layer4.12.conv2", "visual.layer4.12.bn2"),
    ("visual.layer1.0.downsample.0", "visual.layer1.0.downsample.1"),
]
fold, unfold = (partial(function, endings=BATCH_NORMS, eps=EPS) for function in (batch_norm.fold, batch_norm.unfold))
each_pair = pytest.mark.parametrize(("conv", "norm"), PAIRS)


def random_pair(conv, norm, N=3, C=2, k=3, dtype=np.float32):
    rng = np.random.default_rng(0)
    vectors = {f"{norm}.{name}": rng.standard_normal(N) for name in ("weight", "bias", "running_mean")}
    tensors = {f"{conv}.weight": rng.standard_normal((N, C, k, k)), **vectors}
    tensors[f"{norm}.running_var"] = rng.uniform(0.1, 3, N)
    count = {f"{norm}.num_batches_tracked": np.array(7)}
    return {name: x.astype(dtype) for name, x in tensors.items()} | count


def official(tensors, conv, norm, x):
    """The pair's output in torch, x (B, C, height, width)."""
    part = {name: torch.from_numpy(x) for name, x in tensors.items()}
    x = torch.nn.functional.conv2d(x, part[f"{conv}.weight"])
    statistics = (part[f"{norm}.{name}"] for name in ("running_mean", "running_var", "weight", "bias"))
    return torch.nn.functional.batch_norm(x, *statistics).numpy()


@each_pair
def test_folding_is_the_same_function(conv, norm, relative_error):
    tensors = random_pair(conv, norm, dtype=np.float64)
    x = torch.randn(2, 2, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    theirs = official(tensors, conv, norm, x)
    folded = fold(dict(tensors))
    assert list(folded) == [f"{conv}.weight", f"{conv}.bias"]
    ours = torch.nn.functional.conv2d(x, *map(torch.from_numpy, folded.values()))
    assert relative_error(ours, theirs) < 1e-14


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_folded_parameters_are_float32_and_rounded_once(dtype):
    tensors = random_pair("visual.conv1", "visual.bn1", N=200, dtype=dtype)
    exact = fold({name: x.astype(np.float64) for name, x in tensors.items()})
    for name, x in fold(tensors).items():
        assert x.dtype == np.float32
        np.testing.assert_array_equal(x, exact[name].astype(np.float32))


def test_everything_else_is_unchanged_and_not_copied():
    vit = {name: np.ones(2) for name in ("visual.conv1.weight", "visual.ln_pre.bias", "transformer.bn1x.weight")}
    for change in (fold, unfold):
        assert all(x is vit[name] for name, x in change(dict(vit)).items())
    tensors = {**random_pair(*PAIRS[0]), **vit, "visual.conv1.weight": np.ones((3, 2, 3, 3), np.float32)}
    given = dict(tensors)
    assert fold(tensors) is tensors
    assert set(tensors) == {*vit, "visual.conv1.bias"}
    assert tensors["visual.ln_pre.bias"] is given["visual.ln_pre.bias"]
    assert unfold(tensors) is tensors and tensors.keys() == given.keys()


# ------------------------------------------------------------------------------------------ and back again


@given(
    weight=arrays.arrays(np.float32, (2, 1, 1, 3), elements=st.floats(width=32, allow_nan=False)),
    bias=arrays.arrays(np.float32, 2, elements=st.floats(width=32, allow_nan=False)),
)
def test_unfolding_and_folding_gives_every_float32_back_to_the_last_bit(weight, bias):
    for conv, _ in PAIRS:
        tensors = {f"{conv}.weight": weight, f"{conv}.bias": bias}
        back = fold(unfold(dict(tensors)))
        assert {name: x.tobytes() for name, x in back.items()} == {name: x.tobytes() for name, x in tensors.items()}


def test_the_variance_is_close_enough_to_one_for_every_significand():
    """Numbers on both sides of every rounding: significands in steps, the smallest and the largest of each."""
    steps = np.r_[0:64, np.arange(64, 1 << 23, 997), (1 << 23) - 64 : 1 << 23].astype(np.uint32)
    weight = np.concatenate([(steps | exponent << 23).view(np.float32) for exponent in (0, 1, 127, 254)])
    tensors = {"visual.conv1.weight": weight.reshape(-1, 1, 1, 1), "visual.conv1.bias": weight}
    back = fold(unfold(dict(tensors)))
    for name, x in tensors.items():
        assert back[name].tobytes() == x.tobytes()


@each_pair
def test_an_unfolded_batch_norm_adds_the_bias_and_nothing_else_in_torchs_arithmetic(conv, norm):
    rng = np.random.default_rng(0)
    weight, bias = rng.standard_normal((3, 2, 3, 3), np.float32), rng.standard_normal(3, np.float32)
    tensors = unfold({f"{conv}.weight": weight, f"{conv}.bias": bias})
    assert tensors.keys() == random_pair(conv, norm).keys()
    x = torch.from_numpy(rng.standard_normal((2, 2, 9, 9), np.float32))
    plain = torch.nn.functional.conv2d(x, torch.from_numpy(weight)).numpy() + bias[:, None, None]
    np.testing.assert_array_equal(official(tensors, conv, norm, x), plain)
    assert np.float32(tensors[f"{norm}.running_var"][0]) + np.float32(EPS) == 1


# ----------------------------------------------------------------------------------------------- refused files


@each_pair
@pytest.mark.parametrize(
    "missing", ["conv.weight", *(f"norm.{n}" for n in ("weight", "bias", "running_mean", "running_var"))]
)
def test_an_incomplete_batch_norm_is_refused_by_name(conv, norm, missing):
    name = missing.replace("conv", conv).replace("norm", norm)
    tensors = random_pair(conv, norm)
    del tensors[name]
    with pytest.raises(miniclip.InputError) as error:
        fold(tensors)
    assert str(error.value) == f"{norm} is incomplete: there is no {name}"


def test_numbers_that_are_too_large_become_infinite():
    tensors = random_pair(*PAIRS[0]) | {"visual.bn1.weight": np.full(3, 1e300), "visual.bn1.running_mean": np.zeros(3)}
    assert np.isinf(fold(tensors)["visual.conv1.weight"]).any()


def test_a_batch_norm_that_was_never_counted_folds_too():
    tensors = random_pair(*PAIRS[0])
    expected = fold(dict(tensors))
    del tensors["visual.bn1.num_batches_tracked"]
    assert {name: x.tobytes() for name, x in fold(tensors).items()} == {n: x.tobytes() for n, x in expected.items()}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"visual.bn1.bias": np.zeros(4)}, r"visual\.bn1\.bias is \(4,\), expected \(3,\)"),
        ({"visual.bn1.running_var": np.ones((3, 1))}, r"visual\.bn1\.running_var is \(3, 1\)"),
        ({"visual.bn1.running_var": np.array([1, -1e-6, 2])}, r"visual\.bn1\.running_var has a minimum of -1e-06"),
        ({"visual.bn1.running_var": np.array([1, np.nan, 2])}, r"visual\.bn1\.running_var has a minimum of nan"),
        ({"visual.conv1.weight": np.zeros((3, 2))}, r"visual\.conv1 has a BatchNorm, but is not a convolution"),
        ({"visual.conv1.bias": np.zeros(3)}, r"visual\.conv1 .* without a bias"),
    ],
)
def test_anything_but_a_batch_norm_after_a_convolution_is_refused_by_name(changes, message):
    with pytest.raises(miniclip.InputError, match=message):
        fold({**random_pair(*PAIRS[0]), **changes})
