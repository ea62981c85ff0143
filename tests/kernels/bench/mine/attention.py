"""Three kernels of a newcomer, as `miniclip bench kernels --mine FILE.py:function --as attention` takes them."""

import torch
import triton
import triton.language as tl


@triton.jit
def _tile_kernel(q, k, v, out, stride, T, H, scale, CAUSAL: tl.constexpr, K: tl.constexpr, BLOCK_M: tl.constexpr,
                 BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, PRECISION: tl.constexpr):  # fmt: skip
    """BLOCK_M queries of one head; the softmax is updated as keys come."""
    pid, head = tl.program_id(0), tl.program_id(1)
    start = (head // H).to(tl.int64) * T * stride + head % H * K
    m, n, c = pid * BLOCK_M + tl.arange(0, BLOCK_M)[:, None], tl.arange(0, BLOCK_N), tl.arange(0, BLOCK_K)[None, :]
    x = tl.load(q + start + m * stride + c, (m < T) & (c < K), 0)
    largest, total = tl.full([BLOCK_M, 1], -float("inf"), tl.float32), tl.zeros([BLOCK_M, 1], tl.float32)
    acc = tl.zeros([BLOCK_M, BLOCK_K], tl.float32)
    for first in range(0, T, BLOCK_N):
        t = first + n
        at, mask = start + t[:, None] * stride + c, (t[:, None] < T) & (c < K)
        scores = tl.dot(x, tl.load(k + at, mask, 0).T, input_precision=PRECISION) * scale
        seen = t[None, :] < T
        if CAUSAL:
            seen = seen & (t[None, :] <= m)
        scores = tl.where(seen, scores, -float("inf"))
        new = tl.maximum(largest, tl.max(scores, 1, keep_dims=True))
        p, correction = tl.exp(scores - new), tl.exp(largest - new)
        values = tl.load(v + at, mask, 0)
        acc = tl.dot(p.to(values.dtype), values, acc * correction, input_precision=PRECISION)
        total, largest = total * correction + tl.sum(p, 1, keep_dims=True), new
    tl.store(out + start + m * stride + c, (acc / total).to(out.dtype.element_ty), (m < T) & (c < K))


def right(q, k, v, *, causal=False, scale=None, BLOCK_M=64):
    B, T, H, K = q.shape
    q, k, v = (x.contiguous() for x in (q, k, v))
    out = torch.empty_like(q)
    _tile_kernel[(triton.cdiv(T, BLOCK_M), B * H)](
        q, k, v, out, H * K, T, H, K**-0.5 if scale is None else scale, causal, K, BLOCK_M, 32,
        max(16, triton.next_power_of_2(K)), "tf32x3" if q.dtype == torch.float32 else "ieee",
    )  # fmt: skip
    return out


def wrong(q, k, v, *, causal=False):
    return right(q, k, v, causal=causal, scale=1.0)  # not divided by √K


def slow(q, k, v, *, causal=False):
    return right(q, k, v, causal=causal, BLOCK_M=16)  # keys and values are read four times as often
