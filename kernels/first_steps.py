"""Five small kernels to learn Triton by, each the simplest that is right; the fast ones have files of their own.

Many programs run a kernel at once. Each asks which one it is (`tl.program_id`), works out which numbers it takes
(`tl.arange`, always a power of two), loads them through pointers, computes, and stores. It must not touch memory beyond
the data: lanes where `mask` is False read and write nothing, and hold `other` instead. All tensors are float32.

    add               a block of numbers for each program: pointers and masks
    quick_gelu        the same, with arithmetic in between
    softmax           a row for each program: reductions, and what masked lanes must hold so that they do not count
    layer_norm        two reductions; before the second, the masked lanes must become 0 again
    flash_attention   a tile of queries for each program, a loop over tiles of keys: the scores are never all in memory

What launches a kernel takes another one as `kernel`, with the same arguments: a student's, for example.
"""

import math

import torch
import triton
import triton.language as tl

from miniclip.kernels import device


@triton.jit
def add_kernel(x_ptr, y_ptr, out_ptr, n, BLOCK: tl.constexpr):
    """out[i] = x[i] + y[i] for i = pid·BLOCK to pid·BLOCK + BLOCK - 1, as far as i < n.

    x_ptr, y_ptr, out_ptr point to n float32 numbers each, one after the other.
    """
    pid = tl.program_id(0)  # which program this is
    offs = pid * BLOCK + tl.arange(0, BLOCK)  # (BLOCK,) which numbers it takes
    mask = offs < n  # (BLOCK,) False beyond the last
    x = tl.load(x_ptr + offs, mask=mask)  # (BLOCK,)
    y = tl.load(y_ptr + offs, mask=mask)  # (BLOCK,)
    tl.store(out_ptr + offs, x + y, mask=mask)


@device.launches()
def add(x, y, *, out=None, BLOCK=64, kernel=add_kernel):
    """x + y: tensors (n,) float32, contiguous -> (n,), written to `out` if given."""
    out = torch.empty_like(x) if out is None else out
    n = len(x)
    kernel[(triton.cdiv(n, BLOCK),)](x, y, out, n, BLOCK=BLOCK)
    return out


@triton.jit
def quick_gelu_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    """out[i] = x[i] · σ(1.702 x[i]) for i = pid·BLOCK to pid·BLOCK + BLOCK - 1, as far as i < n.

    x_ptr, out_ptr point to n float32 numbers each. `tl.sigmoid` is σ.
    """
    pid = tl.program_id(0)
    offs = pid * BLOCK + tl.arange(0, BLOCK)  # (BLOCK,)
    mask = offs < n
    x = tl.load(x_ptr + offs, mask=mask)  # (BLOCK,)
    tl.store(out_ptr + offs, x * tl.sigmoid(1.702 * x), mask=mask)


@device.launches()
def quick_gelu(x, *, out=None, BLOCK=64, kernel=quick_gelu_kernel):
    """`numpy_ops.quick_gelu` of a tensor (n,) float32, contiguous -> (n,), written to `out` if given."""
    out = torch.empty_like(x) if out is None else out
    n = len(x)
    kernel[(triton.cdiv(n, BLOCK),)](x, out, n, BLOCK=BLOCK)
    return out


@triton.jit
def softmax_kernel(x_ptr, out_ptr, row_stride, N, BLOCK: tl.constexpr):
    """out[row, :] = softmax(x[row, :]), one row for each program. The row's maximum is subtracted before exp.

    x_ptr points to rows of N float32 numbers that begin row_stride numbers apart; out_ptr to rows without a gap. BLOCK
    is a power of two, N or more.
    """
    row = tl.program_id(0)
    offs_n = tl.arange(0, BLOCK)  # (BLOCK,)
    mask = offs_n < N
    x = tl.load(x_ptr + row * row_stride + offs_n, mask=mask, other=-float("inf"))  # (BLOCK,)
    p = tl.exp(x - tl.max(x, axis=0))  # (BLOCK,) 0 in masked lanes
    tl.store(out_ptr + row * N + offs_n, p / tl.sum(p, axis=0), mask=mask)


@device.launches()
def softmax(x, *, out=None, BLOCK=None, kernel=softmax_kernel):
    """`numpy_ops.softmax` of rows, gaps between them allowed: (rows, N) float32 -> (rows, N), in `out` if given."""
    rows, N = x.shape
    out = torch.empty(rows, N, dtype=x.dtype, device=x.device) if out is None else out
    kernel[(rows,)](x, out, x.stride(0), N, BLOCK=BLOCK or triton.next_power_of_2(N))
    return out


@triton.jit
def layer_norm_kernel(x_ptr, weight_ptr, bias_ptr, out_ptr, row_stride, D, eps, BLOCK: tl.constexpr):
    """out[row, :] = (x[row, :] - mean) / √(variance + eps) · weight + bias, one row for each program.

    x_ptr points to rows of D float32 numbers that begin row_stride numbers apart; out_ptr to rows without a gap;
    weight_ptr and bias_ptr to D numbers each. BLOCK is a power of two, D or more.
    """
    row = tl.program_id(0)
    offs_d = tl.arange(0, BLOCK)  # (BLOCK,)
    mask = offs_d < D
    x = tl.load(x_ptr + row * row_stride + offs_d, mask=mask, other=0)  # (BLOCK,) masked lanes add nothing to the sum
    mean = tl.sum(x, axis=0) / D
    centred = tl.where(mask, x - mean, 0)  # masked lanes hold -mean by now, and its square would count
    variance = tl.sum(centred * centred, axis=0) / D
    weight = tl.load(weight_ptr + offs_d, mask=mask)  # (BLOCK,)
    bias = tl.load(bias_ptr + offs_d, mask=mask)  # (BLOCK,)
    y = centred / tl.sqrt(variance + eps) * weight + bias  # (BLOCK,)
    tl.store(out_ptr + row * D + offs_d, y, mask=mask)


@device.launches()
def layer_norm(x, weight, bias, *, eps, out=None, BLOCK=None, kernel=layer_norm_kernel):
    """`numpy_ops.layer_norm` of rows, gaps between them allowed, written to `out` if given.

    x (rows, D), weight and bias (D,), float32 -> (rows, D).
    """
    rows, D = x.shape
    out = torch.empty(rows, D, dtype=x.dtype, device=x.device) if out is None else out
    BLOCK = BLOCK or triton.next_power_of_2(D)
    kernel[(rows,)](x, weight, bias, out, x.stride(0), D, eps, BLOCK=BLOCK)
    return out


@triton.jit
def flash_attention_kernel(
    q_ptr, k_ptr, v_ptr, out_ptr, T, scale, HEAD_DIM: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr
):  # fmt: skip
    """out = softmax(q kᵀ · scale) v of one head, for BLOCK_M queries a program, BLOCK_N keys at a time.

    q_ptr, k_ptr, v_ptr, out_ptr point to T rows of HEAD_DIM float32 numbers; HEAD_DIM is a power of two, 16 or more.
    For each query it keeps m_i, the largest score so far; l_i = Σ exp(qk - m_i); acc = Σ exp(qk - m_i) v. With the
    scores qk of the next tile they become (FlashAttention, algorithm 1):

        m_new = max(m_i, max qk)    alpha = exp(m_i - m_new)    p = exp(qk - m_new)
        l_i = l_i · alpha + Σ p     acc = acc · alpha + p v     m_i = m_new

    At the end acc / l_i is softmax(scores) v. `tl.dot(a, b, input_precision="ieee")` multiplies matrices in float32.
    """
    pid = tl.program_id(0)
    offs_m = pid * BLOCK_M + tl.arange(0, BLOCK_M)[:, None]  # (BLOCK_M, 1) which queries it takes
    offs_d = tl.arange(0, HEAD_DIM)[None, :]  # (1, HEAD_DIM)
    q = tl.load(q_ptr + offs_m * HEAD_DIM + offs_d, mask=offs_m < T, other=0)  # (BLOCK_M, HEAD_DIM)
    m_i = tl.full([BLOCK_M, 1], -float("inf"), tl.float32)
    l_i = tl.zeros([BLOCK_M, 1], tl.float32)
    acc = tl.zeros([BLOCK_M, HEAD_DIM], tl.float32)
    for start_n in range(0, T, BLOCK_N):
        offs_n = start_n + tl.arange(0, BLOCK_N)[:, None]  # (BLOCK_N, 1) the next keys
        k = tl.load(k_ptr + offs_n * HEAD_DIM + offs_d, mask=offs_n < T, other=0)  # (BLOCK_N, HEAD_DIM)
        v = tl.load(v_ptr + offs_n * HEAD_DIM + offs_d, mask=offs_n < T, other=0)  # (BLOCK_N, HEAD_DIM)
        qk = tl.dot(q, k.T, input_precision="ieee") * scale  # (BLOCK_M, BLOCK_N)
        qk = tl.where(offs_n.T < T, qk, -float("inf"))  # no weight for keys beyond the last
        m_new = tl.maximum(m_i, tl.max(qk, axis=1, keep_dims=True))  # (BLOCK_M, 1)
        alpha = tl.exp(m_i - m_new)  # (BLOCK_M, 1) corrects what was summed with the old maximum
        p = tl.exp(qk - m_new)  # (BLOCK_M, BLOCK_N)
        l_i = l_i * alpha + tl.sum(p, axis=1, keep_dims=True)
        acc = acc * alpha + tl.dot(p, v, input_precision="ieee")
        m_i = m_new
    tl.store(out_ptr + offs_m * HEAD_DIM + offs_d, acc / l_i, mask=offs_m < T)


@device.launches()
def flash_attention(q, k, v, *, out=None, BLOCK_M=16, BLOCK_N=16, kernel=flash_attention_kernel):
    """`numpy_ops.attention` of one head: q, k, v (T, K) float32, contiguous -> (T, K), written to `out` if given."""
    T, K = q.shape
    out = torch.empty_like(q) if out is None else out
    grid = (triton.cdiv(T, BLOCK_M),)
    kernel[grid](q, k, v, out, T, 1 / math.sqrt(K), HEAD_DIM=K, BLOCK_M=BLOCK_M, BLOCK_N=BLOCK_N)
    return out
