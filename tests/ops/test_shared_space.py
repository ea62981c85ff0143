"""The operations of the space that pictures and texts share: right cosines for every length, and what is no number."""

import math

import numpy as np
import pytest
import torch
from arithmetic import close, each_backend, normal, run, seeds
from hypothesis import given
from hypothesis import strategies as st

from miniclip.ops import torch_ops


@each_backend
@given(seed=seeds, scale=st.floats(0.01, 100), logit_scale=st.floats(-2, 4.6))
def test_similarity_is_the_scaled_cosine_whatever_the_lengths(ops, seed, scale, logit_scale):
    a, b = normal(seed, 4, 16), normal(seed + 1, 3, 16)
    wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
    exact = wide_a @ wide_b.T / np.outer(np.linalg.norm(wide_a, axis=1), np.linalg.norm(wide_b, axis=1))
    logit_scale = np.float32(logit_scale)
    ours = run(ops, "similarity", a * np.float32(scale), b, np.asarray(logit_scale))
    close(ours, math.exp(logit_scale) * exact)
    close(np.linalg.norm(run(ops, "l2_normalize", a), axis=-1), np.ones(4), 1e-6)


@each_backend
def test_the_cosines_of_long_short_and_zero_features_are_right(ops):
    directions = np.float32([[1, 2, 3], [0.5, -1, 0.25]])
    features = np.concatenate([directions * np.float32(length) for length in (1, 1e30, 1e-30, 0)])  # (8, 3)
    features[4:6, 2] = 0  # products of 1e-30 and less are not normal floats
    wide = features.astype(np.float64)
    norms = np.linalg.norm(wide, axis=1, keepdims=True)
    units = np.divide(wide, norms, where=norms > 0, out=np.zeros_like(wide))
    close(run(ops, "l2_normalize", features), units, 1e-6)
    close(run(ops, "similarity", features, features, np.asarray(1, np.float32)), math.e * units @ units.T)


@each_backend
def test_a_feature_that_is_not_a_number_spoils_no_other(ops):
    features = np.float32([[1, 2], [math.nan, 1], [3, 4]])
    logits = run(ops, "similarity", features, features, np.asarray(0, np.float32))
    np.testing.assert_array_equal(np.isnan(logits), [[False, True, False], [True] * 3, [False, True, False]])


@each_backend
def test_peak_is_the_largest_absolute_value(ops):
    assert [ops.peak(ops.asarray(np.float32(x))) for x in ([[1, -3]], [[2, 0.5]], [])] == [3, 2, 0]
    assert (
        math.isnan(ops.peak(ops.asarray(np.float32([1, math.nan, 5])))) and type(ops.peak(ops.asarray([2.0]))) is float
    )


@pytest.mark.parametrize("ops", [torch_ops])
def test_l2_normalize_has_the_right_gradient(ops):
    x = torch.from_numpy(normal(0, 3, 5).astype(np.float64)).requires_grad_()
    torch.autograd.gradcheck(ops.l2_normalize, x)
