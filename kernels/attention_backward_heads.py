"""Attention's gradients, version 3: one program computes all of a head, up to 80 tokens on Hopper.

(`attention_backward.py` has the ladder.) q, k, v and dout of a head are 4 x 77 x 64 numbers, 39 KB: they fit into a
program, and so the weights p and their gradient dp are computed once, for dq, dk and dv. Each tensor is read or written
once, 7 in all, and no sums, no delta and no result of the forward pass are needed. As in version 6 of the forward pass,
a sequence is one tile of BLOCK tokens, A below, and a tail of at least 16 if it is longer, B. Causal, queries of A
compute nothing with keys of B.
"""

import triton
import triton.language as tl

from miniclip.kernels import device
from miniclip.kernels.attention_backward_simple import _put, _rows
from miniclip.kernels.attention_heads import BLOCK, _power_of_two

# (least capability, up to T tokens): launched so; None: version 2 is. More tokens do not fit into registers, except on
# B200, where products have a memory of their own. Chosen by compiled resources and counted cycles, not measured yet.
CONFIGS = {
    (80, 16): {"num_warps": 1},
    (80, 32): {"num_warps": 2},
    (80, 64): {"num_warps": 4},
    (80, 128): None,
    (90, 80): {"num_warps": 4},
    (100, 128): {"num_warps": 4},
    **dict.fromkeys(((120, 80), (120, 128))),
}


@triton.jit
def _gradients_kernel(
    q_ptr, k_ptr, v_ptr, dout_ptr, dq_ptr, dk_ptr, dv_ptr,
    stride_qb, stride_qt, stride_qh, stride_kb, stride_kt, stride_kh, stride_vb, stride_vt, stride_vh,
    stride_ob, stride_ot, stride_oh, stride_db, stride_dt, stride_dh,
    T, H, scale, qk_scale,
    HEAD_DIM: tl.constexpr, IS_CAUSAL: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK: tl.constexpr, TAIL: tl.constexpr,
):  # fmt: skip
    off_b, off_h = (tl.program_id(0) // H).to(tl.int64), tl.program_id(0) % H
    q_ptr += off_b * stride_qb + off_h * stride_qh
    k_ptr += off_b * stride_kb + off_h * stride_kh
    v_ptr += off_b * stride_vb + off_h * stride_vh
    dout_ptr += off_b * stride_ob + off_h * stride_oh
    dq_ptr += off_b * stride_db + off_h * stride_dh
    dk_ptr += off_b * stride_db + off_h * stride_dh
    dv_ptr += off_b * stride_db + off_h * stride_dh
    # tile A: (A, K) each
    offs = tl.arange(0, BLOCK)
    q = _rows(q_ptr, stride_qt, offs, T, HEAD_DIM, BLOCK_D)
    k = _rows(k_ptr, stride_kt, offs, T, HEAD_DIM, BLOCK_D)
    v = _rows(v_ptr, stride_vt, offs, T, HEAD_DIM, BLOCK_D)
    dout = _rows(dout_ptr, stride_ot, offs, T, HEAD_DIM, BLOCK_D)
    if TAIL == 0:
        p, ds, _, _ = _weights(q, dout, k, v, None, None, 0, T, qk_scale, IS_CAUSAL)
        dq, dk, dv = tl.dot(ds, k), tl.dot(ds.T, q), tl.dot(p.T, dout)
    else:
        # tile B: (B, K) each
        offs_b = BLOCK + tl.arange(0, TAIL)
        q_b = _rows(q_ptr, stride_qt, offs_b, T, HEAD_DIM, BLOCK_D)
        k_b = _rows(k_ptr, stride_kt, offs_b, T, HEAD_DIM, BLOCK_D)
        v_b = _rows(v_ptr, stride_vt, offs_b, T, HEAD_DIM, BLOCK_D)
        dout_b = _rows(dout_ptr, stride_ot, offs_b, T, HEAD_DIM, BLOCK_D)
        # queries of B, with all keys
        p_bb, ds_bb, p_ba, ds_ba = _weights(q_b, dout_b, k_b, v_b, k, v, BLOCK, T, qk_scale, IS_CAUSAL)
        dq = tl.dot(ds_ba, k, tl.dot(ds_bb, k_b))
        _put(dq_ptr, stride_dt, dq * scale, offs_b, T, HEAD_DIM, BLOCK_D)
        dk_b, dv_b = tl.dot(ds_bb.T, q_b), tl.dot(p_bb.T, dout_b)
        dk, dv = tl.dot(ds_ba.T, q_b), tl.dot(p_ba.T, dout_b)
        # queries of A, which causal see keys of A alone
        if IS_CAUSAL:
            p, ds, _, _ = _weights(q, dout, k, v, None, None, 0, T, qk_scale, IS_CAUSAL)
            dq = tl.dot(ds, k)
        else:
            p_ab, ds_ab, p, ds = _weights(q, dout, k_b, v_b, k, v, BLOCK, T, qk_scale, IS_CAUSAL)
            dq = tl.dot(ds, k, tl.dot(ds_ab, k_b))
            dk_b, dv_b = tl.dot(ds_ab.T, q, dk_b), tl.dot(p_ab.T, dout, dv_b)
        dk, dv = tl.dot(ds.T, q, dk), tl.dot(p.T, dout, dv)
        _put(dk_ptr, stride_dt, dk_b * scale, offs_b, T, HEAD_DIM, BLOCK_D)
        _put(dv_ptr, stride_dt, dv_b, offs_b, T, HEAD_DIM, BLOCK_D)
    _put(dq_ptr, stride_dt, dq * scale, offs, T, HEAD_DIM, BLOCK_D)
    _put(dk_ptr, stride_dt, dk * scale, offs, T, HEAD_DIM, BLOCK_D)
    _put(dv_ptr, stride_dt, dv, offs, T, HEAD_DIM, BLOCK_D)


@triton.jit
def _weights(q, dout, k, v, k_all, v_all, start_n, T, qk_scale, IS_CAUSAL: tl.constexpr):
    """The weights p of queries q (M, K) for a tile of keys k (N, K) and, unless it is None, for k_all, and their ds.

    -> p (M, N), ds (M, N), and both for k_all (or again), in q's dtype. The keys k are tokens start_n .. T; causal,
    they are those of q, and each sees those up to itself. Queries see all of k_all. Those beyond the end are zeros and
    add nothing.
    """
    offs_m, offs_n = tl.arange(0, q.shape[0])[:, None], tl.arange(0, k.shape[0])[None, :]
    mask = (offs_n <= offs_m) if IS_CAUSAL else (offs_n < T - start_n)
    qk = tl.where(mask, tl.dot(q, k.T), -float("inf"))  # (M, N)
    m_i = tl.max(qk, axis=1)  # (M,)
    if k_all is not None:
        qk_all = tl.dot(q, k_all.T)
        m_i = tl.maximum(m_i, tl.max(qk_all, axis=1))
    m_i *= qk_scale
    p = tl.exp2(qk * qk_scale - m_i[:, None])
    l_i = tl.sum(p, axis=1)
    dp = tl.dot(dout, v.T)
    delta = tl.sum(p * dp, axis=1)  # (M,), times l_i
    if k_all is not None:
        p_all = tl.exp2(qk_all * qk_scale - m_i[:, None])
        l_i += tl.sum(p_all, axis=1)
        dp_all = tl.dot(dout, v_all.T)
        delta += tl.sum(p_all * dp_all, axis=1)
    inverse = (1 / l_i)[:, None]
    delta = delta[:, None] * inverse
    p *= inverse
    ds = (p * (dp - delta)).to(q.dtype)
    p = p.to(q.dtype)
    p_all_q, ds_all = p, ds
    if k_all is not None:
        p_all *= inverse
        p_all_q, ds_all = p_all.to(q.dtype), (p_all * (dp_all - delta)).to(q.dtype)
    return p, ds, p_all_q, ds_all


def find_config(q, k, v, lengths):
    """How version 3 is launched for tensors (B, T, H, K), or None if it does not take them: then version 2 does."""
    T, K = q.shape[1], q.shape[3]
    fits = (
        lengths is None
        and q.shape == k.shape
        and q.element_size() == 2  # float32 would need three times the registers
        and 1 <= T <= 2 * BLOCK
        and K <= 64
    )
    return device.choose(CONFIGS, T) if fits else None


def launch(dout, q, k, v, dq, dk, dv, causal, scale, qk_scale, config):
    """Compute dq, dk and dv (B, T, H, K) of attention, which have the same strides."""
    B, T, H, K = q.shape
    tail = _power_of_two(T - BLOCK) if T > BLOCK else 0
    _gradients_kernel[(B * H,)](
        q, k, v, dout, dq, dk, dv, *(step for x in (q, k, v, dout, dq) for step in x.stride()[:3]), T, H, scale,
        qk_scale, K, causal, _power_of_two(K), min(BLOCK, _power_of_two(T)), tail, **device.count_warps(config),
    )  # fmt: skip
