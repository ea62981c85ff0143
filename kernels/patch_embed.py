"""Pixels to tokens: patches times a matrix, the class token before them, positions added.

    1  cut, multiply, finish    Patches are copied into rows, the library multiplies them, and one more pass puts the
                                class token first and adds positions: pixels and tokens cross memory twice more than
                                they must. Rows are padded to whole 16 bytes, 588 numbers of a patch of 14 to 592,
                                since the library's fast products want multiples of 8.
    2  one kernel               The product loads each patch's pixels from the picture, adds the position in its
                                epilogue, and writes where the token belongs: for 256 pictures of ViT-B/32 in 16 bit,
                                77 MB of pixels are read, 20 MB of tokens written, and nothing between.

Loads of 16 bytes need runs of pixels that begin at multiples of 8 numbers: patches of 14 have none, and take version 1.
(An Image is Worth 16x16 Words: Dosovitskiy et al., 2021, eq. 1. kernels/README.md says what has been measured.)
"""

import torch
import torch.nn.functional as F
import triton
import triton.language as tl

from miniclip.kernels import device, ladder
from miniclip.ops import torch_ops

# --------------------------------------------------------------------------- version 1: cut, multiply, finish


@triton.jit
def _cut_kernel(
    images_ptr, rows_ptr, stride_ib, stride_ic, stride_iy, Gy, Gx, N,
    P: tl.constexpr, K: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    # which of the B·Gy·Gx patches this program copies, and where it is
    pid = tl.program_id(0).to(tl.int64)
    off_b, off_gy, off_gx = pid // (Gy * Gx), pid // Gx % Gy, pid % Gx
    # channel, y and x in the patch, K numbers; then padding, to N: (BLOCK,)
    offs_k = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    image_ptrs = images_ptr + off_b * stride_ib + offs_k // (P * P) * stride_ic
    image_ptrs += (off_gy * P + offs_k // P % P) * stride_iy + off_gx * P + offs_k % P
    tl.store(rows_ptr + pid * N + offs_k, tl.load(image_ptrs, mask=offs_k < K, other=0), mask=offs_k < N)


@triton.jit
def _finish_kernel(x_ptr, class_ptr, position_ptr, out_ptr, T, D, BLOCK_D: tl.constexpr):
    off_b, off_t = (tl.program_id(0) // T).to(tl.int64), tl.program_id(0) % T
    offs_d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)  # (D,)
    mask = offs_d < D
    x_ptrs = class_ptr + offs_d if off_t == 0 else x_ptr + (off_b * (T - 1) + off_t - 1) * D + offs_d
    x = tl.load(x_ptrs, mask=mask).to(tl.float32) + tl.load(position_ptr + off_t * D + offs_d, mask=mask).to(tl.float32)
    tl.store(out_ptr + (off_b * T + off_t) * D + offs_d, x.to(out_ptr.dtype.element_ty), mask=mask)


# ---------------------------------------------------------------------------------------- version 2: one kernel


@triton.jit
def _patches_kernel(
    images_ptr, weight_ptr, class_ptr, position_ptr, out_ptr, stride_ib, stride_ic, stride_iy, M, Gy, Gx, D,
    P: tl.constexpr, K: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    # All tiles of the same patches run side by side, so that all except the first find their pixels in the cache.
    num_pid_n = tl.cdiv(D, BLOCK_N)
    pid_m, pid_n = tl.program_id(0) // num_pid_n, tl.program_id(0) % num_pid_n
    offs_m = pid_m * BLOCK_M + tl.arange(0, BLOCK_M)  # (M,) of all B·Gy·Gx patches
    offs_n = pid_n * BLOCK_N + tl.arange(0, BLOCK_N)  # (N,) of D
    # each patch's first pixel: (M,)
    offs_b, offs_gy, offs_gx = (offs_m // (Gy * Gx)).to(tl.int64), offs_m // Gx % Gy, offs_m % Gx
    patch_ptrs = images_ptr + offs_b * stride_ib + offs_gy * P * stride_iy + offs_gx * P
    # patches @ weight.T, BLOCK_K pixels at a time: (M, K) x (K, N) -> (M, N)
    acc = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    for start_k in range(0, K, BLOCK_K):
        offs_k = start_k + tl.arange(0, BLOCK_K)  # (K,) channel, y and x in the patch
        offs_pixel = offs_k // (P * P) * stride_ic + offs_k // P % P * stride_iy + offs_k % P  # (K,)
        patch_mask = (offs_m[:, None] < M) & (offs_k[None, :] < K)
        weight_mask = (offs_n[:, None] < D) & (offs_k[None, :] < K)
        patch = tl.load(patch_ptrs[:, None] + offs_pixel[None, :], mask=patch_mask, other=0)  # (M, K)
        weight = tl.load(weight_ptr + offs_n[:, None] * K + offs_k[None, :], mask=weight_mask, other=0)  # (N, K)
        acc = tl.dot(patch, weight.T, acc, input_precision=PRECISION)
    # epilogue: the position of the token that each patch becomes, and where it belongs, (M, N)
    offs_t = 1 + offs_m % (Gy * Gx)  # (M,)
    mask = (offs_m[:, None] < M) & (offs_n[None, :] < D)
    acc += tl.load(position_ptr + offs_t[:, None] * D + offs_n[None, :], mask=mask, other=0).to(tl.float32)
    out_ptrs = out_ptr + offs_b[:, None] * (1 + Gy * Gx) * D + offs_n[None, :]
    tl.store(out_ptrs + offs_t[:, None] * D, acc.to(out_ptr.dtype.element_ty), mask=mask)
    # The program with a picture's first patch writes its class token: (N,) -> (M, N)
    token = tl.load(class_ptr + offs_n, mask=offs_n < D, other=0).to(tl.float32)
    token += tl.load(position_ptr + offs_n, mask=offs_n < D, other=0).to(tl.float32)
    token = token[None, :].to(out_ptr.dtype.element_ty).broadcast_to(BLOCK_M, BLOCK_N)
    tl.store(out_ptrs, token, mask=mask & (offs_t[:, None] == 1))


# ------------------------------------------------------------------------------------------- calling them

TILES = {"BLOCK_M": 64, "BLOCK_N": 128, "BLOCK_K": 64, "num_warps": 4, "num_stages": 3}  # not measured yet
FLOAT32_TILES = {"BLOCK_M": 64, "BLOCK_N": 64, "BLOCK_K": 16, "num_warps": 8, "num_stages": 2}


@device.launches(
    versions=2,
    schema="(Tensor images, Tensor weight, Tensor class_token, Tensor position_embedding) -> Tensor",
    empty=lambda images, weight, _, positions: images.new_empty(images.shape[0], *positions.shape),
)
def patch_embed(images, weight, class_token, position_embedding, *, version=None, config=None):
    """`numpy_ops.patch_embed`: images (B, C, height, width), weight (D, C, P, P), class_token (D,),
    position_embedding (T, D) -> (B, T, D) of the images' dtype. `version` None: 2 if P is a multiple of 8, else 1.
    `config` replaces the tiles of version 2.
    """
    images = device.within_reach(images)
    B, _, height, width = images.shape
    D, C, P, _ = weight.shape
    Gy, Gx, K = height // P, width // P, C * P * P
    T = Gy * Gx + 1
    channels = (B, C, height, width)
    device.expect(images=(images, channels), class_token=(class_token, (D,)), positions=(position_embedding, (T, D)))
    weight = weight.reshape(D, K).contiguous()
    class_token, position_embedding = class_token.contiguous(), position_embedding.contiguous()
    out = torch.empty(B, T, D, dtype=images.dtype, device=images.device)
    if B == 0:
        return out
    if version is None:
        version = 2 if P % 8 == 0 else 1
    if version == 1:
        N = triton.cdiv(K, 8) * 8
        rows = torch.empty(B * Gy * Gx, N, dtype=images.dtype, device=images.device)
        block = min(1024, triton.next_power_of_2(N))
        grid = (len(rows), triton.cdiv(N, block))
        _cut_kernel[grid](images, rows, *images.stride()[:3], Gy, Gx, N, P, K, BLOCK=block)
        x = rows @ F.pad(weight, (0, N - K)).T  # (B·Gy·Gx, D)
        block = min(1024, triton.next_power_of_2(D))
        grid = (B * T, triton.cdiv(D, block))
        _finish_kernel[grid](x, class_token, position_embedding, out, T, D, BLOCK_D=block)
    else:
        config = config or device.count_warps(FLOAT32_TILES if images.dtype == torch.float32 else TILES)
        grid = (triton.cdiv(B * Gy * Gx, config["BLOCK_M"]) * triton.cdiv(D, config["BLOCK_N"]),)
        _patches_kernel[grid](
            images, weight, class_token, position_embedding, out, *images.stride()[:3], B * Gy * Gx, Gy, Gx, D,
            P, K, PRECISION=device.dot_precision(images.dtype), **config,
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
    )
}

if __name__ == "__main__":
    ladder.show(KERNELS)
