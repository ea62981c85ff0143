"""The laws of attention in `numpy_ops`, its weights and its masks, for any backend."""

import math

import numpy as np

from miniclip.learn.laws import law, normal


def exact_weights(q, k, causal=False, lengths=None):
    """One query of one head at a time, in float64: (B, Tq, H, K), (B, Tk, H, K) -> (B, H, Tq, Tk)."""
    B, Tq, H, K = q.shape
    out = np.zeros((B, H, Tq, k.shape[1]))
    for b, h, i in np.ndindex(B, H, Tq):
        seen = k.shape[1] if lengths is None else lengths[b]
        seen = min(seen, i + 1) if causal else seen
        scores = [sum(q[b, i, h].astype(np.float64) * k[b, j, h]) / math.sqrt(K) for j in range(seen)]
        e = np.exp(np.array(scores) - max(scores))
        out[b, h, i, :seen] = e / e.sum()
    return out


def exact_attention(q, k, v, causal=False, lengths=None):
    """(B, Tq, H, K), twice (B, Tk, H, K) -> (B, Tq, H, K), in float64."""
    return np.einsum("bhqt,bthk->bqhk", exact_weights(q, k, causal, lengths), v.astype(np.float64))


def heads(rng, Tq=5, Tk=None, scale=1.0):
    """q (2, Tq, H, K) and k, v (2, Tk, H, K), H and K at random."""
    H, K = int(rng.integers(2, 4)), int(rng.choice([2, 4, 8]))
    return [normal(rng, 2, T, H, K, scale=scale) for T in (Tq, Tk or Tq, Tk or Tq)]


@law("attention_weights")
def weights_are_softmax_of_scaled_scores(attention_weights, rng):
    """softmax(q kᵀ / √K), each head by itself: (B, H, Tq, Tk)"""
    q, k, _ = heads(rng, scale=1.5)
    yield attention_weights(q, k), exact_weights(q, k)


@law("attention_weights")
def every_query_gives_away_one(attention_weights, rng):
    """each query's weights are right and sum to one, also with more keys than queries, or fewer"""
    for Tq, Tk in [(3, 6), (6, 3), (1, 4)]:
        q, k, _ = heads(rng, Tq, Tk)
        weights = attention_weights(q, k)
        yield weights.sum(-1), np.ones(weights.shape[:-1])
        yield weights, exact_weights(q, k)


@law("attention_weights")
def scores_may_be_large(attention_weights, rng):
    """scores of several thousand do not overflow"""
    q, k = (40 * rng.integers(-3, 4, x.shape).astype(np.float32) for x in heads(rng)[:2])  # exact in float32
    yield attention_weights(q, k), exact_weights(q, k)


@law("attention_weights")
def shuffled_keys_have_shuffled_weights(attention_weights, rng):
    """without a mask the order of the keys does not matter: shuffled keys have the same weights, shuffled"""
    q, k, _ = heads(rng, 4, 6)
    order = rng.permutation(6)
    yield attention_weights(q, k[:, order]), attention_weights(q, k)[..., order]


@law("attention_weights")
def heads_are_apart(attention_weights, rng):
    """what happens in one head changes nothing in another"""
    q, k, _ = heads(rng)
    before = attention_weights(q, k)
    q[:, :, 0] += 3
    yield attention_weights(q, k)[:, 1:] - before[:, 1:], np.zeros(before[:, 1:].shape)


@law("causal_mask")
def no_query_looks_ahead(attention_weights, rng):
    """causal: query i gives the keys after i a weight of exactly 0"""
    q, k, _ = heads(rng, 6)
    ahead = np.triu(attention_weights(q, k, causal=True), k=1)
    yield ahead, np.zeros(ahead.shape)


@law("causal_mask")
def masked_weights_still_sum_to_one(attention_weights, rng):
    """causal: query i sees keys 0..i as if there were no others, also with more keys than queries, or fewer"""
    for Tq, Tk in [(6, 6), (3, 6), (6, 3)]:
        q, k, _ = heads(rng, Tq, Tk)
        weights = attention_weights(q, k, causal=True)
        yield weights.sum(-1), np.ones(weights.shape[:-1])
        yield weights, exact_weights(q, k, causal=True)


@law("causal_mask")
def the_future_changes_nothing(attention_weights, rng):
    """causal: change a key, and the weights of earlier queries stay the same, bit for bit"""
    q, k, _ = heads(rng, 6)
    at = int(rng.integers(1, 6))
    before = attention_weights(q, k, causal=True)
    k[:, at:] += 10
    change = (attention_weights(q, k, causal=True) - before)[:, :, :at]
    yield change, np.zeros(change.shape)


@law("causal_mask")
def padding_takes_nothing(attention_weights, rng):
    """lengths: keys from lengths[b] on have a weight of exactly 0 in sequence b, all others sum to one"""
    q, k, _ = heads(rng, 4, 6)
    lengths = rng.permutation(np.arange(1, 7))[:2]
    k[np.arange(6) >= lengths[:, None]] = 1e6
    weights = attention_weights(q, k, lengths=lengths)
    yield weights, exact_weights(q, k, lengths=lengths)


@law("causal_mask")
def both_masks_at_once(attention_weights, rng):
    """causal and lengths together: a key must pass both"""
    q, k, _ = heads(rng, 6)
    lengths = rng.integers(1, 7, 2)
    yield attention_weights(q, k, causal=True, lengths=lengths), exact_weights(q, k, True, lengths)


@law("attention")
def attention_is_a_weighted_mean_of_values(attention, rng):
    """each head's weights times its values: (B, Tq, H, K)"""
    for Tq, Tk in [(5, 5), (3, 6), (1, 4)]:
        q, k, v = heads(rng, Tq, Tk)
        yield attention(q, k, v), exact_attention(q, k, v)


@law("attention")
def attention_is_permutation_equivariant(attention, rng):
    """without a mask, shuffled tokens have the same outputs, shuffled"""
    q, k, v = heads(rng, 6)
    order = rng.permutation(6)
    yield attention(q[:, order], k[:, order], v[:, order]), attention(q, k, v)[:, order]


@law("attention")
def equal_values_stay_what_they_are(attention, rng):
    """if all values are the same, the result is that value, for any weights"""
    q, k, v = heads(rng)
    v[:] = v[:, :1]
    yield attention(q, k, v), v


@law("attention")
def causal_outputs_do_not_see_the_future(attention, rng):
    """causal: change token i, and the outputs before i stay the same, bit for bit"""
    q, k, v = heads(rng, 6)
    at = int(rng.integers(1, 6))
    before = attention(q, k, v, causal=True)
    yield before, exact_attention(q, k, v, causal=True)
    for x in (q, k, v):
        x[:, at] += 100
    after = attention(q, k, v, causal=True)
    yield after[:, :at] - before[:, :at], np.zeros(before[:, :at].shape)
    yield bool(np.abs(after[:, at:] - before[:, at:]).max() > 1), True


@law("attention")
def padding_behind_lengths_changes_nothing(attention, rng):
    """lengths: keys and values after them change nothing"""
    q, k, v = heads(rng, 6)
    length = int(rng.integers(1, 6))
    short = attention(q, k[:, :length], v[:, :length])
    k[:, length:], v[:, length:] = 1e4, 1e4
    yield attention(q, k, v, lengths=np.array([length] * 2)), short


@law("attention")
def attention_passes_both_masks_on(attention, rng):
    """causal and lengths together: a key must pass both"""
    q, k, v = heads(rng, 6)
    lengths = rng.integers(1, 4, 2)
    yield attention(q, k, v, causal=True, lengths=lengths), exact_attention(q, k, v, True, lengths)
