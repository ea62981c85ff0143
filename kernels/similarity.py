"""The head of CLIP in one pass: exp(logit_scale) · cosine of every picture with every text.

Step by step that is two norms, two divisions, a product and a scale: six kernels, and every feature read and written
twice before its product. But a cosine is a product of features as they are, divided by both lengths, and the kernel
that multiplies features has them in hand:

    1  a picture a program      Each is compared with a tile of texts, on the vector units: every text is read once per
                                picture.
    2  a tile of both           Products on the matrix units, once per tile; each tile sums its rows' squares before.
    3  lengths first            For 4096 pictures and texts each tile of version 2 sums the squares that 63 others sum:
                                320 instructions a step of 64 x 64 x 64, whose products take 128 cycles. A kernel of its
                                own writes each row's 1/length once, and a step of 128 x 256 x 64 has 84 instructions
                                for 1024 cycles of products. Larger tiles take 0.3 GB out of the cache instead of 0.8,
                                and results are written 16 bytes at a time instead of 4.

One launch is faster for few results, so `similarity` chooses version 2 for fewer than a million.

(Learning Transferable Visual Models: Radford et al., 2021, fig. 3. kernels/README.md says what has been measured.)
"""

import math

import torch
import triton
import triton.language as tl

from miniclip.kernels import device, ladder, tuning
from miniclip.ops import torch_ops


@triton.jit
def _power_of_two(largest):
    """The factor that brings numbers up to `largest` to about one: squares of 1e30 and of 1e-30 are not floats."""
    return tl.exp2(-tl.floor(tl.log2(tl.where(largest > 0, largest, 1))))


@triton.jit
def _squares(x):
    """The sum of each row's squares, in float32: (M, N) -> (M,)."""
    x = x.to(tl.float32)
    return tl.sum(x * x, axis=1)


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
    # what is found out about whole rows comes first, (B,) and (N,); the second time, features are in the cache
    image_largest, text_largest = tl.zeros([BLOCK_M], tl.float32), tl.zeros([BLOCK_N], tl.float32)
    image_squares, text_squares = tl.zeros([BLOCK_M], tl.float32), tl.zeros([BLOCK_N], tl.float32)
    for start_k in range(0, E, BLOCK_K):
        offs_k = start_k + tl.arange(0, BLOCK_K)[None, :]  # (1, E)
        images = tl.load(images_ptr + offs_m * stride_im + offs_k, mask=(offs_m < B) & (offs_k < E), other=0)
        texts = tl.load(texts_ptr + offs_n * stride_tn + offs_k, mask=(offs_n < N) & (offs_k < E), other=0)
        if SCALE:  # the largest feature of each row, to scale by
            image_largest = tl.maximum(image_largest, tl.max(tl.abs(images), axis=1))
            text_largest = tl.maximum(text_largest, tl.max(tl.abs(texts), axis=1))
        else:
            image_squares += _squares(images)
            text_squares += _squares(texts)
    image_power, text_power = _power_of_two(image_largest)[:, None], _power_of_two(text_largest)[:, None]
    acc = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    for start_k in range(0, E, BLOCK_K):
        # BLOCK_K features of a tile of pictures and of a tile of texts: (B, E), (N, E)
        offs_k = start_k + tl.arange(0, BLOCK_K)[None, :]  # (1, E)
        images = tl.load(images_ptr + offs_m * stride_im + offs_k, mask=(offs_m < B) & (offs_k < E), other=0)
        texts = tl.load(texts_ptr + offs_n * stride_tn + offs_k, mask=(offs_n < N) & (offs_k < E), other=0)
        if SCALE:
            images, texts = images * image_power, texts * text_power
            image_squares += _squares(images)
            text_squares += _squares(texts)
        # Their products, (B, E) x (E, N) -> (B, N). In 16 bit nothing else may use these loads: on Hopper, Triton then
        # has one buffer too few, and loads the next features over some that are being multiplied (its issue 6691).
        acc = tl.dot(images, texts.T, acc, input_precision=PRECISION)
    # epilogue: divide by both lengths, whose squares' product may overflow, and scale, (B, N); zeros stay zeros
    lengths = tl.sqrt(image_squares)[:, None] * tl.sqrt(text_squares)[None, :]
    out = tl.exp(tl.load(scale_ptr).to(tl.float32)) * acc / tl.where(lengths == 0, 1, lengths)
    tl.store(out_ptr + offs_m * N + offs_n.T, out.to(out_ptr.dtype.element_ty), mask=(offs_m < B) & (offs_n.T < N))


# ------------------------------------------------------------------------------------ version 3: lengths first


@triton.jit
def _lengths_kernel(
    images_ptr, texts_ptr, powers_ptr, inverses_ptr, stride_im, stride_tn, B, E, BLOCK_E: tl.constexpr,
    SCALE: tl.constexpr,
):  # fmt: skip
    """For each row, pictures and then texts: 1 / its length. SCALE: of the row times its power of two; and that."""
    row = tl.program_id(0).to(tl.int64)
    x_ptr = images_ptr + row * stride_im if row < B else texts_ptr + (row - B) * stride_tn
    offs_e = tl.arange(0, BLOCK_E)
    x = tl.load(x_ptr + offs_e, mask=offs_e < E, other=0).to(tl.float32)  # (E,)
    power = _power_of_two(tl.max(tl.abs(x), axis=0))
    squares = tl.sum(x * power * (x * power), axis=0)
    inverse = tl.rsqrt(tl.where(squares == 0, 1, squares))  # zeros stay zeros
    tl.store(inverses_ptr + row, inverse if SCALE else inverse * power)
    if SCALE:
        tl.store(powers_ptr + row, power)


@triton.jit
def _product_kernel(
    images_ptr, texts_ptr, scale_ptr, powers_ptr, inverses_ptr, out_ptr, stride_im, stride_tn, B, N, E,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, PRECISION: tl.constexpr, SCALE: tl.constexpr,
    WHOLE_E: tl.constexpr,
):  # fmt: skip
    num_pid_n = tl.cdiv(N, BLOCK_N)
    pid_m, pid_n = tl.program_id(0) // num_pid_n, tl.program_id(0) % num_pid_n
    offs_m, offs_n = pid_m * BLOCK_M + tl.arange(0, BLOCK_M), pid_n * BLOCK_N + tl.arange(0, BLOCK_N)  # (B,), (N,)
    offs_k = tl.arange(0, BLOCK_K)[None, :]  # (1, E)
    # Rows beyond the end are read from the beginning, which always exists, and never written.
    image_ptrs = images_ptr + (offs_m % B).to(tl.int64)[:, None] * stride_im + offs_k  # (B, E)
    text_ptrs = texts_ptr + (offs_n % N).to(tl.int64)[:, None] * stride_tn + offs_k  # (N, E)
    if SCALE:
        image_power = tl.load(powers_ptr + offs_m % B)[:, None]  # (B, 1)
        text_power = tl.load(powers_ptr + B + offs_n % N)[:, None]  # (N, 1)
    # products of features, BLOCK_K at a time: (B, E) x (E, N) -> (B, N)
    acc = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    for start_k in range(0, E, BLOCK_K):
        if WHOLE_E:
            images, texts = tl.load(image_ptrs + start_k), tl.load(text_ptrs + start_k)
        else:
            images = tl.load(image_ptrs + start_k, mask=start_k + offs_k < E, other=0)
            texts = tl.load(text_ptrs + start_k, mask=start_k + offs_k < E, other=0)
        if SCALE:
            images, texts = images * image_power, texts * text_power
        acc = tl.dot(images, texts.T, acc, input_precision=PRECISION)
    # epilogue: divide by both lengths, and scale, (B, N); half of the columns at a time, for fewer registers
    image_factor = tl.exp(tl.load(scale_ptr).to(tl.float32)) * tl.load(inverses_ptr + offs_m % B)  # (B,)
    halves = acc.reshape(BLOCK_M, 2, BLOCK_N // 2).permute(0, 2, 1).split()
    for half in tl.static_range(2):
        offs_h = pid_n * BLOCK_N + half * (BLOCK_N // 2) + tl.arange(0, BLOCK_N // 2)  # (N/2,)
        text_factor = tl.load(inverses_ptr + B + offs_h % N)
        out = halves[half] * image_factor[:, None] * text_factor[None, :]
        mask = (offs_m[:, None] < B) & (offs_h[None, :] < N)
        out_ptrs = out_ptr + offs_m.to(tl.int64)[:, None] * N + offs_h[None, :]
        tl.store(out_ptrs, out.to(out_ptr.dtype.element_ty), mask=mask)


# ------------------------------------------------------------------------------------------- calling them

# Not measured yet.
SMALL = {"BLOCK_M": 64, "BLOCK_N": 64, "BLOCK_K": 64, "num_warps": 4, "num_stages": 3}
TILES = {  # of version 3: {(least capability, any size): tiles}
    (80, math.inf): SMALL,
    (90, math.inf): {"BLOCK_M": 128, "BLOCK_N": 256, "BLOCK_K": 64, "num_warps": 8, "num_stages": 3},
    (120, math.inf): SMALL,
}
FLOAT32_TILES = {"BLOCK_M": 64, "BLOCK_N": 64, "BLOCK_K": 16, "num_warps": 8, "num_stages": 2}
FLOAT32_SMALL = {"BLOCK_M": 32, "BLOCK_N": 32, "BLOCK_K": 16, "num_warps": 4, "num_stages": 2}


def tiles(B, N, E, dtype):
    """The version and the tiles for B pictures and N texts: the tuned ones if there are any."""
    version = 3 if B * N >= 2**20 else 2
    return dict(tuning.find("similarity", key(B, N, E, dtype), {"version": version, **_default(version, dtype)}))


def _default(version, dtype):
    if dtype == torch.float32:
        return FLOAT32_TILES if version == 3 else FLOAT32_SMALL
    return device.choose(TILES, math.inf) if version == 3 else SMALL


def key(B, N, E, dtype):
    """The key that a tuned configuration is recorded under."""
    return {"B": triton.next_power_of_2(B), "N": triton.next_power_of_2(N), "E": E, "dtype": str(dtype)[6:]}


def candidates():
    """The configurations that autotuning measures."""
    large = {"version": 3, "BLOCK_K": 64, "num_warps": 8}
    return [
        *({"version": version, **SMALL} for version in (2, 3)),
        *(
            {**large, "BLOCK_M": M, "BLOCK_N": N, "num_stages": stages}
            for M, N in ((128, 128), (128, 256), (256, 128))
            for stages in (3, 4)
        ),
    ]


@device.launches(
    versions=3,
    schema="(Tensor image_features, Tensor text_features, Tensor logit_scale) -> Tensor",
    empty=lambda images, texts, _: images.new_empty(images.shape[0], texts.shape[0]),
)
def similarity(image_features, text_features, logit_scale, *, version=None, config=None):
    """`numpy_ops.similarity`: image_features (B, E), text_features (N, E), logit_scale () a logarithm -> (B, N).

    `config` replaces the tiles and the version that `tiles` finds, `version` that version.
    """
    images, texts = (x if x.stride(-1) == 1 else x.contiguous() for x in (image_features, text_features))
    (B, E), N = images.shape, len(texts)
    device.expect(text_features=(texts, (N, E)), logit_scale=(logit_scale, ()))
    out = torch.empty(B, N, dtype=images.dtype, device=images.device)
    if out.numel() == 0:
        return out
    if not config:
        default = device.count_warps(_default(version, images.dtype))
        config = tiles(B, N, E, images.dtype) if version is None else default
    config = {"version": 3, **config}
    version = version or config["version"]
    del config["version"]
    num_tiles = triton.cdiv(B, config["BLOCK_M"]) * triton.cdiv(N, config["BLOCK_N"])
    wide = images.dtype == torch.float32
    options = {"PRECISION": device.dot_precision(images.dtype), "SCALE": wide, **config}
    strides = images.stride(0), texts.stride(0)
    if version == 1:
        grid, block = (B, triton.cdiv(N, 16)), triton.next_power_of_2(E)
        _picture_kernel[grid](images, texts, logit_scale, out, *strides, N, E, BLOCK_N=16, BLOCK_K=block)
    elif version == 2:
        _tile_kernel[(num_tiles,)](images, texts, logit_scale, out, *strides, B, N, E, **options)
    else:
        powers = torch.empty(B + N, dtype=torch.float32, device=images.device) if wide else None
        inverses = inverse_lengths(images, texts, powers)
        _product_kernel[(num_tiles,)](
            images, texts, logit_scale, powers, inverses, out, *strides, B, N, E,
            WHOLE_E=E % config["BLOCK_K"] == 0, **options,
        )  # fmt: skip
    return out


def inverse_lengths(images, texts, powers=None):
    """1 / the length of each row of images (B, E), then of texts (N, E): (B + N,) float32; of zeros, some number.

    With `powers` (B + N,), which is written, of each row times its power of two.
    """
    (B, E), N = images.shape, len(texts)
    inverses = torch.empty(B + N, dtype=torch.float32, device=images.device)
    _lengths_kernel[(B + N,)](
        images, texts, powers, inverses, images.stride(0), texts.stride(0), B, E, triton.next_power_of_2(E),
        SCALE=powers is not None, num_warps=1,
    )  # fmt: skip
    return inverses


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
        tuned="similarity",
        key=lambda B, N, E, dtype: key(B, N, E, dtype),
        candidates=candidates,
    )
}

if __name__ == "__main__":
    ladder.show(KERNELS)
