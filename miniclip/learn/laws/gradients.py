"""The laws of gradients in `numpy_gradients`: each is what finite differences of the forward function give."""

import functools

import numpy as np

from miniclip.learn.laws import law, slopes
from miniclip.ops import numpy_ops


def _sent_back(function, dy, *inputs):
    """∂L/∂x for each input x of y = function(*inputs), where L = Σ dy · y, so that ∂L/∂y is dy."""

    def loss(i, x):
        return (dy * function(*inputs[:i], x, *inputs[i + 1 :])).sum()

    return [slopes(functools.partial(loss, i), x) for i, x in enumerate(inputs)]


# --------------------------------------------------------------------------------------------- softmax


def _softmax_case(rng, *shape):
    """dy, x and y = softmax(x), float64."""
    dy, x = rng.standard_normal((2, *shape))
    return dy, 2 * x, numpy_ops.softmax(2 * x)


@law("softmax_gradient")
def softmaxs_gradient_is_that_of_finite_differences(softmax_gradient, rng):
    """for each number of x, how fast the loss rises with it, along the last axis, of any number of axes"""
    for shape in [(5,), (3, 4), (2, 3, 7)]:
        dy, x, y = _softmax_case(rng, *shape)
        yield softmax_gradient(dy, y), *_sent_back(numpy_ops.softmax, dy, x)


@law("softmax_gradient")
def its_rows_sum_to_zero(softmax_gradient, rng):
    """adding a number to a whole row of x changes no y, so every row of dx sums to zero"""
    dy, _, y = _softmax_case(rng, 4, 6)
    yield 1 + softmax_gradient(dy, y).sum(-1), np.ones(4)


@law("softmax_gradient")
def equal_slopes_cancel(softmax_gradient, rng):
    """if dy is the same along a row, dx is zero: the sum of y is one, whatever x is"""
    _, _, y = _softmax_case(rng, 4, 6)
    dy = np.repeat(rng.standard_normal((4, 1)), 6, axis=1)
    yield 1 + softmax_gradient(dy, y), np.ones((4, 6))


@law("softmax_gradient")
def what_is_hidden_gets_nothing(softmax_gradient, rng):
    """where y is exactly 0, as for a hidden key, dx is exactly 0"""
    dy, x, _ = _softmax_case(rng, 3, 6)
    hidden = np.arange(6) >= rng.integers(1, 6, (3, 1))
    dx = softmax_gradient(dy, numpy_ops.softmax(np.where(hidden, -np.inf, x)))
    yield dx[hidden], np.zeros(hidden.sum())


@law("softmax_gradient")
def softmaxs_gradient_leaves_its_inputs(softmax_gradient, rng):
    """the inputs are not changed"""
    dy, _, y = _softmax_case(rng, 4, 5)
    given = dy.copy(), y.copy()
    softmax_gradient(*given)
    yield from zip(given, (dy, y))


# ------------------------------------------------------------------------------------------ layer norm


def _norm_case(rng, *shape, scale=2.0):
    """dy, x and a weight, float64."""
    dy, x = rng.standard_normal((2, *shape))
    return dy, scale * x + 1, rng.standard_normal(shape[-1])


@law("layer_norm_gradient")
def layer_norms_gradient_is_that_of_finite_differences(layer_norm_gradient, rng):
    """dx, dweight and dbias: how fast the loss rises with each number; x has any number of axes"""
    for shape in [(2, 3, 5), (4, 6), (7,)]:
        dy, x, weight = _norm_case(rng, *shape)
        bias = rng.standard_normal(shape[-1])
        want = _sent_back(lambda x, w, b: numpy_ops.layer_norm(x, w, b, eps=1e-5), dy, x, weight, bias)
        yield from zip(layer_norm_gradient(dy, x, weight, eps=1e-5), want, strict=True)


@law("layer_norm_gradient")
def dx_has_no_part_along_1(layer_norm_gradient, rng):
    """adding a number to a whole row of x changes no y, so every row of dx sums to zero"""
    dy, x, weight = _norm_case(rng, 4, 6)
    yield 1 + layer_norm_gradient(dy, x, weight, eps=1e-5)[0].sum(-1), np.ones(4)


@law("layer_norm_gradient")
def dx_has_no_part_along_the_normalised_x(layer_norm_gradient, rng):
    """without eps, a longer x - mean has the same y, so every row of dx · x̂ sums to zero"""
    dy, x, weight = _norm_case(rng, 4, 6)
    x_hat = (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)
    yield 1 + (layer_norm_gradient(dy, x, weight, eps=0.0)[0] * x_hat).sum(-1), np.ones(4)


@law("layer_norm_gradient")
def a_larger_x_matters_less(layer_norm_gradient, rng):
    """without eps, 3 x has the same y as x, but has to move three times as far: a third of the gradient"""
    dy, x, weight = _norm_case(rng, 3, 5)
    yield 3 * layer_norm_gradient(dy, 3 * x, weight, eps=0.0)[0], layer_norm_gradient(dy, x, weight, eps=0.0)[0]


@law("layer_norm_gradient")
def eps_is_part_of_sigma(layer_norm_gradient, rng):
    """if all numbers are small, eps decides, in x̂ as in σ"""
    dy, x, weight = _norm_case(rng, 3, 5, scale=0.1)
    want = _sent_back(lambda x, w: numpy_ops.layer_norm(x, w, np.zeros(5), eps=1e-2), dy, x, weight)
    yield from zip(layer_norm_gradient(dy, x, weight, eps=1e-2)[:2], want)


@law("layer_norm_gradient")
def layer_norms_gradient_leaves_its_inputs(layer_norm_gradient, rng):
    """the inputs are not changed"""
    arguments = _norm_case(rng, 3, 5)
    given = [x.copy() for x in arguments]
    layer_norm_gradient(*given, eps=1e-5)
    yield from zip(given, arguments)


# ------------------------------------------------------------------------------------------- attention


def _heads(rng, Tq=3, Tk=None):
    """dy and q (2, Tq, H, K), k and v (2, Tk, H, K), float64; H and K at random."""
    H, K = int(rng.integers(2, 4)), int(rng.integers(2, 4))
    return [rng.standard_normal((2, T, H, K)) for T in (Tq, Tq, Tk or Tq, Tk or Tq)]


def _weights_case(rng, Tq=3, Tk=5, **masks):
    """dweights, q, k and the weights."""
    _, q, k, _ = _heads(rng, Tq, Tk)
    weights = numpy_ops.attention_weights(q, k, **masks)
    return rng.standard_normal(weights.shape), q, k, weights


@law("attention_weights_gradient")
def the_weights_gradient_is_that_of_finite_differences(attention_weights_gradient, rng):
    """dq and dk: how fast the loss rises with each number; more keys than queries, or fewer"""
    for Tq, Tk in [(3, 5), (4, 2)]:
        dweights, q, k, weights = _weights_case(rng, Tq, Tk)
        want = _sent_back(numpy_ops.attention_weights, dweights, q, k)
        yield from zip(attention_weights_gradient(dweights, q, k, weights), want, strict=True)


@law("attention_weights_gradient")
def a_mask_is_in_the_weights(attention_weights_gradient, rng):
    """hidden keys have the weight 0, which is enough: the same formula is right with a causal mask"""
    dweights, q, k, weights = _weights_case(rng, 4, 4, causal=True)
    want = _sent_back(functools.partial(numpy_ops.attention_weights, causal=True), dweights, q, k)
    yield from zip(attention_weights_gradient(dweights, q, k, weights), want, strict=True)


@law("attention_weights_gradient")
def keys_move_together_without_effect(attention_weights_gradient, rng):
    """the same vector added to all keys changes no weight, so dk sums to zero over the keys"""
    _, dk = attention_weights_gradient(*_weights_case(rng))
    yield 1 + dk.sum(1), np.ones(dk[:, 0].shape)


@law("attention_weights_gradient")
def shuffled_keys_have_shuffled_gradients(attention_weights_gradient, rng):
    """the order of keys does not matter: shuffled keys have the same dk, shuffled, and queries the same dq"""
    dweights, q, k, weights = _weights_case(rng)
    order = rng.permutation(5)
    dq, dk = attention_weights_gradient(dweights, q, k, weights)
    again = attention_weights_gradient(dweights[..., order], q, k[:, order], weights[..., order])
    yield from zip(again, (dq, dk[:, order]), strict=True)


@law("attention_weights_gradient")
def the_weights_gradient_leaves_its_inputs(attention_weights_gradient, rng):
    """the inputs are not changed"""
    arguments = _weights_case(rng)
    given = [x.copy() for x in arguments]
    attention_weights_gradient(*given)
    yield from zip(given, arguments)


@law("attention_gradient")
def attentions_gradient_is_that_of_finite_differences(attention_gradient, rng):
    """dq, dk and dv: how fast the loss rises with each number; more keys than queries, or fewer"""
    for Tq, Tk in [(3, 4), (3, 2)]:
        dy, *inputs = _heads(rng, Tq, Tk)
        yield from zip(attention_gradient(dy, *inputs), _sent_back(numpy_ops.attention, dy, *inputs), strict=True)


@law("attention_gradient")
def values_hand_every_slope_out(attention_gradient, rng):
    """each query's weights sum to one, so the dv of all keys sum to the dy of all queries"""
    dy, *inputs = _heads(rng, 3, 5)
    yield attention_gradient(dy, *inputs)[2].sum(1), dy.sum(1)


@law("attention_gradient")
def a_key_gets_nothing_from_queries_before_it(attention_gradient, rng):
    """causal: query i does not see the keys after i, so that it sends them exactly nothing"""
    dy, *inputs = _heads(rng, 4)
    at = int(rng.integers(1, 4))
    dy[:, at:] = 0
    dq, dk, dv = attention_gradient(dy, *inputs, causal=True)
    for late in (dk[:, at:], dv[:, at:]):
        yield late, np.zeros(late.shape)
    want = _sent_back(functools.partial(numpy_ops.attention, causal=True), dy, *inputs)
    yield from zip((dq, dk, dv), want)


@law("attention_gradient")
def padding_gets_nothing(attention_gradient, rng):
    """lengths, with and without causal: keys and values from lengths[b] on get exactly nothing"""
    for causal in (False, True):
        dy, *inputs = _heads(rng, 4)
        masks = {"causal": causal, "lengths": rng.integers(1, 4, 2)}
        found = attention_gradient(dy, *inputs, **masks)
        for x in found[1:]:
            yield x[:, 3], np.zeros(x[:, 3].shape)  # the last key is padding in every sequence
        want = _sent_back(functools.partial(numpy_ops.attention, **masks), dy, *inputs)
        yield from zip(found, want, strict=True)


@law("attention_gradient")
def weights_that_were_kept_are_used(attention_gradient, rng):
    """weights: if they were kept, they have the mask, and nobody has to name it again"""
    dy, *inputs = _heads(rng, 4)
    weights = numpy_ops.attention_weights(*inputs[:2], causal=True)
    want = _sent_back(functools.partial(numpy_ops.attention, causal=True), dy, *inputs)
    yield from zip(attention_gradient(dy, *inputs, weights=weights), want, strict=True)


@law("attention_gradient")
def attentions_gradient_is_permutation_equivariant(attention_gradient, rng):
    """without a mask, shuffled tokens have the same gradients, shuffled"""
    dy, *inputs = _heads(rng, 5)
    order = rng.permutation(5)
    again = attention_gradient(dy[:, order], *(x[:, order] for x in inputs))
    yield from zip(again, (x[:, order] for x in attention_gradient(dy, *inputs)), strict=True)


@law("attention_gradient")
def attentions_gradient_leaves_its_inputs(attention_gradient, rng):
    """the inputs are not changed"""
    arguments = _heads(rng)
    given = [x.copy() for x in arguments]
    attention_gradient(*given)
    yield from zip(given, arguments)
