"""The first steps, kernels that only students read: as close as torch's own."""

import functools

import torch
from budget import LENGTHS, check, few, normal, seeds
from hypothesis import given
from hypothesis import strategies as st

from miniclip.kernels import first_steps
from miniclip.ops import torch_ops


@few
@given(seed=seeds, rows=st.integers(1, 3), N=st.sampled_from(LENGTHS), scale=st.sampled_from([0.1, 1, 30]))
def test_first_steps(seed, rows, N, scale):
    x, y = normal(seed, rows, N + 5, scale=scale), normal(seed + 1, N)
    lone, apart = x[0], x[:, :N]
    check(first_steps.add, torch.add, [lone, lone.flip(0)])
    check(first_steps.quick_gelu, torch_ops.quick_gelu, [lone])
    check(first_steps.softmax, torch_ops.softmax, [apart], apart.abs().max().item())
    check(functools.partial(first_steps.layer_norm, eps=1e-5), torch_ops.layer_norm, [apart, y, y.flip(0)], eps=1e-5)


@few
@given(
    seed=seeds,
    T=st.sampled_from(LENGTHS),
    K=st.sampled_from([16, 32, 64]),
    scale=st.sampled_from([0.1, 1, 30]),
    blocks=st.tuples(*[st.sampled_from([16, 32, 64])] * 2),
)
def test_first_steps_to_flash_attention(seed, T, K, scale, blocks):
    q, k, v = normal(seed, T, K, scale=scale), normal(seed + 1, T, K, scale=scale), normal(seed + 2, T, K)
    ours = functools.partial(first_steps.flash_attention, BLOCK_M=blocks[0], BLOCK_N=blocks[1])
    largest_score = ((q.double() @ k.double().T).abs().max() / K**0.5).item()
    check(ours, one_head, [q, k, v], largest_score)


def one_head(q, k, v):
    return torch_ops.attention(*(x[None, :, None] for x in (q, k, v)))[0, :, 0]
