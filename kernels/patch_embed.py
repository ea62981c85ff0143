"""Pixels to tokens: patches times a matrix, the class token before them, positions added.

    1  cut, multiply, finish    Patches are copied into rows, the library multiplies them, and one more pass puts the
                                class token first and adds positions: pixels and tokens cross memory twice more than
                                they must. Rows are padded to whole 16 bytes, 588 numbers of a patch of 14 to 592,
                                since the library's fast products want multiples of 8.
    2  one kernel               The product loads each patch's pixels from the picture, adds the position in its
                                epilogue, and writes where the token belongs: for 256 pictures of ViT-B/32 in 16 bit,
                                77 MB of pixels are read, 20 MB of tokens written, and nothing between.
    3  larger tiles             128 x 256 numbers of the result instead of 64 x 128: for 256 pictures of ViT-B/32 0.69
                                GB come out of the cache instead of 1.39, which take longer than multiplying. A step
                                has 102 instructions for four times the products of version 2's, and version 2 had 130
                                before only what is incomplete was masked. Positions are added to half of the columns
                                at a time, since 128 x 256 sums and positions do not fit into registers.

Loads of 16 bytes need runs of pixels that begin at multiples of 8 numbers: patches of 14 have none, and take version 1.

All versions also take pictures as they are decoded, 8 bits a channel, with the `mean` and `std` of preprocessing, and
normalise them where they load them: half of the bytes to read, and no pass that normalises. `Model.encode_image` takes
normalised pictures only, as no configuration of a model has its mean and deviation.
(An Image is Worth 16x16 Words: Dosovitskiy et al., 2021, eq. 1. kernels/README.md says what has been measured.)
"""

import functools
import math

import torch
import torch.nn.functional as F
import triton
import triton.language as tl

from miniclip.errors import InputError
from miniclip.kernels import device, ladder, tuning
from miniclip.ops import torch_ops


@triton.jit
def _normalised(pixels, scale_ptr, shift_ptr, channels, DTYPE: tl.constexpr):
    """Bytes as the model's numbers, (pixels / 255 - mean) / std, in one multiplication and sum; others as they are."""
    if scale_ptr is not None:
        pixels = pixels.to(tl.float32) * tl.load(scale_ptr + channels) + tl.load(shift_ptr + channels)
    return pixels.to(DTYPE)


# --------------------------------------------------------------------------- version 1: cut, multiply, finish


@triton.jit
def _cut_kernel(
    images_ptr, scale_ptr, shift_ptr, rows_ptr, stride_ib, stride_ic, stride_iy, Gy, Gx, N,
    P: tl.constexpr, K: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    # which of the B·Gy·Gx patches this program copies, and where it is
    pid = tl.program_id(0).to(tl.int64)
    off_b, off_gy, off_gx = pid // (Gy * Gx), pid // Gx % Gy, pid % Gx
    # channel, y and x in the patch, K numbers; then padding, to N: (BLOCK,)
    offs_k = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    image_ptrs = images_ptr + off_b * stride_ib + offs_k // (P * P) * stride_ic
    image_ptrs += (off_gy * P + offs_k // P % P) * stride_iy + off_gx * P + offs_k % P
    pixels = tl.load(image_ptrs, mask=offs_k < K, other=0)
    pixels = _normalised(pixels, scale_ptr, shift_ptr, offs_k % K // (P * P), rows_ptr.dtype.element_ty)
    tl.store(rows_ptr + pid * N + offs_k, pixels, mask=offs_k < N)


@triton.jit
def _finish_kernel(x_ptr, class_ptr, position_ptr, out_ptr, T, D, BLOCK_D: tl.constexpr):
    off_b, off_t = (tl.program_id(0) // T).to(tl.int64), tl.program_id(0) % T
    offs_d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)  # (D,)
    mask = offs_d < D
    x_ptrs = class_ptr + offs_d if off_t == 0 else x_ptr + (off_b * (T - 1) + off_t - 1) * D + offs_d
    x = tl.load(x_ptrs, mask=mask).to(tl.float32) + tl.load(position_ptr + off_t * D + offs_d, mask=mask).to(tl.float32)
    tl.store(out_ptr + (off_b * T + off_t) * D + offs_d, x.to(out_ptr.dtype.element_ty), mask=mask)


# ------------------------------------------------------------------ versions 2 and 3: one kernel, and larger tiles


@triton.jit
def _patches_kernel(
    images_ptr, scale_ptr, shift_ptr, weight_ptr, class_ptr, position_ptr, out_ptr,
    stride_ib, stride_ic, stride_iy, M, Gy, Gx, D, P: tl.constexpr, K: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, PRECISION: tl.constexpr, WAIT: tl.constexpr,
):  # fmt: skip
    # All tiles of the same patches run side by side, so that all except the first find their pixels in the cache.
    num_pid_n = tl.cdiv(D, BLOCK_N)
    pid_m, pid_n = tl.program_id(0) // num_pid_n, tl.program_id(0) % num_pid_n
    offs_m = pid_m * BLOCK_M + tl.arange(0, BLOCK_M)  # (M,) of all B·Gy·Gx patches
    offs_n = pid_n * BLOCK_N + tl.arange(0, BLOCK_N)  # (N,) of D
    # each patch's first pixel, (M,), and each row of weight, (N, 1): beyond the end others, which are never written
    last_m = tl.minimum(offs_m, M - 1)
    offs_b, offs_gy, offs_gx = (last_m // (Gy * Gx)).to(tl.int64), last_m // Gx % Gy, last_m % Gx
    patch_ptrs = images_ptr + offs_b * stride_ib + offs_gy * P * stride_iy + offs_gx * P
    weight_ptrs = weight_ptr + (offs_n % D)[:, None] * K
    # patches @ weight.T, BLOCK_K pixels at a time: (M, K) x (K, N) -> (M, N)
    acc = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    for start_k in range(0, K, BLOCK_K):
        offs_k = start_k + tl.arange(0, BLOCK_K)[None, :]  # (1, K) channel, y and x in the patch
        offs_pixel = offs_k // (P * P) * stride_ic + offs_k // P % P * stride_iy + offs_k % P
        if K % BLOCK_K == 0:
            patch, weight = tl.load(patch_ptrs[:, None] + offs_pixel), tl.load(weight_ptrs + offs_k)  # (M, K), (N, K)
        else:
            patch = tl.load(patch_ptrs[:, None] + offs_pixel, mask=offs_k < K, other=0)
            weight = tl.load(weight_ptrs + offs_k, mask=offs_k < K, other=0)
        patch = _normalised(patch, scale_ptr, shift_ptr, offs_k % K // (P * P), weight.dtype)
        acc = tl.dot(patch, weight.T, acc, input_precision=PRECISION)
        if WAIT:
            # This changes nothing and uses the sums, so that a step waits for its product. On Hopper a product runs on,
            # and what was normalised is in registers, which the next step would overwrite while they are multiplied.
            acc = tl.where(start_k < K, acc, 0)
    # epilogue, half of the columns at a time, (M, N) -> 2 x (M, N/2): the position of the token that each patch
    # becomes, and where it belongs
    offs_t = 1 + offs_m % (Gy * Gx)  # (M,)
    halves = acc.reshape(BLOCK_M, 2, BLOCK_N // 2).permute(0, 2, 1).split()
    for half in tl.static_range(2):
        offs_d = pid_n * BLOCK_N + half * (BLOCK_N // 2) + tl.arange(0, BLOCK_N // 2)  # (N/2,) of D
        mask = (offs_m[:, None] < M) & (offs_d[None, :] < D)
        position = tl.load(position_ptr + offs_t[:, None] * D + offs_d[None, :], mask=mask, other=0).to(tl.float32)
        out_ptrs = out_ptr + offs_b[:, None] * (1 + Gy * Gx) * D + offs_d[None, :]
        out = (halves[half] + position).to(out_ptr.dtype.element_ty)
        tl.store(out_ptrs + offs_t[:, None] * D, out, mask=mask)
        # The program with a picture's first patch writes its class token: (N/2,) -> (M, N/2)
        token = tl.load(class_ptr + offs_d, mask=offs_d < D, other=0).to(tl.float32)
        token += tl.load(position_ptr + offs_d, mask=offs_d < D, other=0).to(tl.float32)
        token = token[None, :].to(out_ptr.dtype.element_ty).broadcast_to(BLOCK_M, BLOCK_N // 2)
        tl.store(out_ptrs, token, mask=mask & (offs_t[:, None] == 1))


# --------------------------------------------------------------------------------------- choosing tiles

# (least capability, up to M patches): tiles. Chosen by their compiled resources and counted bytes, not measured yet.
SMALL = {"BLOCK_M": 64, "BLOCK_N": 128, "BLOCK_K": 64, "num_warps": 4, "num_stages": 3}
TILES = {
    (80, math.inf): SMALL,
    (90, 2048): SMALL,  # larger ones would not fill the multiprocessors
    (90, math.inf): {"BLOCK_M": 128, "BLOCK_N": 256, "BLOCK_K": 64, "num_warps": 8, "num_stages": 3},
    (120, math.inf): SMALL,
}
FLOAT32_TILES = {"BLOCK_M": 64, "BLOCK_N": 64, "BLOCK_K": 16, "num_warps": 8, "num_stages": 2}


def tiles(M, P, D, dtype):
    """The tiles of version 3, for M patches of P x P pixels and D numbers a token."""
    default = FLOAT32_TILES if dtype == torch.float32 else device.choose(TILES, M)
    return dict(tuning.find("patch_embed", key(M, P, D, dtype), default))


def key(M, P, D, dtype):
    """The key that a tuned configuration is recorded under."""
    return {"M": triton.next_power_of_2(M), "P": P, "D": D, "dtype": str(dtype)[6:]}


def candidates():
    """The configurations that autotuning measures."""
    return [
        {
            "BLOCK_M": M,
            "BLOCK_N": N,
            "BLOCK_K": 64,
            "num_warps": M * N // 4096 if M * N > 8192 else 4,
            "num_stages": stages,
        }
        for M, N in ((64, 64), (64, 128), (128, 128), (128, 256), (256, 128))
        for stages in (3, 4)
    ]


# ------------------------------------------------------------------------------------------- calling them


@functools.cache
def _scale_and_shift(mean, std, device):
    """(255 · std)⁻¹ and -mean / std, float32, (C,) each."""
    mean, std = (torch.tensor(x, dtype=torch.float64) for x in (mean, std))
    return [x.float().to(device) for x in (1 / (255 * std), -mean / std)]


@device.launches(
    versions=3,
    schema="(Tensor images, Tensor weight, Tensor class_token, Tensor position_embedding, *, "
    "float[]? mean=None, float[]? std=None) -> Tensor",
    empty=lambda images, weight, _, positions, mean=None, std=None: weight.new_empty(images.shape[0], *positions.shape),
    integers=("images",),  # pictures as bytes
)
def patch_embed(images, weight, class_token, position_embedding, *, mean=None, std=None, version=None, config=None):
    """`numpy_ops.patch_embed`: images (B, C, height, width), weight (D, C, P, P), class_token (D,),
    position_embedding (T, D) -> (B, T, D) of the weight's dtype. `version` None: 3 if P is a multiple of 8, else 1.
    `config` replaces the tiles of version 3.

    Images of torch.uint8 are normalised as they are loaded: (images / 255 - mean) / std, with a `mean` and a `std` for
    each channel, in float32, then rounded to the weight's dtype. Raises InputError if there is one without the other.

        mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
        patch_embed(images_uint8, weight, class_token, position_embedding, mean=mean, std=std)
    """
    images = device.within_reach(images)
    B, _, height, width = images.shape
    D, C, P, _ = weight.shape
    Gy, Gx, K = height // P, width // P, C * P * P
    T, M = Gy * Gx + 1, B * Gy * Gx
    channels = (B, C, height, width)
    device.expect(images=(images, channels), class_token=(class_token, (D,)), positions=(position_embedding, (T, D)))
    if (images.dtype == torch.uint8, images.is_floating_point()) != (mean is not None, mean is None) or [
        len(x or ()) for x in (mean, std)
    ] not in (
        [0, 0],
        [C, C],
    ):
        raise InputError(
            f"images are of {images.dtype}: pass torch.uint8 with mean and std of {C} channels, or floats alone"
        )
    scale, shift = (None, None) if mean is None else _scale_and_shift(tuple(mean), tuple(std), images.device)
    weight = weight.reshape(D, K).contiguous()
    class_token, position_embedding = class_token.contiguous(), position_embedding.contiguous()
    out = torch.empty(B, T, D, dtype=weight.dtype, device=images.device)
    if B == 0:
        return out
    if version is None:
        version = 3 if P % 8 == 0 else 1
    if version == 1:
        N = triton.cdiv(K, 8) * 8
        rows = torch.empty(M, N, dtype=weight.dtype, device=images.device)
        block = min(1024, triton.next_power_of_2(N))
        grid = (len(rows), triton.cdiv(N, block))
        _cut_kernel[grid](images, scale, shift, rows, *images.stride()[:3], Gy, Gx, N, P, K, BLOCK=block)
        x = rows @ F.pad(weight, (0, N - K)).T  # (B·Gy·Gx, D)
        block = min(1024, triton.next_power_of_2(D))
        grid = (B * T, triton.cdiv(D, block))
        _finish_kernel[grid](x, class_token, position_embedding, out, T, D, BLOCK_D=block)
    else:
        if version == 2:
            config = device.count_warps(FLOAT32_TILES if weight.dtype == torch.float32 else SMALL)
        config = config or tiles(M, P, D, weight.dtype)
        grid = (triton.cdiv(M, config["BLOCK_M"]) * triton.cdiv(D, config["BLOCK_N"]),)
        _patches_kernel[grid](
            images, scale, shift, weight, class_token, position_embedding, out, *images.stride()[:3], M, Gy, Gx, D,
            P, K, PRECISION=device.dot_precision(weight.dtype), WAIT=mean is not None and device.capability() == 90,
            **config,
        )  # fmt: skip
    return out


# ----------------------------------------------------------------------- what is tested, compiled and measured


def _inputs(new, B, P, D, size, width=None):
    """Pictures of `size` pixels down, and across unless a width is given."""
    width = width or size
    return {
        "images": new(B, 3, size, width),
        "weight": new(D, 3, P, P).mul_((3 * P * P) ** -0.5),
        "class_token": new(D),
        "position_embedding": new((size // P) * (width // P) + 1, D),
    }


def _work(B, P, D, size):
    patches, K = (size // P) ** 2, 3 * P * P
    return 2 * B * patches * D * K, 3 * B * size**2 + D * K + D + (patches + 1) * D + B * (patches + 1) * D


KERNELS = {
    "patch_embed": ladder.Kernel(
        ours=patch_embed,
        plain=torch_ops.patch_embed,
        inputs=_inputs,
        rows=("images",),
        work=_work,
        small=({"B": 2, "P": 4, "D": 11, "size": 9, "width": 13}, {"B": 5, "P": 8, "D": 16, "size": 16}),
        clip=tuple({"B": 256, "P": P, "D": D, "size": 224} for P, D in ((32, 768), (16, 768), (14, 1024))),
        compiled=({"B": 256, "P": 8, "D": 128, "size": 48}, {"B": 256, "P": 14, "D": 1024, "size": 336}),
        tuned="patch_embed",
        key=lambda B, P, D, size, dtype: key(B * (size // P) ** 2, P, D, dtype),
        candidates=candidates,
    )
}

if __name__ == "__main__":
    ladder.show(KERNELS)
