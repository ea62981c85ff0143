"""The k most probable labels of each picture, and their probabilities, without the matrix of all of them.

Zero-shot classification needs softmax(exp(logit_scale) · cosines) of B pictures with N labels, and then a few numbers
of each row. For 256 pictures and a million labels the matrix alone has 1 GB in float32: written by the product, read
and written by softmax, read by top-k. But the sum of exponentials can be updated as labels come (version 3 in
`attention_simple.py`), and so can the list of the k best:

    1  the matrix, then rows  `similarity` writes the logits, and one more kernel reads each row once: 2 passes over the
                              matrix instead of 4, by softmax and top-k in one.
    2  one pass               A program multiplies 64 pictures with a tile of labels after the other, and keeps the
                              largest logit, the sum and the k best in registers. The matrix is never written.
    3  split                  256 pictures are 4 programs, for 132 multiprocessors. So labels are shared out too, and a
                              second, small kernel merges what each program found.

Versions 2 and 3 are one kernel, with one part and with many. Of equal logits the one with the lowest index comes first,
whatever the version: logit and index are one number of 64 bits, so that sorting by both costs a single sort.

(Sums of exponentials in parts: Milakov and Gimelshein, Online normalizer calculation for softmax, 2018, which also has
its fusion with top-k. kernels/README.md says what has been measured.)
"""

import math

import numpy as np
import torch
import triton
import triton.language as tl

from miniclip.errors import InputError
from miniclip.kernels import device, ladder
from miniclip.kernels.similarity import inverse_lengths, similarity
from miniclip.ops import torch_ops

LARGEST_K = 64  # more do not fit into registers
NONE = tl.constexpr(-(2**63))  # below every label


# ------------------------------------------------------------------------------------- what all versions share


@triton.jit
def _keys(scores, offs_n):
    """Numbers of 64 bits that are sorted as scores are, equal ones by falling index: (M, N) -> (M, N) int64."""
    bits = (scores + 0.0).to(tl.int32, bitcast=True)  # + 0: -0 becomes 0
    bits ^= (bits >> 31) & 0x7FFFFFFF  # floats are sorted by sign and magnitude; integers are not: negative ones turn
    return (bits.to(tl.int64) << 32) | (0x7FFFFFFF - offs_n).to(tl.int64)


@triton.jit
def _scores_and_indices(keys):
    """The inverse of `_keys`."""
    bits = (keys >> 32).to(tl.int32)
    bits ^= (bits >> 31) & 0x7FFFFFFF
    return bits.to(tl.float32, bitcast=True), 0x7FFFFFFF - (keys & 0x7FFFFFFF)


@triton.jit
def _update(m_i, l_i, best, scores, offs_n, TOP: tl.constexpr):
    """The largest score m_i (M,), Σ exp(score - m_i) l_i (M,) and the keys of the best (M, TOP), with more scores."""
    m_ij = tl.maximum(m_i, tl.max(scores, axis=1))
    l_i = l_i * tl.exp(m_i - m_ij) + tl.sum(tl.exp(scores - m_ij[:, None]), axis=1)
    both = tl.join(best, tl.topk(_keys(scores, offs_n), TOP))  # (M, TOP, 2)
    return m_ij, l_i, tl.topk(both.reshape(scores.shape[0], 2 * TOP), TOP)


@triton.jit
def _write(probabilities_ptr, indices_ptr, row, k, m, total, best, TOP: tl.constexpr):
    """The k best of a row: keys (1, TOP) -> probabilities exp(score - m) / total, and indices."""
    scores, indices = _scores_and_indices(best)
    offs_k = tl.arange(0, TOP)[None, :]
    tl.store(probabilities_ptr + row * k + offs_k, tl.exp(scores - m[:, None]) / total[:, None], mask=offs_k < k)
    tl.store(indices_ptr + row * k + offs_k, indices, mask=offs_k < k)


# ------------------------------------------------------------------------------ version 1: the matrix, then rows


@triton.jit
def _row_kernel(logits_ptr, probabilities_ptr, indices_ptr, N, k, TOP: tl.constexpr, BLOCK_N: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    m_i, l_i = tl.full([1], -float("inf"), tl.float32), tl.zeros([1], tl.float32)
    best = tl.full([1, TOP], NONE, tl.int64)
    for start_n in range(0, N, BLOCK_N):
        offs_n = start_n + tl.arange(0, BLOCK_N)[None, :]  # (1, N)
        scores = tl.load(logits_ptr + row * N + offs_n, mask=offs_n < N, other=-float("inf")).to(tl.float32)
        m_i, l_i, best = _update(m_i, l_i, best, scores, offs_n, TOP)
    _write(probabilities_ptr, indices_ptr, row, k, m_i, l_i, best, TOP)


# ------------------------------------------------------------------------- versions 2 and 3: one pass, and split


@triton.jit
def _labels_kernel(
    images_ptr, texts_ptr, inverses_ptr, scale_ptr, m_ptr, l_ptr, best_ptr, stride_im, stride_tn, B, N, E, part,
    TOP: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """A tile of pictures with labels part · pid_s .. part · (pid_s + 1): m_i, l_i (B, S) and best (B, S, TOP)."""
    pid_m, pid_s, num_s = tl.program_id(0), tl.program_id(1), tl.num_programs(1)
    offs_m = pid_m * BLOCK_M + tl.arange(0, BLOCK_M).to(tl.int64)  # (B,)
    # exp(logit_scale) / length of each picture: (B,)
    image_factor = tl.exp(tl.load(scale_ptr).to(tl.float32)) * tl.load(inverses_ptr + offs_m, mask=offs_m < B, other=0)
    m_i, l_i = tl.full([BLOCK_M], -float("inf"), tl.float32), tl.zeros([BLOCK_M], tl.float32)
    best = tl.full([BLOCK_M, TOP], NONE, tl.int64)
    for start_n in range(pid_s * part, tl.minimum(N, (pid_s + 1) * part), BLOCK_N):
        offs_n = start_n + tl.arange(0, BLOCK_N)  # (N,)
        acc = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
        for start_k in range(0, E, BLOCK_K):
            # BLOCK_K features of the pictures and of a tile of labels: (B, E), (N, E)
            offs_k = start_k + tl.arange(0, BLOCK_K)[None, :]  # (1, E)
            image_ptrs = images_ptr + offs_m[:, None] * stride_im + offs_k
            text_ptrs = texts_ptr + offs_n[:, None].to(tl.int64) * stride_tn + offs_k
            images = tl.load(image_ptrs, mask=(offs_m[:, None] < B) & (offs_k < E), other=0)
            texts = tl.load(text_ptrs, mask=(offs_n[:, None] < N) & (offs_k < E), other=0)
            # their products: (B, E) x (E, N) -> (B, N)
            acc = tl.dot(images, texts.T, acc, input_precision=PRECISION)
        text_factor = tl.load(inverses_ptr + B + offs_n, mask=offs_n < N, other=0)
        scores = acc * image_factor[:, None] * text_factor[None, :]
        scores = tl.where(offs_n[None, :] < N, scores, -float("inf"))
        m_i, l_i, best = _update(m_i, l_i, best, scores, offs_n[None, :], TOP)
    places = offs_m * num_s + pid_s  # (B,)
    tl.store(m_ptr + places, m_i, mask=offs_m < B)
    tl.store(l_ptr + places, l_i, mask=offs_m < B)
    best_ptrs = best_ptr + places[:, None] * TOP + tl.arange(0, TOP)[None, :]
    tl.store(best_ptrs, best, mask=offs_m[:, None] < B)


@triton.jit
def _merge_kernel(m_ptr, l_ptr, best_ptr, probabilities_ptr, indices_ptr, k, TOP: tl.constexpr, PARTS: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    offs_s = tl.arange(0, PARTS)[None, :]  # (1, S)
    m_s, l_s = tl.load(m_ptr + row * PARTS + offs_s), tl.load(l_ptr + row * PARTS + offs_s)
    best = tl.load(best_ptr + row * PARTS * TOP + tl.arange(0, PARTS * TOP)[None, :])  # (1, S·TOP)
    m = tl.max(m_s, axis=1)  # (1,)
    total = tl.sum(l_s * tl.exp(m_s - m[:, None]), axis=1)
    _write(probabilities_ptr, indices_ptr, row, k, m, total, tl.topk(best, TOP), TOP)


# ------------------------------------------------------------------------------------------- calling them

TILES = {"BLOCK_M": 64, "BLOCK_N": 64, "BLOCK_K": 64, "num_warps": 8, "num_stages": 3}  # not measured yet
FLOAT32_TILES = {"BLOCK_M": 32, "BLOCK_N": 64, "BLOCK_K": 16, "num_warps": 8, "num_stages": 2}
MOST_PARTS = 64


def top_k(image_features, text_features, logit_scale, k, *, version=3, config=None):
    """softmax of `numpy_ops.similarity`, its k largest of each row: -> (probabilities (B, k) float32, indices (B, k)).

    image_features (B, E), text_features (N, E), alike, of lengths from 1e-18 to 1e18; logit_scale () a logarithm, of
    any dtype. Probabilities fall; of equal logits the lowest index comes first. Indices are int64. `config` replaces
    the tiles of versions 2 and 3. Raises InputError for k beyond LARGEST_K or the number of labels.
    """
    # The scale is in a tuple because it may be of another dtype than the features: float32 beside bfloat16.
    return _launch(image_features, text_features, (logit_scale,), k, version=version, config=config)


def checked(k, labels):
    """k as an int. Raises InputError unless it is a whole number from 1 to LARGEST_K, and to the number of labels."""
    whole = isinstance(k, (int, np.integer)) and not isinstance(k, bool)
    if not whole or not 1 <= k <= min(labels, LARGEST_K):
        raise InputError(f"k is {k!r}, expected a whole number from 1 to {min(labels, LARGEST_K)}, for {labels} labels")
    return int(k)


@device.launches(versions=3, name="top_k")
def _launch(images, texts, scale, k, *, version, config):
    (B, E), N = images.shape, len(texts)
    device.expect(text_features=(texts, (N, E)))
    device.expect_scalars(images, logit_scale=scale[0])
    k = checked(k, N)
    images, texts = (x if x.stride(-1) == 1 else x.contiguous() for x in (images, texts))
    probabilities = torch.empty(B, k, dtype=torch.float32, device=images.device)
    indices = torch.empty(B, k, dtype=torch.int64, device=images.device)
    TOP = max(2, triton.next_power_of_2(k))
    if B == 0:
        return probabilities, indices
    if version == 1:
        logits = similarity(images, texts, scale[0].to(images.dtype))
        BLOCK_N = max(TOP, min(1024, triton.next_power_of_2(N)))
        _row_kernel[(B,)](logits, probabilities, indices, N, k, TOP, BLOCK_N=BLOCK_N)
        return probabilities, indices
    config = config or device.count_warps(FLOAT32_TILES if images.dtype == torch.float32 else TILES)
    num_m, tiles_n = triton.cdiv(B, config["BLOCK_M"]), triton.cdiv(N, config["BLOCK_N"])
    parts = 1 if version == 2 else _parts(num_m, tiles_n, device.processors(images))
    part = triton.cdiv(tiles_n, parts) * config["BLOCK_N"]  # labels
    m, total = (torch.empty(B, parts, dtype=torch.float32, device=images.device) for _ in range(2))
    best = torch.empty(B, parts, TOP, dtype=torch.int64, device=images.device)
    inverses = inverse_lengths(images, texts)
    _labels_kernel[(num_m, parts)](
        images, texts, inverses, scale[0], m, total, best, images.stride(0), texts.stride(0), B, N, E, part,
        TOP=TOP, PRECISION=device.dot_precision(images.dtype), **config,
    )  # fmt: skip
    _merge_kernel[(B,)](m, total, best, probabilities, indices, k, TOP=TOP, PARTS=parts)
    return probabilities, indices


def _parts(num_m, tiles_n, processors):
    """Into how many parts labels are split, a power of two: two programs a multiprocessor, two tiles of labels each."""
    wanted = max(1, min(MOST_PARTS, 2 * processors // num_m, tiles_n // 2))
    return 1 << (wanted.bit_length() - 1)


# ----------------------------------------------------------------------- what is tested, compiled and measured


def _inputs(new, B, N, E, k):
    return {"image_features": new(B, E), "text_features": new(N, E), "logit_scale": new().fill_(math.log(100)), "k": k}


def _probabilities(**inputs):
    return top_k(**inputs)[0]


_probabilities.versions = _launch.versions


def _plain(image_features, text_features, logit_scale, k):
    logits = torch_ops.similarity(image_features, text_features, logit_scale)
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).softmax(dim=-1).topk(k).values


KERNELS = {
    "top_k": ladder.Kernel(
        ours=_probabilities,
        plain=_plain,
        inputs=_inputs,
        rows=("image_features",),
        work=lambda B, N, E, k: (2 * B * N * E, B * E + N * E + B * k),
        small=({"B": 5, "N": 150, "E": 37, "k": 3},),
        clip=({"B": 256, "N": 1000, "E": 512, "k": 5}, {"B": 256, "N": 100_000, "E": 512, "k": 5}),
    )
}

if __name__ == "__main__":
    ladder.show(KERNELS)
