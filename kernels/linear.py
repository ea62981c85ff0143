"""A linear layer whose product never leaves the chip before its bias and activation: activation(x @ weight.T + bias).

The library's product writes x @ weight.T to memory, and `bias_activation` reads and writes it once more: 1.08 GB for
256 pictures of ViT-L/14, 250 µs at 4.3 TB/s, beside a product of 700 µs at 790 TFLOP/s. So this one pays where it runs
at more than three quarters of the library's speed, and never where there is nothing to fuse.

    1  a tile a program       Each computes one tile of the result from a band of x and a band of weight. Tiles run row
                              by row: those running together share a band of x, and read all of weight.
    2  in groups              Tiles running together form a block of rows and columns. 132 tiles of 128 x 128 of a
                              result 4096 wide need 25 bands in the place of 37; the others come out of the cache.
    3  programs that stay     One program a multiprocessor goes from tile to tile (a persistent kernel): the next tile's
                              loads are on their way while this one's activation is computed, its epilogue. And the
                              copy engine brings the tiles (TMA, from compute capability 9.0 on), so that no thread
                              computes addresses.

Versions 1 and 2 are one kernel, with a GROUP of one and of more (a swizzle). (Order and persistence as in Triton's
tutorials 03 and 09. kernels/README.md says what has been measured.)
"""

import math

import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

from miniclip.kernels import device, tuning
from miniclip.kernels.activation import activate, known


@triton.jit
def _place(tile, M, N, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, GROUP: tl.constexpr):
    """First row and column of a tile: down GROUP rows of tiles, then on to the next column of tiles."""
    rows, columns = tl.cdiv(M, BLOCK_M), tl.cdiv(N, BLOCK_N)
    first = tile // (GROUP * columns) * GROUP
    height = tl.minimum(rows - first, GROUP)
    within = tile % (GROUP * columns)
    return (first + within % height) * BLOCK_M, within // height * BLOCK_N


@triton.jit
def _tile(
    x_ptr, weight_ptr, bias_ptr, out_ptr, M, N, K,
    ACTIVATION: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, GROUP: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    first_m, first_n = _place(tl.program_id(0), M, N, BLOCK_M, BLOCK_N, GROUP)
    m, n, k = first_m + tl.arange(0, BLOCK_M), first_n + tl.arange(0, BLOCK_N), tl.arange(0, BLOCK_K)
    # Rows beyond the end are read from its beginning, which is always there, and never written.
    x_ptrs = x_ptr + (m % M).to(tl.int64)[:, None] * K + k[None, :]  # (M, K)
    weight_ptrs = weight_ptr + (n % N).to(tl.int64)[:, None] * K + k[None, :]  # (N, K)
    product = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    for start in range(0, K, BLOCK_K):
        x = tl.load(x_ptrs + start, mask=start + k[None, :] < K, other=0)
        weight = tl.load(weight_ptrs + start, mask=start + k[None, :] < K, other=0)
        product = tl.dot(x, weight.T, product, input_precision=PRECISION)  # (M, N)
    if bias_ptr is not None:
        product += tl.load(bias_ptr + n, mask=n < N, other=0).to(tl.float32)[None, :]
    out = activate(product, ACTIVATION).to(out_ptr.dtype.element_ty)
    tl.store(out_ptr + m.to(tl.int64)[:, None] * N + n[None, :], out, mask=(m[:, None] < M) & (n[None, :] < N))


@triton.jit
def _staying(
    x_tiles, weight_tiles, bias_ptr, out_tiles, M, N, K,
    ACTIVATION: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, GROUP: tl.constexpr,
    PROGRAMS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    for tile in tl.range(tl.program_id(0), tl.cdiv(M, BLOCK_M) * tl.cdiv(N, BLOCK_N), PROGRAMS, flatten=True):
        m, n = _place(tile, M, N, BLOCK_M, BLOCK_N, GROUP)
        product = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
        for start in range(0, K, BLOCK_K):
            x, weight = x_tiles.load([m, start]), weight_tiles.load([n, start])  # (M, K), (N, K), zeros beyond the end
            product = tl.dot(x, weight.T, product, input_precision=PRECISION)  # (M, N)
        # Half of the columns at a time: the copy engine takes its tile from shared memory, which holds the next loads.
        halves = product.reshape(BLOCK_M, 2, BLOCK_N // 2).permute(0, 2, 1).split()
        for half in tl.static_range(2):
            first = n + half * (BLOCK_N // 2)
            out = halves[half]  # (M, N/2)
            if bias_ptr is not None:
                columns = first + tl.arange(0, BLOCK_N // 2)
                out += tl.load(bias_ptr + columns, mask=columns < N, other=0).to(tl.float32)[None, :]
            out_tiles.store([m, first], activate(out, ACTIVATION).to(out_tiles.dtype))


# (least capability, up to M rows): tiles. Chosen by their compiled resources and counted bytes, not measured yet.
TILES = {
    (80, 64): {"version": 2, "BLOCK_M": 64, "BLOCK_N": 32, "BLOCK_K": 64, "num_warps": 4, "num_stages": 4},
    (80, 1024): {"version": 2, "BLOCK_M": 64, "BLOCK_N": 64, "BLOCK_K": 64, "num_warps": 4, "num_stages": 4},
    (80, math.inf): {"version": 2, "BLOCK_M": 128, "BLOCK_N": 128, "BLOCK_K": 64, "num_warps": 8, "num_stages": 3},
    (90, math.inf): {"version": 3, "BLOCK_M": 128, "BLOCK_N": 256, "BLOCK_K": 64, "num_warps": 8, "num_stages": 3},
    (120, math.inf): {"version": 2, "BLOCK_M": 128, "BLOCK_N": 128, "BLOCK_K": 64, "num_warps": 8, "num_stages": 3},
}
FLOAT32_TILES = {"version": 2, "BLOCK_M": 64, "BLOCK_N": 64, "BLOCK_K": 16, "num_warps": 8, "num_stages": 2}


def tiles(M, N, K, dtype):
    """What a product is computed with: the tuned configuration if there is one, else the table's."""
    default = FLOAT32_TILES if dtype == torch.float32 else device.choose(TILES, M)
    return dict(tuning.find("linear", key(M, N, K, dtype), default))


def pays(M, N, K, dtype):
    """Whether the fused product is faster than the library's and one more pass.

    Where nobody has measured it, for 16 bit and so many rows that the pass saved takes as long as a quarter of the
    product. In float32 the product is three of tf32, and the library's is kept.
    """
    default = {"fused": dtype != torch.float32 and M >= 1024}
    return tuning.find("linear", key(M, N, K, dtype), default).get("fused", True)


def key(M, N, K, dtype):
    """What a tuned configuration is good for."""
    return {"M": triton.next_power_of_2(M), "N": N, "K": K, "dtype": str(dtype)[6:]}


def candidates():
    """Configurations to measure."""
    return [
        {"version": version, "BLOCK_M": M, "BLOCK_N": N, "BLOCK_K": 64, "num_warps": warps, "num_stages": stages}
        for version in (2, 3)
        for M, N, warps in ((64, 32, 4), (64, 64, 4), (64, 128, 4), (128, 128, 4), (128, 128, 8), (128, 256, 8))
        for stages in (3, 4)
    ]


@device.launches(versions=3)
def linear(x, weight, bias=None, activation=None, *, version=None, config=None):
    """activation(x @ weight.T + bias): x (..., in), weight (out, in), bias (out,) or None -> (..., out) of x's dtype.

    activation one of `activation.NAMES` or None. `config` replaces the tiles that `tiles` finds, `version` theirs.
    """
    N, K = weight.shape
    device.expect(x=(x, (*x.shape[:-1], K)))
    flat, weight = x.reshape(-1, K).contiguous(), weight.contiguous()  # (M, K), (N, K)
    if bias is not None:
        device.expect(bias=(bias, (N,)))
        bias = bias.contiguous()
    M = len(flat)
    out = torch.empty(M, N, dtype=x.dtype, device=x.device)
    if out.numel() == 0:
        return out.reshape(*x.shape[:-1], N)
    config = dict(config or tiles(M, N, K, x.dtype))
    version = version or config["version"]
    constants = {
        "ACTIVATION": known(activation),
        "PRECISION": device.dot_precision(x.dtype),
        "GROUP": 1 if version == 1 else 8,
        **{name: value for name, value in config.items() if name not in ("version", "fused")},
    }
    count = triton.cdiv(M, config["BLOCK_M"]) * triton.cdiv(N, config["BLOCK_N"])
    if version == 3 and all(
        t.data_ptr() % 16 == 0 and t.stride(0) * t.element_size() % 16 == 0 for t in (flat, weight, out)
    ):
        programs = min(count, device.processors(x))
        _staying[(programs,)](
            TensorDescriptor.from_tensor(flat, [config["BLOCK_M"], config["BLOCK_K"]]),
            TensorDescriptor.from_tensor(weight, [config["BLOCK_N"], config["BLOCK_K"]]),
            bias,
            TensorDescriptor.from_tensor(out, [config["BLOCK_M"], config["BLOCK_N"] // 2]),
            M, N, K, PROGRAMS=programs, **constants,
        )  # fmt: skip
    else:  # the copy engine takes rows that begin at multiples of 16 bytes
        _tile[(count,)](flat, weight, bias, out, M, N, K, **constants)
    return out.reshape(*x.shape[:-1], N)
