"""Attention's version 5: the program of the last full tile of queries carries those after it, 16 at most.

(`attention.py` has the ladder.) 257 tokens are 4 x 64 + 1. In version 4 the one query has a program of its own, which
reads all keys and values again, takes as much room as the others and is all latency: by the cycle model a third of the
whole time. Here it is a second, small product on the keys that the last full tile has in shared memory anyway, and on
its values, which come from the cache once more. With 64 queries and 32 keys at a time, 4 programs of 128 registers a
thread run at once on a multiprocessor.
"""

import math

import triton
import triton.language as tl

from miniclip.kernels import device
from miniclip.kernels.attention_simple import online_softmax

BLOCK_M = 64
TAIL_M = 16  # the least that the matrix units take
# (least capability, up to Tk keys): tiles; None: version 4 is taken. From 577 keys on one program in ten is the tail's,
# and larger tiles win. Chosen by counted cycles, not measured yet.
TILES = {
    (80, math.inf): None,
    (90, 320): {"BLOCK_N": 32, "num_warps": 4, "num_stages": 4, "maxnreg": 128},
    (100, 320): None,  # nothing has been counted there
}


@triton.jit
def _carry_kernel(
    q_ptr, k_ptr, v_ptr, out_ptr, lse_ptr,
    stride_qb, stride_qt, stride_qh, stride_kb, stride_kt, stride_kh,
    stride_vb, stride_vt, stride_vh, stride_ob, stride_ot, stride_oh,
    Tq, Tk, H, qk_scale,
    HEAD_DIM: tl.constexpr, BLOCK_M: tl.constexpr, TAIL_M: tl.constexpr, BLOCK_N: tl.constexpr, TAIL_N: tl.constexpr,
):  # fmt: skip
    num_pid_m = Tq // BLOCK_M  # full tiles
    pid_m, pid_bh = tl.program_id(0) % num_pid_m, tl.program_id(0) // num_pid_m
    off_h, off_b = pid_bh % H, (pid_bh // H).to(tl.int64)
    q_ptr += off_b * stride_qb + off_h * stride_qh
    k_ptr += off_b * stride_kb + off_h * stride_kh
    v_ptr += off_b * stride_vb + off_h * stride_vh
    out_ptr += off_b * stride_ob + off_h * stride_oh
    if lse_ptr is not None:
        lse_ptr += (off_b * H + off_h) * Tq
    if pid_m < num_pid_m - 1:
        _attend_full(q_ptr, k_ptr, v_ptr, out_ptr, lse_ptr, stride_qt, stride_kt, stride_vt, stride_ot, pid_m * BLOCK_M,
                     Tq, Tk, qk_scale, HEAD_DIM, BLOCK_M, 0, BLOCK_N, TAIL_N)  # fmt: skip
    else:
        _attend_full(q_ptr, k_ptr, v_ptr, out_ptr, lse_ptr, stride_qt, stride_kt, stride_vt, stride_ot, pid_m * BLOCK_M,
                     Tq, Tk, qk_scale, HEAD_DIM, BLOCK_M, TAIL_M, BLOCK_N, TAIL_N)  # fmt: skip


@triton.jit
def _attend_full(
    q_ptr, k_ptr, v_ptr, out_ptr, lse_ptr, stride_qt, stride_kt, stride_vt, stride_ot, start_m, Tq, Tk, qk_scale,
    HEAD_DIM: tl.constexpr, BLOCK_M: tl.constexpr, TAIL_M: tl.constexpr, BLOCK_N: tl.constexpr, TAIL_N: tl.constexpr,
):  # fmt: skip
    """Queries start_m .. start_m + BLOCK_M of a head, and with TAIL_M > 0 those after them, with all keys."""
    M: tl.constexpr = TAIL_M if TAIL_M > 0 else 16
    q = _rows(q_ptr, stride_qt, start_m, Tq, HEAD_DIM, BLOCK_M, False)
    acc, m_i, l_i = _nothing_yet(BLOCK_M, HEAD_DIM)
    if TAIL_M > 0:
        q_tail = _rows(q_ptr, stride_qt, start_m + BLOCK_M, Tq, HEAD_DIM, M, True)
        acc_tail, m_tail, l_tail = _nothing_yet(M, HEAD_DIM)
    # the tail of keys first, as in version 4
    end_n = Tk // BLOCK_N * BLOCK_N
    if TAIL_N > 0:
        k_last = _rows(k_ptr, stride_kt, end_n, Tk, HEAD_DIM, TAIL_N, True)
        v_last = _rows(v_ptr, stride_vt, end_n, Tk, HEAD_DIM, TAIL_N, True)
        left = Tk - end_n
        if TAIL_M > 0:
            acc_tail, m_tail, l_tail = _update(acc_tail, m_tail, l_tail, q_tail, k_last, v_last, left, qk_scale, TAIL_N)
        acc, m_i, l_i = _update(acc, m_i, l_i, q, k_last, v_last, left, qk_scale, TAIL_N)
    # The carried queries come first in a step: theirs are small products, which are waited for at once.
    for start_n in range(0, end_n, BLOCK_N):
        k = _rows(k_ptr, stride_kt, start_n, Tk, HEAD_DIM, BLOCK_N, False)
        v = _rows(v_ptr, stride_vt, start_n, Tk, HEAD_DIM, BLOCK_N, False)
        if TAIL_M > 0:
            # Loaded once more: a tile that anything except one wgmma reads has a buffer too few in Triton 3.6 and 3.7,
            # and would be overwritten while it is multiplied (its issue 6691). ".cg" keeps the two loads apart.
            v_again = tl.load(_pointers(v_ptr, stride_vt, start_n, HEAD_DIM, BLOCK_N), cache_modifier=".cg")
            acc_tail, m_tail, l_tail = _update(acc_tail, m_tail, l_tail, q_tail, k, v_again, None, qk_scale, BLOCK_N)
        acc, m_i, l_i = _update(acc, m_i, l_i, q, k, v, None, qk_scale, BLOCK_N)
    _write(out_ptr, stride_ot, acc * (1 / l_i)[:, None], start_m, Tq, HEAD_DIM, BLOCK_M, False)
    if TAIL_M > 0:
        _write(out_ptr, stride_ot, acc_tail * (1 / l_tail)[:, None], start_m + BLOCK_M, Tq, HEAD_DIM, M, True)
    if lse_ptr is not None:
        tl.store(lse_ptr + start_m + tl.arange(0, BLOCK_M), m_i + tl.log2(l_i))
        if TAIL_M > 0:
            offs_m = start_m + BLOCK_M + tl.arange(0, M)  # (M,)
            tl.store(lse_ptr + offs_m, m_tail + tl.log2(l_tail), mask=offs_m < Tq)


@triton.jit
def _nothing_yet(M: tl.constexpr, HEAD_DIM: tl.constexpr):
    """acc, m_i and l_i of M queries that have seen no key."""
    return tl.zeros([M, HEAD_DIM], tl.float32), tl.full([M], -1e30, tl.float32), tl.zeros([M], tl.float32)


@triton.jit
def _pointers(ptr, stride, start, HEAD_DIM: tl.constexpr, ROWS: tl.constexpr):
    """Tokens start .. start + ROWS of a head: (ROWS, K)."""
    return ptr + (start + tl.arange(0, ROWS)[:, None]) * stride + tl.arange(0, HEAD_DIM)[None, :]


@triton.jit
def _rows(ptr, stride, start, T, HEAD_DIM: tl.constexpr, ROWS: tl.constexpr, MASKED: tl.constexpr):
    """Tokens start .. start + ROWS of a head, (ROWS, K), with zeros from T on if MASKED."""
    ptrs = _pointers(ptr, stride, start, HEAD_DIM, ROWS)
    return tl.load(ptrs, mask=start + tl.arange(0, ROWS)[:, None] < T, other=0) if MASKED else tl.load(ptrs)


@triton.jit
def _write(ptr, stride, x, start, T, HEAD_DIM: tl.constexpr, ROWS: tl.constexpr, MASKED: tl.constexpr):
    ptrs = _pointers(ptr, stride, start, HEAD_DIM, ROWS)
    if MASKED:
        tl.store(ptrs, x.to(ptr.dtype.element_ty), mask=start + tl.arange(0, ROWS)[:, None] < T)
    else:
        tl.store(ptrs, x.to(ptr.dtype.element_ty))


@triton.jit
def _update(acc, m_i, l_i, q, k, v, left, qk_scale, N: tl.constexpr):
    """The online softmax with keys and values (N, K), or the first `left` of them: -> acc, m_i, l_i."""
    qk = tl.dot(q, k.T)
    if left is not None:
        qk = tl.where(tl.arange(0, N)[None, :] < left, qk, -float("inf"))
    p, alpha, m_i = online_softmax(m_i, qk, qk_scale)
    acc = tl.dot(p.to(v.dtype), v, acc * alpha[:, None])
    return acc, m_i, l_i * alpha + tl.sum(p, axis=1)


def candidates():
    """The configurations that autotuning measures."""
    return [
        {"version": 5, "BLOCK_N": N, "num_warps": 4, "num_stages": stages, "maxnreg": 128}
        for N in (32, 64)
        for stages in (2, 3, 4)
    ]


def find_config(q, k, v, causal, lengths):
    """The tiles of version 5 for tensors (B, T, H, K), or None if it does not take them: then version 4 does."""
    Tq, K = q.shape[1], q.shape[3]
    fits = (
        not causal
        and lengths is None
        and q.element_size() == 2
        and K in (16, 32, 64)
        and Tq > BLOCK_M
        and 1 <= Tq % BLOCK_M <= TAIL_M
    )
    return device.choose(TILES, k.shape[1]) if fits else None


def launch(q, k, v, out, lse, causal, qk_scale, config):
    """Compute attention of q (B, Tq, H, K), k and v (B, Tk, H, K) into out, not causal; and lse, if given."""
    B, Tq, H, K = q.shape
    Tk = k.shape[1]
    options = {name: value for name, value in config.items() if name != "version"}
    last = Tk % config["BLOCK_N"]
    _carry_kernel[(Tq // BLOCK_M * H * B,)](
        q, k, v, out, lse, *(step for x in (q, k, v, out) for step in x.stride()[:3]), Tq, Tk, H, qk_scale, K,
        BLOCK_M, TAIL_M, TAIL_N=max(16, triton.next_power_of_2(last)) if last else 0, **options,
    )  # fmt: skip
