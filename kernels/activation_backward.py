"""The gradients of bias, residual and activation in one pass.

    dx = dout · activation'(x + bias + residual)        dbias = Σ dx      (Σ: over all rows)

The forward pass keeps x, not x + bias: the sum is computed once more, where x is in registers anyway. dx is the
gradient of x and of the residual, which are the same, and dbias is its sum over all rows.

    1  a block of numbers a program      As version 1 of activation.py. torch sums dx over its rows afterwards: that
                                         reads it once more.
    2  a strip of columns                A program walks down a strip of columns and sums dx in registers; strips are
                                         cut into as many parts as fill the GPU. A second kernel adds the parts' sums,
                                         always in the same order: the same bits in each run. 3 passes instead of 4.
    3  approximations                    As version 3 of activation.py, no digits that a 16 bit result drops. σ is the
                                         same tanh or exp2, for gelu too, and the normal density is one exp2 more.

All activations are x · σ(..), σ(x) or relu, so their derivatives are made of σ:

    quick_gelu  σ(1.702x) · (1 + 1.702x · (1 - σ(1.702x)))        sigmoid  σ(x) · (1 - σ(x))
    gelu        Φ(x) + x · φ(x), the normal distribution and      silu     σ(x) · (1 + x · (1 - σ(x)))
                density                                           relu     1 if x > 0, else 0
"""

import math
from functools import partial

import torch
import triton
import triton.language as tl

from miniclip.kernels import device, ladder
from miniclip.kernels.activation import (
    LOG2_E,
    NAMES,
    SQRT_HALF,
    _normal_logit,
    _sigmoid,
    approximation,
    bias_activation,
    known,
)
from miniclip.kernels.layer_norm_backward import add_parts
from miniclip.ops import torch_ops

INVERSE_SQRT_2PI = tl.constexpr(1 / math.sqrt(2 * math.pi))


@triton.jit
def derivative(x, ACTIVATION: tl.constexpr, APPROXIMATE: tl.constexpr = None):
    """activation'(x) of float32 numbers: one of NAMES, or "none". (x · σ first: large x, and 0 · inf, are no NaN.)"""
    if ACTIVATION == "quick_gelu":
        s = _sigmoid(x, 1.702, APPROXIMATE)
        x = s + 1.702 * ((x * s) * (1 - s))
    elif ACTIVATION == "gelu":
        if APPROXIMATE is None:
            distribution = 0.5 + 0.5 * tl.erf(x * SQRT_HALF)
        else:
            distribution = _sigmoid(x, _normal_logit(x * x, APPROXIMATE), APPROXIMATE)
        x = distribution + x * (INVERSE_SQRT_2PI * tl.exp2(x * x * (-0.5 * LOG2_E)))
    elif ACTIVATION == "relu":
        x = tl.where(x <= 0, 0.0, 1.0)  # of NaN, 1: dout is kept, as by torch
    elif ACTIVATION == "sigmoid":
        s = _sigmoid(x, 1.0, APPROXIMATE)
        x = s * (1 - s)
    elif ACTIVATION == "silu":
        s = _sigmoid(x, 1.0, APPROXIMATE)
        x = s + (x * s) * (1 - s)
    else:
        x = tl.full(x.shape, 1, tl.float32)
    return x


# ------------------------------------------------------------------- version 1: a block of numbers a program


@triton.jit
def _block_kernel(
    dout_ptr, x_ptr, bias_ptr, residual_ptr, dx_ptr, numel, N, ACTIVATION: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    offs = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)  # (BLOCK,)
    mask = offs < numel
    x = tl.load(x_ptr + offs, mask=mask).to(tl.float32)
    if bias_ptr is not None:
        x += tl.load(bias_ptr + offs % N, mask=mask).to(tl.float32)
    if residual_ptr is not None:
        x += tl.load(residual_ptr + offs, mask=mask).to(tl.float32)
    dx = tl.load(dout_ptr + offs, mask=mask).to(tl.float32) * derivative(x, ACTIVATION)
    tl.store(dx_ptr + offs, dx.to(dx_ptr.dtype.element_ty), mask=mask)


# ---------------------------------------------------------- versions 2 and 3: a strip of columns, approximations


@triton.jit
def _strip_kernel(
    dout_ptr, x_ptr, bias_ptr, residual_ptr, dx_ptr, dbiases_ptr, M, N, num_parts,
    ACTIVATION: tl.constexpr, APPROXIMATE: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    # which strip of columns, and which of its parts: rows start_m .. start_m + BLOCK_M, and so on
    num_strips = tl.cdiv(N, BLOCK_N)
    part, strip = tl.program_id(0) // num_strips, tl.program_id(0) % num_strips
    offs_n = strip * BLOCK_N + tl.arange(0, BLOCK_N)[None, :]  # (1, N)
    acc = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    if bias_ptr is not None:
        bias = tl.load(bias_ptr + offs_n, mask=offs_n < N).to(tl.float32)  # (1, N)
    for start_m in range(part * BLOCK_M, M, num_parts * BLOCK_M):
        offs_m = (start_m + tl.arange(0, BLOCK_M)[:, None]).to(tl.int64)  # (M, 1)
        mask, offs = (offs_m < M) & (offs_n < N), offs_m * N + offs_n  # (M, N)
        x = tl.load(x_ptr + offs, mask=mask, other=0).to(tl.float32)
        dout = tl.load(dout_ptr + offs, mask=mask, other=0).to(tl.float32)
        if bias_ptr is not None:
            x += bias
        if residual_ptr is not None:
            x += tl.load(residual_ptr + offs, mask=mask, other=0).to(tl.float32)
        dx = dout * derivative(x, ACTIVATION, APPROXIMATE)
        tl.store(dx_ptr + offs, dx.to(dx_ptr.dtype.element_ty), mask=mask)
        if bias_ptr is not None:
            acc += tl.where(mask, dx, 0)  # beyond the end dout is 0, but its product with NaN would not be
    if bias_ptr is not None:
        tl.store(dbiases_ptr + part * N + offs_n, tl.sum(acc, axis=0, keep_dims=True), mask=offs_n < N)


# ------------------------------------------------------------------------------------------- calling them

PROGRAMS = 6  # on a multiprocessor. Chosen by counted cycles, not measured yet.


def tiles(N):
    """16 numbers a thread, two loads of 16 bytes from each tensor if they have two bytes; 8 on B200, or some spill."""
    columns = min(512, triton.next_power_of_2(N))
    numbers = 1024 if device.capability() in (100, 103) else 2048
    return device.count_warps({"BLOCK_M": numbers // columns, "BLOCK_N": columns, "num_warps": 4})


@device.launches(
    versions=3,
    schema="(Tensor dout, Tensor x, Tensor? bias, str? activation, *, Tensor? residual=None) -> (Tensor, Tensor)",
    empty=lambda dout, x, bias, *_, residual=None: (x.new_empty(x.shape), x.new_empty(_size(x, bias))),
)
def bias_activation_backward(dout, x, bias, activation, *, residual=None, version=3):
    """The gradients of `bias_activation`, for a gradient `dout` of its result: (dx, dbias), both of x's dtype.

    dout, x and residual (..., N), bias (N,) or None -> dx (..., N), contiguous, which is the residual's gradient too,
    and dbias (N,), or (0,) without a bias. The same bits in every call.
    """
    activation = known(activation)
    device.expect(dout=(dout, x.shape))
    dout, x = dout.contiguous(), x.contiguous()
    if bias is not None:
        device.expect(bias=(bias, x.shape[-1:]))
        bias = bias.contiguous()
    if residual is not None:
        device.expect(residual=(residual, x.shape))
        residual = residual.contiguous()
    dx = torch.empty_like(x)
    if x.numel() == 0:
        return dx, torch.zeros(_size(x, bias), dtype=x.dtype, device=x.device)
    N = x.shape[-1]
    M = x.numel() // N
    if version == 1:
        _block_kernel[(triton.cdiv(M * N, 1024),)](dout, x, bias, residual, dx, M * N, N, activation, BLOCK=1024)
        dbias = x.new_empty(0) if bias is None else dx.reshape(M, N).float().sum(0).to(x.dtype)
        return dx, dbias
    config = tiles(N)
    strips = triton.cdiv(N, config["BLOCK_N"])
    num_parts = min(triton.cdiv(M, config["BLOCK_M"]), triton.cdiv(PROGRAMS * device.processors(x), strips))
    parts = None if bias is None else torch.empty(num_parts, N, dtype=torch.float32, device=x.device)
    approximate = approximation(x.dtype) if version == 3 else None
    _strip_kernel[(strips * num_parts,)](
        dout, x, bias, residual, dx, parts, M, N, num_parts, activation, approximate, **config
    )
    return dx, x.new_empty(0) if bias is None else add_parts(parts, x.dtype)


def _size(x, bias):
    return 0 if bias is None else x.shape[-1]


# ----------------------------------------------------------------------- what is tested, compiled and measured


@device.launches(versions=3)
def bias_activation_gradients(dout, x, bias, activation, *, version=3):
    """A step forward and one back: (y, dx, dbias)."""
    y = bias_activation(x, bias, activation, version=version)
    return y, *bias_activation_backward(dout, x, bias, activation, version=version)


def _plain(dout, x, bias, activation):
    with torch.enable_grad():
        x, bias = x.detach().requires_grad_(), bias.detach().requires_grad_()
        y = torch_ops.ACTIVATIONS[activation](x + bias)
        return y.detach(), *torch.autograd.grad(y, (x, bias), dout)


def _inputs(new, rows, N, *, activation):
    return {"dout": new(rows, N), "x": new(rows, N), "bias": new(N), "activation": activation}


def _kernel(activation, clip=(), compiled=()):
    return ladder.Kernel(
        ours=bias_activation_gradients,
        plain=_plain,
        inputs=partial(_inputs, activation=activation),
        rows=(),  # dbias is a sum over all rows
        work=lambda rows, N: (0, 4 * rows * N + 2 * N),
        small=({"rows": 5, "N": 37},),
        clip=clip,
        compiled=compiled,
    )


_MLPS = ({"rows": 12_800, "N": 3072}, {"rows": 65_792, "N": 4096})  # of 256 pictures of B/32 and L/14
KERNELS = {
    f"{name}_gradients": _kernel(name, clip=_MLPS) if name in ("quick_gelu", "gelu") else _kernel(name, (), _MLPS[:1])
    for name in NAMES
}

if __name__ == "__main__":
    ladder.show(KERNELS)
