"""Texts without padding: all tokens of a batch in one long row, and attention that stays inside each text.

A batch of texts is padded to its longest. Captions have 10 to 13 tokens on average and the longest of 256 has some 20,
rounded up to 32: every product, norm and activation of the tower computes 2.4 to 3.3 times as many tokens as there are.
All of these work on each token by itself and do not care which text it is of. So tokens are put side by side, (1, ΣT),
and two things remain that must know where texts begin: positions (see `serving`) and attention, which has two versions:

    1  a text a program       A program finds its text through the offsets and attends to it alone. All texts get as
                              many programs as the longest, most with nothing to do, and a tile of 64 queries holds
                              one text of 13.
    2  a tile of tokens       64 queries that are side by side, whatever texts they are of: no program is idle, no row
                              of a tile empty. Each query sees only keys of its own text, so that products of
                              different texts are computed and masked. They cost nothing: 64 queries and their 64 to 80
                              keys move 32 KB for each head, which takes longer than multiplying them.

Nothing of a text reaches another: masked weights are exact zeros. (But 0 · NaN is NaN: in version 2, a text whose
values overflow float16 spoils the others of its tile.) In the last block, each text has one query, its end's: that is
always version 1's.
"""

import math
import types
from typing import NamedTuple

import numpy as np
import torch
import triton
import triton.language as tl

from miniclip.errors import InputError
from miniclip.kernels import device, ladder
from miniclip.kernels.attention import LARGEST_HEAD, LOG2_E, _attend
from miniclip.kernels.attention_simple import online_softmax
from miniclip.ops import torch_ops


class Texts(NamedTuple):
    """Where B texts are in their row of ΣT tokens: int32 tensors, and the tokens of the longest text."""

    offsets: torch.Tensor  # (B + 1,): text b is tokens offsets[b] .. offsets[b + 1]
    starts: torch.Tensor  # (ΣT,): where the text of each token begins
    longest: int


def texts(lengths, device=None):
    """`Texts` on a device for lengths (B,) int in NumPy, each at least 1."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)  # (B + 1,)
    starts = np.repeat(offsets[:-1], lengths)  # (ΣT,)
    return Texts(*(torch.as_tensor(x, device=device) for x in (offsets, starts)), int(np.max(lengths, initial=0)))


# ------------------------------------------------------------------------------ version 1: a text a program


@triton.jit
def _text_kernel(
    q_ptr, k_ptr, v_ptr, out_ptr, offsets_ptr,
    stride_qt, stride_qh, stride_kt, stride_kh, stride_vt, stride_vh, stride_ot, stride_oh, num_pid_m, H, qk_scale,
    HEAD_DIM: tl.constexpr, ONLY_LAST: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    # which tile of queries, head and text: all tokens of the text, or with ONLY_LAST one query that sees all its keys
    pid_m, pid_bh = tl.program_id(0) % num_pid_m, tl.program_id(0) // num_pid_m
    off_h, off_b = pid_bh % H, pid_bh // H
    start = tl.load(offsets_ptr + off_b).to(tl.int64)
    seqlen = (tl.load(offsets_ptr + off_b + 1) - start).to(tl.int32)
    first_q, Tq = start, seqlen
    if ONLY_LAST:
        first_q, Tq = off_b.to(tl.int64), 1
    if pid_m * BLOCK_M < Tq:
        _attend(q_ptr + first_q * stride_qt + off_h * stride_qh, k_ptr + start * stride_kt + off_h * stride_kh,
                v_ptr + start * stride_vt + off_h * stride_vh, out_ptr + first_q * stride_ot + off_h * stride_oh,
                stride_qt, stride_kt, stride_vt, stride_ot, pid_m * BLOCK_M, Tq, seqlen, qk_scale, HEAD_DIM,
                not ONLY_LAST, True, BLOCK_D, BLOCK_M, BLOCK_N, BLOCK_N, 1 if ONLY_LAST else BLOCK_M // BLOCK_N,
                PRECISION)  # fmt: skip


# ----------------------------------------------------------------------------- version 2: a tile of tokens


@triton.jit
def _tokens_kernel(
    q_ptr, k_ptr, v_ptr, out_ptr, starts_ptr,
    stride_qt, stride_qh, stride_kt, stride_kh, stride_vt, stride_vh, stride_ot, stride_oh, total, H, qk_scale,
    HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    # Rows are counted from the tile's first: their offsets fit 32 bits.
    start_m, off_h = tl.program_id(0) // H * BLOCK_M, tl.program_id(0) % H
    q_ptr += start_m.to(tl.int64) * stride_qt + off_h * stride_qh
    k_ptr += start_m.to(tl.int64) * stride_kt + off_h * stride_kh
    v_ptr += start_m.to(tl.int64) * stride_vt + off_h * stride_vh
    out_ptr += start_m.to(tl.int64) * stride_ot + off_h * stride_oh
    rest = total - start_m
    offs_m = tl.arange(0, BLOCK_M)  # (M,)
    offs_d = tl.arange(0, BLOCK_D)[None, :]  # (1, K)
    mask = (offs_m[:, None] < rest) & (offs_d < HEAD_DIM)  # (M, K)
    # a tile of queries stays in registers, (M, K), and the first key that each sees, (M,)
    q = tl.load(q_ptr + offs_m[:, None] * stride_qt + offs_d, mask=mask, other=0)
    starts = tl.load(starts_ptr + start_m + offs_m, mask=offs_m < rest, other=0) - start_m
    m_i = tl.full([BLOCK_M], -float("inf"), tl.float32)
    l_i = tl.zeros([BLOCK_M], tl.float32)
    acc = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    # keys of the same tokens first: every query sees itself, so that m_i is finite from here on
    acc, m_i, l_i = _masked_step(acc, m_i, l_i, q, offs_m, starts, k_ptr, v_ptr, stride_kt, stride_vt, 0, rest,
                                 qk_scale, HEAD_DIM, BLOCK_D, BLOCK_M, PRECISION)  # fmt: skip
    # then those before the tile, if its first query is not the first of a text
    for start_n in range(tl.load(starts_ptr + start_m) - start_m, 0, BLOCK_N):
        acc, m_i, l_i = _masked_step(acc, m_i, l_i, q, offs_m, starts, k_ptr, v_ptr, stride_kt, stride_vt, start_n, 0,
                                     qk_scale, HEAD_DIM, BLOCK_D, BLOCK_N, PRECISION)  # fmt: skip
    # epilogue: divide by the sum of the weights, and write (M, K)
    acc = acc * (1 / l_i)[:, None]
    tl.store(out_ptr + offs_m[:, None] * stride_ot + offs_d, acc.to(out_ptr.dtype.element_ty), mask=mask)


@triton.jit
def _masked_step(
    acc, m_i, l_i, q, offs_m, starts, k_ptr, v_ptr, stride_kt, stride_vt, start_n, end_n, qk_scale,
    HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """A step of the online softmax (`attention_simple.py`, version 3), for keys start_n .. end_n, BLOCK_N at most."""
    offs_n = start_n + tl.arange(0, BLOCK_N)  # (N,)
    offs_d = tl.arange(0, BLOCK_D)[None, :]  # (1, K)
    kv_mask = (offs_n[:, None] < end_n) & (offs_d < HEAD_DIM)  # (N, K)
    # a query sees keys of its own text, up to itself: (M, N)
    mask = (offs_n[None, :] >= starts[:, None]) & (offs_n[None, :] <= offs_m[:, None]) & (offs_n[None, :] < end_n)
    k = tl.load(k_ptr + offs_n[:, None] * stride_kt + offs_d, mask=kv_mask, other=0)  # (N, K)
    qk = tl.where(mask, tl.dot(q, k.T, input_precision=PRECISION), -float("inf"))
    p, alpha, m_i = online_softmax(m_i, qk, qk_scale)
    v = tl.load(v_ptr + offs_n[:, None] * stride_vt + offs_d, mask=kv_mask, other=0)  # (N, K)
    acc = tl.dot(p.to(v.dtype), v, acc * alpha[:, None], input_precision=PRECISION)
    return acc, m_i, l_i * alpha + tl.sum(p, axis=1)


# ------------------------------------------------------------------------------------------- calling them

# 16 is the least that the matrix units take: for keys before the tile, which are few, and for a query by itself.
TILES = {"BLOCK_M": 64, "BLOCK_N": 16, "num_warps": 4, "num_stages": 1}  # not measured yet
TEXT_TILES = {"BLOCK_M": 64, "BLOCK_N": 64, "num_warps": 4, "num_stages": 1}
LAST_TILES = {"BLOCK_M": 16, "BLOCK_N": 32, "num_warps": 4, "num_stages": 2}
FLOAT32_TILES = {"BLOCK_M": 32, "BLOCK_N": 16, "num_warps": 4, "num_stages": 1}


@device.launches(versions=2)
def attention(q, k, v, texts, *, version=2, config=None):
    """Causal attention inside each text: q (1, ΣT, H, K), or (B, 1, H, K), the last query of each text -> q's shape.

    k, v (1, ΣT, H, K), float16, bfloat16 or float32, K up to 128; texts a `Texts`. Strides between tokens and heads may
    be any. The result is contiguous. `config` replaces the tiles.
    """
    (_, total, H, K), B = k.shape, len(texts.offsets) - 1
    only_last = q.shape[1] == 1 and q.shape[0] == B
    if K > LARGEST_HEAD:
        raise InputError(f"heads are {K} wide, the attention kernel takes up to {LARGEST_HEAD}: use backend='torch'")
    shape = (B, 1, H, K) if only_last else (1, total, H, K)
    device.expect(q=(q, shape), k=(k, (1, total, H, K)), v=(v, (1, total, H, K)), starts=(texts.starts, (total,)))
    q, k, v = (x if x.stride(-1) == 1 else x.contiguous() for x in (q, k, v))
    out = torch.empty(shape, dtype=q.dtype, device=q.device)
    if out.numel() == 0:
        return out
    strides = [
        step for x in (q, k, v, out) for step in (x.stride(0 if only_last and x.shape == shape else 1), x.stride(2))
    ]
    arguments, scale = (q, k, v, out), LOG2_E / math.sqrt(K)
    constants = {"BLOCK_D": max(16, triton.next_power_of_2(K)), "PRECISION": device.dot_precision(q.dtype)}
    if version == 1 or only_last:
        default = LAST_TILES if only_last else TEXT_TILES
        config = config or device.count_warps(FLOAT32_TILES if q.dtype == torch.float32 and not only_last else default)
        num_pid_m = 1 if only_last else triton.cdiv(texts.longest, config["BLOCK_M"])
        _text_kernel[(num_pid_m * H * B,)](
            *arguments, texts.offsets, *strides, num_pid_m, H, scale, K, only_last, **constants, **config
        )
    else:
        config = config or device.count_warps(FLOAT32_TILES if q.dtype == torch.float32 else TILES)
        grid = (triton.cdiv(total, config["BLOCK_M"]) * H,)
        _tokens_kernel[grid](*arguments, texts.starts, *strides, total, H, scale, K, **constants, **config)
    return out


# ----------------------------------------------------------------------- the operations of a text tower


def operations(ops, texts):
    """`ops`, a backend with torch's tensors, for one row of packed texts: its attention and gather stay inside texts.

    `towers.text.encode_text` then takes tokens (1, ΣT), and as position_embedding that of each token, (ΣT, D).
    """

    def gather(x, index):
        """Token index[b] of each text b: x (1, ΣT, ...), index (B,) -> (B, ...)."""
        return x[0, texts.offsets[:-1] + index]

    def attend(q, k, v, *, causal=False, lengths=None):
        """Without `causal`, queries are the last of their texts, and lengths are those of the texts."""
        return attention(q, k, v, texts)

    return types.SimpleNamespace(**{**vars(ops), "gather": gather, "attention": attend})


# ----------------------------------------------------------------------- what is tested, compiled and measured


def _inputs(new, B, T, H, K):
    """B texts of 1 to 2·T - 1 tokens, T on average."""
    lengths = np.arange(B) * 7 % (2 * T - 1) + 1
    q, k, v = new(1, int(lengths.sum()), 3, H, K).unbind(2)  # (1, ΣT, H, K) each
    return {"q": q, "k": k, "v": v, "texts": texts(lengths, q.device)}


def _padded(q, k, v, texts):
    """The same by torch's attention on padded texts."""
    lengths = texts.offsets.diff()  # (B,)
    every = torch.arange(len(lengths), device=q.device)
    text = torch.repeat_interleave(every, lengths, output_size=q.shape[1])  # (ΣT,); with its size, nothing waits
    position = torch.arange(len(text), device=q.device) - texts.starts
    padded = q.new_zeros(3, len(lengths), texts.longest, *q.shape[2:])  # (3, B, T, H, K)
    for x, packed in zip(padded, (q, k, v)):
        x[text, position] = packed[0]
    return torch_ops.attention(*padded, causal=True)[text, position][None]


def _work(B, T, H, K):
    lengths = np.arange(B) * 7 % (2 * T - 1) + 1
    return 4 * H * K * int((lengths * (lengths + 1) // 2).sum()), 4 * int(lengths.sum()) * H * K


KERNELS = {
    "packed_attention": ladder.Kernel(
        ours=attention,
        plain=_padded,
        inputs=_inputs,
        rows=("q", "k", "v"),
        work=_work,
        small=({"B": 5, "T": 12, "H": 2, "K": 24},),
        clip=({"B": 1024, "T": 13, "H": 8, "K": 64},),
    )
}

if __name__ == "__main__":
    ladder.show(KERNELS)
