"""The gradients of layer norm, and of layer norm of a residual sum.

With c = x - mean, r = 1 / √(variance + eps), h = c · r and y = h · weight + bias, and with g = dy · weight, each row
has

    dx = r · (g - mean(g) - h · mean(g · h))        dweight = Σ dy · h        dbias = Σ dy      (Σ: over all rows)

A row of x and one of dy are read, one of dx is written: 3 passes over memory, and nothing is kept from the forward
pass, as the mean and r of a row cost nothing where the row is in registers anyway. Statistics are float32.

    1  a row a program          A kernel computes dx; torch sums over rows, with h computed once more: in float32, that
                                is some 40 bytes moved for each number, beside 6.
    2  partial sums             A program walks over many rows, a warp each, and sums in registers. One row of sums a
                                program goes to memory, and a second kernel adds these in an order that never changes:
                                the same bits in each run, as no atomic sum would have. Weight is loaded once.

`add_layer_norm_backward` is version 2 with one sum more: x + update is a result itself, so that a gradient comes to it
from elsewhere, the residual stream. It is added where dx is written: 4 passes instead of 6.

(Two stages: Triton's tutorial 05 has locks there; Liger's kernels have a row of sums for each multiprocessor.)
"""

from functools import partial

import torch
import triton
import triton.language as tl

from miniclip.kernels import device, ladder
from miniclip.kernels.layer_norm import _as_rows, add_layer_norm, layer_norm
from miniclip.ops import torch_ops

# --------------------------------------------------------------------------------- version 1: a row a program


@triton.jit
def _row_kernel(
    dout_ptr, x_ptr, weight_ptr, dx_ptr, mean_ptr, scale_ptr, stride_dm, stride_xm, D, eps, BLOCK_D: tl.constexpr
):  # fmt: skip
    pid = tl.program_id(0).to(tl.int64)
    offs_d = tl.arange(0, BLOCK_D)  # (D,)
    mask = offs_d < D
    x = tl.load(x_ptr + pid * stride_xm + offs_d, mask=mask, other=0).to(tl.float32)
    dout = tl.load(dout_ptr + pid * stride_dm + offs_d, mask=mask, other=0).to(tl.float32)
    weight = tl.load(weight_ptr + offs_d, mask=mask, other=0).to(tl.float32)
    # the row, normalised; twice centred, as a large sum is rounded more than float32 numbers are
    mean = tl.sum(x) / D
    mean += tl.sum(tl.where(mask, x - mean, 0)) / D
    centred = tl.where(mask, x - mean, 0)
    scale = tl.rsqrt(tl.sum(centred * centred) / D + eps)
    normal = centred * scale
    # its gradient: g without its mean, and without what would only change the row's variance
    g = dout * weight
    dx = scale * (g - tl.sum(g) / D - normal * (tl.sum(g * normal) / D))
    tl.store(dx_ptr + pid * D + offs_d, dx.to(dx_ptr.dtype.element_ty), mask=mask)
    tl.store(mean_ptr + pid, mean)
    tl.store(scale_ptr + pid, scale)


# ------------------------------------------------------------------------------------- version 2: partial sums


@triton.jit
def _load(x_ptr, mask, D, PIECES: tl.constexpr, BLOCK_D: tl.constexpr):
    """Rows of D numbers as a tuple of PIECES x (M, BLOCK_D), in float32; mask (M, 1): the rows that exist."""
    x = ()
    for i in tl.static_range(PIECES):
        offs_d = i * BLOCK_D + tl.arange(0, BLOCK_D)[None, :]
        piece = tl.load(x_ptr + offs_d, mask=mask & (offs_d < D) if i == PIECES - 1 else mask, other=0)
        x += (piece.to(tl.float32),)
    return x


@triton.jit
def _store(x_ptr, x, mask, D, PIECES: tl.constexpr, BLOCK_D: tl.constexpr):
    for i in tl.static_range(PIECES):
        offs_d = i * BLOCK_D + tl.arange(0, BLOCK_D)[None, :]
        mask_d = mask & (offs_d < D) if i == PIECES - 1 else mask
        tl.store(x_ptr + offs_d, x[i].to(x_ptr.dtype.element_ty), mask=mask_d)


@triton.jit
def _mean_of_products(x, y, D, PIECES: tl.constexpr):
    """The mean of x · y of each row, (M, 1); y None: of x."""
    total = x[0] if y is None else x[0] * y[0]
    for i in tl.static_range(1, PIECES):
        total += x[i] if y is None else x[i] * y[i]
    return tl.sum(total, axis=1, keep_dims=True) * (1.0 / D)


@triton.jit
def _without(x, mean, D, PIECES: tl.constexpr, BLOCK_D: tl.constexpr):
    """x - mean; the padding stays 0."""
    y = ()
    for i in tl.static_range(PIECES):
        offs_d = i * BLOCK_D + tl.arange(0, BLOCK_D)[None, :]
        y += (tl.where(offs_d < D, x[i] - mean, 0) if i == PIECES - 1 else x[i] - mean,)
    return y


@triton.jit
def _rows_kernel(
    dout_ptr, x_ptr, dsum_ptr, weight_ptr, dx_ptr, dweights_ptr, dbiases_ptr,
    stride_dm, stride_xm, stride_sm, M, D, eps,
    PIECES: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    pid = tl.program_id(0)
    weight = _load(weight_ptr, tl.full([1, 1], 1, tl.int1), D, PIECES, BLOCK_D)  # PIECES x (1, D)
    dweight, dbias = (), ()
    for _ in tl.static_range(PIECES):
        dweight += (tl.zeros([BLOCK_M, BLOCK_D], tl.float32),)
        dbias += (tl.zeros([BLOCK_M, BLOCK_D], tl.float32),)
    for start_m in range(pid * BLOCK_M, M, tl.num_programs(0) * BLOCK_M):
        offs_m = (start_m + tl.arange(0, BLOCK_M)[:, None]).to(tl.int64)  # (M, 1)
        mask = offs_m < M
        x = _load(x_ptr + offs_m * stride_xm, mask, D, PIECES, BLOCK_D)  # PIECES x (M, D)
        dout = _load(dout_ptr + offs_m * stride_dm, mask, D, PIECES, BLOCK_D)
        # the rows, normalised
        x = _without(x, _mean_of_products(x, None, D, PIECES), D, PIECES, BLOCK_D)
        if x_ptr.dtype.element_ty == tl.float32:  # as in version 1
            x = _without(x, _mean_of_products(x, None, D, PIECES), D, PIECES, BLOCK_D)
        scale = tl.rsqrt(_mean_of_products(x, x, D, PIECES) + eps)  # (M, 1)
        normal, g = (), ()
        for i in tl.static_range(PIECES):
            normal += (x[i] * scale,)
            g += (dout[i] * weight[i],)
        # their gradient, and what they add to the sums; rows that do not exist are zeros, and add none
        mean_g, mean_gn = _mean_of_products(g, None, D, PIECES), _mean_of_products(g, normal, D, PIECES)
        dx, dweight_here, dbias_here = (), (), ()
        for i in tl.static_range(PIECES):
            dx += (scale * (g[i] - mean_g - normal[i] * mean_gn),)
            dweight_here += (dweight[i] + dout[i] * normal[i],)
            dbias_here += (dbias[i] + dout[i],)
        dweight, dbias = dweight_here, dbias_here
        if dsum_ptr is not None:
            dsum, total = _load(dsum_ptr + offs_m * stride_sm, mask, D, PIECES, BLOCK_D), ()
            for i in tl.static_range(PIECES):
                total += (dx[i] + dsum[i],)
            dx = total
        _store(dx_ptr + offs_m * D, dx, mask, D, PIECES, BLOCK_D)
    # the sums of this program's rows: (M, D) -> (1, D)
    for i in tl.static_range(PIECES):
        offs_d = i * BLOCK_D + tl.arange(0, BLOCK_D)
        tl.store(dweights_ptr + pid * D + offs_d, tl.sum(dweight[i], axis=0), mask=offs_d < D)
        tl.store(dbiases_ptr + pid * D + offs_d, tl.sum(dbias[i], axis=0), mask=offs_d < D)


@triton.jit
def _sum_kernel(parts_ptr, out_ptr, P, N, BLOCK_P: tl.constexpr, BLOCK_N: tl.constexpr):
    """The sums over P of parts (P, N): out (N,)."""
    offs_n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)[None, :]  # (1, N)
    acc = tl.zeros([BLOCK_P, BLOCK_N], tl.float32)
    for start_p in range(0, P, BLOCK_P):
        offs_p = start_p + tl.arange(0, BLOCK_P)[:, None]  # (P, 1)
        acc += tl.load(parts_ptr + offs_p * N + offs_n, mask=(offs_p < P) & (offs_n < N), other=0)
    total = tl.sum(acc, axis=0, keep_dims=True)  # (1, N)
    tl.store(out_ptr + offs_n, total.to(out_ptr.dtype.element_ty), mask=offs_n < N)


def add_parts(parts, dtype):
    """The sums over P of parts (P, N) float32, always in the same order: (N,) of a dtype."""
    P, N = parts.shape
    out = torch.empty(N, dtype=dtype, device=parts.device)
    BLOCK_N = 32  # few columns a program, so that programs are many: all of this is waiting for memory
    _sum_kernel[(triton.cdiv(N, BLOCK_N),)](parts, out, P, N, BLOCK_P=64, BLOCK_N=BLOCK_N)
    return out


# ------------------------------------------------------------------------------------------- calling them

# Chosen by counted cycles, not measured yet.
WARPS = 4  # of a program
WIDEST = 1024  # numbers of a row that a warp keeps in registers: of x, of dout and of both sums


def _programs(D):
    """How many programs a multiprocessor gets: as many as their registers leave room for, 4 at D = 512, 3 at 768."""
    return max(1, min(4, 2400 // D))


def _launch(dout, x, dsum, weight, eps):
    """dx (M, D), and dweight and dbias (D,), by version 2: dout, x and dsum (M, D) or None."""
    M, D = x.shape
    dx = torch.empty(M, D, dtype=x.dtype, device=x.device)
    warps = min(32, triton.next_power_of_2(triton.cdiv(D, WIDEST)))  # of a row
    config = device.count_warps({"num_warps": max(WARPS, warps)})
    BLOCK_M = max(1, WARPS // warps)
    BLOCK_D = min(256 * warps, triton.next_power_of_2(D))
    programs = min(triton.cdiv(M, BLOCK_M), _programs(D) * device.processors(x))
    parts = torch.empty(2, programs, D, dtype=torch.float32, device=x.device)
    _rows_kernel[(programs,)](
        dout, x, dsum, weight, dx, parts[0], parts[1],
        dout.stride(0), x.stride(0), 0 if dsum is None else dsum.stride(0), M, D, eps,
        PIECES=triton.cdiv(D, BLOCK_D), BLOCK_M=BLOCK_M, BLOCK_D=BLOCK_D, **config,
    )  # fmt: skip
    return dx, add_parts(parts[0], x.dtype), add_parts(parts[1], x.dtype)


@device.launches(
    versions=2,
    schema="(Tensor dout, Tensor x, Tensor weight, *, float eps) -> (Tensor, Tensor, Tensor)",
    empty=lambda dout, x, weight, *, eps: (x.new_empty(x.shape), *(x.new_empty(weight.shape) for _ in range(2))),
)
def layer_norm_backward(dout, x, weight, *, eps, version=2):
    """The gradients of `layer_norm`, for a gradient `dout` of its result: (dx, dweight, dbias), all of x's dtype.

    dout and x (..., D), weight (D,) -> (..., D), contiguous, and (D,) twice. Any D. The same bits in every call.
    """
    device.expect(dout=(dout, x.shape), weight=(weight, x.shape[-1:]))
    shape, D = x.shape, x.shape[-1]
    dout, x, weight = _as_rows(dout).reshape(-1, D), _as_rows(x).reshape(-1, D), weight.contiguous()  # (M, D)
    if x.numel() == 0:
        return x.new_empty(shape), torch.zeros_like(weight), torch.zeros_like(weight)
    if version == 2:
        dx, dweight, dbias = _launch(dout, x, None, weight, eps)
        return dx.reshape(shape), dweight, dbias
    M = len(x)
    dx = torch.empty(M, D, dtype=x.dtype, device=x.device)
    mean, scale = (torch.empty(M, dtype=torch.float32, device=x.device) for _ in range(2))
    BLOCK_D = triton.next_power_of_2(D)
    _row_kernel[(M,)](dout, x, weight, dx, mean, scale, dout.stride(0), x.stride(0), D, eps, BLOCK_D=BLOCK_D)
    normal = (x.float() - mean[:, None]) * scale[:, None]  # (M, D)
    dweight, dbias = (dout.float() * normal).sum(0), dout.float().sum(0)
    return dx.reshape(shape), dweight.to(x.dtype), dbias.to(x.dtype)


@device.launches(
    schema="(Tensor dsum, Tensor dout, Tensor x, Tensor weight, *, float eps) -> (Tensor, Tensor, Tensor)",
    empty=lambda _, dout, x, weight, *, eps: (x.new_empty(x.shape), *(x.new_empty(weight.shape) for _ in range(2))),
)
def add_layer_norm_backward(dsum, dout, x, weight, *, eps):
    """The gradients of `add_layer_norm`, for those of its two results, dsum and dout: (dx, dweight, dbias).

    x (..., D) is the sum, the first result. dx is the gradient of x and of update, which are the same.
    """
    device.expect(dsum=(dsum, x.shape), dout=(dout, x.shape), weight=(weight, x.shape[-1:]))
    shape, D = x.shape, x.shape[-1]
    if x.numel() == 0:
        return x.new_empty(shape), torch.zeros_like(weight), torch.zeros_like(weight)
    dsum, dout, x = (_as_rows(t).reshape(-1, D) for t in (dsum, dout, x))
    dx, dweight, dbias = _launch(dout, x, dsum, weight.contiguous(), eps)
    return dx.reshape(shape), dweight, dbias


# ----------------------------------------------------------------------- what is tested, compiled and measured


@device.launches(versions=2)
def layer_norm_gradients(dout, x, weight, bias, *, eps, version=2):
    """A step forward and one back: (y, dx, dweight, dbias)."""
    y = layer_norm(x, weight, bias, eps=eps)
    return y, *layer_norm_backward(dout, x, weight, eps=eps, version=version)


@device.launches()
def add_layer_norm_gradients(dsum, dout, x, update, weight, bias, *, eps):
    """A step forward and one back: (x + update, its norm, dx, dweight, dbias)."""
    total, y = add_layer_norm(x, update, weight, bias, eps=eps)
    return total, y, *add_layer_norm_backward(dsum, dout, total, weight, eps=eps)


def _plain(dout, x, weight, bias, *, eps):
    return _step(partial(torch_ops.layer_norm, eps=eps), dout, x, weight, bias)


def _liger(dout, x, weight, bias, *, eps):
    from liger_kernel.ops.layer_norm import LigerLayerNormFunction  # if it is there: pip install liger-kernel

    return _step(lambda *tensors: LigerLayerNormFunction.apply(*tensors, eps), dout, x, weight, bias)


def _step(norm, dout, *tensors):
    with torch.enable_grad():
        tensors = [x.detach().requires_grad_() for x in tensors]
        y = norm(*tensors)
        return y.detach(), *torch.autograd.grad(y, tensors, dout)


def _plain_sum(dsum, dout, x, update, weight, bias, *, eps):
    with torch.enable_grad():
        x, weight, bias = (t.detach().requires_grad_() for t in (x, weight, bias))
        total, y = torch_ops.add_layer_norm(x, update, weight, bias, eps=eps)
        return total.detach(), y.detach(), *torch.autograd.grad((total, y), (x, weight, bias), (dsum, dout))


def _inputs(new, rows, D, update=False):
    norm = {"weight": new(D).mul_(0.1).add_(1), "bias": new(D), "eps": 1e-5}
    if update:
        return {"dsum": new(rows, D), "dout": new(rows, D), "x": new(rows, D), "update": new(rows, D), **norm}
    return {"dout": new(rows, D), "x": new(rows, D), **norm}


_SHARED = {
    "rows": (),  # dweight and dbias are sums over all rows
    "small": ({"rows": 5, "D": 37},),
    "clip": tuple({"rows": 50_000, "D": D} for D in (768, 1024)),
}
KERNELS = {
    "layer_norm_gradients": ladder.Kernel(
        ours=layer_norm_gradients,
        plain=_plain,
        inputs=_inputs,
        work=lambda rows, D: (0, 4 * rows * D + 4 * D),
        peers={"Liger": _liger},
        **_SHARED,
    ),
    "add_layer_norm_gradients": ladder.Kernel(
        ours=add_layer_norm_gradients,
        plain=_plain_sum,
        inputs=partial(_inputs, update=True),
        work=lambda rows, D: (0, 7 * rows * D + 4 * D),
        **_SHARED,
    ),
}

if __name__ == "__main__":
    ladder.show(KERNELS)
