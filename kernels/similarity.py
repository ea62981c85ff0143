"""The head of CLIP in one pass: exp(logit_scale) · cosine of every picture with every text.

Step by step that is two norms, two divisions, a product and a scale: six kernels, and every feature read and written
twice before its product. But a cosine is a product of features as they are, divided by both lengths, and the kernel
that multiplies features has them in hand:

    1  a picture a program      Each is compared with a tile of texts, on the vector units: every text is read once per
                                picture.
    2  a tile of both           Products on the matrix units, once per tile; squares are summed from the same loads.

(Learning Transferable Visual Models: Radford et al., 2021, fig. 3. kernels/README.md says what has been measured.)
"""

import math

import torch
import triton
import triton.language as tl

from miniclip.kernels import device, ladder
from miniclip.ops import torch_ops


@triton.jit
def _power_of_two(largest):
    """The factor that brings numbers up to `largest` to about one: squares of 1e30 and of 1e-30 are not floats."""
    return tl.exp2(-tl.floor(tl.log2(tl.where(largest > 0, largest, 1))))


# ----------------------------------------------------------------------------- version 1: a picture a program


@triton.jit
def _picture_kernel(
    images_ptr, texts_ptr, scale_ptr, out_ptr, stride_im, stride_tn, N, E, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr
):  # fmt: skip
    pid_m = tl.program_id(0).to(tl.int64)
    offs_n = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)[:, None]  # (N, 1)
    offs_k = tl.arange(0, BLOCK_K)[None, :]  # (1, E)
    # the features of a picture and of a tile of texts: (1, E), (N, E)
    mask = (offs_n < N) & (offs_k < E)
    image = tl.load(images_ptr + pid_m * stride_im + offs_k, mask=offs_k < E, other=0).to(tl.float32)
    texts = tl.load(texts_ptr + offs_n.to(tl.int64) * stride_tn + offs_k, mask=mask, other=0).to(tl.float32)
    image *= _power_of_two(tl.max(tl.abs(image), axis=1, keep_dims=True))
    texts *= _power_of_two(tl.max(tl.abs(texts), axis=1, keep_dims=True))
    # their products, and the product of their squared lengths: (N, 1)
    acc = tl.sum(image * texts, axis=1, keep_dims=True)
    squares = tl.sum(image * image, axis=1, keep_dims=True) * tl.sum(texts * texts, axis=1, keep_dims=True)
    out = tl.exp(tl.load(scale_ptr).to(tl.float32)) * acc / tl.sqrt(tl.where(squares == 0, 1, squares))
    tl.store(out_ptr + pid_m * N + offs_n, out.to(out_ptr.dtype.element_ty), mask=offs_n < N)


# ------------------------------------------------------------------------------------ version 2: a tile of both


@triton.jit
def _tile_kernel(
    images_ptr, texts_ptr, scale_ptr, out_ptr, stride_im, stride_tn, B, N, E,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, PRECISION: tl.constexpr, SCALE: tl.constexpr,
):  # fmt: skip
    num_pid_n = tl.cdiv(N, BLOCK_N)
    pid_m, pid_n = tl.program_id(0) // num_pid_n, tl.program_id(0) % num_pid_n
    offs_m = pid_m * BLOCK_M + tl.arange(0, BLOCK_M)[:, None].to(tl.int64)  # (B, 1)
    offs_n = pid_n * BLOCK_N + tl.arange(0, BLOCK_N)[:, None].to(tl.int64)  # (N, 1)
    image_largest, text_largest = tl.zeros([BLOCK_M], tl.float32), tl.zeros([BLOCK_N], tl.float32)
    if SCALE:  # the largest feature of each row, (B,) and (N,), to scale by; the second time, features are in the cache
        for start_k in range(0, E, BLOCK_K):
            offs_k = start_k + tl.arange(0, BLOCK_K)[None, :]  # (1, E)
            images = tl.load(images_ptr + offs_m * stride_im + offs_k, mask=(offs_m < B) & (offs_k < E), other=0)
            texts = tl.load(texts_ptr + offs_n * stride_tn + offs_k, mask=(offs_n < N) & (offs_k < E), other=0)
            image_largest = tl.maximum(image_largest, tl.max(tl.abs(images), axis=1))
            text_largest = tl.maximum(text_largest, tl.max(tl.abs(texts), axis=1))
    image_power, text_power = _power_of_two(image_largest)[:, None], _power_of_two(text_largest)[:, None]
    acc = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    image_squares, text_squares = tl.zeros([BLOCK_M], tl.float32), tl.zeros([BLOCK_N], tl.float32)
    for start_k in range(0, E, BLOCK_K):
        # BLOCK_K features of a tile of pictures and of a tile of texts: (B, E), (N, E)
        offs_k = start_k + tl.arange(0, BLOCK_K)[None, :]  # (1, E)
        images = tl.load(images_ptr + offs_m * stride_im + offs_k, mask=(offs_m < B) & (offs_k < E), other=0)
        texts = tl.load(texts_ptr + offs_n * stride_tn + offs_k, mask=(offs_n < N) & (offs_k < E), other=0)
        if SCALE:
            images, texts = images * image_power, texts * text_power
        # their products: (B, E) x (E, N) -> (B, N)
        acc = tl.dot(images, texts.T, acc, input_precision=PRECISION)
        # their squares: (B,), (N,)
        images, texts = images.to(tl.float32), texts.to(tl.float32)
        image_squares += tl.sum(images * images, axis=1)
        text_squares += tl.sum(texts * texts, axis=1)
    # epilogue: divide by both lengths, whose squares' product may overflow, and scale, (B, N); zeros stay zeros
    lengths = tl.sqrt(image_squares)[:, None] * tl.sqrt(text_squares)[None, :]
    out = tl.exp(tl.load(scale_ptr).to(tl.float32)) * acc / tl.where(lengths == 0, 1, lengths)
    tl.store(out_ptr + offs_m * N + offs_n.T, out.to(out_ptr.dtype.element_ty), mask=(offs_m < B) & (offs_n.T < N))


# ------------------------------------------------------------------------------------------- calling them

TILES = {"BLOCK_M": 64, "BLOCK_N": 64, "BLOCK_K": 64, "num_warps": 4, "num_stages": 3}  # not measured yet
FLOAT32_TILES = {"BLOCK_M": 32, "BLOCK_N": 32, "BLOCK_K": 16, "num_warps": 4, "num_stages": 2}


@device.launches(
    versions=2,
    schema="(Tensor image_features, Tensor text_features, Tensor logit_scale) -> Tensor",
    empty=lambda images, texts, _: images.new_empty(images.shape[0], texts.shape[0]),
)
def similarity(image_features, text_features, logit_scale, *, version=2, config=None):
    """`numpy_ops.similarity`: image_features (B, E), text_features (N, E), logit_scale () a logarithm -> (B, N).

    `config` replaces the tiles of version 2.
    """
    images, texts = (x if x.stride(-1) == 1 else x.contiguous() for x in (image_features, text_features))
    (B, E), N = images.shape, len(texts)
    device.expect(text_features=(texts, (N, E)))
    out = torch.empty(B, N, dtype=images.dtype, device=images.device)
    if out.numel() == 0:
        return out
    arguments = (images, texts, logit_scale, out, images.stride(0), texts.stride(0))
    if version == 1:
        _picture_kernel[(B, triton.cdiv(N, 16))](*arguments, N, E, BLOCK_N=16, BLOCK_K=triton.next_power_of_2(E))
    else:
        config = config or device.count_warps(FLOAT32_TILES if images.dtype == torch.float32 else TILES)
        grid = (triton.cdiv(B, config["BLOCK_M"]) * triton.cdiv(N, config["BLOCK_N"]),)
        precision, wide = device.dot_precision(images.dtype), images.dtype == torch.float32
        _tile_kernel[grid](*arguments, B, N, E, PRECISION=precision, SCALE=wide, **config)
    return out


# ----------------------------------------------------------------------- what is tested, compiled and measured


def _inputs(new, B, N, E):
    return {"image_features": new(B, E), "text_features": new(N, E), "logit_scale": new().fill_(math.log(100))}


KERNELS = {
    "similarity": ladder.Kernel(
        ours=similarity,
        plain=torch_ops.similarity,
        inputs=_inputs,
        rows=("image_features",),
        work=lambda B, N, E: (2 * B * N * E, B * E + N * E + B * N),
        small=({"B": 5, "N": 3, "E": 37},),
        clip=({"B": 256, "N": 1000, "E": 512}, {"B": 4096, "N": 4096, "E": 768}),
    )
}

if __name__ == "__main__":
    ladder.show(KERNELS)
