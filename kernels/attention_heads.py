"""Attention's version 6: one program computes many heads of a short sequence, one after the other, up to 128 tokens.

(`attention.py` has the ladder.) A head of 77 tokens moves 39 KB and multiplies for 0.3 µs. What version 4 does beside
that is most of its work: finding out where numbers are, masks for loads, moving tiles through registers into shared
memory, and waiting, since a program's loads begin when it begins. Here

- the copy engine (TMA) brings q, k and v. It takes a tile by its coordinates, (batch, token, column), knows where the
  tensor ends and fills up with zeros: no addresses and no masks. Programs stay, so that it brings the next head
  meanwhile.
- all keys are in shared memory at once. So the softmax is in one pass, and nothing has to be corrected.
- a sequence is one tile of BLOCK tokens, and a TAIL of at least 16 if it is longer. Queries of the tail find keys and
  values there; causal, the others do not compute with the tail's.

On an H100, 1,832 instructions are issued for a head of 50 tokens instead of 2,652, and 3,665 for 77 causal ones instead
of 5,968 (counted).
"""

import math

import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

from miniclip.kernels import device

BLOCK = 64
# (least capability, up to T tokens): launched so, PROGRAMS at once on a multiprocessor; None: version 5 is. The
# copy engine came with capability 9.0. Chosen by compiled resources and counted cycles, not measured yet.
CONFIGS = {
    (80, math.inf): None,
    (90, 16): {"num_warps": 1, "num_stages": 2, "PROGRAMS": 12},
    (90, 32): {"num_warps": 2, "num_stages": 2, "PROGRAMS": 8},
    (90, 96): {"num_warps": 4, "num_stages": 2, "PROGRAMS": 3},
    (90, 128): {"num_warps": 4, "num_stages": 2, "PROGRAMS": 2},
    # Blackwell: its tiles spill a few bytes there, and nothing has been counted.
    **dict.fromkeys(((100, 16), (100, 32), (100, 96), (100, 128))),
}


@triton.jit
def _heads_kernel(
    q_desc, k_desc, v_desc, out_desc, q_tail_desc, k_tail_desc, v_tail_desc, out_tail_desc,
    T, H, num_heads, num_programs, qk_scale,
    HEAD_DIM: tl.constexpr, IS_CAUSAL: tl.constexpr, BLOCK: tl.constexpr, TAIL: tl.constexpr,
):  # fmt: skip
    for head in tl.range(tl.program_id(0), num_heads, num_programs):
        off_b, off_d = head // H, head % H * HEAD_DIM
        # the head's first BLOCK tokens, (BLOCK, K) each, zeros beyond the last
        q = q_desc.load([off_b, 0, off_d]).reshape(BLOCK, HEAD_DIM)
        k = k_desc.load([off_b, 0, off_d]).reshape(BLOCK, HEAD_DIM)
        v = v_desc.load([off_b, 0, off_d]).reshape(BLOCK, HEAD_DIM)
        if TAIL == 0:
            out = _attend_at_once(q, None, None, k, v, T, qk_scale, IS_CAUSAL)
        else:
            # the others, (TAIL, K) each
            q_tail = q_tail_desc.load([off_b, BLOCK, off_d]).reshape(TAIL, HEAD_DIM)
            k_tail = k_tail_desc.load([off_b, BLOCK, off_d]).reshape(TAIL, HEAD_DIM)
            v_tail = v_tail_desc.load([off_b, BLOCK, off_d]).reshape(TAIL, HEAD_DIM)
            out = _attend_at_once(q_tail, k, v, k_tail, v_tail, T - BLOCK, qk_scale, IS_CAUSAL)
            out_tail_desc.store([off_b, BLOCK, off_d], out.to(q.dtype).reshape(1, TAIL, HEAD_DIM))
            if IS_CAUSAL:
                out = _attend_at_once(q, None, None, k, v, T, qk_scale, IS_CAUSAL)
            else:
                out = _attend_at_once(q, k, v, k_tail, v_tail, T - BLOCK, qk_scale, IS_CAUSAL)
        out_desc.store([off_b, 0, off_d], out.to(q.dtype).reshape(1, BLOCK, HEAD_DIM))


@triton.jit
def _attend_at_once(q, k, v, k_last, v_last, left, qk_scale, IS_CAUSAL: tl.constexpr):
    """The output (M, K) of queries that see all of k, unless it is None, and a part of k_last.

    That part is the first `left` keys. Causal, q and k_last are the same tokens, and each sees those up to itself.
    """
    # scores, (M, N) each
    offs_m, offs_n = tl.arange(0, q.shape[0])[:, None], tl.arange(0, k_last.shape[0])[None, :]
    mask = (offs_n <= offs_m) if IS_CAUSAL else (offs_n < left)
    qk_last = tl.where(mask, tl.dot(q, k_last.T), -float("inf"))
    m_i = tl.max(qk_last, axis=1)  # (M,)
    if k is not None:
        qk = tl.dot(q, k.T)
        m_i = tl.maximum(m_i, tl.max(qk, axis=1))
    m_i *= qk_scale
    # weights, (M, N) each, and values: (M, N) x (N, K) -> (M, K)
    p = tl.exp2(qk_last * qk_scale - m_i[:, None])
    l_i = tl.sum(p, axis=1)
    acc = tl.dot(p.to(v_last.dtype), v_last)
    if k is not None:
        p = tl.exp2(qk * qk_scale - m_i[:, None])
        l_i += tl.sum(p, axis=1)
        acc = tl.dot(p.to(v.dtype), v, acc)
    return acc * (1 / l_i)[:, None]


def candidates():
    """The configurations that autotuning measures."""
    return [
        {"version": 6, "num_warps": warps, "num_stages": stages, "PROGRAMS": programs}
        for warps in (1, 2, 4)
        for stages in (1, 2, 3)
        for programs in (2, 3, 4, 8, 16)
        if programs * warps in (8, 12, 16)
    ]


def find_config(q, k, v, causal, lengths):
    """How version 6 is launched for tensors (B, T, H, K), or None if it does not take them: then version 5 may."""
    T, K = q.shape[1], q.shape[3]
    fits = (
        lengths is None
        and q.shape == k.shape
        and q.element_size() == 2  # float32 would need three times the registers
        and K in (16, 32, 64, 128)  # a tile of another width would have columns of the next head
        and T * K <= 2 * BLOCK * 64  # more does not fit into shared memory twice
        and all(_copied_by_tiles(x) for x in (q, k, v))
    )
    return device.choose(CONFIGS, T) if fits else None


def _copied_by_tiles(x):
    """Whether the copy engine takes x (B, T, H, K): heads side by side, and all else at multiples of 16 bytes."""
    return (
        x.stride(3) == 1
        and x.stride(2) == x.shape[3]
        and all(step > 0 and step * x.element_size() % 16 == 0 for step in x.stride()[:2])
        and x.data_ptr() % 16 == 0
    )


def launch(q, k, v, out, lse, causal, qk_scale, config):
    """Compute attention of q, k, v (B, T, H, K) into out, contiguous. It has no lse, which is None."""
    B, T, H, K = q.shape
    block, tail = min(BLOCK, _power_of_two(T)), _power_of_two(T - BLOCK) if T > BLOCK else 0
    views = [x.flatten(2) for x in (q, k, v, out)]  # (B, T, H·K)
    descriptors = [
        TensorDescriptor.from_tensor(x, [1, rows, K]) if rows else None for rows in (block, tail) for x in views
    ]
    options = {name: value for name, value in config.items() if name not in ("version", "PROGRAMS")}
    programs = min(B * H, device.processors(q) * config["PROGRAMS"])
    _heads_kernel[(programs,)](*descriptors, T, H, B * H, programs, qk_scale, K, causal, block, tail, **options)


def _power_of_two(n):
    return max(16, triton.next_power_of_2(n))  # 16: the least that the matrix units take
