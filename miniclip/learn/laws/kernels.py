"""The laws of the small Triton kernels (kernels/first_steps.py), run by Triton's interpreter.

Each law takes the function that launches a kernel. All tensors, outputs too, have NaN around them in memory: a result
that uses numbers beyond the data is NaN, and a write beyond the data does no harm. One law for each kernel watches
every address that it reads and writes: the launch gives that instead of its result if it is called with `watch`.
"""

import contextlib
import functools
import inspect
import math
from unittest import mock

import numpy as np
import torch
from triton.runtime.interpreter import InterpreterBuilder

from miniclip.learn.laws import law, normal
from miniclip.learn.laws.attention import exact_attention
from miniclip.learn.laws.operations import exact_layer_norm, far_from_zero

AROUND = 1024  # numbers on either side, more than any block here reaches beyond the data
KEPT = "touches no number beyond the data"


def island(x):
    """An array as a tensor with NaN around it in memory."""
    sea = torch.full((x.size + 2 * AROUND,), math.nan)
    part = sea[AROUND:-AROUND]
    part[:] = torch.from_numpy(x.ravel())
    return part.view(x.shape)


def beach(*shape):
    """A tensor to write to, filled with NaN."""
    return island(np.full(shape, np.nan, np.float32))


@contextlib.contextmanager
def watched(**tensors):
    """Yields a function that says what kernels have touched beyond the numbers of these tensors, KEPT if nothing.

    The interpreter passes every load and store to its builder as an array of addresses and a mask.
    """
    own = {}  # the address of every number of each
    for name, x in tensors.items():
        every = torch.arange(x.untyped_storage().nbytes() // x.itemsize).as_strided(x.shape, x.stride())
        own[name] = x.data_ptr() + x.itemsize * every.numpy().ravel()
    beyond = {"reads": set(), "writes": set()}

    def watching(verb, touch):
        def touched(builder, pointers, *arguments, **options):
            mask = arguments[verb == "writes"]  # (pointers, mask, ...) or (pointers, values, mask, ...)
            addresses = pointers.data[mask.data].astype(np.int64)
            beyond[verb].update(addresses[~np.isin(addresses, np.concatenate([*own.values()]))].tolist())
            return touch(builder, pointers, *arguments, **options)

        return touched

    def report():
        nearest = [
            (v, min(own, key=lambda name: abs(own[name] - at).min())) for v, seen in beyond.items() for at in seen
        ]
        return ", ".join(f"{v} {nearest.count((v, x))} numbers beyond {x}" for v, x in sorted({*nearest})) or KEPT

    load, store = InterpreterBuilder.create_masked_load, InterpreterBuilder.create_masked_store
    with (
        mock.patch.object(InterpreterBuilder, "create_masked_load", watching("reads", load)),
        mock.patch.object(InterpreterBuilder, "create_masked_store", watching("writes", store)),
    ):
        yield report


def watching(launch):
    """The same launch with an option: with `watch` it gives what its kernel touches beyond its tensors, in words."""

    @functools.wraps(launch)
    def launched(*tensors, watch=False, **options):
        if not watch:
            return launch(*tensors, **options)
        given = inspect.signature(launch).bind(*tensors, **options).arguments
        with watched(**{name: x for name, x in given.items() if isinstance(x, torch.Tensor)}) as report:
            launch(*tensors, **options)
        return report()

    return launched


def array(tensor):
    """A tensor's numbers."""
    return tensor.numpy()


def lengths(rng):
    """Lengths: a multiple of the block, one more, one less, and a random one."""
    return [64, 65, 63, int(rng.integers(1, 200))]


# ------------------------------------------------------------------------------------- number by number


@law("vector_add")
def a_sum_of_any_length(add, rng):
    """x + y, for lengths that are a multiple of a block and for others"""
    for n in lengths(rng):
        x, y = normal(rng, n), normal(rng, n)
        yield array(add(island(x), island(y), out=beach(n))), x + y


@law("vector_add")
def the_sum_keeps_to_its_memory(add, rng):
    """nothing is read or written after the last number"""
    n = int(rng.integers(65, 120))
    x, y, out = island(normal(rng, n)), island(normal(rng, n)), beach(n)
    yield add(x, y, out=out, watch=True), KEPT


@law("vector_add")
def blocks_of_any_size(add, rng):
    """the size of a block changes nothing"""
    x, y = normal(rng, 100), normal(rng, 100)
    for BLOCK in (16, 32, 128):
        yield array(add(island(x), island(y), out=beach(100), BLOCK=BLOCK)), x + y


@law("triton_quick_gelu")
def quick_gelu_of_any_length(quick_gelu, rng):
    """x · σ(1.702 x), for any length and block"""
    for n in lengths(rng):
        x = normal(rng, n, scale=3)
        wide = x.astype(np.float64)
        for BLOCK in (32, 64):
            got = quick_gelu(island(x), out=beach(n), BLOCK=BLOCK)
            yield array(got), wide / (1 + np.exp(-1.702 * wide))


@law("triton_quick_gelu")
def quick_gelu_keeps_to_its_memory(quick_gelu, rng):
    """nothing is read or written after the last number"""
    n = int(rng.integers(65, 120))
    x, out = island(normal(rng, n)), beach(n)
    yield quick_gelu(x, out=out, watch=True), KEPT


@law("triton_quick_gelu")
def quick_gelu_at_both_ends(quick_gelu, rng):
    """x itself far above zero, and 0 far below"""
    x = np.array([-1000, -300, 300, 1000], np.float32)
    yield array(quick_gelu(island(x), out=beach(4))), np.maximum(x, 0)


# ----------------------------------------------------------------------------------------- row by row


def rows(rng, n, N, scale=1.0, shift=0.0):
    """(n, N) numbers, and the same as a tensor with NaN between its rows."""
    x = normal(rng, n, N, scale=scale) + np.float32(shift)
    wide = np.full((n, N + 19), np.nan, np.float32)
    wide[:, :N] = x
    return x, island(wide)[:, :N]


@law("triton_softmax")
def softmax_of_rows(softmax, rng):
    """each row's weights are exp(x) / Σ exp(x), whatever its length"""
    for N in lengths(rng):
        x, tensor = rows(rng, 3, N, scale=2)
        e = np.exp(x.astype(np.float64))
        yield array(softmax(tensor, out=beach(3, N))), e / e.sum(-1, keepdims=True)


@law("triton_softmax")
def softmax_of_negative_rows(softmax, rng):
    """lanes after the end of a row count for nothing, even if the whole row is far below zero"""
    x, tensor = rows(rng, 2, int(rng.integers(33, 60)), shift=-500)
    e = np.exp(x.astype(np.float64))
    yield array(softmax(tensor, out=beach(*x.shape))), e / e.sum(-1, keepdims=True)


@law("triton_softmax")
def softmax_of_large_rows(softmax, rng):
    """large numbers do not overflow"""
    x = rng.permuted(np.tile(np.arange(20, dtype=np.float32), (2, 1)), axis=1) * 1000
    got = softmax(island(x), out=beach(2, 20))
    yield array(got), (x == x.max(-1, keepdims=True)).astype(np.float64)


@law("triton_softmax")
def softmax_keeps_to_its_memory(softmax, rng):
    """nothing is read or written beyond the rows"""
    N = int(rng.integers(33, 60))
    x, out = rows(rng, 2, N)[1], beach(2, N)
    yield softmax(x, out=out, watch=True), KEPT


@law("triton_layer_norm")
def layer_norm_of_rows(layer_norm, rng):
    """(x - mean) / √(variance + eps) · weight + bias, whatever the width"""
    for D in lengths(rng):
        x, tensor = rows(rng, 3, D, shift=3)
        weight, bias = normal(rng, D), normal(rng, D)
        got = layer_norm(tensor, island(weight), island(bias), eps=1e-5, out=beach(3, D))
        yield array(got), exact_layer_norm(x, weight, bias, 1e-5)


@law("triton_layer_norm")
def layer_norm_of_rows_far_from_zero(layer_norm, rng):
    """rows far from zero: the mean is subtracted first and squared after that, or their variance is lost"""
    x, weight, bias = far_from_zero(rng, 40), normal(rng, 40), normal(rng, 40)
    got = layer_norm(island(x), island(weight), island(bias), eps=1e-5, out=beach(3, 40))
    yield array(got), exact_layer_norm(x, weight, bias, 1e-5)


@law("triton_layer_norm")
def eps_counts_where_rows_are_small(layer_norm, rng):
    """eps is added to the variance, not to its square root"""
    x, tensor = rows(rng, 2, 40, scale=1e-2)
    weight, bias = normal(rng, 40), normal(rng, 40)
    got = layer_norm(tensor, island(weight), island(bias), eps=1e-2, out=beach(2, 40))
    yield array(got), exact_layer_norm(x, weight, bias, 1e-2)


@law("triton_layer_norm")
def wide_blocks_change_nothing(layer_norm, rng):
    """more lanes than a row needs change nothing"""
    x, tensor = rows(rng, 2, 50, shift=1)
    weight, bias = normal(rng, 50), normal(rng, 50)
    for BLOCK in (64, 256):
        got = layer_norm(tensor, island(weight), island(bias), eps=1e-5, out=beach(2, 50), BLOCK=BLOCK)
        yield array(got), exact_layer_norm(x, weight, bias, 1e-5)


@law("triton_layer_norm")
def layer_norm_keeps_to_its_memory(layer_norm, rng):
    """nothing is read or written beyond the rows, the weight and the bias"""
    D = int(rng.integers(33, 60))
    x, weight, bias, out = rows(rng, 2, D)[1], island(normal(rng, D)), island(normal(rng, D)), beach(2, D)
    yield layer_norm(x, weight, bias, eps=1e-5, out=out, watch=True), KEPT


# ------------------------------------------------------------------------------------- flash attention


def one_head(rng, T, K=16, scale=1.0):
    """q, k, v (T, K), and their attention (T, K)."""
    q, k, v = (normal(rng, T, K, scale=scale) for _ in range(3))
    return q, k, v, exact_attention(*(x[None, :, None] for x in (q, k, v)))[0, :, 0]


@law("flash_attention")
def flash_attention_is_attention(flash_attention, rng):
    """softmax(q kᵀ / √K) v, for lengths that are multiples of a tile and for others, and heads of any width"""
    for T, K in [(16, 16), (17, 16), (31, 32), (50, 16)]:
        *qkv, want = one_head(rng, T, K)
        yield array(flash_attention(*map(island, qkv), out=beach(T, K))), want


@law("flash_attention")
def tiles_of_any_size(flash_attention, rng):
    """the sizes of the tiles change nothing"""
    *qkv, want = one_head(rng, 37)
    for M, N in [(16, 32), (32, 16), (64, 64)]:
        yield array(flash_attention(*map(island, qkv), out=beach(37, 16), BLOCK_M=M, BLOCK_N=N)), want


@law("flash_attention")
def large_scores_that_come_late(flash_attention, rng):
    """if the largest score comes with the last tile, what was summed before is scaled down"""
    q, k, v, _ = one_head(rng, 40)
    k[32:] += 12 * np.sign(q.sum(0)) / math.sqrt(16)
    want = exact_attention(*(x[None, :, None] for x in (q, k, v)))[0, :, 0]
    yield array(flash_attention(*map(island, (q, k, v)), out=beach(40, 16))), want


@law("flash_attention")
def scores_far_below_zero(flash_attention, rng):
    """scores that are all far below zero have weights like any others: the largest so far begins at -inf"""
    q, k = (rng.integers(-1, 2, (20, 16)).astype(np.float32) for _ in "qk")  # exact in float32
    q[:, 0], k[:, 0], v = 32, -32, normal(rng, 20, 16)
    want = exact_attention(*(x[None, :, None] for x in (q, k, v)))[0, :, 0]
    yield array(flash_attention(*map(island, (q, k, v)), out=beach(20, 16))), want


@law("flash_attention")
def flash_attention_keeps_to_its_memory(flash_attention, rng):
    """nothing is read or written after the last row"""
    T = int(rng.integers(17, 31))
    q, k, v, out = *map(island, one_head(rng, T)[:3]), beach(T, 16)
    yield flash_attention(q, k, v, out=out, watch=True), KEPT
