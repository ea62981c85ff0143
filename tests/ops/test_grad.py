"""Every operation of `numpy_grad`: its gradient against finite differences and torch's, in float64; its value is the
reference's."""

import numpy as np
import pytest
import torch
from arithmetic import close, seeds
from hypothesis import given, settings
from hypothesis import strategies as st

from miniclip.ops import numpy_grad, numpy_ops, torch_ops
from miniclip.ops.tape import Variable


def weights_case(rng):
    """q and k of any lengths, from one token, with any mask."""
    B, Tq, Tk, H, K = rng.integers(1, [4, 7, 7, 4, 6])
    lengths = rng.integers(1, Tk + 1, B) if rng.integers(2) else None
    return [(B, Tq, H, K), (B, Tk, H, K)], {"causal": bool(rng.integers(2)), "lengths": lengths}


def attention_case(rng):
    (q, k), options = weights_case(rng)
    return [q, k, k], options


def linear_case(rng):
    B, T, D, M = rng.integers(1, [4, 4, 7, 7])
    shapes = [(B, T, D) if rng.integers(2) else (B, D), (M, D), (M,)]
    return shapes[: rng.integers(2, 4)], {"activation": rng.choice([None, *numpy_ops.ACTIVATIONS])}


def patch_case(rng):
    """Patches of a picture with rows and columns that are no whole patch."""
    B, C, P, D, Gy, Gx = rng.integers(1, [4, 4, 4, 6, 4, 4])
    rest = rng.integers(0, P, 2)
    return [(B, C, Gy * P + rest[0], Gx * P + rest[1]), (D, C, P, P), (D,), (1 + Gy * Gx, D)], {}


def convolution_case(rng):
    """Any stride, padding and groups; rows that no window reaches; a residual or none."""
    B, C, N, k, stride, groups = rng.integers(1, [3, 4, 4, 4, 4, 4])
    before, after = rng.integers(0, 3, 2)
    height, width = np.maximum(rng.integers(1, 8, 2), k - before - after)
    sizes = [(n + before + after - k) // stride + 1 for n in (height, width)]
    shapes = [(B, C * groups, height, width), (N * groups, C, k, k), (N * groups,), (B, N * groups, *sizes)]
    options = {"stride": int(stride), "padding": (int(before), int(after)), "groups": int(groups)}
    return shapes[: rng.integers(2, 5)], options | {"activation": rng.choice([None, *numpy_ops.ACTIVATIONS])}


def any_shape(rng):
    return [tuple(rng.integers(1, 6, rng.integers(1, 4)))], {}


# name -> random shapes of the arrays, and options
CASES = {
    "patch_embed": patch_case,
    "softmax": any_shape,
    "log_softmax": any_shape,
    **dict.fromkeys(numpy_ops.ACTIVATIONS, any_shape),
    "linear": linear_case,
    "layer_norm": lambda rng: ([(*rng.integers(1, 5, 2), D := rng.integers(1, 9)), (D,), (D,)], {"eps": 1e-2}),
    "attention_weights": weights_case,
    "attention": attention_case,
    "conv2d": convolution_case,
    "avg_pool2d": lambda rng: ([tuple(rng.integers(3, 8, 4))], {"size": int(rng.integers(1, 4))}),
    "global_avg_pool2d": lambda rng: ([tuple(rng.integers(1, 5, 4))], {}),
    "cells": lambda rng: ([tuple(rng.integers(1, 5, 4))], {}),
    "grid_tokens": lambda rng: ([(B := rng.integers(1, 4), 3, B, 2), (1 + 2 * B, 3)], {}),
    "l2_normalize": any_shape,
    "similarity": lambda rng: ([(rng.integers(1, 5), E := rng.integers(1, 9)), (rng.integers(1, 5), E), ()], {}),
}


def draw(name, seed):
    """Random arrays (float64) and options for an operation."""
    rng = np.random.default_rng(seed)
    shapes, options = CASES[name](rng)
    return [np.asarray(rng.standard_normal(tuple(map(int, shape)))) for shape in shapes], options


def call(ops, name, arrays, options):
    """The operation's result; a fourth array of a convolution is its residual."""
    more = {"residual": arrays[3]} if name == "conv2d" and len(arrays) == 4 else {}
    return getattr(ops, name)(*arrays[:3] if more else arrays, **options, **more)


def gradients(name, arrays, options, dy=None):
    """(value, dy, gradients of all arrays) on a tape; dy is random if not given."""
    variables = [Variable(x) for x in arrays]
    result = call(numpy_grad, name, variables, options)
    dy = np.random.default_rng(0).standard_normal(result.shape) if dy is None else dy
    result.backward(dy.astype(result.dtype))
    return result.value, dy, [x.gradient for x in variables]


def differences(function, x, dy, h=1e-5):
    """∂ Σ dy · function(x) / ∂x by finite differences; `function` reads x itself, which is changed and restored."""
    slopes = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        kept = x[i]
        x[i] = kept + h
        above = np.array(function())  # a copy: of some operations it is a view of x
        x[i] = kept - h
        slopes[i] = (dy * (above - function())).sum() / (2 * h)
        x[i] = kept
    return slopes


few = settings(max_examples=15)


@few
@pytest.mark.parametrize("name", CASES)
@given(seed=seeds)
def test_gradients_equal_finite_differences(name, seed):
    arrays, options = draw(name, seed)
    _, dy, ours = gradients(name, arrays, options)
    for x, gradient in zip(arrays, ours):
        exact = differences(lambda: call(numpy_ops, name, arrays, options), x, dy)
        assert gradient.shape == x.shape
        np.testing.assert_allclose(gradient, exact, rtol=0, atol=1e-6 * max(1e-2, np.abs(exact).max()))


@pytest.mark.parametrize("name", CASES)
@given(seed=seeds)
def test_gradients_equal_torchs(name, seed):
    arrays, options = draw(name, seed)
    _, dy, ours = gradients(name, arrays, options)
    tensors = [torch.from_numpy(x).requires_grad_() for x in arrays]
    theirs = call(torch_ops, name, tensors, options)
    for gradient, tensor in zip(ours, torch.autograd.grad(theirs, tensors, torch.from_numpy(dy)), strict=True):
        np.testing.assert_allclose(gradient, tensor, rtol=0, atol=1e-11 * max(1, tensor.abs().max()))


@few
@pytest.mark.parametrize("name", CASES)
@given(seed=seeds)
def test_values_are_the_references_bit_for_bit_and_dtypes_are_kept(name, seed):
    arrays, options = draw(name, seed)
    narrow = [x.astype(np.float32) for x in arrays]
    given = [x.copy() for x in narrow]
    value, dy, ours = gradients(name, narrow, options)
    want = call(numpy_ops, name, narrow, options)
    np.testing.assert_array_equal(value, want)
    assert {x.dtype.name for x in [value, *ours]} == {"float32"}
    for gradient, exact in zip(ours, gradients(name, [x.astype(np.float64) for x in narrow], options, dy)[2]):
        np.testing.assert_allclose(gradient, exact, rtol=0, atol=2e-5 * max(1, np.abs(exact).max()))
    for x, before in zip(narrow, given):
        np.testing.assert_array_equal(x, before)
    constant = call(numpy_grad, name, narrow, options)  # constants alone leave no tape
    assert isinstance(constant, np.ndarray)
    np.testing.assert_array_equal(constant, want)


@given(seed=seeds, vocabulary=st.integers(1, 6))
def test_a_rows_gradient_is_the_sum_over_the_places_of_its_token(seed, vocabulary):
    rng = np.random.default_rng(seed)
    table, tokens, dy = Variable(rng.standard_normal((vocabulary, 3))), rng.integers(0, vocabulary, (2, 5)), None
    result = numpy_grad.embed(tokens, table)
    dy = rng.standard_normal(result.shape)
    result.backward(dy)
    np.testing.assert_array_equal(result.value, table.value[tokens])
    for token in range(vocabulary):
        close(table.gradient[token], dy[tokens == token].sum(0), 1e-14)


@given(seed=seeds)
def test_gathered_tokens_alone_get_a_gradient(seed):
    rng = np.random.default_rng(seed)
    index = int(rng.integers(5)) if seed % 2 else rng.integers(0, 5, 3)
    x, dy, want = Variable(rng.standard_normal((3, 5, 2))), rng.standard_normal((3, 2)), np.zeros((3, 5, 2))
    numpy_grad.gather(x, index).backward(dy)
    want[np.arange(3), index] = dy
    np.testing.assert_array_equal(x.gradient, want)


@given(seed=seeds)
def test_add_layer_norm_sends_both_gradients_to_both_summands(seed):
    arrays = [np.random.default_rng(seed + i).standard_normal(n) for i, n in enumerate([(2, 6), (2, 6), 6, 6])]
    dtotal, dy = np.random.default_rng(seed).standard_normal((2, 2, 6))
    ours, theirs = [Variable(x) for x in arrays], [torch.from_numpy(x).requires_grad_() for x in arrays]
    total, normed = numpy_grad.add_layer_norm(*ours, eps=1e-5)
    (total * dtotal + normed * dy).backward()
    total, normed = torch_ops.add_layer_norm(*theirs, eps=1e-5)
    (total * torch.from_numpy(dtotal) + normed * torch.from_numpy(dy)).sum().backward()
    for x, tensor in zip(ours, theirs):
        np.testing.assert_allclose(x.gradient, tensor.grad, rtol=0, atol=1e-11 * max(1, tensor.grad.abs().max()))


@pytest.mark.parametrize("name", numpy_ops.ACTIVATIONS)
def test_activations_are_flat_or_straight_at_the_ends(name):
    ends = {"sigmoid": [0, 0], "tanh": [0, 0]}.get(name, [0, 1])
    _, _, (gradient,) = gradients(name, [np.float32([-1e30, 1e30])], {}, np.ones(2))
    np.testing.assert_allclose(gradient, ends, atol=1e-7)


@pytest.mark.parametrize("scale", [1e30, 1e-30])
def test_features_of_any_length_have_right_gradients(scale):
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((3, 5)), rng.standard_normal((3, 5))
    _, _, (exact,) = gradients("l2_normalize", [x], {}, dy)
    _, _, (ours,) = gradients("l2_normalize", [(x * scale).astype(np.float32)], {}, dy)
    close(ours * scale, exact, 1e-6)


def test_a_feature_of_zeros_has_torchs_gradient():
    _, _, (ours,) = gradients("l2_normalize", [np.zeros((1, 3))], {}, np.ones((1, 3)))
    tensor = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    torch_ops.l2_normalize(tensor).sum().backward()
    np.testing.assert_array_equal(ours, tensor.grad)


def test_dtypes_are_changed_on_the_tape():
    x = Variable(np.ones(3, np.float32))
    assert numpy_grad.asarray(x) is x is numpy_grad.asarray(x, dtype="float32")
    numpy_grad.asarray(x, dtype="float64").backward(np.arange(3.0))
    assert x.gradient.dtype == np.float32 and x.gradient.tolist() == [0, 1, 2]
