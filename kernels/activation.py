"""Bias, residual and activation in one pass: activation(x + bias + residual).

x * sigmoid(1.702 * x), written with torch's operations, takes 3 kernels that read four times and write three times. One
kernel reads once and writes once: 2 passes over memory in the place of 7, of 539 MB each for 256 pictures of ViT-L/14,
whose x has 65,792 x 4096 numbers of 16 bit. A residual is read along, as a ResNet's block ends: 3 passes and not 5.

    1  a stretch of numbers a program    Each number's bias is looked up by its column, a remainder for each.
    2  a tile of rows and columns        The bias is read once for all rows of a tile.

(quick_gelu: clip/model.py, QuickGELU. gelu: Hendrycks and Gimpel, 2016, sec. 2. kernels/README.md says
what has been measured.)
"""

import math

import torch
import triton
import triton.language as tl

from miniclip.errors import InputError
from miniclip.kernels import device, tuning

NAMES = ("quick_gelu", "gelu", "relu", "sigmoid", "silu")
SQRT_HALF = tl.constexpr(math.sqrt(0.5))


@triton.jit
def activate(x, ACTIVATION: tl.constexpr):
    """The formulas, for any kernel's float32 numbers, of one of NAMES, or "none"."""
    if ACTIVATION == "quick_gelu":
        x = x * tl.sigmoid(1.702 * x)
    elif ACTIVATION == "gelu":
        x = x * (0.5 + 0.5 * tl.erf(x * SQRT_HALF))
    elif ACTIVATION == "relu":
        x = tl.where(x < 0, 0.0, x)  # NaN stays NaN
    elif ACTIVATION == "sigmoid":
        x = tl.sigmoid(x)
    elif ACTIVATION == "silu":
        x = x * tl.sigmoid(x)
    return x


@triton.jit
def _stretch(x_ptr, bias_ptr, residual_ptr, out_ptr, numbers, N, ACTIVATION: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + i, mask=i < numbers).to(tl.float32)
    if bias_ptr is not None:
        x += tl.load(bias_ptr + i % N, mask=i < numbers).to(tl.float32)
    if residual_ptr is not None:
        x += tl.load(residual_ptr + i, mask=i < numbers).to(tl.float32)
    tl.store(out_ptr + i, activate(x, ACTIVATION).to(out_ptr.dtype.element_ty), mask=i < numbers)


@triton.jit
def _tile(
    x_ptr, bias_ptr, residual_ptr, out_ptr, M, N,
    ACTIVATION: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    m = tl.program_id(0).to(tl.int64) // tl.cdiv(N, BLOCK_N) * BLOCK_M + tl.arange(0, BLOCK_M)[:, None]  # (M, 1)
    n = tl.program_id(0) % tl.cdiv(N, BLOCK_N) * BLOCK_N + tl.arange(0, BLOCK_N)[None, :]  # (1, N)
    there = (m < M) & (n < N)
    x = tl.load(x_ptr + m * N + n, mask=there).to(tl.float32)  # (M, N)
    if bias_ptr is not None:
        x += tl.load(bias_ptr + n, mask=n < N).to(tl.float32)
    if residual_ptr is not None:
        x += tl.load(residual_ptr + m * N + n, mask=there).to(tl.float32)
    tl.store(out_ptr + m * N + n, activate(x, ACTIVATION).to(out_ptr.dtype.element_ty), mask=there)


def tiles(M, N, dtype):
    """16 numbers a thread in flight: two loads of 16 bytes where numbers have two."""
    columns = min(512, triton.next_power_of_2(N))
    default = {"BLOCK_M": 2048 // columns, "BLOCK_N": columns, "num_warps": 4}
    return dict(tuning.find("activation", key(M, N, dtype), default))


def key(M, N, dtype):
    """What a tuned configuration is good for."""
    return {"N": N, "dtype": str(dtype)[6:], "large": M >= 4096}


def candidates():
    """Configurations to measure."""
    return [
        {"BLOCK_M": M, "BLOCK_N": N, "num_warps": warps}
        for M in (1, 2, 4, 8)
        for N in (256, 512, 1024)
        for warps in (2, 4, 8)
        if 256 <= M * N // warps <= 1024
    ]


def known(activation):
    """What `activate` calls an activation, "none" for None. Raises InputError for one that is not ours."""
    if activation not in (None, *NAMES):
        raise InputError(f"there is no activation {activation!r}; choose one of {', '.join(NAMES)}")
    return activation or "none"


@device.launches(versions=2)
def bias_activation(x, bias, activation, *, residual=None, in_place=False, version=2, config=None):
    """activation(x + bias + residual), one of NAMES or None -> (..., N) of x's dtype.

    x (..., N) · bias (N,) or None · residual (..., N) or None. `in_place` writes the result over x. `config` replaces
    the tiles of version 2.
    """
    activation = known(activation)
    x = x.contiguous()
    if bias is not None:
        device.expect(bias=(bias, x.shape[-1:]))
        bias = bias.contiguous()
    if residual is not None:
        device.expect(residual=(residual, x.shape))
        residual = residual.contiguous()
    out = x if in_place else torch.empty_like(x)
    if out.numel() == 0:
        return out
    N = x.shape[-1]
    M = x.numel() // N
    if version == 1:
        _stretch[(triton.cdiv(M * N, 1024),)](x, bias, residual, out, M * N, N, activation, BLOCK=1024)
    else:
        config = config or tiles(M, N, x.dtype)
        grid = (triton.cdiv(M, config["BLOCK_M"]) * triton.cdiv(N, config["BLOCK_N"]),)
        _tile[grid](x, bias, residual, out, M, N, activation, **config)
    return out
