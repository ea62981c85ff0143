"""The head of CLIP in one pass: exp(logit_scale) · cosine of every picture with every text.

Step by step that is two norms, two divisions, a product and a scale: six kernels, and every feature read and written
twice before its product. But a cosine is a product of features as they are, divided by both lengths, and who multiplies
them has them in hand:

    1  a picture a program      Against a tile of texts, on the vector units: every text is read once per picture.
    2  a tile of both           Products on the matrix units, once per tile; squares are summed from the same loads.

(Learning Transferable Visual Models: Radford et al., 2021, fig. 3. kernels/README.md says what has been measured.)
"""

import torch
import triton
import triton.language as tl

from miniclip.kernels import device


@triton.jit
def _picture(
    images_ptr, texts_ptr, scale_ptr, out_ptr, images_row, texts_row, N, E, BLOCK_N: tl.constexpr, BLOCK_E: tl.constexpr
):  # fmt: skip
    b = tl.program_id(0).to(tl.int64)
    n = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)[:, None]  # (N, 1)
    e = tl.arange(0, BLOCK_E)[None, :]  # (1, E)
    image = tl.load(images_ptr + b * images_row + e, mask=e < E, other=0).to(tl.float32)  # (1, E)
    texts = tl.load(texts_ptr + n.to(tl.int64) * texts_row + e, mask=(n < N) & (e < E), other=0).to(
        tl.float32
    )  # (N, E)
    product = tl.sum(image * texts, axis=1, keep_dims=True)  # (N, 1)
    squares = tl.sum(image * image, axis=1, keep_dims=True) * tl.sum(texts * texts, axis=1, keep_dims=True)
    out = tl.exp(tl.load(scale_ptr).to(tl.float32)) * product / tl.sqrt(squares)
    tl.store(out_ptr + b * N + n, out.to(out_ptr.dtype.element_ty), mask=n < N)


@triton.jit
def _tile(
    images_ptr, texts_ptr, scale_ptr, out_ptr, images_row, texts_row, B, N, E,
    BLOCK_B: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_E: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    b = tl.program_id(0) // tl.cdiv(N, BLOCK_N) * BLOCK_B + tl.arange(0, BLOCK_B)[:, None].to(tl.int64)  # (B, 1)
    n = tl.program_id(0) % tl.cdiv(N, BLOCK_N) * BLOCK_N + tl.arange(0, BLOCK_N)[:, None].to(tl.int64)  # (N, 1)
    product = tl.zeros([BLOCK_B, BLOCK_N], tl.float32)
    image_squares, text_squares = tl.zeros([BLOCK_B], tl.float32), tl.zeros([BLOCK_N], tl.float32)
    for start in range(0, E, BLOCK_E):
        e = start + tl.arange(0, BLOCK_E)[None, :]  # (1, E)
        images = tl.load(images_ptr + b * images_row + e, mask=(b < B) & (e < E), other=0)  # (B, E)
        texts = tl.load(texts_ptr + n * texts_row + e, mask=(n < N) & (e < E), other=0)  # (N, E)
        product = tl.dot(images, texts.T, product, input_precision=PRECISION)  # (B, N)
        images, texts = images.to(tl.float32), texts.to(tl.float32)
        image_squares += tl.sum(images * images, axis=1)
        text_squares += tl.sum(texts * texts, axis=1)
    lengths = tl.sqrt(image_squares)[:, None] * tl.sqrt(text_squares)[None, :]  # their squares' product may overflow
    out = tl.exp(tl.load(scale_ptr).to(tl.float32)) * product / lengths
    tl.store(out_ptr + b * N + n.T, out.to(out_ptr.dtype.element_ty), mask=(b < B) & (n.T < N))


TILES = {"BLOCK_B": 64, "BLOCK_N": 64, "BLOCK_E": 64, "num_warps": 4, "num_stages": 3}  # not measured yet
FLOAT32_TILES = {"BLOCK_B": 32, "BLOCK_N": 32, "BLOCK_E": 32, "num_warps": 4, "num_stages": 2}


@device.launches(versions=2)
def similarity(image_features, text_features, logit_scale, *, version=2, config=None):
    """`numpy_ops.similarity`: image_features (B, E), text_features (N, E), logit_scale () a logarithm -> (B, N)."""
    images, texts = (x if x.stride(-1) == 1 else x.contiguous() for x in (image_features, text_features))
    (B, E), N = images.shape, len(texts)
    device.expect(text_features=(texts, (N, E)))
    out = torch.empty(B, N, dtype=images.dtype, device=images.device)
    if out.numel() == 0:
        return out
    arguments = (images, texts, logit_scale, out, images.stride(0), texts.stride(0))
    if version == 1:
        _picture[(B, triton.cdiv(N, 16))](*arguments, N, E, BLOCK_N=16, BLOCK_E=triton.next_power_of_2(E))
    else:
        config = config or (FLOAT32_TILES if images.dtype == torch.float32 else TILES)
        grid = (triton.cdiv(B, config["BLOCK_B"]) * triton.cdiv(N, config["BLOCK_N"]),)
        _tile[grid](*arguments, B, N, E, PRECISION=device.dot_precision(images.dtype), **config)
    return out
