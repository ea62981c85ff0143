"""The gradients of attention: dq, dk and dv for a gradient dout of its result, without the (Tq, Tk) weights in memory.

With s = q kᵀ / √K, p = softmax(s) and out = p v, the chain rule goes backwards through the same three steps:

    dv = pᵀ dout                      dp = dout vᵀ
    ds = p · (dp - delta)             delta = Σ p · dp, for each query the mean of dp by its weights
    dq = ds k / √K                    dk = dsᵀ q / √K

p is computed again, since reading it would take longer. Those are five products of T² · K where the forward pass has
two, and 7 tensors to move where it has 4.

    1  weights again        A kernel for dq, a program a tile of queries, and one for dk and dv, a program a tile of
                            keys: so every number is summed by one program, without atomics. Nothing is kept from the
                            forward pass, so the first kernel goes through the keys twice: for the softmax's sums and
                            delta, then for dq. 9 products.
    2  saved sums           The forward pass writes lse, the logarithm of each query's sum of exponentials, 4 bytes
                            beside 2·K: p = exp2(s - lse) at once, and keys are read once. 7 products. And delta is
                            Σ dout · out, since Σ p · dp = dout · (p v): a row's sum, without a product. As in version
                            4 of the forward pass only tails are masked, and have tiles of their own.
    3  a head a program     Up to 80 tokens a head fits into one program: p and dp are computed once for dq, dk and dv,
                            5 products, and each tensor is read or written once. Nothing is kept, not even out.

Versions 1 to 3 are in `attention_backward_simple.py`, `attention_backward_saved.py` and `attention_backward_heads.py`.
What 3 does not take, version 2 computes: longer sequences, lengths, float32, one query with many keys.

The results are the same bits in every call. Names as in `attention.py`; dout, dq, dk, dv, ds and dp are gradients.
(FlashAttention-2, Dao, 2023, algorithm 2, adds up dq with atomics instead: 5 products at any length, but sums in an
order that changes from run to run. Here the two kernels of 7 products need none.)
"""

import math
from functools import partial

import torch
import triton
from torch.nn.attention import SDPBackend, sdpa_kernel

from miniclip.kernels import attention_backward_heads as heads
from miniclip.kernels import device, ladder
from miniclip.kernels.attention import LOG2_E, attention
from miniclip.kernels.attention_backward_saved import _dkv_kernel, _dq_kernel
from miniclip.kernels.attention_backward_simple import _keys_kernel, _queries_kernel
from miniclip.kernels.attention_heads import _power_of_two
from miniclip.ops import torch_ops

# --------------------------------------------------------------------------------------- choosing tiles

# Tiles of versions 1 and 2: BLOCK rows that a program keeps, and STEP rows that it goes through at a time. (least
# capability, any size): for dq, and for dk and dv. Chosen by counted cycles, not measured yet.
DQ_TILES = {
    (80, math.inf): {"BLOCK": 64, "STEP": 64, "num_warps": 4, "num_stages": 2},
    ("gfx1201", math.inf): {"BLOCK": 32, "STEP": 32, "num_warps": 4, "num_stages": 2},
}
DKV_TILES = {
    (80, math.inf): {"BLOCK": 32, "STEP": 32, "num_warps": 4, "num_stages": 3},
    (90, math.inf): {"BLOCK": 64, "STEP": 32, "num_warps": 4, "num_stages": 3},
    (120, math.inf): {"BLOCK": 32, "STEP": 32, "num_warps": 4, "num_stages": 3},
    ("gfx1201", math.inf): {"BLOCK": 32, "STEP": 32, "num_warps": 4, "num_stages": 2},
}
# For heads wider than 64:
AMPERE = {"BLOCK": 32, "STEP": 32, "num_warps": 4, "num_stages": 2}
RADEON = {"BLOCK": 32, "STEP": 16, "num_warps": 4, "num_stages": 1}
WIDE_DQ_TILES = {
    (80, math.inf): AMPERE,
    (90, math.inf): {"BLOCK": 64, "STEP": 32, "num_warps": 4, "num_stages": 2},
    (120, math.inf): AMPERE,
    ("gfx1201", math.inf): RADEON,
}
WIDE_DKV_TILES = {
    (80, math.inf): {**AMPERE, "STEP": 16},
    (90, math.inf): {"BLOCK": 64, "STEP": 16, "num_warps": 4, "num_stages": 2},
    (100, math.inf): {"BLOCK": 64, "STEP": 32, "num_warps": 4, "num_stages": 2},
    (120, math.inf): {**AMPERE, "STEP": 16},
    ("gfx1201", math.inf): RADEON,
}
# Three times the operands in registers. BLOCK rows of q and dout, or of k and v, stay there: too many of wider heads.
FLOAT32_TILES = {"BLOCK": 16, "STEP": 32, "num_warps": 8, "num_stages": 1}
WIDEST_FLOAT32 = 64


def tiles(table, wide_table, K, dtype):
    """(BLOCK, STEP, the other constants) of versions 1 and 2."""
    config = device.choose(table if K <= 64 else wide_table, math.inf)
    if dtype == torch.float32:
        config = FLOAT32_TILES
    config = {**device.count_warps(config), "BLOCK_D": _power_of_two(K), "PRECISION": device.dot_precision(dtype)}
    return config.pop("BLOCK"), config.pop("STEP"), config


def tails(rows, steps, BLOCK, STEP, causal, cut):
    """(BLOCK, TAIL of it, TAIL of STEP, how many of these) for so many rows, which go through so many others.

    Causal, the tails of STEP are those on the diagonal. With `cut` their number is known only when a kernel runs.
    """
    BLOCK = min(BLOCK, _power_of_two(rows))
    tail = min(BLOCK, _power_of_two(rows % BLOCK or BLOCK))
    if causal:
        return BLOCK, tail, STEP, max(1, BLOCK // STEP)
    left = steps % STEP
    return BLOCK, tail, STEP if cut else min(STEP, _power_of_two(left)), int(cut or left > 0)


# ------------------------------------------------------------------------------------------- calling them


@device.launches(
    schema="(Tensor q, Tensor k, Tensor v, *, bool causal=False, Tensor? lengths=None) -> (Tensor, Tensor)",
    empty=lambda q, k, v, *, causal=False, lengths=None: (q.new_empty(q.shape), sums(q, k, v, lengths)),
    integers=("lengths",),
)
def attention_forward(q, k, v, *, causal=False, lengths=None):
    """(`attention`, lse): what version 2 of the gradients needs too, (B, H, Tq) float32, empty if 3 computes them."""
    lse = sums(q, k, v, lengths)
    return attention(q, k, v, causal=causal, lengths=lengths, lse=lse if lse.numel() else None), lse


def sums(q, k, v, lengths=None, version=None):
    """Room for lse, (B, H, Tq) float32, or for nothing if `version` of the gradients needs none."""
    B, Tq, H, _ = q.shape
    needed = version == 2 or (version != 1 and not heads.find_config(q, k, v, lengths))
    return torch.empty((B, H, Tq) if needed else (0,), dtype=torch.float32, device=q.device)


@device.launches(
    versions=3,
    schema="(Tensor dout, Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse, *, bool causal=False, "
    "Tensor? lengths=None) -> (Tensor, Tensor, Tensor)",
    empty=lambda dout, q, k, v, *_, causal=False, lengths=None: tuple(x.new_empty(x.shape) for x in (q, k, v)),
    integers=("lengths",),
    statistics=("lse",),
)
def attention_backward(dout, q, k, v, out, lse, *, causal=False, lengths=None, version=None, into=None):
    """The gradients of `attention`, for a gradient `dout` of its result: (dq, dk, dv), contiguous.

    dout and out (B, Tq, H, K), q, k, v and lse as in `attention_forward`, which gives out and lse. Strides may be any.
    The same bits in every call. `version` None: the fastest that takes these tensors. What 3 does not take, version 2
    computes, which needs lse. float32 heads wider than 64 are computed by torch, with all weights in memory. `into`: to
    where dq, dk and dv are written, parts of one tensor for example.
    """
    B, Tq, H, K = q.shape
    Tk = k.shape[1]
    device.expect(dout=(dout, q.shape), out=(out, q.shape), k=(k, (B, Tk, H, K)), v=(v, (B, Tk, H, K)))
    dout, q, k, v, out = map(device.within_reach, (dout, q, k, v, out))
    dq, dk, dv = into or (torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (q, k, v))
    if q.numel() == 0 or k.numel() == 0:
        return dq.zero_(), dk.zero_(), dv.zero_()
    if lengths is not None:
        lengths = torch.as_tensor(lengths, device=q.device).contiguous()
        device.expect(lengths=(lengths, (B,)))
    if q.dtype == torch.float32 and K > WIDEST_FLOAT32:
        return tuple(x.copy_(y) for x, y in zip((dq, dk, dv), by_torch(dout, q, k, v, causal, lengths)))
    scale = 1 / math.sqrt(K)
    config = heads.find_config(q, k, v, lengths) if version in (None, 3) else None
    if config:
        heads.launch(dout, q, k, v, dq, dk, dv, causal, scale, LOG2_E * scale, config)
        return dq, dk, dv
    if version == 1:
        lse = torch.empty(B, H, Tq, dtype=torch.float32, device=q.device)
    device.expect(lse=(lse, (B, H, Tq)))
    delta = torch.empty(lse.shape, dtype=torch.float32, device=q.device)
    strides = [step for x in (q, k, v, dout) for step in x.stride()[:3]]
    sizes = (Tq, Tk, H, scale, LOG2_E * scale, K, causal)
    # dq, a program a tile of queries, which goes through the keys
    BLOCK, STEP, constants = tiles(DQ_TILES, WIDE_DQ_TILES, K, q.dtype)
    M, TAIL_M, TAIL_N, count = tails(Tq, Tk, BLOCK, STEP, causal, lengths is not None)
    constants |= {"BLOCK_M": M, "BLOCK_N": STEP}
    grid, strides_dq = (triton.cdiv(Tq, M) * H * B,), dq.stride()[:3]
    if version == 1:
        _queries_kernel[grid](q, k, v, dout, dq, lse, delta, lengths, *strides, *strides_dq, *sizes, **constants)
    else:
        strides_dq = (*out.stride()[:3], *strides_dq)
        constants |= {"TAIL_M": TAIL_M, "TAIL_N": TAIL_N, "NUM_TAILS": count}
        _dq_kernel[grid](q, k, v, dout, out, dq, lse, delta, lengths, *strides, *strides_dq, *sizes, **constants)
    # dk and dv, a program a tile of keys, which goes through the queries
    BLOCK, STEP, constants = tiles(DKV_TILES, WIDE_DKV_TILES, K, q.dtype)
    N, TAIL_N, TAIL_M, count = tails(Tk, Tq, BLOCK, STEP, causal, False)
    constants |= {"BLOCK_N": N, "BLOCK_M": STEP}
    if version != 1:
        constants |= {"TAIL_N": TAIL_N, "TAIL_M": TAIL_M, "NUM_TAILS": count}
    kernel = _keys_kernel if version == 1 else _dkv_kernel
    grid = (triton.cdiv(Tk, N) * H * B,)
    kernel[grid](q, k, v, dout, dk, dv, lse, delta, lengths, *strides, *dk.stride()[:3], *sizes, **constants)
    return dq, dk, dv


def by_torch(dout, q, k, v, causal, lengths):
    """The equations at the top, as they are: (dq, dk, dv)."""
    p = torch_ops.attention_weights(q, k, causal=causal, lengths=lengths)  # (B, H, Tq, Tk)
    dv = torch.einsum("bhqt,bqhk->bthk", p, dout)
    dp = torch.einsum("bqhk,bthk->bhqt", dout, v)
    ds = p * (dp - (p * dp).sum(-1, keepdim=True)) / math.sqrt(q.shape[-1])
    return torch.einsum("bhqt,bthk->bqhk", ds, k), torch.einsum("bhqt,bqhk->bthk", ds, q), dv


# ----------------------------------------------------------------------- what is tested, compiled and measured


@device.launches(versions=3, integers=("lengths",))
def attention_gradients(dout, q, k, v, *, causal=False, lengths=None, version=None):
    """A step forward and one back: (out, dq, dk, dv). The forward pass saves what this version needs."""
    lse = sums(q, k, v, lengths, version)
    out = attention(q, k, v, causal=causal, lengths=lengths, lse=lse if lse.numel() else None)
    return out, *attention_backward(dout, q, k, v, out, lse, causal=causal, lengths=lengths, version=version)


def _plain(dout, q, k, v, causal=False, lengths=None):
    with torch.enable_grad():
        q, k, v = (x.detach().requires_grad_() for x in (q, k, v))
        out = torch_ops.attention(q, k, v, causal=causal, lengths=lengths)
        return out.detach(), *torch.autograd.grad(out, (q, k, v), dout)


def _sdpa(backend, **inputs):
    with sdpa_kernel(backend):
        return _plain(**inputs)


def _inputs(new, B, T, H, K, causal=False, Tq=None, lengths=False):
    """As those of `attention`, and a gradient for each number of its result."""
    q, k, v = new(B, T, 3, H, K).unbind(2)  # (B, T, H, K) each
    q = q if Tq is None else new(B, Tq, H, K)
    options = {"lengths": torch.full((B,), T, device=q.device)} if lengths else {"causal": causal}
    return {"dout": new(*q.shape), "q": q, "k": k, "v": v, **options}


def _work(B, T, H, K, causal=False):
    pairs = T * (T + 1) // 2 if causal else T * T
    return 14 * B * H * pairs * K, 8 * B * T * H * K  # 7 products; 4 tensors read and 4 written


def _heads(T, H, K=64, **options):
    return {"B": 256, "T": T, "H": H, "K": K, **options}


KERNELS = {
    "attention_gradients": ladder.Kernel(
        ours=attention_gradients,
        plain=_plain,
        inputs=_inputs,
        rows=("dout", "q", "k", "v"),
        work=_work,
        small=(
            {"B": 2, "T": 21, "H": 2, "K": 24, "causal": True},
            {"B": 3, "T": 37, "H": 1, "K": 40},
            {"B": 2, "T": 67, "H": 1, "K": 16, "causal": True},
        ),
        clip=(_heads(50, 12), _heads(77, 8, causal=True), _heads(197, 12), _heads(257, 16), _heads(577, 16)),
        compiled=(
            _heads(257, 12, Tq=1),  # the last block of a picture
            _heads(77, 8, Tq=1, lengths=True),  # and of texts
            *(_heads(T, 8, K) for T, K in ((77, 64), (16, 32), (257, 80))),
            _heads(77, 8, 128, causal=True),
        ),
        peers={
            "SDPA, cuDNN": partial(_sdpa, SDPBackend.CUDNN_ATTENTION),
            "SDPA, Flash": partial(_sdpa, SDPBackend.FLASH_ATTENTION),
            "SDPA, efficient": partial(_sdpa, SDPBackend.EFFICIENT_ATTENTION),
        },
    )
}

if __name__ == "__main__":
    ladder.show(KERNELS)
