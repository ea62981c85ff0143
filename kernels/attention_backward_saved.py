"""Attention's gradients, version 2: with the softmax's sums, which the forward pass saved.

(`attention_backward.py` has the ladder.) A kernel for dq, a program a tile of queries, which goes through the keys
once; and one for dk and dv, a program a tile of keys, which goes through the queries. As in version 4 of the forward
pass only tails are masked, and come first.
"""

import triton
import triton.language as tl

from miniclip.kernels.attention_backward_simple import _put, _rows, _seen
from miniclip.kernels.attention_simple import _locate

# --------------------------------------------------------------------------------- version 2: dq, of queries


@triton.jit
def _dq_kernel(
    q_ptr, k_ptr, v_ptr, dout_ptr, out_ptr, dq_ptr, lse_ptr, delta_ptr, lengths_ptr,
    stride_qb, stride_qt, stride_qh, stride_kb, stride_kt, stride_kh, stride_vb, stride_vt, stride_vh,
    stride_ob, stride_ot, stride_oh, stride_yb, stride_yt, stride_yh, stride_db, stride_dt, stride_dh,
    Tq, Tk, H, scale, qk_scale,
    HEAD_DIM: tl.constexpr, IS_CAUSAL: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr,
    TAIL_M: tl.constexpr, BLOCK_N: tl.constexpr, TAIL_N: tl.constexpr, NUM_TAILS: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    pid_m, off_h, off_b, seqlen_k = _locate(lengths_ptr, Tq, Tk, H, BLOCK_M)
    q_ptr += off_b * stride_qb + off_h * stride_qh
    k_ptr += off_b * stride_kb + off_h * stride_kh
    v_ptr += off_b * stride_vb + off_h * stride_vh
    dout_ptr += off_b * stride_ob + off_h * stride_oh
    out_ptr += off_b * stride_yb + off_h * stride_yh
    dq_ptr += off_b * stride_db + off_h * stride_dh
    lse_ptr += (off_b * H + off_h) * Tq
    delta_ptr += (off_b * H + off_h) * Tq
    # the last tile of queries may be a tail, of TAIL_M; all others have BLOCK_M
    if TAIL_M == BLOCK_M or pid_m < tl.cdiv(Tq, BLOCK_M) - 1:
        _dq_of_queries(q_ptr, k_ptr, v_ptr, dout_ptr, out_ptr, dq_ptr, lse_ptr, delta_ptr, stride_qt, stride_kt,
                       stride_vt, stride_ot, stride_yt, stride_dt, pid_m * BLOCK_M, Tq, seqlen_k, scale, qk_scale,
                       HEAD_DIM, IS_CAUSAL, BLOCK_D, BLOCK_M, BLOCK_N, TAIL_N, NUM_TAILS, PRECISION)  # fmt: skip
    else:
        _dq_of_queries(q_ptr, k_ptr, v_ptr, dout_ptr, out_ptr, dq_ptr, lse_ptr, delta_ptr, stride_qt, stride_kt,
                       stride_vt, stride_ot, stride_yt, stride_dt, pid_m * BLOCK_M, Tq, seqlen_k, scale, qk_scale,
                       HEAD_DIM, IS_CAUSAL, BLOCK_D, TAIL_M, BLOCK_N, TAIL_N, NUM_TAILS, PRECISION)  # fmt: skip


@triton.jit
def _dq_of_queries(
    q_ptr, k_ptr, v_ptr, dout_ptr, out_ptr, dq_ptr, lse_ptr, delta_ptr, stride_qt, stride_kt, stride_vt, stride_ot,
    stride_yt, stride_dt, start_m, Tq, seqlen_k, scale, qk_scale,
    HEAD_DIM: tl.constexpr, IS_CAUSAL: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr, TAIL_N: tl.constexpr, NUM_TAILS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    offs_m = start_m + tl.arange(0, BLOCK_M)  # (M,)
    q = _rows(q_ptr, stride_qt, offs_m, Tq, HEAD_DIM, BLOCK_D)  # (M, K)
    dout = _rows(dout_ptr, stride_ot, offs_m, Tq, HEAD_DIM, BLOCK_D)
    out = _rows(out_ptr, stride_yt, offs_m, Tq, HEAD_DIM, BLOCK_D)
    lse = tl.load(lse_ptr + offs_m, mask=offs_m < Tq, other=0)  # (M,)
    delta = tl.sum(dout.to(tl.float32) * out.to(tl.float32), axis=1)
    tl.store(delta_ptr + offs_m, delta, mask=offs_m < Tq)  # for the keys' kernel, which comes next
    dq = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    # full tiles of keys are those that all queries here see: 0 .. end_n. The tails come first, see `attention.py`
    end_n = (tl.minimum(seqlen_k, start_m + 1) if IS_CAUSAL else seqlen_k) // BLOCK_N * BLOCK_N
    for tail in tl.static_range(NUM_TAILS):
        dq = _dq_step(dq, q, dout, lse, delta, offs_m, k_ptr, v_ptr, stride_kt, stride_vt, end_n + tail * TAIL_N,
                      seqlen_k, qk_scale, HEAD_DIM, IS_CAUSAL, True, BLOCK_D, TAIL_N, PRECISION)  # fmt: skip
    for start_n in range(0, end_n, BLOCK_N):
        dq = _dq_step(dq, q, dout, lse, delta, offs_m, k_ptr, v_ptr, stride_kt, stride_vt, start_n,
                      seqlen_k, qk_scale, HEAD_DIM, IS_CAUSAL, False, BLOCK_D, BLOCK_N, PRECISION)  # fmt: skip
    _put(dq_ptr, stride_dt, dq * scale, offs_m, Tq, HEAD_DIM, BLOCK_D)


@triton.jit
def _dq_step(
    dq, q, dout, lse, delta, offs_m, k_ptr, v_ptr, stride_kt, stride_vt, start_n, seqlen_k, qk_scale,
    HEAD_DIM: tl.constexpr, IS_CAUSAL: tl.constexpr, MASKED: tl.constexpr, BLOCK_D: tl.constexpr,
    BLOCK_N: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """dq + ds · k for keys start_n .. start_n + BLOCK_N: (M, K)."""
    offs_n = start_n + tl.arange(0, BLOCK_N)  # (N,)
    k = _tokens(k_ptr, stride_kt, offs_n, seqlen_k, MASKED, HEAD_DIM, BLOCK_D)  # (N, K)
    v = _tokens(v_ptr, stride_vt, offs_n, seqlen_k, MASKED, HEAD_DIM, BLOCK_D)
    p = tl.exp2(tl.dot(q, k.T, input_precision=PRECISION) * qk_scale - lse[:, None])  # (M, N)
    if MASKED:
        p = tl.where(_seen(offs_m[:, None], offs_n[None, :], seqlen_k, IS_CAUSAL), p, 0)
    ds = p * (tl.dot(dout, v.T, input_precision=PRECISION) - delta[:, None])
    return tl.dot(ds.to(k.dtype), k, dq, input_precision=PRECISION)


@triton.jit
def _tokens(ptr, stride, offs, T, MASKED: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr):
    """Tokens offs (N,) of a head, (N, K): if MASKED with zeros from T on, else all exist."""
    if MASKED:
        return _rows(ptr, stride, offs, T, HEAD_DIM, BLOCK_D)
    offs_d = tl.arange(0, BLOCK_D)[None, :]
    return tl.load(ptr + offs[:, None] * stride + offs_d, mask=offs_d < HEAD_DIM, other=0)


# -------------------------------------------------------------------------------- version 2: dk and dv, of keys


@triton.jit
def _dkv_kernel(
    q_ptr, k_ptr, v_ptr, dout_ptr, dk_ptr, dv_ptr, lse_ptr, delta_ptr, lengths_ptr,
    stride_qb, stride_qt, stride_qh, stride_kb, stride_kt, stride_kh, stride_vb, stride_vt, stride_vh,
    stride_ob, stride_ot, stride_oh, stride_db, stride_dt, stride_dh,
    Tq, Tk, H, scale, qk_scale,
    HEAD_DIM: tl.constexpr, IS_CAUSAL: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr,
    TAIL_N: tl.constexpr, BLOCK_M: tl.constexpr, TAIL_M: tl.constexpr, NUM_TAILS: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    num_pid_n = tl.cdiv(Tk, BLOCK_N)
    pid_n, pid_bh = tl.program_id(0) % num_pid_n, tl.program_id(0) // num_pid_n
    off_h, off_b = pid_bh % H, (pid_bh // H).to(tl.int64)
    seqlen_k = Tk if lengths_ptr is None else tl.minimum(Tk, tl.load(lengths_ptr + off_b).to(tl.int32))
    q_ptr += off_b * stride_qb + off_h * stride_qh
    k_ptr += off_b * stride_kb + off_h * stride_kh
    v_ptr += off_b * stride_vb + off_h * stride_vh
    dout_ptr += off_b * stride_ob + off_h * stride_oh
    dk_ptr += off_b * stride_db + off_h * stride_dh
    dv_ptr += off_b * stride_db + off_h * stride_dh
    lse_ptr += (off_b * H + off_h) * Tq
    delta_ptr += (off_b * H + off_h) * Tq
    # the last tile of keys may be a tail, of TAIL_N
    if TAIL_N == BLOCK_N or pid_n < num_pid_n - 1:
        _dkv_of_keys(q_ptr, k_ptr, v_ptr, dout_ptr, dk_ptr, dv_ptr, lse_ptr, delta_ptr, stride_qt, stride_kt,
                     stride_vt, stride_ot, stride_dt, pid_n * BLOCK_N, Tq, Tk, seqlen_k, scale, qk_scale,
                     HEAD_DIM, IS_CAUSAL, BLOCK_D, BLOCK_N, BLOCK_M, TAIL_M, NUM_TAILS, PRECISION)  # fmt: skip
    else:
        _dkv_of_keys(q_ptr, k_ptr, v_ptr, dout_ptr, dk_ptr, dv_ptr, lse_ptr, delta_ptr, stride_qt, stride_kt,
                     stride_vt, stride_ot, stride_dt, pid_n * BLOCK_N, Tq, Tk, seqlen_k, scale, qk_scale,
                     HEAD_DIM, IS_CAUSAL, BLOCK_D, TAIL_N, BLOCK_M, TAIL_M, NUM_TAILS, PRECISION)  # fmt: skip


@triton.jit
def _dkv_of_keys(
    q_ptr, k_ptr, v_ptr, dout_ptr, dk_ptr, dv_ptr, lse_ptr, delta_ptr, stride_qt, stride_kt, stride_vt, stride_ot,
    stride_dt, start_n, Tq, Tk, seqlen_k, scale, qk_scale,
    HEAD_DIM: tl.constexpr, IS_CAUSAL: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr,
    BLOCK_M: tl.constexpr, TAIL_M: tl.constexpr, NUM_TAILS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    offs_n = start_n + tl.arange(0, BLOCK_N)  # (N,)
    k = _rows(k_ptr, stride_kt, offs_n, seqlen_k, HEAD_DIM, BLOCK_D)  # (N, K)
    v = _rows(v_ptr, stride_vt, offs_n, seqlen_k, HEAD_DIM, BLOCK_D)
    dk = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    dv = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    # Full tiles of queries are those that see all keys here: start_m .. end_m. Causal, the queries that see some of
    # them are NUM_TAILS tiles before these; not causal, the tail is after them. All masked tiles come first.
    start_m = start_n + NUM_TAILS * TAIL_M if IS_CAUSAL else 0
    end_m = start_m + tl.maximum(Tq - start_m, 0) // BLOCK_M * BLOCK_M
    for tail in tl.static_range(NUM_TAILS):
        first = start_n + tail * TAIL_M if IS_CAUSAL else end_m
        dk, dv = _dkv_step(dk, dv, k, v, offs_n, q_ptr, dout_ptr, lse_ptr, delta_ptr, stride_qt, stride_ot, first,
                           Tq, seqlen_k, qk_scale, HEAD_DIM, IS_CAUSAL, True, BLOCK_D, TAIL_M, PRECISION)  # fmt: skip
    if IS_CAUSAL and end_m < Tq:  # causal, there is a tail, too
        dk, dv = _dkv_step(dk, dv, k, v, offs_n, q_ptr, dout_ptr, lse_ptr, delta_ptr, stride_qt, stride_ot, end_m,
                           Tq, seqlen_k, qk_scale, HEAD_DIM, False, True, BLOCK_D, BLOCK_M, PRECISION)  # fmt: skip
    for first in range(start_m, end_m, BLOCK_M):
        dk, dv = _dkv_step(dk, dv, k, v, offs_n, q_ptr, dout_ptr, lse_ptr, delta_ptr, stride_qt, stride_ot, first,
                           Tq, seqlen_k, qk_scale, HEAD_DIM, False, False, BLOCK_D, BLOCK_M, PRECISION)  # fmt: skip
    # keys that nobody sees have no gradient; what was computed for them is of zeros instead of keys
    there = offs_n[:, None] < seqlen_k
    _put(dk_ptr, stride_dt, tl.where(there, dk * scale, 0), offs_n, Tk, HEAD_DIM, BLOCK_D)
    _put(dv_ptr, stride_dt, tl.where(there, dv, 0), offs_n, Tk, HEAD_DIM, BLOCK_D)


@triton.jit
def _dkv_step(
    dk, dv, k, v, offs_n, q_ptr, dout_ptr, lse_ptr, delta_ptr, stride_qt, stride_ot, start_m, Tq, seqlen_k, qk_scale,
    HEAD_DIM: tl.constexpr, IS_CAUSAL: tl.constexpr, MASKED: tl.constexpr, BLOCK_D: tl.constexpr,
    BLOCK_M: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """dk + dsᵀ · q and dv + pᵀ · dout for queries start_m .. start_m + BLOCK_M: (N, K) each.

    Queries beyond the last are zeros, and so is all that they add. Keys beyond the last need no mask either: each row
    of dk and dv is of one key.
    """
    offs_m = start_m + tl.arange(0, BLOCK_M)  # (M,)
    q = _tokens(q_ptr, stride_qt, offs_m, Tq, MASKED, HEAD_DIM, BLOCK_D)  # (M, K)
    dout = _tokens(dout_ptr, stride_ot, offs_m, Tq, MASKED, HEAD_DIM, BLOCK_D)
    lse = tl.load(lse_ptr + offs_m, mask=offs_m < Tq if MASKED else None)
    delta = tl.load(delta_ptr + offs_m, mask=offs_m < Tq if MASKED else None)
    if MASKED:
        lse, delta = tl.where(offs_m < Tq, lse, 0), tl.where(offs_m < Tq, delta, 0)
    p = tl.exp2(tl.dot(k, q.T, input_precision=PRECISION) * qk_scale - lse[None, :])  # (N, M)
    if IS_CAUSAL:
        p = tl.where(_seen(offs_m[None, :], offs_n[:, None], seqlen_k, True), p, 0)
    dv = tl.dot(p.to(q.dtype), dout, dv, input_precision=PRECISION)
    ds = p * (tl.dot(v, dout.T, input_precision=PRECISION) - delta[None, :])
    return tl.dot(ds.to(q.dtype), q, dk, input_precision=PRECISION), dv
