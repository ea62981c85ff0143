"""Attention's versions 1 to 3: from one query a program to the online softmax. (`attention.py` has the ladder.)"""

import triton
import triton.language as tl

# ------------------------------------------------------------------------------ version 1: one query a program


@triton.jit
def _one_query_kernel(
    q_ptr, k_ptr, v_ptr, out_ptr, lengths_ptr,
    stride_qb, stride_qt, stride_qh, stride_kb, stride_kt, stride_kh,
    stride_vb, stride_vt, stride_vh, stride_ob, stride_ot, stride_oh,
    Tq, Tk, H, qk_scale,
    HEAD_DIM: tl.constexpr, IS_CAUSAL: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    # which query, head and sequence this program computes, and how many keys its query sees
    pid = tl.program_id(0)
    off_m, off_h, off_b = pid % Tq, pid // Tq % H, (pid // Tq // H).to(tl.int64)
    seqlen_k = Tk if lengths_ptr is None else tl.minimum(Tk, tl.load(lengths_ptr + off_b).to(tl.int32))
    if IS_CAUSAL:
        seqlen_k = tl.minimum(seqlen_k, off_m + 1)
    offs_n, offs_d = tl.arange(0, BLOCK_N)[:, None], tl.arange(0, BLOCK_D)[None, :]  # (Tk, 1), (1, K)
    mask = (offs_n < seqlen_k) & (offs_d < HEAD_DIM)  # (Tk, K)

    # the query and all keys: (1, K), (Tk, K)
    q_ptrs = q_ptr + off_b * stride_qb + off_m * stride_qt + off_h * stride_qh + offs_d
    k_ptrs = k_ptr + off_b * stride_kb + offs_n * stride_kt + off_h * stride_kh + offs_d
    q = tl.load(q_ptrs, mask=offs_d < HEAD_DIM, other=0).to(tl.float32)
    k = tl.load(k_ptrs, mask=mask, other=0).to(tl.float32)
    # scores, and the weights before their division: (Tk, 1)
    qk = tl.where(offs_n < seqlen_k, tl.sum(q * k, axis=1, keep_dims=True) * qk_scale, -float("inf"))
    p = tl.exp2(qk - tl.max(qk, axis=0, keep_dims=True))
    # the mean of the values: (Tk, K) -> (1, K)
    v_ptrs = v_ptr + off_b * stride_vb + offs_n * stride_vt + off_h * stride_vh + offs_d
    v = tl.load(v_ptrs, mask=mask, other=0).to(tl.float32)
    acc = tl.sum(p * v, axis=0, keep_dims=True) / tl.sum(p, axis=0, keep_dims=True)
    out_ptrs = out_ptr + off_b * stride_ob + off_m * stride_ot + off_h * stride_oh + offs_d
    tl.store(out_ptrs, acc.to(out_ptr.dtype.element_ty), mask=offs_d < HEAD_DIM)


# --------------------------------------------------------------------------- version 2: a tile of queries


@triton.jit
def _locate(lengths_ptr, Tq, Tk, H, BLOCK_M: tl.constexpr):
    """The tile of queries, the head and the sequence that a program computes, and how many keys that sequence has.

    The tiles of one head run side by side, so that all except the first find its keys and values in the cache.
    """
    num_pid_m = tl.cdiv(Tq, BLOCK_M)
    pid_m, pid_bh = tl.program_id(0) % num_pid_m, tl.program_id(0) // num_pid_m
    off_h, off_b = pid_bh % H, (pid_bh // H).to(tl.int64)
    seqlen_k = Tk if lengths_ptr is None else tl.minimum(Tk, tl.load(lengths_ptr + off_b).to(tl.int32))
    return pid_m, off_h, off_b, seqlen_k


@triton.jit
def _one_pass_kernel(
    q_ptr, k_ptr, v_ptr, out_ptr, lengths_ptr,
    stride_qb, stride_qt, stride_qh, stride_kb, stride_kt, stride_kh,
    stride_vb, stride_vt, stride_vh, stride_ob, stride_ot, stride_oh,
    Tq, Tk, H, qk_scale,
    HEAD_DIM: tl.constexpr, IS_CAUSAL: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
    BLOCK_M: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    pid_m, off_h, off_b, seqlen_k = _locate(lengths_ptr, Tq, Tk, H, BLOCK_M)
    offs_m = (pid_m * BLOCK_M + tl.arange(0, BLOCK_M))[:, None]  # (M, 1)
    offs_n, offs_d = tl.arange(0, BLOCK_N), tl.arange(0, BLOCK_D)[None, :]  # (Tk,), (1, K)
    q_mask = (offs_m < Tq) & (offs_d < HEAD_DIM)  # (M, K)
    kv_mask = (offs_n[:, None] < seqlen_k) & (offs_d < HEAD_DIM)  # (Tk, K)

    # a tile of queries and all keys: (M, K), (Tk, K)
    q_ptrs = q_ptr + off_b * stride_qb + offs_m * stride_qt + off_h * stride_qh + offs_d
    k_ptrs = k_ptr + off_b * stride_kb + offs_n[:, None] * stride_kt + off_h * stride_kh + offs_d
    q = tl.load(q_ptrs, mask=q_mask, other=0)
    k = tl.load(k_ptrs, mask=kv_mask, other=0)
    # scores, and the weights before their division: (M, Tk)
    mask = offs_n[None, :] < seqlen_k
    if IS_CAUSAL:
        mask = mask & (offs_n[None, :] <= offs_m)
    qk = tl.where(mask, tl.dot(q, k.T, input_precision=PRECISION) * qk_scale, -float("inf"))
    p = tl.exp2(qk - tl.max(qk, axis=1, keep_dims=True))
    # the mean of the values: (Tk, K) -> (M, K). A weight of zero is no protection against a value that was never
    # written, 0 · NaN is NaN: padding is read as zeros.
    v_ptrs = v_ptr + off_b * stride_vb + offs_n[:, None] * stride_vt + off_h * stride_vh + offs_d
    v = tl.load(v_ptrs, mask=kv_mask, other=0)
    acc = tl.dot(p.to(v.dtype), v, input_precision=PRECISION) * (1 / tl.sum(p, axis=1, keep_dims=True))
    out_ptr += off_b * stride_ob + off_h * stride_oh
    tl.store(out_ptr + offs_m * stride_ot + offs_d, acc.to(out_ptr.dtype.element_ty), mask=q_mask)


# -------------------------------------------------------------------- version 3: a tile of keys at a time


@triton.jit
def online_softmax(m_i, qk, qk_scale):
    """A tile of new scores qk (M, N), -inf where masked: -> its weights p (M, N), and alpha and the new m_i (M,).

    With m the largest score so far, l = Σ exp(s - m) and o = Σ exp(s - m) v, new scores s' update them to

        m' = max(m, max s'),   l' = l · exp(m - m') + Σ exp(s' - m'),   o' = o · exp(m - m') + Σ exp(s' - m') v

    and in the end o / l is softmax(s) v. (FlashAttention, algorithm 1, in powers of two.) m is m_i, l is l_i, m' is
    m_ij, exp(m - m') is alpha and exp(s' - m') is p. The caller, who reads the values, updates l and o, its acc.
    """
    # the new maximum: (M,)
    m_ij = tl.maximum(m_i, tl.max(qk, axis=1) * qk_scale)
    # weights of this tile: (M, N); scaling here costs nothing, it is one multiply-add
    p = tl.exp2(qk * qk_scale - m_ij[:, None])
    # the correction of all tiles before: (M,)
    alpha = tl.exp2(m_i - m_ij)
    return p, alpha, m_ij


@triton.jit
def _online_kernel(
    q_ptr, k_ptr, v_ptr, out_ptr, lengths_ptr,
    stride_qb, stride_qt, stride_qh, stride_kb, stride_kt, stride_kh,
    stride_vb, stride_vt, stride_vh, stride_ob, stride_ot, stride_oh,
    Tq, Tk, H, qk_scale,
    HEAD_DIM: tl.constexpr, IS_CAUSAL: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    pid_m, off_h, off_b, seqlen_k = _locate(lengths_ptr, Tq, Tk, H, BLOCK_M)
    offs_m = pid_m * BLOCK_M + tl.arange(0, BLOCK_M)  # (M,)
    offs_d = tl.arange(0, BLOCK_D)[None, :]  # (1, K)
    q_mask = (offs_m[:, None] < Tq) & (offs_d < HEAD_DIM)  # (M, K)
    # a tile of queries stays in registers: (M, K)
    q_ptrs = q_ptr + off_b * stride_qb + offs_m[:, None] * stride_qt + off_h * stride_qh + offs_d
    q = tl.load(q_ptrs, mask=q_mask, other=0)
    m_i = tl.full([BLOCK_M], -float("inf"), tl.float32)
    l_i = tl.zeros([BLOCK_M], tl.float32)
    acc = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)

    for start_n in range(0, tl.minimum(seqlen_k, (pid_m + 1) * BLOCK_M) if IS_CAUSAL else seqlen_k, BLOCK_N):
        offs_n = start_n + tl.arange(0, BLOCK_N)  # (N,)
        kv_mask = (offs_n[:, None] < seqlen_k) & (offs_d < HEAD_DIM)
        # a tile of keys: (N, K)
        k_ptrs = k_ptr + off_b * stride_kb + offs_n[:, None] * stride_kt + off_h * stride_kh + offs_d
        k = tl.load(k_ptrs, mask=kv_mask, other=0)
        # scores of this tile: (M, N)
        mask = offs_n[None, :] < seqlen_k
        if IS_CAUSAL:
            mask = mask & (offs_n[None, :] <= offs_m[:, None])
        qk = tl.where(mask, tl.dot(q, k.T, input_precision=PRECISION), -float("inf"))
        # m_i is finite from here on, since every query sees key 0, which comes first
        p, alpha, m_i = online_softmax(m_i, qk, qk_scale)
        # the output so far, corrected, and this tile's values: (M, N) x (N, K) -> (M, K)
        v_ptrs = v_ptr + off_b * stride_vb + offs_n[:, None] * stride_vt + off_h * stride_vh + offs_d
        v = tl.load(v_ptrs, mask=kv_mask, other=0)
        acc = tl.dot(p.to(v.dtype), v, acc * alpha[:, None], input_precision=PRECISION)
        l_i = l_i * alpha + tl.sum(p, axis=1)

    # epilogue: divide by the sum of the weights, and write (M, K)
    out_ptr += off_b * stride_ob + off_h * stride_oh
    acc = acc * (1 / l_i)[:, None]  # one division a query, not K
    tl.store(out_ptr + offs_m[:, None] * stride_ot + offs_d, acc.to(out_ptr.dtype.element_ty), mask=q_mask)
