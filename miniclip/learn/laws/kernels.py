"""The laws of the small Triton kernels (kernels/first_steps.py), run by Triton's interpreter.

All tensors are parts of larger ones whose other numbers are NaN or marks: what is read or written beyond the data
shows.
"""

import math

import numpy as np
import torch

from miniclip.learn.laws import law, normal
from miniclip.learn.laws.operations import exact_attention, exact_layer_norm

MARK = 7.0


def island(x, around=float("nan")):
    """An array as a tensor in the midst of memory that is not its own."""
    sea = torch.full((x.size + 512,), around)
    part = sea[256 : 256 + x.size]
    part[:] = torch.from_numpy(x.ravel())
    return part.view(x.shape)


def beach(n):
    """A tensor of n numbers to write to, and the memory in which it lies, all marks."""
    sea = torch.full((n + 512,), MARK)
    return sea[256 : 256 + n], sea


def outside(sea, n):
    """How many marks around the n numbers have gone."""
    return int((sea != MARK).sum() - (sea[256 : 256 + n] != MARK).sum())


def array(tensor):
    """A tensor's numbers."""
    return tensor.numpy()


def lengths(rng):
    """Lengths that are a multiple of a block, one more, one less, and any."""
    return [64, 65, 63, int(rng.integers(1, 200))]


# ------------------------------------------------------------------------------------- number by number


@law("vector_add")
def a_sum_of_any_length(module, rng):
    """x + y, for lengths that are a multiple of a block and for others"""
    for n in lengths(rng):
        x, y = normal(rng, n), normal(rng, n)
        yield array(module.add(island(x), island(y), out=beach(n)[0])), x + y


@law("vector_add")
def the_sum_keeps_to_its_memory(module, rng):
    """nothing is written behind the last number"""
    n = int(rng.integers(1, 60))
    out, sea = beach(n)
    module.add(island(normal(rng, n)), island(normal(rng, n)), out=out)
    yield outside(sea, n), 0


@law("vector_add")
def blocks_of_any_size(module, rng):
    """the size of a block changes nothing"""
    x, y = normal(rng, 100), normal(rng, 100)
    for BLOCK in (16, 32, 128):
        yield array(module.add(island(x), island(y), out=beach(100)[0], BLOCK=BLOCK)), x + y


@law("triton_quick_gelu")
def quick_gelu_of_any_length(module, rng):
    """x · σ(1.702 x), for any length and block"""
    for n in lengths(rng):
        x = normal(rng, n, scale=3)
        wide = x.astype(np.float64)
        for BLOCK in (32, 64):
            got = module.quick_gelu(island(x), out=beach(n)[0], BLOCK=BLOCK)
            yield array(got), wide / (1 + np.exp(-1.702 * wide))


@law("triton_quick_gelu")
def quick_gelu_keeps_to_its_memory(module, rng):
    """nothing is written behind the last number"""
    n = int(rng.integers(1, 60))
    out, sea = beach(n)
    module.quick_gelu(island(normal(rng, n)), out=out)
    yield outside(sea, n), 0


@law("triton_quick_gelu")
def quick_gelu_at_both_ends(module, rng):
    """x itself far above zero, and 0 far below"""
    x = np.array([-1000, -300, 300, 1000], np.float32)
    yield array(module.quick_gelu(island(x), out=beach(4)[0])), np.maximum(x, 0)


# ----------------------------------------------------------------------------------------- row by row


def rows(rng, n, N, scale=1.0, shift=0.0):
    """(n, N) numbers and the same as a tensor whose rows lie apart, NaN between them."""
    x = normal(rng, n, N, scale=scale) + np.float32(shift)
    wide = np.full((n, N + 19), np.nan, np.float32)
    wide[:, :N] = x
    return x, island(wide)[:, :N]


@law("triton_softmax")
def softmax_of_rows(module, rng):
    """each row's weights are exp(x) / Σ exp(x), whatever its length"""
    for N in lengths(rng):
        x, tensor = rows(rng, 3, N, scale=2)
        e = np.exp(x.astype(np.float64))
        yield array(module.softmax(tensor)), e / e.sum(-1, keepdims=True)


@law("triton_softmax")
def softmax_of_negative_rows(module, rng):
    """lanes behind the end of a row count for nothing, though all of the row is far below zero"""
    x, tensor = rows(rng, 2, int(rng.integers(33, 60)), shift=-50)
    e = np.exp(x.astype(np.float64))
    yield array(module.softmax(tensor)), e / e.sum(-1, keepdims=True)


@law("triton_softmax")
def softmax_of_large_rows(module, rng):
    """large numbers overflow nothing"""
    x = rng.permuted(np.tile(np.arange(20, dtype=np.float32), (2, 1)), axis=1) * 1000
    yield array(module.softmax(island(x))), (x == x.max(-1, keepdims=True)).astype(np.float64)


@law("triton_layer_norm")
def layer_norm_of_rows(module, rng):
    """(x - mean) / √(variance + eps) · weight + bias, whatever the width"""
    for D in lengths(rng):
        x, tensor = rows(rng, 3, D, shift=3)
        weight, bias = normal(rng, D), normal(rng, D)
        got = module.layer_norm(tensor, island(weight), island(bias), eps=1e-5)
        yield array(got), exact_layer_norm(x, weight, bias, 1e-5)


@law("triton_layer_norm")
def eps_counts_where_rows_are_small(module, rng):
    """eps is added to the variance, not to its root"""
    x, tensor = rows(rng, 2, 40, scale=1e-2)
    weight, bias = normal(rng, 40), normal(rng, 40)
    got = module.layer_norm(tensor, island(weight), island(bias), eps=1e-2)
    yield array(got), exact_layer_norm(x, weight, bias, 1e-2)


@law("triton_layer_norm")
def wide_blocks_change_nothing(module, rng):
    """more lanes than a row needs change nothing"""
    x, tensor = rows(rng, 2, 50, shift=1)
    weight, bias = normal(rng, 50), normal(rng, 50)
    for BLOCK in (64, 256):
        got = module.layer_norm(tensor, island(weight), island(bias), eps=1e-5, BLOCK=BLOCK)
        yield array(got), exact_layer_norm(x, weight, bias, 1e-5)


# ------------------------------------------------------------------------------------- flash attention


def one_head(rng, T, K=16, scale=1.0):
    """q, k, v (T, K), and what attention makes of them."""
    q, k, v = (normal(rng, T, K, scale=scale) for _ in range(3))
    return q, k, v, exact_attention(*(x[None, :, None] for x in (q, k, v)))[0, :, 0]


@law("flash_attention")
def flash_attention_is_attention(module, rng):
    """softmax(q kᵀ / √K) v, for lengths that are multiples of a tile and for others"""
    for T in (16, 17, 31, 50):
        *qkv, want = one_head(rng, T)
        yield array(module.flash_attention(*map(island, qkv))), want


@law("flash_attention")
def tiles_of_any_size(module, rng):
    """the sizes of the tiles change nothing"""
    *qkv, want = one_head(rng, 37)
    for M, N in [(16, 32), (32, 16), (64, 64)]:
        yield array(module.flash_attention(*map(island, qkv), BLOCK_M=M, BLOCK_N=N)), want


@law("flash_attention")
def large_scores_that_come_late(module, rng):
    """where the largest score comes with the last tile, what came before is shrunk accordingly"""
    q, k, v, _ = one_head(rng, 40)
    k[32:] += 12 * np.sign(q.sum(0)) / math.sqrt(16)
    want = exact_attention(*(x[None, :, None] for x in (q, k, v)))[0, :, 0]
    yield array(module.flash_attention(*map(island, (q, k, v)))), want
