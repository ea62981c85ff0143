"""Bias, residual and activation in one pass: activation(x + bias + residual).

x * sigmoid(1.702 * x), written with torch's operations, takes 3 kernels that read four times and write three times. One
kernel reads once and writes once: 2 passes over memory instead of 7, of 539 MB each for 256 pictures of ViT-L/14, whose
x has 65,792 x 4096 numbers of 16 bit. A residual, as at the end of a ResNet's block, is read in the same pass: 3 passes
instead of 5.

    1  a block of numbers a program      The bias of each number is looked up by its column: a remainder for each.
    2  a tile of rows and columns        The bias is read once for all rows of a tile.
    3  approximations                    No digits that a 16 bit result drops. Instructions for 16 numbers of quick_gelu
                                         in bfloat16: 368 -> 225, one special function each, tanh, instead of exp2 and
                                         a reciprocal with checks of their range; of gelu 658 -> 274, as erf takes 38
                                         each. (float16: without those checks, 359 -> 231; gelu 648 -> 328.)

Version 3 is off by up to |x| · 2^-12 in bfloat16, where |x| is the input's: as the rounding of large results is, but
also where results are small (near -5, where quick_gelu is -0.001). In float16 it is as exact as a result of 11 digits.

(quick_gelu: clip/model.py, QuickGELU. gelu: Hendrycks and Gimpel, 2016, sec. 2. kernels/README.md says
what has been measured.)
"""

import math
from functools import partial

import torch
import triton
import triton.language as tl

from miniclip.errors import InputError
from miniclip.kernels import device, ladder, tuning
from miniclip.ops import torch_ops

NAMES = ("quick_gelu", "gelu", "relu", "sigmoid", "silu")
SQRT_HALF = tl.constexpr(math.sqrt(0.5))
LOG2_E = tl.constexpr(math.log2(math.e))


@triton.jit
def activate(x, ACTIVATION: tl.constexpr, APPROXIMATE: tl.constexpr = None):
    """The activation of x, float32 numbers of any kernel: one of NAMES, or "none". APPROXIMATE: see `approximation`."""
    if ACTIVATION == "quick_gelu":
        x = x * _sigmoid(x, 1.702, APPROXIMATE)
    elif ACTIVATION == "gelu":
        if APPROXIMATE is None:
            x = x * (0.5 + 0.5 * tl.erf(x * SQRT_HALF))
        else:
            x = x * _sigmoid(x, _normal_logit(x * x, APPROXIMATE), APPROXIMATE)
    elif ACTIVATION == "relu":
        x = tl.where(x < 0, 0.0, x)  # NaN stays NaN
    elif ACTIVATION == "sigmoid":
        x = _sigmoid(x, 1.0, APPROXIMATE)
    elif ACTIVATION == "silu":
        x = x * _sigmoid(x, 1.0, APPROXIMATE)
    return x


# PTX, for Triton's own exp2 and division check the range of their inputs, and it has no tanh.approx.
TANH = tl.constexpr("tanh.approx.f32 $0, $1;")
EXP2_RECIPROCAL = tl.constexpr(
    """
    ex2.approx.ftz.f32 $0, $1;
    add.f32 $0, $0, 0f3F800000;
    rcp.approx.ftz.f32 $0, $0;
    """
)  # 1 / (exp2(x) + 1)


@triton.jit
def _sigmoid(x, scale, APPROXIMATE: tl.constexpr):
    """1 / (1 + exp(-scale · x))."""
    if APPROXIMATE == "tanh":  # sigmoid(x) = 0.5 + 0.5 tanh(x/2)
        return 0.5 + 0.5 * tl.inline_asm_elementwise(TANH, "=f,f", [x * (0.5 * scale)], tl.float32, True, 1)
    elif APPROXIMATE == "exp2":
        return tl.inline_asm_elementwise(EXP2_RECIPROCAL, "=f,f", [x * (-LOG2_E * scale)], tl.float32, True, 1)
    else:
        return tl.sigmoid(scale * x)


@triton.jit
def _normal_logit(u, APPROXIMATE: tl.constexpr):
    """q(u), u = x², for which sigmoid(x · q) is nearly the normal distribution, (1 + erf(x/√2)) / 2.

    These polynomials keep the greatest error of gelu(x) least: "tanh" the absolute one, 2.8e-4, "exp2" the relative
    one, 2^-12, except below 1e-6. Their last coefficient is positive, so that large x give 0 or x.
    """
    if APPROXIMATE == "tanh":
        return 1.600376 + 0.06936771 * u
    else:
        return 1.595143 + u * (0.07360865 + u * (-4.83601e-4 + u * (-3.231059e-5 + u * 1.116708e-6)))


# ------------------------------------------------------------------- version 1: a block of numbers a program


@triton.jit
def _block_kernel(x_ptr, bias_ptr, residual_ptr, out_ptr, numel, N, ACTIVATION: tl.constexpr, BLOCK: tl.constexpr):
    offs = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)  # (BLOCK,)
    mask = offs < numel
    x = tl.load(x_ptr + offs, mask=mask).to(tl.float32)
    if bias_ptr is not None:
        x += tl.load(bias_ptr + offs % N, mask=mask).to(tl.float32)
    if residual_ptr is not None:
        x += tl.load(residual_ptr + offs, mask=mask).to(tl.float32)
    tl.store(out_ptr + offs, activate(x, ACTIVATION).to(out_ptr.dtype.element_ty), mask=mask)


# ------------------------------------------------------------- versions 2 and 3: a tile, and approximations


@triton.jit
def _tile_kernel(
    x_ptr, bias_ptr, residual_ptr, out_ptr, M, N,
    ACTIVATION: tl.constexpr, APPROXIMATE: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    # which tile this program computes: (M, 1), (1, N)
    num_pid_n = tl.cdiv(N, BLOCK_N)
    pid_m, pid_n = tl.program_id(0).to(tl.int64) // num_pid_n, tl.program_id(0) % num_pid_n
    offs_m = pid_m * BLOCK_M + tl.arange(0, BLOCK_M)[:, None]
    offs_n = pid_n * BLOCK_N + tl.arange(0, BLOCK_N)[None, :]
    mask = (offs_m < M) & (offs_n < N)  # (M, N)
    x = tl.load(x_ptr + offs_m * N + offs_n, mask=mask).to(tl.float32)  # (M, N)
    if bias_ptr is not None:
        x += tl.load(bias_ptr + offs_n, mask=offs_n < N).to(tl.float32)  # (1, N), the same for all rows
    if residual_ptr is not None:
        x += tl.load(residual_ptr + offs_m * N + offs_n, mask=mask).to(tl.float32)
    x = activate(x, ACTIVATION, APPROXIMATE)
    tl.store(out_ptr + offs_m * N + offs_n, x.to(out_ptr.dtype.element_ty), mask=mask)


# --------------------------------------------------------------------------------------- choosing tiles


def tiles(M, N, dtype):
    """The tiles of versions 2 and 3: 16 numbers a thread, two loads of 16 bytes if numbers have two bytes."""
    columns = min(512, triton.next_power_of_2(N))
    default = {"BLOCK_M": 2048 // columns, "BLOCK_N": columns, "num_warps": 4}
    return dict(tuning.find("activation", key(M, N, dtype), default))


def key(M, N, dtype):
    """The key that a tuned configuration is recorded under."""
    return {"N": N, "dtype": str(dtype)[6:], "large": M >= 4096}


def candidates():
    """The configurations that autotuning measures."""
    return [
        {"BLOCK_M": M, "BLOCK_N": N, "num_warps": warps}
        for M in (1, 2, 4, 8)
        for N in (256, 512, 1024)
        for warps in (2, 4, 8)
        if 256 <= M * N // warps <= 1024
    ]


# ------------------------------------------------------------------------------------------- calling them


def known(activation):
    """The name of an activation for `activate`: "none" for None. Raises InputError if it is not in NAMES."""
    if activation not in (None, *NAMES):
        raise InputError(f"there is no activation {activation!r}; choose one of {', '.join(NAMES)}")
    return activation or "none"


def approximation(dtype):
    """The form of sigmoid that is exact enough for results of a dtype, as `activate` takes it: None for float32.

    The forms are instructions of NVIDIA's: None on other hardware, and in the interpreter.
    """
    if device.INTERPRETING or triton.runtime.driver.active.get_current_target().backend != "cuda":
        return None
    return {torch.bfloat16: "tanh", torch.float16: "exp2"}.get(dtype)


@device.launches(
    versions=3,
    schema="(Tensor x, Tensor? bias, str? activation, *, Tensor? residual=None) -> Tensor",
    empty=lambda x, *_, residual=None: x.new_empty(x.shape),
)
def bias_activation(x, bias, activation, *, residual=None, in_place=False, version=3, config=None):
    """activation(x + bias + residual), one of NAMES or None -> (..., N) of x's dtype.

    x (..., N) · bias (N,) or None · residual (..., N) or None. `in_place` writes the result over x. `config` replaces
    the tiles of versions 2 and 3.
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
        _block_kernel[(triton.cdiv(M * N, 1024),)](x, bias, residual, out, M * N, N, activation, BLOCK=1024)
    else:
        config = config or tiles(M, N, x.dtype)
        grid = (triton.cdiv(M, config["BLOCK_M"]) * triton.cdiv(N, config["BLOCK_N"]),)
        approximate = approximation(x.dtype) if version == 3 else None
        _tile_kernel[grid](x, bias, residual, out, M, N, activation, approximate, **config)
    return out


# ----------------------------------------------------------------------- what is tested, compiled and measured


def _plain(x, bias, activation, residual=None):
    x = x if bias is None else x + bias
    return torch_ops.ACTIVATIONS[activation](x if residual is None else x + residual)


def _inputs(new, rows, N, bias=True, *, activation, residual=False):
    x = {"x": new(rows, N), "bias": new(N) if bias else None, "activation": activation}
    return {**x, "residual": new(rows, N)} if residual else x


def _kernel(activation, **shapes):
    return ladder.Kernel(
        ours=bias_activation,
        plain=_plain,
        inputs=partial(_inputs, activation=activation),
        rows=("x",),
        work=lambda rows, N: (0, 2 * rows * N + N),
        small=({"rows": 5, "N": 37},),
        compiled=({"rows": 12_800, "N": 3072, "bias": False},),
        tuned="activation",
        key=lambda rows, N, dtype: key(rows, N, dtype),
        candidates=candidates,
        **shapes,
    )


# Of 256 pictures of B/32 and L/14; CLIP's own are these two.
_MLPS = ({"rows": 12_800, "N": 3072}, {"rows": 65_792, "N": 4096})
KERNELS = {
    **{name: _kernel(name, clip=_MLPS if name in ("quick_gelu", "gelu") else ()) for name in NAMES},
    "residual_relu": _kernel("relu")._replace(  # the end of a ResNet's block
        inputs=partial(_inputs, activation="relu", residual=True),
        rows=("x", "residual"),
        work=lambda rows, N: (0, 3 * rows * N + N),
        compiled=({"rows": 802_816, "N": 256},),
    ),
}

if __name__ == "__main__":
    ladder.show(KERNELS)
