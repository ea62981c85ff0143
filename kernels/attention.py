"""Attention as one kernel: softmax(q kᵀ / √K + mask) v, without the (Tq, Tk) scores ever leaving the chip.

In eager torch the scores and the weights of every head go out to memory and come back: 4·B·H·T² numbers. Only 4·B·H·T·K
numbers must move; the scores are 3 times as many at T = 197 and 9 times at T = 577. Each version below moves only what
it must, and is faster than the one before:

    1  one query a program    All arithmetic is on the vector units: 349 GFLOP at T = 577, B = 256, H = 16, at some
                              60 TFLOP/s on an H200. Every query reads all keys and values again.
    2  a tile of queries      Both products are on the matrix units, about 790 TFLOP/s, and keys and values are read
                              once for 64 queries. But all keys of a head are in registers at once, padded to a power
                              of two: at T = 197 only 59% of the work is useful, and registers spill.
    3  a tile of keys at a    The softmax is updated as keys come ("online"), so that any T will do, and the loop's
       time                   loads run ahead of its arithmetic. Every tile is masked, and the last is padded.
    4  tails                  CLIP's lengths are never a convenient multiple: 257 = 256 + 1. So the tail, the queries
                              and keys after the last full tile, has tiles of its own, as small as 16: 73% of the work
                              is useful at T = 197 and 89% at T = 257, instead of 59% and 45% with tiles of 128 x 128.
                              Only tails are masked. The tail of keys comes first: on Hopper (wgmma) a product runs on
                              while the program does, so the loop ends with one whose sum may not be touched yet. With
                              a tail after it the compiler waits for every product: 16 waits a step instead of 3.
    5  carried queries        257 = 4 x 64 + 1: a program for the one query reads all keys and values again. So the
                              program of the last full tile carries up to 16 more queries through the keys that it has
                              in shared memory. By the cycle model 0.65 of the time at T = 257, 0.8 to 0.9 at 197.
    6  many heads a program   Up to 128 tokens a head is over before its loads are. So programs stay, and the copy
                              engine (TMA) brings the next head meanwhile. At T = 77 that is 39% fewer instructions, and
                              by the cycle model the time that memory takes on an H100, 0.6 to 0.7 of version 4's.

Versions 1 to 3 are in `attention_simple.py`, 4 is here, 5 in `attention_carry.py`, 6 in `attention_heads.py`. What 6
does not take, longer sequences, lengths, float32 and older GPUs, 5 computes if it can, and else 4.

Names are those of FlashAttention's code: m_i is the largest score of a query so far, l_i the sum of its weights, acc
its output before the division, alpha the factor that corrects both when m_i grows. HEAD_DIM is K, the width of a head;
BLOCK_D is HEAD_DIM rounded up to a power of two.

(The online softmax: FlashAttention, Dao et al., 2022, algorithm 1. The order of the loops: FlashAttention-2, Dao, 2023.
kernels/README.md says what has been measured.)
"""

import math
from functools import partial

import torch
import triton
import triton.language as tl
from torch.nn.attention import SDPBackend, sdpa_kernel

from miniclip.errors import InputError
from miniclip.kernels import attention_carry, attention_heads, device, ladder, tuning
from miniclip.kernels.attention_heads import _power_of_two
from miniclip.kernels.attention_simple import (
    _locate,
    _one_pass_kernel,
    _one_query_kernel,
    _online_kernel,
    online_softmax,
)
from miniclip.ops import torch_ops

LARGEST_HEAD = 128  # wider ones do not fit into the registers of these tiles
LOG2_E = math.log2(math.e)  # exp(x) = exp2(x · log2 e), and exp2 is what the hardware has


# -------------------------------------------------------------------------------------- version 4: tails


@triton.jit
def _tails_kernel(
    q_ptr, k_ptr, v_ptr, out_ptr, lengths_ptr,
    stride_qb, stride_qt, stride_qh, stride_kb, stride_kt, stride_kh,
    stride_vb, stride_vt, stride_vh, stride_ob, stride_ot, stride_oh,
    Tq, Tk, H, qk_scale,
    HEAD_DIM: tl.constexpr, IS_CAUSAL: tl.constexpr, HAS_FULL_BLOCKS: tl.constexpr, BLOCK_D: tl.constexpr,
    BLOCK_M: tl.constexpr, TAIL_M: tl.constexpr, BLOCK_N: tl.constexpr, TAIL_N: tl.constexpr,
    NUM_TAILS: tl.constexpr, PRECISION: tl.constexpr, lse_ptr=None,
):  # fmt: skip
    pid_m, off_h, off_b, seqlen_k = _locate(lengths_ptr, Tq, Tk, H, BLOCK_M)
    if lse_ptr is not None:
        lse_ptr += (off_b * H + off_h) * Tq
    q_ptr += off_b * stride_qb + off_h * stride_qh
    k_ptr += off_b * stride_kb + off_h * stride_kh
    v_ptr += off_b * stride_vb + off_h * stride_vh
    out_ptr += off_b * stride_ob + off_h * stride_oh
    # the last tile of queries may be a tail, of TAIL_M; all others have BLOCK_M
    if TAIL_M == BLOCK_M or pid_m < tl.cdiv(Tq, BLOCK_M) - 1:
        _attend(q_ptr, k_ptr, v_ptr, out_ptr, stride_qt, stride_kt, stride_vt, stride_ot, pid_m * BLOCK_M, Tq,
                seqlen_k, qk_scale, HEAD_DIM, IS_CAUSAL, HAS_FULL_BLOCKS, BLOCK_D, BLOCK_M, BLOCK_N, TAIL_N,
                NUM_TAILS, PRECISION, lse_ptr)  # fmt: skip
    else:
        _attend(q_ptr, k_ptr, v_ptr, out_ptr, stride_qt, stride_kt, stride_vt, stride_ot, pid_m * BLOCK_M, Tq,
                seqlen_k, qk_scale, HEAD_DIM, IS_CAUSAL, HAS_FULL_BLOCKS, BLOCK_D, TAIL_M, BLOCK_N, TAIL_N,
                NUM_TAILS, PRECISION, lse_ptr)  # fmt: skip


@triton.jit
def _attend(
    q_ptr, k_ptr, v_ptr, out_ptr, stride_qt, stride_kt, stride_vt, stride_ot, start_m, Tq, seqlen_k, qk_scale,
    HEAD_DIM: tl.constexpr, IS_CAUSAL: tl.constexpr, HAS_FULL_BLOCKS: tl.constexpr, BLOCK_D: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, TAIL_N: tl.constexpr, NUM_TAILS: tl.constexpr,
    PRECISION: tl.constexpr, lse_ptr=None,
):  # fmt: skip
    """Queries start_m .. start_m + BLOCK_M of a head with its keys 0 .. seqlen_k: version 3, its loop in two parts."""
    offs_m = start_m + tl.arange(0, BLOCK_M)  # (M,)
    offs_d = tl.arange(0, BLOCK_D)[None, :]  # (1, K)
    q_mask = (offs_m[:, None] < Tq) & (offs_d < HEAD_DIM)  # (M, K)
    # a tile of queries stays in registers: (M, K)
    q = tl.load(q_ptr + offs_m[:, None] * stride_qt + offs_d, mask=q_mask, other=0)
    m_i = tl.full([BLOCK_M], -1e30, tl.float32)  # finite: lengths may leave the first tile no key, and inf - inf is NaN
    l_i = tl.zeros([BLOCK_M], tl.float32)
    acc = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)

    # full tiles of keys are those that all queries here see: 0 .. end_n. Causal, the first query sees the fewest
    end_n = 0
    if HAS_FULL_BLOCKS:
        end_n = (tl.minimum(seqlen_k, start_m + 1) if IS_CAUSAL else seqlen_k) // BLOCK_N * BLOCK_N
    # first the tails of keys: masked
    for tail in tl.static_range(NUM_TAILS):
        acc, m_i, l_i = _inner_step(acc, m_i, l_i, q, offs_m, k_ptr, v_ptr, stride_kt, stride_vt,
                                    end_n + tail * TAIL_N, seqlen_k, qk_scale, HEAD_DIM, IS_CAUSAL, True, BLOCK_D,
                                    TAIL_N, PRECISION)  # fmt: skip
    # then the full tiles: no mask
    if HAS_FULL_BLOCKS:
        for start_n in range(0, end_n, BLOCK_N):
            acc, m_i, l_i = _inner_step(acc, m_i, l_i, q, offs_m, k_ptr, v_ptr, stride_kt, stride_vt, start_n,
                                        seqlen_k, qk_scale, HEAD_DIM, IS_CAUSAL, False, BLOCK_D, BLOCK_N,
                                        PRECISION)  # fmt: skip

    # epilogue: divide by the sum of the weights, and write (M, K)
    acc = acc * (1 / l_i)[:, None]  # one division a query, not K
    tl.store(out_ptr + offs_m[:, None] * stride_ot + offs_d, acc.to(out_ptr.dtype.element_ty), mask=q_mask)
    if lse_ptr is not None:
        tl.store(lse_ptr + offs_m, m_i + tl.log2(l_i), mask=offs_m < Tq)


@triton.jit
def _inner_step(
    acc, m_i, l_i, q, offs_m, k_ptr, v_ptr, stride_kt, stride_vt, start_n, seqlen_k, qk_scale,
    HEAD_DIM: tl.constexpr, IS_CAUSAL: tl.constexpr, MASKED: tl.constexpr, BLOCK_D: tl.constexpr,
    BLOCK_N: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """A step of version 3's loop, for keys start_n .. start_n + BLOCK_N: -> acc, m_i, l_i."""
    offs_n = start_n + tl.arange(0, BLOCK_N)  # (N,)
    offs_d = tl.arange(0, BLOCK_D)[None, :]  # (1, K)
    kv_mask = offs_d < HEAD_DIM
    if MASKED:
        kv_mask = kv_mask & (offs_n[:, None] < seqlen_k)
    # scores of this tile: (M, K) x (K, N) -> (M, N)
    k = tl.load(k_ptr + offs_n[:, None] * stride_kt + offs_d, mask=kv_mask, other=0)  # (N, K)
    qk = tl.dot(q, k.T, input_precision=PRECISION)
    if MASKED:
        mask = offs_n[None, :] < seqlen_k
        if IS_CAUSAL:
            mask = mask & (offs_n[None, :] <= offs_m[:, None])
        qk = tl.where(mask, qk, -float("inf"))
    p, alpha, m_i = online_softmax(m_i, qk, qk_scale)
    # the output so far, corrected, and this tile's values: (M, N) x (N, K) -> (M, K). Padding is zeros: 0 · NaN is NaN
    v = tl.load(v_ptr + offs_n[:, None] * stride_vt + offs_d, mask=kv_mask, other=0)  # (N, K)
    acc = tl.dot(p.to(v.dtype), v, acc * alpha[:, None], input_precision=PRECISION)
    return acc, m_i, l_i * alpha + tl.sum(p, axis=1)


# --------------------------------------------------------------------------------------- choosing tiles

# (least capability, up to Tk keys): tiles. Chosen by counting bytes and useful work, not measured yet: 64 queries a
# program where memory is the limit; 128 where every program reads so many keys that the cache would be.
TILES = {
    (80, 64): {"BLOCK_M": 64, "BLOCK_N": 64, "num_warps": 4, "num_stages": 1},
    (80, 128): {"BLOCK_M": 64, "BLOCK_N": 64, "num_warps": 4, "num_stages": 2},
    (80, math.inf): {"BLOCK_M": 128, "BLOCK_N": 64, "num_warps": 8, "num_stages": 2},
    (90, math.inf): {"BLOCK_M": 128, "BLOCK_N": 64, "num_warps": 8, "num_stages": 3},
    (100, math.inf): {"BLOCK_M": 128, "BLOCK_N": 64, "num_warps": 4, "num_stages": 2},
    (120, 16): {"BLOCK_M": 64, "BLOCK_N": 32, "num_warps": 4, "num_stages": 1},
    (120, math.inf): {"BLOCK_M": 128, "BLOCK_N": 64, "num_warps": 8, "num_stages": 2},  # GeForce, multiplies as Ampere
}
WIDE_TILES = {  # for heads wider than 64
    (80, math.inf): {"BLOCK_M": 32, "BLOCK_N": 64, "num_warps": 4, "num_stages": 2},
    (90, math.inf): {"BLOCK_M": 128, "BLOCK_N": 64, "num_warps": 8, "num_stages": 2},
    (120, math.inf): {"BLOCK_M": 32, "BLOCK_N": 64, "num_warps": 4, "num_stages": 2},
    ("gfx1201", math.inf): {"BLOCK_M": 64, "BLOCK_N": 32, "num_warps": 4, "num_stages": 2},
}
FLOAT32_TILES = {"BLOCK_M": 32, "BLOCK_N": 32, "num_warps": 8, "num_stages": 1}  # three times the operands in registers
WIDE_FLOAT32_TILES = {"BLOCK_M": 16, "BLOCK_N": 32, "num_warps": 8, "num_stages": 1}
TAILS = ("TAIL_M", "TAIL_N", "NUM_TAILS", "HAS_FULL_BLOCKS", "lse_ptr")  # what version 4 has beyond version 3


def tiles(Tq, Tk, K, dtype, causal, has_lengths, batch=1, config=None):
    """The constants that version 4 is compiled with: from `config`, else the tuned ones, else the table's."""
    if dtype == torch.float32:
        default = FLOAT32_TILES if K <= 64 else WIDE_FLOAT32_TILES
    else:
        default = device.choose(TILES if K <= 64 else WIDE_TILES, Tk)
    config = dict(config or tuning.find("attention", key(Tq, Tk, K, dtype, causal, batch), default))
    if config.get("version", 4) > 4:
        config = dict(default)
    M, N = min(config["BLOCK_M"], _power_of_two(Tq)), config["BLOCK_N"]
    config["BLOCK_M"] = M
    config["TAIL_M"] = min(M, _power_of_two(Tq % M or M))
    config["HAS_FULL_BLOCKS"] = Tk >= N and not (causal and Tq <= M)  # causal, the first tile of queries has none
    # The size of the tail of keys is known only if nothing cuts the keys off. Causal, the tail is the keys from the
    # first query's to the last one's, M of them: some queries see some of these.
    config["TAIL_N"] = N if causal or has_lengths else min(N, _power_of_two(Tk % N))
    config["NUM_TAILS"] = max(1, M // N) if causal else int(has_lengths or Tk % N > 0)
    return config


def key(Tq, Tk, K, dtype, causal, batch):
    """The key that a tuned configuration is recorded under."""
    return {"Tq": Tq, "Tk": Tk, "K": K, "dtype": str(dtype)[6:], "causal": causal, "large": batch >= 16}


def candidates():
    """The configurations that autotuning measures, for 16 bit types: of versions 4, 5 and 6."""
    tails = [
        {"BLOCK_M": M, "BLOCK_N": N, "num_warps": M // rows, "num_stages": stages}
        for M in (64, 128)
        for N in (32, 64, 128)
        for rows in (16, 32)
        for stages in (1, 2, 3)
        if M // rows in (4, 8)
    ]
    return tails + attention_carry.candidates() + attention_heads.candidates()


# ------------------------------------------------------------------------------------------- calling them


@device.launches(
    versions=6,
    schema="(Tensor q, Tensor k, Tensor v, *, bool causal=False, Tensor? lengths=None) -> Tensor",
    empty=lambda q, k, v, **_: q.new_empty(q.shape),
    integers=("lengths",),
    statistics=("lse",),
)
def attention(q, k, v, *, causal=False, lengths=None, version=None, config=None, lse=None):
    """`numpy_ops.attention` by one of the versions above: q (B, Tq, H, K), k and v (B, Tk, H, K) -> (B, Tq, H, K).

    float16, bfloat16 or float32, all three alike, K up to 128. Strides may be any: views of one packed product are read
    without a copy. The result is contiguous, so that its heads are side by side. float32 is computed in three products
    of tf32, about as exact as float32 itself. `version` None: the fastest that takes these tensors. What 5 and 6
    do not take, the version before computes. `config` has the tiles of versions 3 and 4, or a "version", 5 or 6, and
    how that is launched. `lse` (B, H, Tq) float32 is written, by version 4 or 5: log2 of each query's Σ exp(scores).
    Raises InputError for a wider head, shapes that do not fit, and a config of version 5 or 6 that does not take these.
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
    qk_scale = LOG2_E / math.sqrt(K)
    chosen = config or tuning.find("attention", key(Tq, Tk, K, q.dtype, causal, B), {})
    version = version or chosen.get("version", 4 if chosen else 6)
    version = version if lse is None else min(5, max(4, version))
    for number, file in ((6, attention_heads), (5, attention_carry)):
        if version == number:
            default = file.find_config(q, k, v, causal, lengths)
            if default is not None:
                default = chosen if chosen.get("version") == number else default
                file.launch(q, k, v, out, lse, causal, qk_scale, default)
                return out
            if config and config.get("version") == number:
                raise InputError(f"version {number} of attention does not take these tensors: see {file.__name__}")
            version = number - 1
    arguments = (
        q, k, v, out, lengths,
        *q.stride()[:3], *k.stride()[:3], *v.stride()[:3], *out.stride()[:3],
        Tq, Tk, H, qk_scale, K, causal,
    )  # fmt: skip
    precision = device.dot_precision(q.dtype)
    all_keys, BLOCK_D = _power_of_two(Tk), _power_of_two(K)
    if version == 1:
        _one_query_kernel[(Tq * H * B,)](*arguments, all_keys, BLOCK_D, num_warps=4 if Tk <= 128 else 16)
    elif version == 2:
        M = 64
        grid = (triton.cdiv(Tq, M) * H * B,)
        _one_pass_kernel[grid](*arguments, all_keys, BLOCK_D, BLOCK_M=M, PRECISION=precision)
    else:
        config = tiles(Tq, Tk, K, q.dtype, causal, lengths is not None, B, config)
        grid = (triton.cdiv(Tq, config["BLOCK_M"]) * H * B,)
        kernel, config["lse_ptr"] = _tails_kernel, lse
        if version == 3:
            kernel, config = _online_kernel, {name: x for name, x in config.items() if name not in TAILS}
        kernel[grid](*arguments, BLOCK_D=BLOCK_D, PRECISION=precision, **config)
    return out


# ----------------------------------------------------------------------- what is tested, compiled and measured


def _inputs(new, B, T, H, K, causal=False, Tq=None, lengths=False):
    """q, k and v as the model's product leaves them, packed; Tq queries that are the last ones; every key seen."""
    q, k, v = new(B, T, 3, H, K).unbind(2)  # (B, T, H, K) each
    options = {"lengths": torch.full((B,), T, device=q.device)} if lengths else {"causal": causal}
    return {"q": q if Tq is None else new(B, Tq, H, K), "k": k, "v": v, **options}


def _work(B, T, H, K, causal=False):
    pairs = T * (T + 1) // 2 if causal else T * T
    return 4 * B * H * pairs * K, 4 * B * T * H * K


def _sdpa(backend, q, k, v, causal):
    with sdpa_kernel(backend):
        return torch_ops.attention(q, k, v, causal=causal)


def _heads(T, H, K=64, **options):
    return {"B": 256, "T": T, "H": H, "K": K, **options}


KERNELS = {
    "attention": ladder.Kernel(
        ours=attention,
        plain=torch_ops.attention,
        inputs=_inputs,
        rows=("q", "k", "v"),
        work=_work,
        small=({"B": 2, "T": 21, "H": 2, "K": 24, "causal": True}, {"B": 5, "T": 37, "H": 1, "K": 64}),
        clip=(  # the towers of B/32, text, B/16, L/14 and L/14@336px
            _heads(50, 12),
            _heads(77, 8, causal=True),
            _heads(197, 12),
            _heads(257, 16),
            _heads(577, 16),
        ),
        compiled=(
            *(_heads(T, 12) for T in (257, 577)),
            *(_heads(T, 8, causal=True) for T in (16, 32, 48, 64)),  # short texts
            *(_heads(T, 12, Tq=1) for T in (50, 197, 257, 577)),  # the last block of a picture
            *(_heads(T, 8, Tq=1, lengths=True) for T in (16, 77)),  # and of texts
            *(_heads(T, 8, K) for T, K in ((37, 32), (257, 80), (50, 128))),
            *(_heads(T, 8, K, causal=True) for T, K in ((32, 32), (77, 80))),
        ),
        peers={
            "SDPA, cuDNN": partial(_sdpa, SDPBackend.CUDNN_ATTENTION),
            "SDPA, Flash": partial(_sdpa, SDPBackend.FLASH_ATTENTION),  # FlashAttention-2; 3 is not in torch's wheels
            "SDPA, efficient": partial(_sdpa, SDPBackend.EFFICIENT_ATTENTION),  # tiles of 64, where others have 128
        },
        tuned="attention",
        key=lambda B, T, H, K, dtype, causal=False: key(T, T, K, dtype, causal, B),
        candidates=candidates,
    )
}

if __name__ == "__main__":
    ladder.show(KERNELS)
