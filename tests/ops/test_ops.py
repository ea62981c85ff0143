"""Every operation of every backend: equal to float64 arithmetic and to torch's own; its laws hold."""

import functools
import inspect
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from arithmetic import EXACT, close, each_backend, normal, run, seeds
from backends import HERE
from hypothesis import given
from hypothesis import strategies as st

from miniclip.learn import catalogue, laws
from miniclip.ops import numpy_grad, numpy_ops, select, torch_ops

# ------------------------------------------------------------------------------------------- contract


ROOMS = ("_ops", "_conv", "_activations", "numpy_grad", "kernels.gradients")
OPTIONAL = ("with_gradients", "contrastive_loss", "sigmoid_loss")  # `chunked_loss` asks whether a backend has them


def functions(module):
    return {
        name: f
        for name, f in inspect.getmembers(module, inspect.isfunction)
        if not name.startswith("_") and f.__module__.endswith(ROOMS) and name not in OPTIONAL
    }


@pytest.mark.parametrize("ops", [*(select(name) for name in HERE), numpy_grad], ids=lambda ops: ops.NAME)
def test_backends_export_the_same_names_with_the_same_signatures(ops):
    ours, reference = functions(ops), functions(numpy_ops)
    assert {n: inspect.signature(f) for n, f in ours.items()} == {n: inspect.signature(f) for n, f in reference.items()}
    assert ops.ACTIVATIONS.keys() == numpy_ops.ACTIVATIONS.keys()
    constants = [{name: type(x) for name, x in vars(o).items() if name.isupper()} for o in (ops, numpy_ops)]
    assert constants[0].items() >= constants[1].items()


def test_every_reference_operation_says_what_it_computes():
    assert all(inspect.getdoc(f) for f in functions(numpy_ops).values())


@pytest.mark.parametrize(
    ("ops", "dtype"),
    [
        pytest.param(select(name), dtype, id=f"{name}-{dtype}")
        for name in HERE
        for dtype in select(name).DTYPES
        if dtype not in ("bfloat16", "int8")  # NumPy does not have the first, and the second is for weights alone
    ],
)
def test_results_keep_the_dtype_of_their_input(ops, dtype):
    x, y, heads = (normal(i, *shape).astype(dtype) for i, shape in enumerate([(5, 8), (5, 8), (1, 5, 2, 4)]))
    results = [
        run(ops, "layer_norm", x, y[0], y[1], eps=1e-5),
        run(ops, "attention", heads, heads, heads, causal=True),
        run(ops, "linear", x, y, activation="gelu"),
        run(ops, "linear", x, y, activation="quick_gelu"),
        run(ops, "similarity", x, y, np.asarray(2.0, dtype)),
        run(ops, "conv2d", heads, heads[..., :2], heads[0, :1, 0, 0], padding=1, activation="relu"),
        run(ops, "avg_pool2d", heads, 2),
        run(ops, "cells", heads),
        run(ops, "grid_tokens", heads, normal(3, 9, 5).astype(dtype)),
    ]
    assert [r.dtype for r in results] == [dtype] * len(results)


# ------------------------------------------------------------------- the laws that check students' solutions

LAWS = [
    pytest.param(law, exercise.name, id=law.__name__)
    for exercise in catalogue.exercises()
    if exercise.module == "miniclip.ops.numpy_ops"
    for law in laws.of(exercise)
]


@each_backend
@pytest.mark.parametrize(("law", "name"), LAWS)
@given(seed=seeds)
def test_a_law(ops, law, name, seed):
    for got, want in law(functools.partial(run, ops, name), np.random.default_rng(seed)):
        assert laws.difference(got, want) is None


@each_backend
@given(seed=seeds)
def test_log_softmax_is_the_logarithm_of_softmax_and_survives_large_logits(ops, seed):
    x = normal(seed, 4, 9, scale=3)
    close(run(ops, "log_softmax", x), np.log(run(numpy_ops, "softmax", x.astype(np.float64))), 1e-6)
    assert np.isfinite(run(ops, "log_softmax", x * 1e30)).all()


# -------------------------------------------------------------------------------------- pixels and tokens


@each_backend
@given(
    seed=seeds,
    batch=st.integers(0, 3),
    patch=st.integers(1, 5),
    grid=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    rest=st.integers(0, 4),
)
def test_patch_embedding_is_a_strided_convolution(ops, seed, batch, patch, grid, rest):
    height, width = (g * patch + min(rest, patch - 1) for g in grid)
    images, weight = normal(seed, batch, 3, height, width), normal(seed + 1, 7, 3, patch, patch)
    class_token, positions = normal(seed + 2, 7), normal(seed + 3, math.prod(grid) + 1, 7)
    exact = F.conv2d(*(torch.from_numpy(x).double() for x in (images, weight)), stride=patch)
    exact = exact.flatten(2).transpose(1, 2).numpy()  # (B, Gy·Gx, D)
    exact = np.concatenate([np.broadcast_to(class_token, (batch, 1, 7)), exact], axis=1) + positions
    ours = run(ops, "patch_embed", images, weight, class_token, positions)
    assert ours.shape == exact.shape
    if batch:
        close(ours, exact)


@each_backend
@given(seed=seeds, batch=st.integers(1, 4), length=st.integers(1, 6), vocabulary=st.integers(1, 30))
def test_embed_looks_rows_up_and_pool_picks_a_token(ops, seed, batch, length, vocabulary):
    rng = np.random.default_rng(seed)
    table, tokens = normal(seed, vocabulary, 4), rng.integers(0, vocabulary, (batch, length), np.int32)
    index = rng.integers(0, length, batch)
    embedded = run(ops, "embed", tokens, table)
    np.testing.assert_array_equal(embedded, [[table[token] for token in row] for row in tokens])
    np.testing.assert_array_equal(run(ops, "gather", embedded, index), [table[row[i]] for row, i in zip(tokens, index)])


# -------------------------------------------------------------------------------------------- activations


@each_backend
@pytest.mark.parametrize("scale", [1e-3, 1, 10, 1e4])
@given(seed=seeds)
def test_activations_equal_float64(ops, scale, seed):
    x = normal(seed, 300, scale=scale)
    wide = x.astype(np.float64)
    with np.errstate(over="ignore"):
        close(run(ops, "quick_gelu", x), wide / (1 + np.exp(-1.702 * wide)), 1e-6)
        close(run(ops, "silu", x), wide / (1 + np.exp(-wide)), 1e-6)
        close(run(ops, "sigmoid", x), 1 / (1 + np.exp(-wide)), 1e-6)
    close(run(ops, "tanh", x), np.tanh(wide), 1e-6)
    close(run(ops, "gelu", x), wide * 0.5 * (1 + np.vectorize(math.erf)(wide / math.sqrt(2))), 1e-6)
    inner = math.sqrt(2 / math.pi) * (wide + 0.044715 * wide**3)
    close(run(ops, "gelu_tanh", x), wide * 0.5 * (1 + np.tanh(inner)), 1e-6)
    np.testing.assert_array_equal(run(ops, "relu", x), np.where(x < 0, 0, x))


@each_backend
@pytest.mark.parametrize("name", numpy_ops.ACTIVATIONS)
def test_activations_at_the_ends(ops, name):
    ends = {"sigmoid": [np.nan, 0, 0.5, 1], "tanh": [np.nan, -1, 0, 1]}.get(name, [np.nan, 0, 0, 1e30])
    np.testing.assert_allclose(run(ops, name, np.array([np.nan, -1e30, 0, 1e30], np.float32)), ends, rtol=1e-6)


def test_reference_gelu_is_exact_in_float64():
    x = np.linspace(-12, 12, 100_001)
    assert np.abs(numpy_ops.gelu(x) - F.gelu(torch.from_numpy(x)).numpy()).max() < 1e-12


def test_quick_gelu_is_off_from_gelu_by_what_its_docstring_says():
    x = np.linspace(-6, 6, 120_001)
    gap = np.abs(numpy_ops.quick_gelu(x) - numpy_ops.gelu(x))
    assert round(gap.max(), 4) == 0.0203
    assert round(abs(x[gap.argmax()]), 2) == 2.27


# --------------------------------------------------------------------------------------- linear, layer norm


@each_backend
@given(
    seed=seeds,
    rows=st.integers(1, 9),
    inner=st.integers(1, 70),
    outer=st.integers(1, 9),
    bias=st.booleans(),
    activation=st.sampled_from([None, *EXACT]),
)
def test_linear_is_activation_of_the_product(ops, seed, rows, inner, outer, bias, activation):
    x, weight, b = (normal(seed + i, *s) for i, s in enumerate([(2, rows, inner), (outer, inner), (outer,)]))
    exact = x.astype(np.float64) @ weight.T.astype(np.float64)
    exact = exact + b if bias else exact
    if activation:
        exact = EXACT[activation](torch.from_numpy(exact)).numpy()
    close(run(ops, "linear", x, weight, b if bias else None, activation=activation), exact)


@each_backend
@given(seed=seeds, width=st.integers(2, 300), eps=st.sampled_from([1e-12, 1e-5, 1e-2]))
def test_layer_norm_equals_float64(ops, seed, width, eps):
    x, weight, bias = normal(seed, 3, width, scale=5), normal(seed + 1, width), normal(seed + 2, width)
    exact = F.layer_norm(*(torch.from_numpy(x).double() if i == 0 else (width,) for i in range(2)), eps=eps)
    close(run(ops, "layer_norm", x, weight, bias, eps=eps), exact.numpy() * weight + bias)


@each_backend
@given(seed=seeds, shape=st.tuples(st.integers(1, 3), st.integers(1, 5)), width=st.integers(2, 300))
def test_add_layer_norm_is_a_sum_and_its_norm(ops, seed, shape, width):
    x, update = normal(seed, *shape, width), normal(seed + 1, *shape, width)
    weight, bias = normal(seed + 2, width), normal(seed + 3, width)
    total, normed = ops.add_layer_norm(*(ops.asarray(a) for a in (x, update, weight, bias)), eps=1e-5)
    np.testing.assert_array_equal(ops.to_numpy(total), x + update)
    exact = run(numpy_ops, "layer_norm", *(a.astype(np.float64) for a in (x + update, weight, bias)), eps=1e-5)
    # Rows of nearly equal numbers are badly conditioned: then twice torch's own error is allowed.
    theirs = run(torch_ops, "layer_norm", x + update, weight, bias, eps=1e-5)
    close(ops.to_numpy(normed), exact, max(1e-5, 2 * np.abs(theirs - exact).max() / np.abs(exact).max()))


@each_backend
@given(seed=seeds, shift=st.floats(-8, 8), scale=st.floats(0.25, 4))
def test_layer_norm_ignores_shift_and_scale(ops, seed, shift, scale):
    x, one, zero = normal(seed, 3, 40), np.ones(40, np.float32), np.zeros(40, np.float32)
    plain = run(ops, "layer_norm", x, one, zero, eps=0)
    close(run(ops, "layer_norm", x * np.float32(scale) + np.float32(shift), one, zero, eps=0), plain, 2e-5)
    np.testing.assert_allclose(plain.mean(-1), 0, atol=1e-6)
    close((plain**2).mean(-1), np.ones(3))


@each_backend
def test_sigmoid_is_precise_far_from_zero(ops):
    x = np.float32([-80, -30, -9, -1, 0, 1, 30, 90])
    np.testing.assert_allclose(run(ops, "sigmoid", x), 1 / (1 + np.exp(-x.astype(np.float64))), rtol=2e-6)


# ---------------------------------------------------------------------------------------------- attention


def exact_attention(q, k, v, causal=False, lengths=None):
    """Attention in float64, one query of one head at a time."""
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    B, Tq, H, K = q.shape
    out = np.zeros_like(q)
    for b, i, h in np.ndindex(B, Tq, H):
        seen = k.shape[1] if lengths is None else lengths[b]
        seen = min(seen, i + 1) if causal else seen
        scores = k[b, :seen, h] @ q[b, i, h] / math.sqrt(K)
        weights = np.exp(scores - scores.max())
        out[b, i, h] = weights / weights.sum() @ v[b, :seen, h]
    return out


@each_backend
@given(
    seed=seeds,
    shape=st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 3), st.sampled_from([1, 3, 8])),
    keys=st.integers(1, 9),
    causal=st.booleans(),
    padded=st.booleans(),
    scale=st.sampled_from([0.1, 1, 30]),
)
def test_attention_equals_float64(ops, seed, shape, keys, causal, padded, scale):
    B, Tq, H, K = shape
    q, k, v = normal(seed, *shape, scale=scale), normal(seed + 1, B, keys, H, K), normal(seed + 2, B, keys, H, K)
    lengths = np.random.default_rng(seed).integers(1, keys + 1, B) if padded else None
    mask = {"causal": causal, "lengths": lengths}
    close(run(ops, "attention", q, k, v, **mask), exact_attention(q, k, v, **mask))
    weights = run(ops, "attention_weights", q, k, **mask)
    close(weights.sum(-1), np.ones((B, H, Tq)), 1e-6)
    close(np.einsum("bhqt,bthk->bqhk", weights, v), exact_attention(q, k, v, **mask))


@each_backend
@given(seed=seeds, causal=st.booleans())
def test_attention_reads_strided_views_of_one_packed_product(ops, seed, causal):
    packed = normal(seed, 2, 7, 3, 2, 4)  # (B, T, 3, H, K)
    apart = [np.ascontiguousarray(packed[:, :, i]) for i in range(3)]
    tensor = ops.asarray(packed)
    views = ops.attention(*(tensor[:, :, i] for i in range(3)), causal=causal)
    close(ops.to_numpy(views), run(ops, "attention", *apart, causal=causal), 1e-6)
