"""The formulas of gradients by themselves: what must hold whatever the numbers are."""

import numpy as np
import pytest
from arithmetic import seeds
from hypothesis import given
from hypothesis import strategies as st

from miniclip.ops import numpy_activation_gradients, numpy_conv, numpy_conv_gradients, numpy_gradients, numpy_ops

sizes = st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 3), st.integers(1, 5))  # B, T, H, K


def normal(seed, *shapes):
    return [np.random.default_rng([seed, i]).standard_normal(shape) for i, shape in enumerate(shapes)]


def zero(x, like=1.0):
    np.testing.assert_allclose(x, np.zeros_like(x), rtol=0, atol=1e-12 * max(1, np.abs(like).max()))


@given(seed=seeds, rows=st.integers(1, 4), width=st.integers(2, 9))
def test_layer_norms_gradient_has_no_part_along_1_or_along_the_normalised_x(seed, rows, width):
    dy, x, weight = normal(seed, (rows, width), (rows, width), width)
    dx, _, _ = numpy_gradients.layer_norm_gradient(dy, x, weight, eps=0)
    x_hat = numpy_ops.layer_norm(x, np.ones(width), np.zeros(width), eps=0)
    zero(dx.sum(-1), dx)
    zero((dx * x_hat).sum(-1), dx)


@given(seed=seeds, shape=st.tuples(st.integers(1, 4), st.integers(1, 9)))
def test_rows_of_softmaxs_gradients_sum_to_zero(seed, shape):
    dy, x = normal(seed, shape, shape)
    zero(numpy_gradients.softmax_gradient(dy, numpy_ops.softmax(x)).sum(-1))
    zero(numpy_gradients.log_softmax_gradient(dy, numpy_ops.log_softmax(x)).sum(-1), dy)


@given(seed=seeds, size=sizes, extra=st.integers(0, 3))
def test_a_key_gets_no_gradient_from_queries_before_it(seed, size, extra):
    B, T, H, K = size
    dy, q, k, v = normal(seed, size, size, (B, T + extra, H, K), (B, T + extra, H, K))
    for j in range(T + extra):
        early = np.where(np.arange(T)[:, None, None] < j, dy, 0)  # only queries before key j have a gradient
        _, dk, dv = numpy_gradients.attention_gradient(early, q, k, v, causal=True)
        assert not dk[:, j].any() and not dv[:, j].any()


@given(seed=seeds, size=sizes)
def test_padding_gets_no_gradient(seed, size):
    dy, q, k, v = normal(seed, *[size] * 4)
    lengths = np.random.default_rng(seed).integers(1, size[1] + 1, size[0])
    _, dk, dv = numpy_gradients.attention_gradient(dy, q, k, v, lengths=lengths)
    for b, length in enumerate(lengths):
        assert not dk[b, length:].any() and not dv[b, length:].any()


@given(seed=seeds, size=sizes, causal=st.booleans())
def test_keys_move_together_without_effect(seed, size, causal):
    """The same vector added to all keys changes no weight: the gradients of the keys sum to zero in each head."""
    dy, q, k, v = normal(seed, *[size] * 4)
    _, dk, dv = numpy_gradients.attention_gradient(dy, q, k, v, causal=causal)
    zero(dk.sum(1))
    np.testing.assert_allclose(dv.sum(1), dy.sum(1))  # while values that move together move every result


@given(seed=seeds, size=sizes, causal=st.booleans())
def test_kept_weights_change_nothing(seed, size, causal):
    dy, q, k, v = normal(seed, *[size] * 4)
    weights = numpy_ops.attention_weights(q, k, causal=causal)
    computed = numpy_gradients.attention_gradient(dy, q, k, v, causal=causal)
    for a, b in zip(computed, numpy_gradients.attention_gradient(dy, q, k, v, weights=weights)):
        np.testing.assert_array_equal(a, b)


@given(seed=seeds, shape=st.tuples(st.integers(1, 4), st.integers(1, 9)))
def test_a_longer_feature_is_the_same_feature(seed, shape):
    dy, x = normal(seed, shape, shape)
    dx = numpy_gradients.l2_normalize_gradient(dy, x)
    zero((dx * x).sum(-1), dx * x)
    np.testing.assert_allclose(numpy_gradients.l2_normalize_gradient(dy, 4 * x), dx / 4)


@given(seed=seeds, rows=st.integers(1, 4), inner=st.integers(1, 5), outer=st.integers(1, 5))
def test_one_rows_weight_gradient_is_an_outer_product(seed, rows, inner, outer):
    dy, x, weight = normal(seed, (rows, outer), (rows, inner), (outer, inner))
    _, dweight, dbias = numpy_gradients.linear_gradient(dy, x, weight)
    np.testing.assert_allclose(dweight, sum(np.outer(a, b) for a, b in zip(dy, x)), atol=1e-12)
    np.testing.assert_allclose(dbias, dy.sum(0))


@given(
    seed=seeds,
    shape=st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(3, 7), st.integers(3, 7)),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 3),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    columns=st.sampled_from([1, 1 << 18]),
)
def test_a_convolution_is_linear_in_pixels_and_in_weights(seed, shape, kernel, stride, padding, columns):
    """Σ dx · x = Σ dy · y = Σ dweight · weight, however many groups are laid out at a time."""
    x, weight = normal(seed, (shape[0], 2 * shape[1], *shape[2:]), (4, shape[1], kernel, kernel))
    y = numpy_conv.conv2d(x, weight, stride=stride, padding=padding, groups=2)
    (dy,) = normal(seed + 1, y.shape)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numpy_conv_gradients, "COLUMNS", columns)
        options = {"stride": stride, "padding": padding, "groups": 2}
        dx, dweight, _ = numpy_conv_gradients.conv2d_gradient(dy, x, weight, **options)
    np.testing.assert_allclose([(dx * x).sum(), (dweight * weight).sum()], (dy * y).sum(), atol=1e-11)


@given(seed=seeds)
def test_the_slope_of_an_activation_is_its_derivative_at_zero(seed):
    """At 0 all are simple: σ is ½ there, and so are the slopes of the gates."""
    (dy,) = normal(seed, (3,))
    slopes = {"relu": 0, "sigmoid": 0.25, "tanh": 1, "silu": 0.5, "quick_gelu": 0.5, "gelu": 0.5, "gelu_tanh": 0.5}
    for name, slope in slopes.items():
        gradient = getattr(numpy_activation_gradients, f"{name}_gradient")
        np.testing.assert_allclose(gradient(dy, np.zeros(3)), slope * dy)
