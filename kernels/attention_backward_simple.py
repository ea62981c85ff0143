"""Attention's gradients, version 1: each program computes the weights. (`attention_backward.py` has the ladder.)"""

import triton
import triton.language as tl

from miniclip.kernels.attention_simple import _locate


@triton.jit
def _rows(ptr, stride, offs, T, HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr):
    """Tokens offs (N,) of a head, (N, K): zeros from T on. Padding adds nothing to any product, and 0 · NaN is NaN."""
    offs_d = tl.arange(0, BLOCK_D)[None, :]  # (1, K)
    return tl.load(ptr + offs[:, None] * stride + offs_d, mask=(offs[:, None] < T) & (offs_d < HEAD_DIM), other=0)


@triton.jit
def _put(ptr, stride, x, offs, T, HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr):
    """Write x (N, K) as the tokens offs (N,) of a head that are before T."""
    offs_d = tl.arange(0, BLOCK_D)[None, :]  # (1, K)
    mask = (offs[:, None] < T) & (offs_d < HEAD_DIM)
    tl.store(ptr + offs[:, None] * stride + offs_d, x.to(ptr.dtype.element_ty), mask=mask)


@triton.jit
def _seen(offs_m, offs_n, seqlen_k, IS_CAUSAL: tl.constexpr):
    """Which keys each query sees; one of offs_m and offs_n is a column, the other a row."""
    mask = offs_n < seqlen_k
    return mask & (offs_n <= offs_m) if IS_CAUSAL else mask


# ------------------------------------------------------------------------------- a tile of queries: dq


@triton.jit
def _queries_kernel(
    q_ptr, k_ptr, v_ptr, dout_ptr, dq_ptr, lse_ptr, delta_ptr, lengths_ptr,
    stride_qb, stride_qt, stride_qh, stride_kb, stride_kt, stride_kh, stride_vb, stride_vt, stride_vh,
    stride_ob, stride_ot, stride_oh, stride_db, stride_dt, stride_dh,
    Tq, Tk, H, scale, qk_scale,
    HEAD_DIM: tl.constexpr, IS_CAUSAL: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    pid_m, off_h, off_b, seqlen_k = _locate(lengths_ptr, Tq, Tk, H, BLOCK_M)
    offs_m = pid_m * BLOCK_M + tl.arange(0, BLOCK_M)  # (M,)
    q = _rows(q_ptr + off_b * stride_qb + off_h * stride_qh, stride_qt, offs_m, Tq, HEAD_DIM, BLOCK_D)  # (M, K)
    dout = _rows(dout_ptr + off_b * stride_ob + off_h * stride_oh, stride_ot, offs_m, Tq, HEAD_DIM, BLOCK_D)
    k_ptr += off_b * stride_kb + off_h * stride_kh
    v_ptr += off_b * stride_vb + off_h * stride_vh
    end_n = tl.minimum(seqlen_k, (pid_m + 1) * BLOCK_M) if IS_CAUSAL else seqlen_k

    # The softmax of each query, and the mean of dp by its weights, as keys come: (M,). Compare `online_softmax`.
    m_i = tl.full([BLOCK_M], -float("inf"), tl.float32)
    l_i = tl.zeros([BLOCK_M], tl.float32)
    delta = tl.zeros([BLOCK_M], tl.float32)
    for start_n in range(0, end_n, BLOCK_N):
        offs_n = start_n + tl.arange(0, BLOCK_N)  # (N,)
        k = _rows(k_ptr, stride_kt, offs_n, seqlen_k, HEAD_DIM, BLOCK_D)  # (N, K)
        v = _rows(v_ptr, stride_vt, offs_n, seqlen_k, HEAD_DIM, BLOCK_D)
        qk = tl.dot(q, k.T, input_precision=PRECISION) * qk_scale  # (M, N)
        qk = tl.where(_seen(offs_m[:, None], offs_n[None, :], seqlen_k, IS_CAUSAL), qk, -float("inf"))
        m_ij = tl.maximum(m_i, tl.max(qk, axis=1))
        p, alpha = tl.exp2(qk - m_ij[:, None]), tl.exp2(m_i - m_ij)
        dp = tl.dot(dout, v.T, input_precision=PRECISION)
        l_i, delta, m_i = l_i * alpha + tl.sum(p, axis=1), delta * alpha + tl.sum(p * dp, axis=1), m_ij
    lse, delta = m_i + tl.log2(l_i), delta / l_i

    # dq = Σ ds · k: (M, N) x (N, K) -> (M, K)
    dq = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    for start_n in range(0, end_n, BLOCK_N):
        offs_n = start_n + tl.arange(0, BLOCK_N)
        k = _rows(k_ptr, stride_kt, offs_n, seqlen_k, HEAD_DIM, BLOCK_D)
        v = _rows(v_ptr, stride_vt, offs_n, seqlen_k, HEAD_DIM, BLOCK_D)
        p = tl.exp2(tl.dot(q, k.T, input_precision=PRECISION) * qk_scale - lse[:, None])
        p = tl.where(_seen(offs_m[:, None], offs_n[None, :], seqlen_k, IS_CAUSAL), p, 0)
        ds = p * (tl.dot(dout, v.T, input_precision=PRECISION) - delta[:, None])
        dq += tl.dot(ds.to(k.dtype), k, input_precision=PRECISION)
    _put(dq_ptr + off_b * stride_db + off_h * stride_dh, stride_dt, dq * scale, offs_m, Tq, HEAD_DIM, BLOCK_D)
    row = (off_b * H + off_h) * Tq
    tl.store(lse_ptr + row + offs_m, lse, mask=offs_m < Tq)
    tl.store(delta_ptr + row + offs_m, delta, mask=offs_m < Tq)


# --------------------------------------------------------------------------- a tile of keys: dk and dv


@triton.jit
def _keys_kernel(
    q_ptr, k_ptr, v_ptr, dout_ptr, dk_ptr, dv_ptr, lse_ptr, delta_ptr, lengths_ptr,
    stride_qb, stride_qt, stride_qh, stride_kb, stride_kt, stride_kh, stride_vb, stride_vt, stride_vh,
    stride_ob, stride_ot, stride_oh, stride_db, stride_dt, stride_dh,
    Tq, Tk, H, scale, qk_scale,
    HEAD_DIM: tl.constexpr, IS_CAUSAL: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    num_pid_n = tl.cdiv(Tk, BLOCK_N)
    pid_n, pid_bh = tl.program_id(0) % num_pid_n, tl.program_id(0) // num_pid_n
    off_h, off_b = pid_bh % H, (pid_bh // H).to(tl.int64)
    seqlen_k = Tk if lengths_ptr is None else tl.minimum(Tk, tl.load(lengths_ptr + off_b).to(tl.int32))
    offs_n = pid_n * BLOCK_N + tl.arange(0, BLOCK_N)  # (N,)
    k = _rows(k_ptr + off_b * stride_kb + off_h * stride_kh, stride_kt, offs_n, seqlen_k, HEAD_DIM, BLOCK_D)  # (N, K)
    v = _rows(v_ptr + off_b * stride_vb + off_h * stride_vh, stride_vt, offs_n, seqlen_k, HEAD_DIM, BLOCK_D)
    q_ptr += off_b * stride_qb + off_h * stride_qh
    dout_ptr += off_b * stride_ob + off_h * stride_oh
    row = (off_b * H + off_h) * Tq

    # dv = Σ pᵀ · dout, dk = Σ dsᵀ · q: (N, M) x (M, K) -> (N, K)
    dk = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    dv = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    for start_m in range(pid_n * BLOCK_N if IS_CAUSAL else 0, Tq, BLOCK_M):
        offs_m = start_m + tl.arange(0, BLOCK_M)  # (M,)
        q = _rows(q_ptr, stride_qt, offs_m, Tq, HEAD_DIM, BLOCK_D)  # (M, K)
        dout = _rows(dout_ptr, stride_ot, offs_m, Tq, HEAD_DIM, BLOCK_D)
        lse = tl.load(lse_ptr + row + offs_m, mask=offs_m < Tq, other=0)
        delta = tl.load(delta_ptr + row + offs_m, mask=offs_m < Tq, other=0)
        p = tl.exp2(tl.dot(k, q.T, input_precision=PRECISION) * qk_scale - lse[None, :])  # (N, M)
        p = tl.where(_seen(offs_m[None, :], offs_n[:, None], seqlen_k, IS_CAUSAL), p, 0)
        ds = p * (tl.dot(v, dout.T, input_precision=PRECISION) - delta[None, :])
        dv += tl.dot(p.to(q.dtype), dout, input_precision=PRECISION)
        dk += tl.dot(ds.to(q.dtype), q, input_precision=PRECISION)
    _put(dk_ptr + off_b * stride_db + off_h * stride_dh, stride_dt, dk * scale, offs_n, Tk, HEAD_DIM, BLOCK_D)
    _put(dv_ptr + off_b * stride_db + off_h * stride_dh, stride_dt, dv, offs_n, Tk, HEAD_DIM, BLOCK_D)
