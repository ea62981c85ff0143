"""Attention as one kernel: softmax(q kᵀ / √K + mask) v, without the (Tq, Tk) scores ever leaving the chip.

In eager torch the scores and the weights of every head go out to memory and come back: 4·B·H·T² numbers, beside the
4·B·H·T·K that must move, 3 times as many at T = 197 and 9 times at T = 577. Each version below moves only what it must,
and does it faster than the one before:

    1  one query a program    All arithmetic is on the vector units: 349 GFLOP at T = 577, B = 256, H = 16, where an
                              H200's do some 60 TFLOP/s. Every query reads all keys and values anew.
    2  a tile of queries      Both products are on the matrix units, about 790 TFLOP/s, and keys and values are read
                              once for 64 queries. But all keys of a head sit in registers at once, padded to a power
                              of two: at T = 197 only 59% of the work is useful, and registers spill.
    3  a tile of keys at a    The softmax is kept up to date as keys come ("online"), so that any T will do, and the
       time                   loop's loads run ahead of its arithmetic. Every tile is masked, and the last is padded.
    4  tiles for what is      CLIP's lengths are never a convenient multiple, 257 = 256 + 1, so what is left over of
       left over              queries and of keys gets tiles of its own (remainder tiles), as small as 16: 73% of the
                              work is useful at T = 197 and 89% at T = 257, for 59% and 45% with tiles of 128 x 128.
                              Only what is left over is masked.

(The online softmax: FlashAttention, Dao et al., 2022, algorithm 1. The order of the loops: FlashAttention-2, Dao, 2023.
kernels/README.md says what has been measured.)
"""

import math

import torch
import triton
import triton.language as tl

from miniclip.errors import InputError
from miniclip.kernels import device, tuning

LARGEST_HEAD = 128  # wider ones do not fit into the registers of these tiles
LOG2_E = math.log2(math.e)  # exp(x) = exp2(x · log2 e), and exp2 is what the hardware has


# ------------------------------------------------------------------------------ version 1: one query a program


@triton.jit
def _one_query(
    q_ptr, k_ptr, v_ptr, out_ptr, lengths_ptr,
    q_b, q_t, q_h, k_b, k_t, k_h, v_b, v_t, v_h, out_b, out_t, out_h,
    Tq, Tk, H, scale,
    K: tl.constexpr, CAUSAL: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    i, h, b = tl.program_id(0) % Tq, tl.program_id(0) // Tq % H, (tl.program_id(0) // Tq // H).to(tl.int64)
    seen = Tk if lengths_ptr is None else tl.minimum(Tk, tl.load(lengths_ptr + b).to(tl.int32))
    if CAUSAL:
        seen = tl.minimum(seen, i + 1)
    t, x = tl.arange(0, BLOCK_T)[:, None], tl.arange(0, BLOCK_K)[None, :]  # (Tk, 1), (1, K)
    there = (t < seen) & (x < K)

    q = tl.load(q_ptr + b * q_b + i * q_t + h * q_h + x, mask=x < K, other=0).to(tl.float32)  # (1, K)
    k = tl.load(k_ptr + b * k_b + t * k_t + h * k_h + x, mask=there, other=0).to(tl.float32)  # (Tk, K)
    scores = tl.where(t < seen, tl.sum(q * k, axis=1, keep_dims=True) * scale, -float("inf"))  # (Tk, 1)
    p = tl.exp2(scores - tl.max(scores, axis=0, keep_dims=True))
    v = tl.load(v_ptr + b * v_b + t * v_t + h * v_h + x, mask=there, other=0).to(tl.float32)  # (Tk, K)
    out = tl.sum(p * v, axis=0, keep_dims=True) / tl.sum(p, axis=0, keep_dims=True)  # (1, K)
    tl.store(out_ptr + b * out_b + i * out_t + h * out_h + x, out.to(out_ptr.dtype.element_ty), mask=x < K)


# --------------------------------------------------------------------------- version 2: a tile of queries


@triton.jit
def _place(lengths_ptr, Tq, Tk, H, BLOCK_M: tl.constexpr):
    """Which tile of queries, head and sequence a program computes, and how many keys that sequence has.

    The tiles of one head run side by side, so that its keys and values come out of the cache for all but the first.
    """
    tiles = tl.cdiv(Tq, BLOCK_M)
    head = tl.program_id(0) // tiles
    b = (head // H).to(tl.int64)
    seen = Tk if lengths_ptr is None else tl.minimum(Tk, tl.load(lengths_ptr + b).to(tl.int32))
    return tl.program_id(0) % tiles, head % H, b, seen


@triton.jit
def _one_pass(
    q_ptr, k_ptr, v_ptr, out_ptr, lengths_ptr,
    q_b, q_t, q_h, k_b, k_t, k_h, v_b, v_t, v_h, out_b, out_t, out_h,
    Tq, Tk, H, scale,
    K: tl.constexpr, CAUSAL: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_K: tl.constexpr,
    BLOCK_M: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    tile, h, b, seen = _place(lengths_ptr, Tq, Tk, H, BLOCK_M)
    i = (tile * BLOCK_M + tl.arange(0, BLOCK_M))[:, None]  # (M, 1)
    t, x = tl.arange(0, BLOCK_T), tl.arange(0, BLOCK_K)[None, :]

    q = tl.load(q_ptr + b * q_b + i * q_t + h * q_h + x, mask=(i < Tq) & (x < K), other=0)  # (M, K)
    there = (t[:, None] < seen) & (x < K)
    k = tl.load(k_ptr + b * k_b + t[:, None] * k_t + h * k_h + x, mask=there, other=0)  # (Tk, K)
    visible = t[None, :] < seen
    if CAUSAL:
        visible = visible & (t[None, :] <= i)
    scores = tl.where(visible, tl.dot(q, k.T, input_precision=PRECISION) * scale, -float("inf"))  # (M, Tk)
    p = tl.exp2(scores - tl.max(scores, axis=1, keep_dims=True))
    # A weight of zero does not save us from a value that was never written, 0 · NaN is NaN: padding is read as zeros.
    v = tl.load(v_ptr + b * v_b + t[:, None] * v_t + h * v_h + x, mask=there, other=0)  # (Tk, K)
    out = tl.dot(p.to(v.dtype), v, input_precision=PRECISION) / tl.sum(p, axis=1, keep_dims=True)  # (M, K)
    out_ptr += b * out_b + h * out_h
    tl.store(out_ptr + i * out_t + x, out.to(out_ptr.dtype.element_ty), mask=(i < Tq) & (x < K))


# -------------------------------------------------------------------- version 3: a tile of keys at a time


@triton.jit
def _online(
    q_ptr, k_ptr, v_ptr, out_ptr, lengths_ptr,
    q_b, q_t, q_h, k_b, k_t, k_h, v_b, v_t, v_h, out_b, out_t, out_h,
    Tq, Tk, H, scale,
    K: tl.constexpr, CAUSAL: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """With m the largest score so far, l = Σ exp(s - m) and o = Σ exp(s - m) v, a tile of new scores s' makes of them

        m' = max(m, max s'),   l' = l · exp(m - m') + Σ exp(s' - m'),   o' = o · exp(m - m') + Σ exp(s' - m') v

    and in the end o / l is softmax(s) v. (FlashAttention, algorithm 1, in powers of two.)
    """
    tile, h, b, seen = _place(lengths_ptr, Tq, Tk, H, BLOCK_M)
    i = tile * BLOCK_M + tl.arange(0, BLOCK_M)  # (M,)
    x = tl.arange(0, BLOCK_K)[None, :]
    q = tl.load(q_ptr + b * q_b + i[:, None] * q_t + h * q_h + x, mask=(i[:, None] < Tq) & (x < K), other=0)  # (M, K)
    largest = tl.full([BLOCK_M], -float("inf"), tl.float32)  # m
    total = tl.zeros([BLOCK_M], tl.float32)  # l
    out = tl.zeros([BLOCK_M, BLOCK_K], tl.float32)  # o

    for start in range(0, tl.minimum(seen, (tile + 1) * BLOCK_M) if CAUSAL else seen, BLOCK_N):
        t = start + tl.arange(0, BLOCK_N)  # (N,)
        there = (t[:, None] < seen) & (x < K)
        k = tl.load(k_ptr + b * k_b + t[:, None] * k_t + h * k_h + x, mask=there, other=0)  # (N, K)
        visible = t[None, :] < seen
        if CAUSAL:
            visible = visible & (t[None, :] <= i[:, None])
        scores = tl.where(visible, tl.dot(q, k.T, input_precision=PRECISION) * scale, -float("inf"))  # (M, N)
        new = tl.maximum(largest, tl.max(scores, axis=1))  # (M,) finite: every query sees key 0, which comes first
        p = tl.exp2(scores - new[:, None])  # (M, N)
        shrink = tl.exp2(largest - new)  # of what came before, 0 where nothing did: exp2(-inf)
        v = tl.load(v_ptr + b * v_b + t[:, None] * v_t + h * v_h + x, mask=there, other=0)  # (N, K)
        out = tl.dot(p.to(v.dtype), v, out * shrink[:, None], input_precision=PRECISION)
        total = total * shrink + tl.sum(p, axis=1)
        largest = new

    out_ptr += b * out_b + h * out_h
    out = out / total[:, None]
    tl.store(out_ptr + i[:, None] * out_t + x, out.to(out_ptr.dtype.element_ty), mask=(i[:, None] < Tq) & (x < K))


# ---------------------------------------------------------------- version 4: tiles for what is left over


@triton.jit
def _remainders(
    q_ptr, k_ptr, v_ptr, out_ptr, lengths_ptr,
    q_b, q_t, q_h, k_b, k_t, k_h, v_b, v_t, v_h, out_b, out_t, out_h,
    Tq, Tk, H, scale,
    K: tl.constexpr, CAUSAL: tl.constexpr, WHOLE_TILES: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_M: tl.constexpr,
    REST_M: tl.constexpr, BLOCK_N: tl.constexpr, REST_N: tl.constexpr, RESTS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    tile, h, b, seen = _place(lengths_ptr, Tq, Tk, H, BLOCK_M)
    q_ptr += b * q_b + h * q_h
    k_ptr += b * k_b + h * k_h
    v_ptr += b * v_b + h * v_h
    out_ptr += b * out_b + h * out_h
    if REST_M == BLOCK_M or tile < tl.cdiv(Tq, BLOCK_M) - 1:
        _queries(q_ptr, k_ptr, v_ptr, out_ptr, q_t, k_t, v_t, out_t, tile * BLOCK_M, Tq, seen, scale,
                 K, CAUSAL, WHOLE_TILES, BLOCK_K, BLOCK_M, BLOCK_N, REST_N, RESTS, PRECISION)  # fmt: skip
    else:
        _queries(q_ptr, k_ptr, v_ptr, out_ptr, q_t, k_t, v_t, out_t, tile * BLOCK_M, Tq, seen, scale,
                 K, CAUSAL, WHOLE_TILES, BLOCK_K, REST_M, BLOCK_N, REST_N, RESTS, PRECISION)  # fmt: skip


@triton.jit
def _queries(
    q_ptr, k_ptr, v_ptr, out_ptr, q_t, k_t, v_t, out_t, first, Tq, seen, scale,
    K: tl.constexpr, CAUSAL: tl.constexpr, WHOLE_TILES: tl.constexpr, BLOCK_K: tl.constexpr, M: tl.constexpr,
    BLOCK_N: tl.constexpr, REST_N: tl.constexpr, RESTS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Queries first .. first + M of one head against its keys 0 .. seen: version 3, with its loop in two parts."""
    i = first + tl.arange(0, M)  # (M,)
    x = tl.arange(0, BLOCK_K)[None, :]
    q = tl.load(q_ptr + i[:, None] * q_t + x, mask=(i[:, None] < Tq) & (x < K), other=0)  # (M, K)
    largest = tl.full([M], -float("inf"), tl.float32)
    total = tl.zeros([M], tl.float32)
    out = tl.zeros([M, BLOCK_K], tl.float32)

    whole = 0
    if WHOLE_TILES:  # of keys that all queries here see, causal as many as the first one does: no mask is needed
        whole = (tl.minimum(seen, first + 1) if CAUSAL else seen) // BLOCK_N * BLOCK_N
        for start in range(0, whole, BLOCK_N):
            out, largest, total = _keys(out, largest, total, q, i, k_ptr, v_ptr, k_t, v_t, start, seen, scale,
                                        K, CAUSAL, False, BLOCK_K, BLOCK_N, PRECISION)  # fmt: skip
    for rest in tl.static_range(RESTS):
        out, largest, total = _keys(out, largest, total, q, i, k_ptr, v_ptr, k_t, v_t, whole + rest * REST_N, seen,
                                    scale, K, CAUSAL, True, BLOCK_K, REST_N, PRECISION)  # fmt: skip

    out = out / total[:, None]
    tl.store(out_ptr + i[:, None] * out_t + x, out.to(out_ptr.dtype.element_ty), mask=(i[:, None] < Tq) & (x < K))


@triton.jit
def _keys(
    out, largest, total, q, i, k_ptr, v_ptr, k_t, v_t, start, seen, scale,
    K: tl.constexpr, CAUSAL: tl.constexpr, MASKED: tl.constexpr, BLOCK_K: tl.constexpr, N: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """A step of version 3, for keys start .. start + N: -> out, largest, total."""
    t = start + tl.arange(0, N)  # (N,)
    x = tl.arange(0, BLOCK_K)[None, :]
    there = x < K
    if MASKED:
        there = there & (t[:, None] < seen)
    k = tl.load(k_ptr + t[:, None] * k_t + x, mask=there, other=0)  # (N, K)
    scores = tl.dot(q, k.T, input_precision=PRECISION)  # (M, N)
    if MASKED:
        visible = t[None, :] < seen
        if CAUSAL:
            visible = visible & (t[None, :] <= i[:, None])
        scores = tl.where(visible, scores, -float("inf"))
    new = tl.maximum(largest, tl.max(scores, axis=1) * scale)  # (M,)
    p = tl.exp2(scores * scale - new[:, None])  # (M, N); scaling here costs nothing: it is one multiply-add
    shrink = tl.exp2(largest - new)
    v = tl.load(v_ptr + t[:, None] * v_t + x, mask=there, other=0)  # (N, K), zeros where nothing is: 0 · NaN is NaN
    out = tl.dot(p.to(v.dtype), v, out * shrink[:, None], input_precision=PRECISION)
    return out, new, total * shrink + tl.sum(p, axis=1)


# --------------------------------------------------------------------------------------- choosing tiles

# (least capability, up to Tk keys): tiles. Chosen by counting bytes and useful work, not measured yet: 64 queries a
# program where memory is the limit; 128 where every program reads so many keys that the cache would be.
TILES = {
    (80, 64): {"BLOCK_M": 64, "BLOCK_N": 64, "num_warps": 4, "num_stages": 1},
    (80, 128): {"BLOCK_M": 64, "BLOCK_N": 64, "num_warps": 4, "num_stages": 2},
    (80, math.inf): {"BLOCK_M": 128, "BLOCK_N": 64, "num_warps": 8, "num_stages": 2},
    (90, math.inf): {"BLOCK_M": 128, "BLOCK_N": 64, "num_warps": 8, "num_stages": 3},
    (100, math.inf): {"BLOCK_M": 128, "BLOCK_N": 64, "num_warps": 4, "num_stages": 2},
    (120, math.inf): {"BLOCK_M": 128, "BLOCK_N": 64, "num_warps": 8, "num_stages": 2},  # GeForce, multiplies as Ampere
}
WIDE_TILES = {  # for heads wider than 64
    (80, math.inf): {"BLOCK_M": 32, "BLOCK_N": 64, "num_warps": 4, "num_stages": 2},
    (90, math.inf): {"BLOCK_M": 128, "BLOCK_N": 64, "num_warps": 8, "num_stages": 2},
    (120, math.inf): {"BLOCK_M": 32, "BLOCK_N": 64, "num_warps": 4, "num_stages": 2},
}
FLOAT32_TILES = {"BLOCK_M": 32, "BLOCK_N": 32, "num_warps": 8, "num_stages": 1}  # three times the operands in registers
WIDE_FLOAT32_TILES = {"BLOCK_M": 16, "BLOCK_N": 32, "num_warps": 8, "num_stages": 1}


REMAINDERS = ("REST_M", "REST_N", "RESTS", "WHOLE_TILES")  # what version 4 has beyond version 3


def tiles(Tq, Tk, K, dtype, causal, has_lengths, batch=1, config=None):
    """The constants that version 4 is compiled with: of `config`, else the tuned ones, else the table's."""
    if dtype == torch.float32:
        default = FLOAT32_TILES if K <= 64 else WIDE_FLOAT32_TILES
    else:
        default = device.choose(TILES if K <= 64 else WIDE_TILES, Tk)
    config = dict(config or tuning.find("attention", key(Tq, Tk, K, dtype, causal, batch), default))
    M, N = config["BLOCK_M"], config["BLOCK_N"]
    config["REST_M"] = min(M, _power_of_two(Tq % M or M))
    config["WHOLE_TILES"] = Tk >= N
    # How many keys are left over (the remainder tile) is known only where nothing cuts them off. Causal, the keys from
    # the first query's to the last one's are left over, M of them, of which some queries see some.
    config["REST_N"] = N if causal or has_lengths else min(N, _power_of_two(Tk % N))
    config["RESTS"] = max(1, M // N) if causal else int(has_lengths or Tk % N > 0)
    return config


def key(Tq, Tk, K, dtype, causal, batch):
    """What a tuned configuration is good for."""
    return {"Tq": Tq, "Tk": Tk, "K": K, "dtype": str(dtype)[6:], "causal": causal, "large": batch >= 16}


def candidates():
    """Configurations to measure, for 16 bit types."""
    return [
        {"BLOCK_M": M, "BLOCK_N": N, "num_warps": M // rows, "num_stages": stages}
        for M in (64, 128)
        for N in (32, 64, 128)
        for rows in (16, 32)
        for stages in (1, 2, 3)
        if M // rows in (4, 8)
    ]


def _power_of_two(n):
    return max(16, triton.next_power_of_2(n))  # 16: the least that the matrix units take


# ------------------------------------------------------------------------------------------- calling them


@device.launches(versions=4)
def attention(q, k, v, *, causal=False, lengths=None, version=4, config=None):
    """`numpy_ops.attention` by one of the versions above: q (B, Tq, H, K), k and v (B, Tk, H, K) -> (B, Tq, H, K).

    float16, bfloat16 or float32, all three alike; any strides, views of one packed product are read where they lie;
    K up to 128; the result is contiguous, so that its heads lie side by side. float32 is computed in three products
    of tf32, about as exact as float32 itself. `config` replaces the tiles of versions 3 and 4.
    Raises InputError for a wider head, and for shapes that do not fit each other.
    """
    B, Tq, H, K = q.shape
    Tk = k.shape[1]
    if K > LARGEST_HEAD:
        raise InputError(f"heads are {K} wide, the attention kernel takes up to {LARGEST_HEAD}: use backend='torch'")
    device.expect(k=(k, (B, Tk, H, K)), v=(v, (B, Tk, H, K)))
    q, k, v = map(device.within_reach, (q, k, v))
    out = torch.empty(B, Tq, H, K, dtype=q.dtype, device=q.device)
    if out.numel() == 0:
        return out
    if lengths is not None:
        lengths = torch.as_tensor(lengths, device=q.device).contiguous()
        device.expect(lengths=(lengths, (B,)))
    arguments = (
        q, k, v, out, lengths,
        *q.stride()[:3], *k.stride()[:3], *v.stride()[:3], *out.stride()[:3],
        Tq, Tk, H, LOG2_E / math.sqrt(K), K, causal,
    )  # fmt: skip
    precision = device.dot_precision(q.dtype)
    BLOCK_K, BLOCK_T = _power_of_two(K), _power_of_two(Tk)
    if version == 1:
        _one_query[(Tq * H * B,)](*arguments, BLOCK_T, BLOCK_K, num_warps=4 if Tk <= 128 else 16)
    elif version == 2:
        M = 64
        _one_pass[(triton.cdiv(Tq, M) * H * B,)](*arguments, BLOCK_T, BLOCK_K, BLOCK_M=M, PRECISION=precision)
    else:
        config = tiles(Tq, Tk, K, q.dtype, causal, lengths is not None, B, config)
        grid = (triton.cdiv(Tq, config["BLOCK_M"]) * H * B,)
        if version == 3:
            config = {name: value for name, value in config.items() if name not in REMAINDERS}
        kernel = _online if version == 3 else _remainders
        kernel[grid](*arguments, BLOCK_K=BLOCK_K, PRECISION=precision, **config)
    return out
