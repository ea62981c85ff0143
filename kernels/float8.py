"""Linear layers in 8 bit: e4m3 numbers on the matrix units, twice as fast as 16 bit ones and half the bytes.

e4m3 has 4 bits of exponent and 3 of mantissa: a number is rounded by up to 6%, from 2^-9 to 448. So tensors are scaled:
x @ weight.T = (x / s) @ (weight / t).T · s · t, with x / s and weight / t in e4m3, and both scales in the epilogue. A
weight has one scale for each output channel and is quantised once; x is quantised as it comes. Scales are powers of
two: e4m3 is floating, so that no other scale is more exact, and then dividing by one is exact.

    1  one scale a tensor     The largest number of x is found first, by a pass of its own. One token with a large
                              number costs the others digits: what is below 2^-15 of the largest is rounded more.
    2  one scale a row        A row is in registers when it is quantised: its largest number costs nothing, x is read
                              once, and no token depends on another.
    3  persistent             As in `linear.py`: one program a multiprocessor, tiles by the copy engine (TMA).

Hopper sums e4m3 products with some 14 bits only (see `STEP`): sums are moved to float32 registers on the way.

`quantise_weight` makes a `Weight`, which `triton_ops.linear` takes instead of a tensor. `serving.float8` quantises a
model, and keeps layers as they are if they cost too much.

(FP8 Formats for Deep Learning: Micikevicius et al., 2022. Sums with 14 bits: DeepSeek-V3, 2024, sec. 3.3.2.)
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

from miniclip.errors import InputError
from miniclip.kernels import device, ladder
from miniclip.kernels.activation import activate, known
from miniclip.kernels.linear import band_product, swizzle
from miniclip.ops import torch_ops

LEAST_CAPABILITY = 89  # Ada's: the first with e4m3
LARGEST = 448.0  # of e4m3
# Hopper adds products of e4m3 in registers of some 14 bits. So a step of the loop is left to the matrix units, and then
# added to a sum in float32. A model in NumPy (each 32 products are aligned to the largest and cut to 14 bits) says how
# much that is worth, as root mean squares of error and result at K = 4096: 1.5e-3 to 2e-3 if all is left to the matrix
# units, as much as rounding to bfloat16; 1.3e-4 to 1.5e-4 with steps of 128. Quantising errs by 3.7e-2.
# (`tl.dot(..., max_num_imprecise_acc=128)` should do the same, but Triton 3.6 and 3.7 add sums before they are
# finished, and the assembler has to put waits between.)
STEP = 128


class Weight(NamedTuple):
    """A weight (out, in) in e4m3 and the scale of each output channel: weight = values · scale."""

    values: torch.Tensor  # (out, in) float8_e4m3fn
    scale: torch.Tensor  # (out,) float32, powers of two

    @property
    def shape(self):
        return self.values.shape

    @property
    def device(self):
        return self.values.device


def quantise(x):
    """x (..., K) -> (e4m3 numbers (..., K), scales (...,) float32), one scale a row: the largest is 224 to 448."""
    largest = x.abs().amax(dim=-1).float()
    mantissa, exponent = torch.frexp(largest)  # largest = mantissa · 2^exponent, and 448 = 0.875 · 2^9
    exponent = torch.where(largest > 0, exponent - 9 + (mantissa > 0.875), 0).clamp(min=-100)
    scale = torch.ldexp(torch.ones_like(largest), exponent)
    return (x / scale[..., None].to(torch.promote_types(x.dtype, torch.float32))).to(torch.float8_e4m3fn), scale


def quantise_weight(weight):
    """A weight (out, in) as `Weight`."""
    return Weight(*quantise(weight))


def why_not(device_name=None):
    """The reason why a device cannot compute in e4m3, or None if it can."""
    reason = device.why_not(device_name)
    if reason is None and device.amd():
        return f"nobody has tried e4m3 on AMD's {device.capability()}"
    if reason is None and device.capability() < LEAST_CAPABILITY:
        return f"it has compute capability {device.capability() / 10}, float8 needs {LEAST_CAPABILITY / 10}"
    return reason


# ------------------------------------------------------------------------------------------- quantising rows


@triton.jit
def _round(x):
    """x, up to 448, rounded to what e4m3 has, ties to even: for Triton's interpreter, whose conversion is wrong."""
    bits = x.to(tl.int32, bitcast=True)
    normal = ((bits + 0x7FFFF + ((bits >> 20) & 1)) & -0x100000).to(tl.float32, bitcast=True)  # 3 bits of mantissa
    small = (x + 24576.0) - 24576.0  # a multiple of 2^-9: what float32 has at 1.5 · 2^14
    return tl.where(tl.abs(x) < 0.015625, small, normal)


@triton.jit
def _quantise_kernel(
    x_ptr, values_ptr, scale_ptr, M, K, BLOCK_M: tl.constexpr, BLOCK_K: tl.constexpr, INTERPRETING: tl.constexpr
):  # fmt: skip
    offs_m = tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)[:, None]  # (M, 1)
    offs_k = tl.arange(0, BLOCK_K)[None, :]  # (1, K)
    mask = (offs_m < M) & (offs_k < K)
    x = tl.load(x_ptr + offs_m * K + offs_k, mask=mask, other=0).to(tl.float32)  # (M, K)
    # The least power of two with largest / scale <= 448 = 1.75 · 2^8: of largest = f · 2^e it is 2^(e - 8), or one more
    # if f > 1.75. Adding to the bits of a float carries into its exponent. A scale of 2^-100 or more has an inverse.
    largest = tl.max(tl.abs(x), axis=1, keep_dims=True)  # (M, 1)
    exponent = ((largest.to(tl.int32, bitcast=True) + 0x1FFFFF) >> 23) - 8
    exponent = tl.where(largest > 0, tl.maximum(exponent, 27), 127)
    x *= ((254 - exponent) << 23).to(tl.float32, bitcast=True)
    if INTERPRETING:
        x = _round(x)
    tl.store(values_ptr + offs_m * K + offs_k, x.to(values_ptr.dtype.element_ty), mask=mask)
    tl.store(scale_ptr + offs_m, (exponent << 23).to(tl.float32, bitcast=True), mask=offs_m < M)


# --------------------------------------------------------------------------------- versions 1 and 2: a tile a program


@triton.jit
def _tile_kernel(
    x_ptr, x_scale_ptr, weight_ptr, weight_scale_ptr, bias_ptr, out_ptr, M, N, K,
    ACTIVATION: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
    GROUP_M: tl.constexpr,
):  # fmt: skip
    pid_m, pid_n = swizzle(tl.program_id(0), M, N, BLOCK_M, BLOCK_N, GROUP_M)
    offs_m, offs_n = pid_m * BLOCK_M + tl.arange(0, BLOCK_M), pid_n * BLOCK_N + tl.arange(0, BLOCK_N)  # (M,), (N,)
    acc = band_product(x_ptr, weight_ptr, offs_m, offs_n, M, N, K, BLOCK_M, BLOCK_N, BLOCK_K, "ieee")
    out = _epilogue(acc, x_scale_ptr, weight_scale_ptr, bias_ptr, offs_m, offs_n, M, N, ACTIVATION)
    mask = (offs_m[:, None] < M) & (offs_n[None, :] < N)
    out_ptrs = out_ptr + offs_m.to(tl.int64)[:, None] * N + offs_n[None, :]
    tl.store(out_ptrs, out.to(out_ptr.dtype.element_ty), mask=mask)


@triton.jit
def _epilogue(acc, x_scale_ptr, weight_scale_ptr, bias_ptr, offs_m, offs_n, M, N, ACTIVATION: tl.constexpr):
    """activation(acc · scale of its row · scale of its column + bias): (M, N)."""
    out = acc * tl.load(x_scale_ptr + offs_m, mask=offs_m < M, other=0)[:, None]
    out *= tl.load(weight_scale_ptr + offs_n, mask=offs_n < N, other=0)[None, :]
    if bias_ptr is not None:
        out += tl.load(bias_ptr + offs_n, mask=offs_n < N, other=0).to(tl.float32)[None, :]
    return activate(out, ACTIVATION)


# ---------------------------------------------------------------------------------------- version 3: persistent


@triton.jit
def _persistent_kernel(
    x_desc, x_scale_ptr, weight_desc, weight_scale_ptr, bias_ptr, out_desc, M, N, K,
    ACTIVATION: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
    GROUP_M: tl.constexpr, NUM_SMS: tl.constexpr,
):  # fmt: skip
    for tile in tl.range(tl.program_id(0), tl.cdiv(M, BLOCK_M) * tl.cdiv(N, BLOCK_N), NUM_SMS, flatten=True):
        pid_m, pid_n = swizzle(tile, M, N, BLOCK_M, BLOCK_N, GROUP_M)
        start_m, start_n = pid_m * BLOCK_M, pid_n * BLOCK_N
        acc = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
        for start_k in range(0, K, BLOCK_K):
            x = x_desc.load([start_m, start_k])  # (M, K), zeros beyond the end
            weight = weight_desc.load([start_n, start_k])  # (N, K)
            acc += tl.dot(x, weight.T)  # see STEP
        offs_m, offs_n = start_m + tl.arange(0, BLOCK_M), start_n + tl.arange(0, BLOCK_N)
        out = _epilogue(acc, x_scale_ptr, weight_scale_ptr, bias_ptr, offs_m, offs_n, M, N, ACTIVATION)
        out_desc.store([start_m, start_n], out.to(out_desc.dtype))


# ------------------------------------------------------------------------------------------- calling them

# (up to M rows): tiles, not measured yet. 128 x 128, and not 256 x 128 as in 16 bit: a second sum is in registers.
TILES = {
    64: {"BLOCK_M": 64, "BLOCK_N": 64, "BLOCK_K": STEP, "num_warps": 4, "num_stages": 3},
    math.inf: {"BLOCK_M": 128, "BLOCK_N": 128, "BLOCK_K": STEP, "num_warps": 8, "num_stages": 3},
}


@device.launches(versions=3)
def linear(x, weight, bias=None, activation=None, *, version=3, config=None):
    """activation(x @ weight.T + bias): x (..., in), weight a `Weight`, bias (out,) or None -> (..., out) of x's dtype.

    x is quantised by its rows, with version 1 as a whole. activation one of `activation.NAMES` or None. `config`
    replaces the tiles. Raises InputError where the GPU has no e4m3.
    """
    if reason := why_not(x.device):
        raise InputError(f"float8 layers cannot run: {reason}")
    N, K = weight.shape
    device.expect(x=(x, (*x.shape[:-1], K)), scale=(weight.scale, (N,)))
    flat = x.reshape(-1, K).contiguous()  # (M, K)
    if bias is not None:
        device.expect(bias=(bias, (N,)))
        bias = bias.contiguous()
    M = len(flat)
    out = torch.empty(M, N, dtype=x.dtype, device=x.device)
    if out.numel() == 0:
        return out.reshape(*x.shape[:-1], N)
    values, scale = _of_tensor(flat) if version == 1 else quantise_rows(flat)
    config = dict(config or TILES[min(rows for rows in TILES if rows >= M)])
    constants = {"ACTIVATION": known(activation), "GROUP_M": 8, **config}
    num_tiles = triton.cdiv(M, config["BLOCK_M"]) * triton.cdiv(N, config["BLOCK_N"])
    aligned = K % 16 == 0 and N * out.element_size() % 16 == 0 and weight.values.data_ptr() % 16 == 0
    # GeForce Blackwell (120) has the copy engine, but not the shared memory for these tiles.
    if version == 3 and aligned and 90 <= device.capability() < 120:
        num_sms = min(num_tiles, device.processors(x))
        _persistent_kernel[(num_sms,)](
            TensorDescriptor.from_tensor(values, [config["BLOCK_M"], config["BLOCK_K"]]),
            scale,
            TensorDescriptor.from_tensor(weight.values, [config["BLOCK_N"], config["BLOCK_K"]]),
            weight.scale, bias,
            TensorDescriptor.from_tensor(out, [config["BLOCK_M"], config["BLOCK_N"]]),
            M, N, K, NUM_SMS=num_sms, **constants,
        )  # fmt: skip
    else:  # the copy engine takes rows that begin at multiples of 16 bytes
        _tile_kernel[(num_tiles,)](values, scale, weight.values, weight.scale, bias, out, M, N, K, **constants)
    return out.reshape(*x.shape[:-1], N)


def quantise_rows(x):
    """`quantise` of x (M, K), contiguous, in one pass over memory."""
    M, K = x.shape
    values = torch.empty(M, K, dtype=torch.float8_e4m3fn, device=x.device)
    scale = torch.empty(M, dtype=torch.float32, device=x.device)
    BLOCK_K = triton.next_power_of_2(K)
    BLOCK_M, num_warps = max(1, 1024 // BLOCK_K), max(1, min(16, BLOCK_K // 1024))
    _quantise_kernel[(triton.cdiv(M, BLOCK_M),)](
        x, values, scale, M, K, BLOCK_M, BLOCK_K, INTERPRETING=device.INTERPRETING, num_warps=num_warps
    )
    return values, scale


def _of_tensor(x):
    """x (M, K) with one scale for all of it: the scale of its largest row, repeated."""
    _, scales = quantise(x.reshape(1, -1))
    return (x / scales).to(torch.float8_e4m3fn), scales.expand(len(x)).contiguous()


# ----------------------------------------------------------------------- what is tested, compiled and measured


def _inputs(new, M, N, K, activation="quick_gelu"):
    weight = new(N, K).mul_(K**-0.5)
    return {"x": new(M, K), "weight": quantise_weight(weight), "bias": new(N), "activation": activation}


def plain(x, weight, bias=None, activation=None):
    """The same by torch: x quantised by its rows, its product in x's dtype."""
    values, scale = quantise(x)
    x = values.to(x.dtype) * scale[..., None].to(x.dtype)
    out = F.linear(x, weight.values.to(x.dtype) * weight.scale[:, None].to(x.dtype))
    out = out if bias is None else out + bias
    return out if activation is None else torch_ops.ACTIVATIONS[activation](out)


KERNELS = {
    "float8": ladder.Kernel(
        ours=linear,
        plain=plain,
        inputs=_inputs,
        rows=("x",),
        # Numbers of 16 bit: a weight has half as many bytes, and scales of 32 bit.
        work=lambda M, N, K: (2 * M * N * K, M * K + N * K // 2 + 2 * N + N + M * N),
        small=({"M": 5, "N": 19, "K": 37}, {"M": 5, "N": 32, "K": 48}),  # the second is one that version 3 takes
        capability=LEAST_CAPABILITY,
        clip=({"M": 12_800, "N": 3072, "K": 768}, {"M": 65_792, "N": 4096, "K": 1024}),
        compiled=({"M": 50, "N": 3072, "K": 768},),
    )
}

if __name__ == "__main__":
    ladder.show(KERNELS)
