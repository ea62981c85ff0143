"""Attention that reads its accumulators too early on Hopper: the tail of keys comes after the loop over full tiles.

Triton leaves the loop's last product under way, and copies its accumulators before it waits for it. The kernel is
right in Triton's interpreter, and by the PTX ISA it is not; ptxas notices, and repairs it by waiting after every
product (its warning C7515). Kept as the proof that the emulator sees such a fault.
"""

import math

import torch
import triton
import triton.language as tl


@triton.jit
def _step(acc, m_i, l_i, q, k_ptr, v_ptr, start_n, T, stride, scale, MASKED: tl.constexpr, N: tl.constexpr):
    offs_n, offs_d = start_n + tl.arange(0, N), tl.arange(0, 64)
    offs = offs_n[:, None] * stride + offs_d[None, :]
    mask = offs_n < T if MASKED else offs_n >= 0
    qk = tl.dot(q, tl.load(k_ptr + offs, mask=mask[:, None], other=0).T)
    if MASKED:
        qk = tl.where(mask[None, :], qk, -float("inf"))
    m_ij = tl.maximum(m_i, tl.max(qk, axis=1) * scale)
    p = tl.exp2(qk * scale - m_ij[:, None])
    alpha = tl.exp2(m_i - m_ij)
    v = tl.load(v_ptr + offs, mask=mask[:, None], other=0)
    acc = tl.dot(p.to(v.dtype), v, acc * alpha[:, None])
    return acc, m_ij, l_i * alpha + tl.sum(p, axis=1)


@triton.jit
def _kernel(q_ptr, k_ptr, v_ptr, out_ptr, T, stride, scale):
    offs_m, offs_d = tl.program_id(0) * 128 + tl.arange(0, 128), tl.arange(0, 64)
    mask = offs_m[:, None] < T
    q = tl.load(q_ptr + offs_m[:, None] * stride + offs_d[None, :], mask=mask, other=0)
    m_i, l_i = tl.full([128], -float("inf"), tl.float32), tl.zeros([128], tl.float32)
    acc = tl.zeros([128, 64], tl.float32)
    end_n = T // 64 * 64
    for start_n in range(0, end_n, 64):
        acc, m_i, l_i = _step(acc, m_i, l_i, q, k_ptr, v_ptr, start_n, T, stride, scale, False, 64)
    acc, m_i, l_i = _step(acc, m_i, l_i, q, k_ptr, v_ptr, end_n, T, stride, scale, True, 16)
    acc = acc / l_i[:, None]
    tl.store(out_ptr + offs_m[:, None] * 64 + offs_d[None, :], acc.to(out_ptr.dtype.element_ty), mask=mask)


def attention(q, k, v):
    """q, k, v (1, T, 1, 64), of which T is no multiple of 64 -> (1, T, 1, 64)."""
    T, out = q.shape[1], torch.empty(1, q.shape[1], 1, 64, dtype=q.dtype)
    scale = math.log2(math.e) / math.sqrt(64)
    _kernel[(triton.cdiv(T, 128),)](q, k, v, out, T, q.stride(1), scale, num_warps=8, num_stages=3)
    return out
