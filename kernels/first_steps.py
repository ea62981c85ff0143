"""Five small kernels to learn Triton by, each the simplest that is right; the fast ones have files of their own.

A kernel is one program of many that run at once. Each asks which one it is (`tl.program_id`), works out which numbers
are its own (`tl.arange`, always a power of two), loads them through pointers, computes, and stores. What lies beyond
the data must be neither read nor written: that is what `mask` says, and `other` what stands there instead. All tensors
are float32.

    add               a block of numbers a program: pointers and masks
    quick_gelu        the same, with arithmetic between
    softmax           a row a program: reductions, and what masked lanes must hold so as not to count
    layer_norm        two reductions, the second of which masked lanes would spoil again
    flash_attention   a tile of queries a program and a loop over tiles of keys: a softmax that is never whole
"""

import math

import torch
import triton
import triton.language as tl

from miniclip.kernels import device


@triton.jit
def add_kernel(x_ptr, y_ptr, out_ptr, n, BLOCK: tl.constexpr):
    """out[i] = x[i] + y[i] for the BLOCK numbers i = BLOCK·p, BLOCK·p + 1, ... of program p, of which those < n exist.

    x_ptr, y_ptr, out_ptr point to n float32 numbers each, one behind the other.
    """
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)  # (BLOCK,)
    x = tl.load(x_ptr + i, mask=i < n)
    y = tl.load(y_ptr + i, mask=i < n)
    tl.store(out_ptr + i, x + y, mask=i < n)


@device.launches()
def add(x, y, *, out=None, BLOCK=64, kernel=add_kernel):
    """x + y: tensors (n,) float32, contiguous -> (n,), written to `out` if given."""
    out = torch.empty_like(x) if out is None else out
    n = len(x)
    kernel[(triton.cdiv(n, BLOCK),)](x, y, out, n, BLOCK=BLOCK)
    return out


@triton.jit
def quick_gelu_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    """out[i] = x[i] · σ(1.702 x[i]) for the BLOCK numbers of program p, of which those below n exist.

    x_ptr, out_ptr point to n float32 numbers each. `tl.sigmoid` is σ.
    """
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)  # (BLOCK,)
    x = tl.load(x_ptr + i, mask=i < n)
    tl.store(out_ptr + i, x * tl.sigmoid(1.702 * x), mask=i < n)


@device.launches()
def quick_gelu(x, *, out=None, BLOCK=64, kernel=quick_gelu_kernel):
    """`numpy_ops.quick_gelu` of a tensor (n,) float32, contiguous -> (n,), written to `out` if given."""
    out = torch.empty_like(x) if out is None else out
    n = len(x)
    kernel[(triton.cdiv(n, BLOCK),)](x, out, n, BLOCK=BLOCK)
    return out


@triton.jit
def softmax_kernel(x_ptr, out_ptr, row_stride, N, BLOCK: tl.constexpr):
    """out[p, :] = softmax(x[p, :]) for program p, by way of exp(x - max x).

    x_ptr points to rows of N float32 numbers that begin row_stride numbers apart; out_ptr to rows without a gap. BLOCK
    is a power of two, N or more.
    """
    row = tl.program_id(0)
    i = tl.arange(0, BLOCK)  # (BLOCK,)
    x = tl.load(x_ptr + row * row_stride + i, mask=i < N, other=-float("inf"))
    e = tl.exp(x - tl.max(x, axis=0))  # 0 in lanes beyond the row
    tl.store(out_ptr + row * N + i, e / tl.sum(e, axis=0), mask=i < N)


@device.launches()
def softmax(x, *, out=None, BLOCK=None, kernel=softmax_kernel):
    """`numpy_ops.softmax` of rows that may lie apart: (rows, N) float32 -> (rows, N), written to `out` if given."""
    rows, N = x.shape
    out = torch.empty(rows, N, dtype=x.dtype, device=x.device) if out is None else out
    kernel[(rows,)](x, out, x.stride(0), N, BLOCK=BLOCK or triton.next_power_of_2(N))
    return out


@triton.jit
def layer_norm_kernel(x_ptr, weight_ptr, bias_ptr, out_ptr, row_stride, D, eps, BLOCK: tl.constexpr):
    """out[p, :] = (x[p, :] - mean) / √(variance + eps) · weight + bias for program p, variance the mean of squares.

    x_ptr points to rows of D float32 numbers that begin row_stride numbers apart; out_ptr to rows without a gap;
    weight_ptr and bias_ptr to D numbers each. BLOCK is a power of two, D or more.
    """
    row = tl.program_id(0)
    d = tl.arange(0, BLOCK)  # (BLOCK,)
    x = tl.load(x_ptr + row * row_stride + d, mask=d < D, other=0)
    mean = tl.sum(x, axis=0) / D
    centred = tl.where(d < D, x - mean, 0)  # lanes beyond the row hold -mean by now, whose squares would count
    variance = tl.sum(centred * centred, axis=0) / D
    weight = tl.load(weight_ptr + d, mask=d < D)
    bias = tl.load(bias_ptr + d, mask=d < D)
    tl.store(out_ptr + row * D + d, centred / tl.sqrt(variance + eps) * weight + bias, mask=d < D)


@device.launches()
def layer_norm(x, weight, bias, *, eps, out=None, BLOCK=None, kernel=layer_norm_kernel):
    """`numpy_ops.layer_norm` of rows that may lie apart, written to `out` if given.

    x (rows, D), weight and bias (D,), float32 -> (rows, D).
    """
    rows, D = x.shape
    out = torch.empty(rows, D, dtype=x.dtype, device=x.device) if out is None else out
    BLOCK = BLOCK or triton.next_power_of_2(D)
    kernel[(rows,)](x, weight, bias, out, x.stride(0), D, eps, BLOCK=BLOCK)
    return out


@triton.jit
def flash_attention_kernel(
    q_ptr, k_ptr, v_ptr, out_ptr, T, scale, K: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr
):  # fmt: skip
    """out = softmax(q kᵀ · scale) v of one head, for the BLOCK_M queries of program p, with BLOCK_N keys at a time.

    q_ptr, k_ptr, v_ptr, out_ptr point to T rows of K float32 numbers, K a power of two, 16 or more. With m the largest
    score so far, l = Σ exp(s - m) and o = Σ exp(s - m) v, a tile of new scores s' makes of them

        m' = max(m, max s'),   l' = l · exp(m - m') + Σ exp(s' - m'),   o' = o · exp(m - m') + Σ exp(s' - m') v

    and in the end o / l is softmax(s) v. (FlashAttention, algorithm 1.) `tl.dot(a, b, input_precision="ieee")` is a
    product of matrices in float32.
    """
    i = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)[:, None]  # (M, 1)
    c = tl.arange(0, K)[None, :]  # (1, K)
    q = tl.load(q_ptr + i * K + c, mask=i < T, other=0)  # (M, K)
    m = tl.full([BLOCK_M, 1], -float("inf"), tl.float32)
    l = tl.zeros([BLOCK_M, 1], tl.float32)  # noqa: E741, the paper's name
    o = tl.zeros([BLOCK_M, K], tl.float32)
    for start in range(0, T, BLOCK_N):
        j = start + tl.arange(0, BLOCK_N)[:, None]  # (N, 1)
        k = tl.load(k_ptr + j * K + c, mask=j < T, other=0)  # (N, K)
        v = tl.load(v_ptr + j * K + c, mask=j < T, other=0)  # (N, K)
        s = tl.dot(q, k.T, input_precision="ieee") * scale  # (M, N)
        s = tl.where(j.T < T, s, -float("inf"))  # a key that is not there
        new = tl.maximum(m, tl.max(s, axis=1, keep_dims=True))  # (M, 1)
        shrink = tl.exp(m - new)  # (M, 1)
        p = tl.exp(s - new)  # (M, N)
        l = l * shrink + tl.sum(p, axis=1, keep_dims=True)  # noqa: E741
        o = o * shrink + tl.dot(p, v, input_precision="ieee")
        m = new
    tl.store(out_ptr + i * K + c, o / l, mask=i < T)


@device.launches()
def flash_attention(q, k, v, *, out=None, BLOCK_M=16, BLOCK_N=16, kernel=flash_attention_kernel):
    """`numpy_ops.attention` of one head: q, k, v (T, K) float32, contiguous -> (T, K), written to `out` if given."""
    T, K = q.shape
    out = torch.empty_like(q) if out is None else out
    grid = (triton.cdiv(T, BLOCK_M),)
    kernel[grid](q, k, v, out, T, 1 / math.sqrt(K), K=K, BLOCK_M=BLOCK_M, BLOCK_N=BLOCK_N)
    return out
