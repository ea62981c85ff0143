"""Pixels to tokens: patches times a matrix, the class token before them, positions added.

    1  cut, multiply, finish    Patches are copied into rows, the library multiplies them, one more pass puts the class
                                token first and adds positions: pixels and tokens cross memory twice more than they
                                must. Rows are padded to whole 16 bytes, 588 numbers of a patch of 14 to 592, since
                                the library's fast products want multiples of 8.
    2  one kernel               The product's loads pick each patch's pixels where they lie, and its result goes where
                                the token belongs, position added: for 256 pictures of ViT-B/32 in 16 bit, 77 MB of
                                pixels are read, 20 MB of tokens written, and nothing between.

Loads of 16 bytes need runs of pixels that begin at multiples of 8 numbers: patches of 14 have none, and take version 1.
(An Image is Worth 16x16 Words: Dosovitskiy et al., 2021, eq. 1. kernels/README.md says what has been measured.)
"""

import torch
import torch.nn.functional as F
import triton
import triton.language as tl

from miniclip.kernels import device


@triton.jit
def _cut(
    images_ptr, rows_ptr, images_b, images_c, images_y, Gy, Gx, N,
    P: tl.constexpr, K: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)  # of B·Gy·Gx
    b, gy, gx = row // (Gy * Gx), row // Gx % Gy, row % Gx
    k = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)  # (N,) channel, y and x in the patch; then padding
    pixel = images_ptr + b * images_b + k // (P * P) * images_c + (gy * P + k // P % P) * images_y + gx * P + k % P
    tl.store(rows_ptr + row * N + k, tl.load(pixel, mask=k < K, other=0), mask=k < N)


@triton.jit
def _finish(x_ptr, class_ptr, position_ptr, out_ptr, T, D, BLOCK_D: tl.constexpr):
    b, t = (tl.program_id(0) // T).to(tl.int64), tl.program_id(0) % T
    d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    source = class_ptr + d if t == 0 else x_ptr + (b * (T - 1) + t - 1) * D + d
    x = tl.load(source, mask=d < D).to(tl.float32) + tl.load(position_ptr + t * D + d, mask=d < D).to(tl.float32)
    tl.store(out_ptr + (b * T + t) * D + d, x.to(out_ptr.dtype.element_ty), mask=d < D)


@triton.jit
def _patches(
    images_ptr, weight_ptr, class_ptr, position_ptr, out_ptr, images_b, images_c, images_y, patches, Gy, Gx, D,
    P: tl.constexpr, K: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    # All tiles of the same patches run side by side, so that their pixels come out of the cache for all but the first.
    m = tl.program_id(0) // tl.cdiv(D, BLOCK_N) * BLOCK_M + tl.arange(0, BLOCK_M)  # of all B·Gy·Gx patches
    n = tl.program_id(0) % tl.cdiv(D, BLOCK_N) * BLOCK_N + tl.arange(0, BLOCK_N)  # of D
    b, gy, gx = (m // (Gy * Gx)).to(tl.int64), m // Gx % Gy, m % Gx
    corner = images_ptr + b * images_b + gy * P * images_y + gx * P  # (M,) each patch's first pixel
    x = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    for start in range(0, K, BLOCK_K):
        k = start + tl.arange(0, BLOCK_K)  # channel, y and x in the patch
        pixel = k // (P * P) * images_c + k // P % P * images_y + k % P
        patch = tl.load(corner[:, None] + pixel[None, :], mask=(m[:, None] < patches) & (k[None, :] < K), other=0)
        weight = tl.load(weight_ptr + n[:, None] * K + k[None, :], mask=(n[:, None] < D) & (k[None, :] < K), other=0)
        x = tl.dot(patch, weight.T, x, input_precision=PRECISION)  # (M, N)
    t = 1 + m % (Gy * Gx)  # (M,) which token a patch becomes
    there = (m[:, None] < patches) & (n[None, :] < D)
    x += tl.load(position_ptr + t[:, None] * D + n[None, :], mask=there, other=0).to(tl.float32)
    out = out_ptr + b[:, None] * (1 + Gy * Gx) * D + n[None, :]
    tl.store(out + t[:, None] * D, x.to(out_ptr.dtype.element_ty), mask=there)
    # Whoever has a picture's first patch writes its class token.
    token = tl.load(class_ptr + n, mask=n < D, other=0).to(tl.float32)
    token += tl.load(position_ptr + n, mask=n < D, other=0).to(tl.float32)  # (N,)
    token = token[None, :].to(out_ptr.dtype.element_ty).broadcast_to(BLOCK_M, BLOCK_N)
    tl.store(out, token, mask=there & (t[:, None] == 1))


TILES = {"BLOCK_M": 64, "BLOCK_N": 128, "BLOCK_K": 64, "num_warps": 4, "num_stages": 3}  # not measured yet
FLOAT32_TILES = {"BLOCK_M": 64, "BLOCK_N": 64, "BLOCK_K": 16, "num_warps": 8, "num_stages": 2}


@device.launches(versions=2)
def patch_embed(images, weight, class_token, position_embedding, *, version=None, config=None):
    """`numpy_ops.patch_embed`: images (B, C, height, width), weight (D, C, P, P), class_token (D,),
    position_embedding (T, D) -> (B, T, D) of the images' dtype. `config` replaces the tiles of version 2.
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
        _cut[(len(rows), triton.cdiv(N, block))](images, rows, *images.stride()[:3], Gy, Gx, N, P, K, BLOCK=block)
        x = rows @ F.pad(weight, (0, N - K)).T  # (B·Gy·Gx, D)
        block = min(1024, triton.next_power_of_2(D))
        _finish[(B * T, triton.cdiv(D, block))](x, class_token, position_embedding, out, T, D, BLOCK_D=block)
    else:
        config = config or (FLOAT32_TILES if images.dtype == torch.float32 else TILES)
        grid = (triton.cdiv(B * Gy * Gx, config["BLOCK_M"]) * triton.cdiv(D, config["BLOCK_N"]),)
        _patches[grid](
            images, weight, class_token, position_embedding, out, *images.stride()[:3], B * Gy * Gx, Gy, Gx, D,
            P, K, PRECISION=device.dot_precision(images.dtype), **config,
        )  # fmt: skip
    return out
