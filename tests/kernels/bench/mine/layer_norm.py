"""Three kernels of a newcomer, as `miniclip bench kernels --mine FILE.py:function --as layer_norm` takes them."""

import torch
import triton
import triton.language as tl


@triton.jit
def _row_kernel(x, weight, bias, out, D, eps, BLOCK: tl.constexpr, MASKED: tl.constexpr):
    d = tl.arange(0, BLOCK)
    row = tl.program_id(0).to(tl.int64) * D
    a = tl.load(x + row + d, d < D, 0).to(tl.float32)
    centred = a - tl.sum(a) / D
    if MASKED:
        centred = tl.where(d < D, centred, 0)
    y = centred * tl.rsqrt(tl.sum(centred * centred) / D + eps)
    y = y * tl.load(weight + d, d < D, 0).to(tl.float32) + tl.load(bias + d, d < D, 0).to(tl.float32)
    tl.store(out + row + d, y.to(out.dtype.element_ty), d < D)


def right(x, weight, bias, *, eps, masked=True):
    x, weight, bias = x.contiguous(), weight.contiguous(), bias.contiguous()
    out, D = torch.empty_like(x), x.shape[-1]
    _row_kernel[(x.numel() // D,)](x, weight, bias, out, D, eps, triton.next_power_of_2(D), masked)
    return out


def wrong(x, weight, bias, *, eps):
    return right(x, weight, bias, eps=eps, masked=False)  # padding holds -mean, and its squares count


@triton.jit
def _block_kernel(x, weight, bias, out, D, eps, BLOCK: tl.constexpr):
    """A row, read three times in blocks: for the mean, for the variance, and to be written."""
    row = tl.program_id(0).to(tl.int64) * D
    d = tl.arange(0, BLOCK)
    mean, variance = tl.zeros([BLOCK], tl.float32), tl.zeros([BLOCK], tl.float32)
    for i in range(0, D, BLOCK):
        mean += tl.load(x + row + i + d, i + d < D, 0).to(tl.float32)
    mean = tl.sum(mean) / D
    for i in range(0, D, BLOCK):
        centred = tl.where(i + d < D, tl.load(x + row + i + d, i + d < D, 0).to(tl.float32) - mean, 0)
        variance += centred * centred
    scale = tl.rsqrt(tl.sum(variance) / D + eps)
    for i in range(0, D, BLOCK):
        y = (tl.load(x + row + i + d, i + d < D, 0).to(tl.float32) - mean) * scale
        y = y * tl.load(weight + i + d, i + d < D, 0).to(tl.float32) + tl.load(bias + i + d, i + d < D, 0).to(
            tl.float32
        )
        tl.store(out + row + i + d, y.to(out.dtype.element_ty), i + d < D)


def slow(x, weight, bias, *, eps):
    x, weight, bias = x.contiguous(), weight.contiguous(), bias.contiguous()
    out, D = torch.empty_like(x), x.shape[-1]
    _block_kernel[(x.numel() // D,)](x, weight, bias, out, D, eps, 64)
    return out
