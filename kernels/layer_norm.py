"""Layer norm, and layer norm of a residual sum, each in one pass over memory.

A row is read once and written once, 4·D bytes in 16 bit types, and nothing else should take time: 154 MB for 50,000
rows of 768, 36 µs at the 4.3 TB/s that an H200 copies with. Statistics are float32, in two passes over registers: the
mean first, then the squares of the centred row, so that a large mean costs no digits.

`layer_norm` has three versions:

    1  a row a program          Four warps share a row, and wait for each other at both sums.
    2  a warp a row             Sums stay inside a warp, and no warp waits. A program takes two rows if they are narrow,
                                so that enough loads are under way.
    3  a warp, row after row    Weight and bias are loaded once, and stay in registers: 8 of 12 loads of a row of 768.
                                And a row is pieces of 256 numbers, 8 for each lane; only the last may be padded. 768
                                are 3 pieces, where version 2 has 1024 numbers and a quarter of its lanes idle.
                                Instructions of a row, bfloat16: 477 -> 229; of add_layer_norm 545 -> 271.

`add_layer_norm` is a kernel of its own, without versions. x + update is computed where it is normalised: 4 passes over
memory, 2 read and 2 written, instead of the 5 that a sum and a norm take. A constant of version 3's kernel adds it.

(Layer Normalization: Ba et al., 2016, eq. 4. kernels/README.md says what has been measured.)
"""

from functools import partial

import torch
import triton
import triton.language as tl

from miniclip.kernels import device, ladder, tuning
from miniclip.ops import torch_ops


@triton.jit
def _normalise(x, weight_ptr, bias_ptr, offs_d, D, eps):
    """(x - mean) / √(variance + eps) · weight + bias of the rows of x (M, D), in float32."""
    # the mean of each row, subtracted: (M, D); masked lanes hold -mean after it, whose squares would count
    x_wide = x.to(tl.float32)
    centred = tl.where(offs_d < D, x_wide - tl.sum(x_wide, axis=1, keep_dims=True) / D, 0)
    if x.dtype == tl.float32:  # a large sum is rounded more than float32 numbers are: the mean of the rest corrects it
        centred = tl.where(offs_d < D, centred - tl.sum(centred, axis=1, keep_dims=True) / D, 0)
    # the variance of each row: (M, 1)
    variance = tl.sum(centred * centred, axis=1, keep_dims=True) / D
    weight = tl.load(weight_ptr + offs_d, mask=offs_d < D, other=0).to(tl.float32)  # (1, D)
    bias = tl.load(bias_ptr + offs_d, mask=offs_d < D, other=0).to(tl.float32)  # (1, D)
    return centred * tl.rsqrt(variance + eps) * weight + bias


# --------------------------------------------------------------------------------- version 1: a row a program


@triton.jit
def _row_kernel(x_ptr, weight_ptr, bias_ptr, out_ptr, stride_xm, D, eps, BLOCK_D: tl.constexpr):
    pid = tl.program_id(0).to(tl.int64)
    offs_d = tl.arange(0, BLOCK_D)[None, :]  # (1, D)
    x = tl.load(x_ptr + pid * stride_xm + offs_d, mask=offs_d < D, other=0)  # (1, D)
    y = _normalise(x, weight_ptr, bias_ptr, offs_d, D, eps)
    tl.store(out_ptr + pid * D + offs_d, y.to(out_ptr.dtype.element_ty), mask=offs_d < D)


# -------------------------------------------------------------------------------------- version 2: a warp a row


@triton.jit
def _rows_kernel(
    x_ptr, weight_ptr, bias_ptr, out_ptr, stride_xm, M, D, eps, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr
):  # fmt: skip
    offs_m = tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)[:, None]  # (M, 1)
    offs_d = tl.arange(0, BLOCK_D)[None, :]  # (1, D)
    mask = (offs_m < M) & (offs_d < D)  # (M, D)
    x = tl.load(x_ptr + offs_m * stride_xm + offs_d, mask=mask, other=0)  # (M, D)
    y = _normalise(x, weight_ptr, bias_ptr, offs_d, D, eps)
    tl.store(out_ptr + offs_m * D + offs_d, y.to(out_ptr.dtype.element_ty), mask=mask)


# ----------------------------------------------------- version 3: a warp, row after row; and with a sum before


@triton.jit
def _load(x_ptr, D, PIECES: tl.constexpr, BLOCK_D: tl.constexpr):
    """D numbers as a tuple of PIECES x (BLOCK_D,): tl.arange counts to powers of two only, and the last is padded."""
    x = ()
    for i in tl.static_range(PIECES):
        offs_d = i * BLOCK_D + tl.arange(0, BLOCK_D)
        x += (tl.load(x_ptr + offs_d, mask=offs_d < D, other=0) if i == PIECES - 1 else tl.load(x_ptr + offs_d),)
    return x


@triton.jit
def _store(x_ptr, x, D, PIECES: tl.constexpr, BLOCK_D: tl.constexpr):
    for i in tl.static_range(PIECES):
        offs_d = i * BLOCK_D + tl.arange(0, BLOCK_D)
        tl.store(x_ptr + offs_d, x[i].to(x_ptr.dtype.element_ty), mask=offs_d < D if i == PIECES - 1 else None)


@triton.jit
def _centre(x, D, PIECES: tl.constexpr, BLOCK_D: tl.constexpr):
    """x - mean, in float32; the padding stays 0."""
    total = x[0].to(tl.float32)
    for i in tl.static_range(1, PIECES):
        total += x[i].to(tl.float32)  # piece by piece, so that lanes exchange one number, not PIECES
    mean = tl.sum(total, axis=0) * (1.0 / D)
    centred = ()
    for i in tl.static_range(PIECES):
        offs_d = i * BLOCK_D + tl.arange(0, BLOCK_D)
        piece = x[i].to(tl.float32) - mean
        centred += (tl.where(offs_d < D, piece, 0) if i == PIECES - 1 else piece,)
    return centred


@triton.jit
def _loop_kernel(
    x_ptr, update_ptr, weight_ptr, bias_ptr, sum_ptr, out_ptr, stride_xm, stride_um, M, D, eps,
    PIECES: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    weight, bias = _load(weight_ptr, D, PIECES, BLOCK_D), _load(bias_ptr, D, PIECES, BLOCK_D)
    for row_number in range(tl.program_id(0), M, tl.num_programs(0)):
        row = tl.cast(row_number, tl.int64)
        x = _load(x_ptr + row * stride_xm, D, PIECES, BLOCK_D)  # PIECES x (D,)
        # add_layer_norm: the sum, rounded as it is stored
        if update_ptr is not None:
            update, total = _load(update_ptr + row * stride_um, D, PIECES, BLOCK_D), ()
            for i in tl.static_range(PIECES):
                total += ((x[i].to(tl.float32) + update[i].to(tl.float32)).to(x[i].dtype),)
            x = total
            _store(sum_ptr + row * D, x, D, PIECES, BLOCK_D)
        # centred, and its variance
        x_wide = _centre(x, D, PIECES, BLOCK_D)
        if x[0].dtype == tl.float32:  # as in `_normalise`
            x_wide = _centre(x_wide, D, PIECES, BLOCK_D)
        squares = x_wide[0] * x_wide[0]
        for i in tl.static_range(1, PIECES):
            squares += x_wide[i] * x_wide[i]
        scale = tl.rsqrt(tl.sum(squares, axis=0) * (1.0 / D) + eps)
        y = ()
        for i in tl.static_range(PIECES):
            y += (x_wide[i] * scale * weight[i].to(tl.float32) + bias[i].to(tl.float32),)
        _store(out_ptr + row * D, y, D, PIECES, BLOCK_D)


# --------------------------------------------------------------------------------------- choosing tiles


def tiles(M, D, dtype):
    """How many programs a multiprocessor gets, with how many warps: a warp keeps up to 1280 numbers in registers."""
    default = {"programs": 16, "num_warps": min(32, triton.next_power_of_2(triton.cdiv(D, 1280)))}
    return dict(tuning.find("layer_norm", key(M, D, dtype), default))


def key(M, D, dtype):
    """The key that a tuned configuration is recorded under."""
    return {"D": D, "dtype": str(dtype)[6:], "large": M >= 4096}


def candidates():
    """The configurations that autotuning measures."""
    return [{"programs": programs, "num_warps": warps} for programs in (8, 12, 16, 20, 24, 32) for warps in (1, 2, 4)]


# ------------------------------------------------------------------------------------------- calling them


@device.launches(
    versions=3,
    schema="(Tensor x, Tensor weight, Tensor bias, *, float eps) -> Tensor",
    empty=lambda x, *_, eps: x.new_empty(x.shape),
)
def layer_norm(x, weight, bias, *, eps, version=3, config=None):
    """`numpy_ops.layer_norm`: x (..., D), weight and bias (D,) -> (..., D) of x's dtype, contiguous.

    Any D. Rows may be apart, as those of x[:, 0] are. `config` replaces the tiles of version 3.
    """
    device.expect(weight=(weight, x.shape[-1:]), bias=(bias, x.shape[-1:]))
    x, weight, bias = _as_rows(x), weight.contiguous(), bias.contiguous()
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if out.numel() == 0:
        return out
    D = x.shape[-1]
    flat = x.reshape(-1, D)  # (M, D)
    if version == 1:
        _row_kernel[(len(flat),)](flat, weight, bias, out, flat.stride(0), D, eps, BLOCK_D=triton.next_power_of_2(D))
    elif version == 2:
        BLOCK_M, BLOCK_D = 2 if D <= 512 else 1, triton.next_power_of_2(D)
        _rows_kernel[(triton.cdiv(len(flat), BLOCK_M),)](
            flat, weight, bias, out, flat.stride(0), len(flat), D, eps, BLOCK_D, BLOCK_M,
            num_warps=min(32, max(1, BLOCK_D // 1024)),
        )  # fmt: skip
    else:
        _launch(flat, None, weight, bias, None, out, eps, config)
    return out


@device.launches(
    schema="(Tensor x, Tensor update, Tensor weight, Tensor bias, *, float eps) -> (Tensor, Tensor)",
    empty=lambda x, *_, eps: (x.new_empty(x.shape), x.new_empty(x.shape)),
)
def add_layer_norm(x, update, weight, bias, *, eps, config=None):
    """`numpy_ops.add_layer_norm`: (x + update, its layer norm), both (..., D) of x's dtype and contiguous.

    x and update (..., D), weight and bias (D,). `config` replaces its tiles.
    """
    device.expect(update=(update, x.shape), weight=(weight, x.shape[-1:]), bias=(bias, x.shape[-1:]))
    x, update, weight, bias = _as_rows(x), _as_rows(update), weight.contiguous(), bias.contiguous()
    total, out = (torch.empty(x.shape, dtype=x.dtype, device=x.device) for _ in range(2))
    if out.numel():
        D = x.shape[-1]
        _launch(x.reshape(-1, D), update.reshape(-1, D), weight, bias, total, out, eps, config)
    return total, out


def _launch(x, update, weight, bias, total, out, eps, config):
    M, D = x.shape
    config = config or tiles(M, D, x.dtype)
    BLOCK_D = min(256 * config["num_warps"], triton.next_power_of_2(D))
    _loop_kernel[(min(M, config["programs"] * device.processors(x)),)](
        x, update, weight, bias, total, out, x.stride(0), 0 if update is None else update.stride(0), M, D, eps,
        PIECES=triton.cdiv(D, BLOCK_D), BLOCK_D=BLOCK_D, num_warps=config["num_warps"],
    )  # fmt: skip


def _as_rows(x):
    return x if x.stride(-1) == 1 else x.contiguous()


# ----------------------------------------------------------------------- what is tested, compiled and measured


def _inputs(new, rows, D, update=False):
    x = {"x": new(rows, D), "update": new(rows, D)} if update else {"x": new(rows, D)}
    return {**x, "weight": new(D).mul_(0.1).add_(1), "bias": new(D), "eps": 1e-5}


_SHARED = {
    "small": ({"rows": 5, "D": 37},),
    "clip": tuple({"rows": 50_000, "D": D} for D in (768, 512, 1024)),
    "tuned": "layer_norm",
    "key": lambda rows, D, dtype: key(rows, D, dtype),
    "candidates": candidates,
}
KERNELS = {
    "layer_norm": ladder.Kernel(
        ours=layer_norm,
        plain=torch_ops.layer_norm,
        inputs=_inputs,
        rows=("x",),
        work=lambda rows, D: (0, 2 * rows * D + 2 * D),
        **_SHARED,
    ),
    "add_layer_norm": ladder.Kernel(
        ours=add_layer_norm,
        plain=torch_ops.add_layer_norm,
        inputs=partial(_inputs, update=True),
        rows=("x", "update"),
        work=lambda rows, D: (0, 4 * rows * D + 2 * D),
        **_SHARED,
    ),
}

if __name__ == "__main__":
    ladder.show(KERNELS)
