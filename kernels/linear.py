"""A linear layer whose product never leaves the chip before its bias and activation: activation(x @ weight.T + bias).

The library's product writes x @ weight.T to memory, and `bias_activation` reads and writes it once more: 1.08 GB for
256 pictures of ViT-L/14, 250 µs at 4.3 TB/s, beside a product of 700 µs at 790 TFLOP/s. So this kernel pays if it runs
at more than three quarters of the library's speed, and never if there is nothing to fuse.

    1  a tile a program       Each program computes one tile of the result from a band of x and a band of weight. Tiles
                              run row by row: those running together share a band of x, and read all of weight.
    2  swizzle                Tiles running together form a group of GROUP_M rows of tiles. 132 tiles of 128 x 128 of a
                              result 4096 wide need 25 bands instead of 37; the others come out of the cache.
    3  approximations         Of the activation, as version 3 of activation.py: nothing multiplies while it is computed.
                              Instructions of the whole kernel with quick_gelu in bfloat16: 2,733 -> 1,578.
    4  persistent             One program a multiprocessor goes from tile to tile: the next tile's loads are under way
                              while this one's epilogue, bias and activation, is computed. And the copy engine brings
                              the tiles (TMA, from compute capability 9.0 on), so that no thread computes addresses.
                              Tiles of 256 x 128 move as little as those of 128 x 256, and a thread has half of the
                              columns, whose bias it loads: 992 instructions of an epilogue instead of 1,154.

Versions 1 to 3 are one kernel. (Swizzle and persistence as in Triton's tutorials 03 and 09.
kernels/README.md says what has been measured.)
"""

import math

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

from miniclip.kernels import device, ladder, tuning
from miniclip.kernels.activation import NAMES, activate, approximation, bias_activation, known
from miniclip.ops import torch_ops


@triton.jit
def swizzle(tile, M, N, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, GROUP_M: tl.constexpr):
    """(pid_m, pid_n) of a tile: tiles go down GROUP_M rows of tiles, then on to the next column of tiles."""
    num_pid_m, num_pid_n = tl.cdiv(M, BLOCK_M), tl.cdiv(N, BLOCK_N)
    num_pid_in_group = GROUP_M * num_pid_n
    first_pid_m = tile // num_pid_in_group * GROUP_M
    group_size_m = tl.minimum(num_pid_m - first_pid_m, GROUP_M)  # the last group may have fewer rows
    pid_in_group = tile % num_pid_in_group
    return first_pid_m + pid_in_group % group_size_m, pid_in_group // group_size_m


# -------------------------------------------- versions 1, 2 and 3: a tile a program, swizzle and approximations


@triton.jit
def band_product(
    x_ptr, weight_ptr, offs_m, offs_n, M, N, K,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The tile offs_m, offs_n of x @ weight.T, in float32: a band of rows of each, (M, K) x (K, N) -> (M, N)."""
    offs_k = tl.arange(0, BLOCK_K)  # (K,)
    # Rows beyond the end are read from the beginning, which always exists, and never written.
    x_ptrs = x_ptr + (offs_m % M).to(tl.int64)[:, None] * K + offs_k[None, :]  # (M, K)
    weight_ptrs = weight_ptr + (offs_n % N).to(tl.int64)[:, None] * K + offs_k[None, :]  # (N, K)
    # x @ weight.T, BLOCK_K columns at a time: (M, K) x (K, N) -> (M, N)
    acc = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    for start_k in range(0, K, BLOCK_K):
        x = tl.load(x_ptrs + start_k, mask=start_k + offs_k[None, :] < K, other=0.0)
        weight = tl.load(weight_ptrs + start_k, mask=start_k + offs_k[None, :] < K, other=0.0)
        if x.dtype.primitive_bitwidth == 8:  # a sum of its own, see STEP in `float8.py`
            acc += tl.dot(x, weight.T)
        else:
            acc = tl.dot(x, weight.T, acc, input_precision=PRECISION)
    return acc


@triton.jit
def _tile_kernel(
    x_ptr, weight_ptr, bias_ptr, out_ptr, M, N, K,
    ACTIVATION: tl.constexpr, APPROXIMATE: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
    GROUP_M: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    pid_m, pid_n = swizzle(tl.program_id(0), M, N, BLOCK_M, BLOCK_N, GROUP_M)
    offs_m, offs_n = pid_m * BLOCK_M + tl.arange(0, BLOCK_M), pid_n * BLOCK_N + tl.arange(0, BLOCK_N)  # (M,), (N,)
    acc = band_product(x_ptr, weight_ptr, offs_m, offs_n, M, N, K, BLOCK_M, BLOCK_N, BLOCK_K, PRECISION)
    # epilogue: bias and activation, (M, N)
    if bias_ptr is not None:
        acc += tl.load(bias_ptr + offs_n, mask=offs_n < N, other=0).to(tl.float32)[None, :]
    out = activate(acc, ACTIVATION, APPROXIMATE).to(out_ptr.dtype.element_ty)
    mask = (offs_m[:, None] < M) & (offs_n[None, :] < N)
    tl.store(out_ptr + offs_m.to(tl.int64)[:, None] * N + offs_n[None, :], out, mask=mask)


# ---------------------------------------------------------------------------------------- version 4: persistent


@triton.jit
def _persistent_kernel(
    x_desc, weight_desc, bias_ptr, out_desc, M, N, K,
    ACTIVATION: tl.constexpr, APPROXIMATE: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
    GROUP_M: tl.constexpr, NUM_SMS: tl.constexpr, WHOLE_N: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    for tile in tl.range(tl.program_id(0), tl.cdiv(M, BLOCK_M) * tl.cdiv(N, BLOCK_N), NUM_SMS, flatten=True):
        pid_m, pid_n = swizzle(tile, M, N, BLOCK_M, BLOCK_N, GROUP_M)
        start_m, start_n = pid_m * BLOCK_M, pid_n * BLOCK_N
        # x @ weight.T, BLOCK_K columns at a time: (M, K) x (K, N) -> (M, N)
        acc = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
        for start_k in range(0, K, BLOCK_K):
            x = x_desc.load([start_m, start_k])  # (M, K), zeros beyond the end
            weight = weight_desc.load([start_n, start_k])  # (N, K)
            acc = tl.dot(x, weight.T, acc, input_precision=PRECISION)
        # epilogue, half of the columns at a time: the copy engine takes a tile from shared memory, which also holds the
        # next loads. (M, N) -> 2 x (M, N/2)
        halves = acc.reshape(BLOCK_M, 2, BLOCK_N // 2).permute(0, 2, 1).split()
        for half in tl.static_range(2):
            start_half = start_n + half * (BLOCK_N // 2)
            out = halves[half]
            if bias_ptr is not None:
                offs_n = start_half + tl.arange(0, BLOCK_N // 2)
                mask = None if WHOLE_N else offs_n < N
                out += tl.load(bias_ptr + offs_n, mask=mask).to(tl.float32)[None, :]
            out_desc.store([start_m, start_half], activate(out, ACTIVATION, APPROXIMATE).to(out_desc.dtype))


# --------------------------------------------------------------------------------------- choosing tiles

# (least capability, up to M rows): tiles. Chosen by their compiled resources and counted bytes, not measured yet.
TILES = {
    (80, 64): {"version": 3, "BLOCK_M": 64, "BLOCK_N": 32, "BLOCK_K": 64, "num_warps": 4, "num_stages": 4},
    (80, 1024): {"version": 3, "BLOCK_M": 64, "BLOCK_N": 64, "BLOCK_K": 64, "num_warps": 4, "num_stages": 4},
    (80, math.inf): {"version": 3, "BLOCK_M": 128, "BLOCK_N": 128, "BLOCK_K": 32, "num_warps": 4, "num_stages": 4},
    (90, math.inf): {"version": 4, "BLOCK_M": 256, "BLOCK_N": 128, "BLOCK_K": 64, "num_warps": 8, "num_stages": 4},
    (120, math.inf): {"version": 3, "BLOCK_M": 128, "BLOCK_N": 128, "BLOCK_K": 64, "num_warps": 8, "num_stages": 3},
    ("gfx1201", math.inf): {
        "version": 3,
        "BLOCK_M": 128,
        "BLOCK_N": 128,
        "BLOCK_K": 32,
        "num_warps": 8,
        "num_stages": 2,
    },
}
FLOAT32_TILES = {"version": 3, "BLOCK_M": 64, "BLOCK_N": 64, "BLOCK_K": 16, "num_warps": 8, "num_stages": 2}


def tiles(M, N, K, dtype):
    """The tiles and the version that a product is computed with: the tuned ones if there are any, else the table's."""
    default = FLOAT32_TILES if dtype == torch.float32 else device.choose(TILES, M)
    return dict(tuning.find("linear", key(M, N, K, dtype), default))


def pays(M, N, K, dtype):
    """Whether the fused product is faster than the library's and one more pass.

    Where nobody has measured it: for 16 bit types, so many rows that the pass saved takes as long as a quarter of the
    product, and tiles that leave no more than a quarter of the multiprocessors' time unused. In float32 the product is
    three of tf32, and the library's is kept.
    """
    tuned = tuning.find("linear", key(M, N, K, dtype))
    if tuned:
        return tuned.get("fused", True)
    return dtype != torch.float32 and M >= 1024 and _busy(M, N, tiles(M, N, K, dtype)) >= 0.75


def _busy(M, N, config):
    """The share of an H200's multiprocessors that compute what is wanted: its 132 take a tile each, until all are done.

    M = 12,800 and N = 3072 are 1,200 tiles of 256 x 128, 10 waves of 132 where 9.1 would do: 91%. M = 1600: 57%.
    """
    waves = triton.cdiv(triton.cdiv(M, config["BLOCK_M"]) * triton.cdiv(N, config["BLOCK_N"]), 132)
    return M * N / (waves * 132 * config["BLOCK_M"] * config["BLOCK_N"])


def key(M, N, K, dtype):
    """The key that a tuned configuration is recorded under."""
    return {"M": triton.next_power_of_2(M), "N": N, "K": K, "dtype": str(dtype)[6:]}


def candidates():
    """The configurations that autotuning measures."""
    return [
        {"version": version, "BLOCK_M": M, "BLOCK_N": N, "BLOCK_K": 64, "num_warps": warps, "num_stages": stages}
        for version in (3, 4)
        for M, N in ((64, 32), (64, 64), (64, 128), (128, 128), (128, 256), (256, 128))
        for warps in (4, 8)
        if 2048 <= M * N // warps <= 4096 or (M * N < 8192 and warps == 4)
        for stages in (3, 4)
    ]


# ------------------------------------------------------------------------------------------- calling them


@device.launches(
    versions=4,
    schema="(Tensor x, Tensor weight, Tensor? bias=None, str? activation=None) -> Tensor",
    empty=lambda x, weight, *_: x.new_empty(*x.shape[:-1], weight.shape[0]),
)
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
        "APPROXIMATE": approximation(x.dtype) if version >= 3 else None,
        "PRECISION": device.dot_precision(x.dtype),
        "GROUP_M": 1 if version == 1 else 8,
        **{name: value for name, value in config.items() if name not in ("version", "fused")},
    }
    num_tiles = triton.cdiv(M, config["BLOCK_M"]) * triton.cdiv(N, config["BLOCK_N"])
    if version == 4 and all(
        t.data_ptr() % 16 == 0 and t.stride(0) * t.element_size() % 16 == 0 for t in (flat, weight, out)
    ):
        num_sms = min(num_tiles, device.processors(x))
        _persistent_kernel[(num_sms,)](
            TensorDescriptor.from_tensor(flat, [config["BLOCK_M"], config["BLOCK_K"]]),
            TensorDescriptor.from_tensor(weight, [config["BLOCK_N"], config["BLOCK_K"]]),
            bias,
            TensorDescriptor.from_tensor(out, [config["BLOCK_M"], config["BLOCK_N"] // 2]),
            M, N, K, NUM_SMS=num_sms, WHOLE_N=N % config["BLOCK_N"] == 0, **constants,
        )  # fmt: skip
    else:  # the copy engine takes rows that begin at multiples of 16 bytes
        _tile_kernel[(num_tiles,)](flat, weight, bias, out, M, N, K, **constants)
    return out.reshape(*x.shape[:-1], N)


@device.launches(
    schema="(Tensor x, Tensor weight, Tensor? bias, str activation) -> Tensor",
    empty=lambda x, weight, *_: x.new_empty(*x.shape[:-1], weight.shape[0]),
)
def linear_activation(x, weight, bias, activation):
    """`linear`, by this kernel or by the library's product and one more pass: whichever `pays`."""
    if pays(x.numel() // x.shape[-1], *weight.shape, x.dtype):
        return linear(x, weight, bias, activation)
    return _one_pass(x, weight, bias, activation)


# ----------------------------------------------------------------------- what is tested, compiled and measured


def _inputs(new, M, N, K, activation="quick_gelu"):
    return {"x": new(M, K), "weight": new(N, K).mul_(K**-0.5), "bias": new(N), "activation": activation}


def _one_pass(x, weight, bias, activation):
    return bias_activation(F.linear(x, weight), bias, activation, in_place=True)


KERNELS = {
    "linear": ladder.Kernel(
        ours=linear,
        plain=torch_ops.linear,
        inputs=_inputs,
        rows=("x",),
        work=lambda M, N, K: (2 * M * N * K, M * K + N * K + N + M * N),
        small=({"M": 5, "N": 19, "K": 37}, {"M": 5, "N": 24, "K": 40}),  # the second is one that version 4 takes
        clip=(  # the first product of a block's MLP, for 256 pictures of B/32, B/16, L/14, 256 texts, and one picture
            {"M": 12_800, "N": 3072, "K": 768},
            {"M": 50_432, "N": 3072, "K": 768},
            {"M": 65_792, "N": 4096, "K": 1024},
            {"M": 19_712, "N": 2048, "K": 512},
            {"M": 50, "N": 3072, "K": 768},
        ),
        compiled=tuple({"M": M, "N": 3072, "K": 768, "activation": name} for M in (50, 800, 12_800) for name in NAMES),
        peers={"torch's product, one pass": _one_pass},
        tuned="linear",
        key=lambda M, N, K, dtype: key(M, N, K, dtype),
        candidates=candidates,
    )
}

if __name__ == "__main__":
    ladder.show(KERNELS)
