# %% [markdown]
# # 13 · FlashAttention
#
# - **Builds**: safe and online softmax, attention in tiles, a Triton kernel for it.
# - **Time**: 40 s on 2 cores.
# - **Needs**: NumPy, matplotlib, torch, triton.
# - **Before**: [03](03_attention.md), which builds attention; [12](12_triton_layer_norm.md), which writes a first
#   kernel.
#
# Layer norm became one kernel because its row fits on the chip. Attention has a row for each query, of as many scores
# as there are keys, and the softmax over it seems to need the whole of it before the first weight is known. It does
# not. This page finds out how to take a softmax of which one never sees more than a piece, and makes attention one
# kernel: what is known as FlashAttention (Dao et al., 2022).

# %%
import os

os.environ["TRITON_INTERPRET"] = "1"  # kernels run step by step on the CPU, never timed: say so before the import

import inspect
import math

import matplotlib.pyplot as plt
import numpy as np
import torch
import triton
import triton.language as tl

import miniclip
from miniclip.kernels import attention as library
from miniclip.kernels import device
from miniclip.ops import numpy_ops
from miniclip.viz import kernels as draw

rng = np.random.default_rng(0)
# How many tokens CLIP has: patches and a class token of ViT-B/32, B/16, L/14 and L/14 at 336 pixels; and texts.
LENGTHS = sorted([77, *((size // patch) ** 2 + 1 for size, patch in ((224, 32), (224, 16), (224, 14), (336, 14)))])

# %% [markdown]
# ## What attention carries about
#
# A head has $T$ queries, keys and values of $K$ numbers each. In NumPy or in eager torch, every line of attention is
# an operation that reads its input from memory and writes its output back: the scores $q k^\top / \sqrt K$, which are
# $T \times T$ numbers, then the weights, as many, then the product with the values. So at least $4T^2$ numbers are
# moved for the sake of scores and weights (each is written once and read once), beside the $4TK$ that cannot be
# avoided: $q$, $k$, $v$ and the output. With $K = 64$:

# %%
K = 64
for T in LENGTHS:
    print(f"T = {T:3}: {4 * T * T:9,} numbers for scores and weights, {4 * T * K:7,} for the rest, ratio {T / K:.1f}")
assert LENGTHS == [50, 77, 197, 257, 577]
assert round(197 / K) == 3 and round(577 / K) == 9  # as the header of attention.py says

# %% [markdown]
# So scores had better never leave the chip. But there is no room on it for a row of just any length. Let us see what
# a softmax needs of its row.
#
# ## Safe softmax: three passes
#
# One query has the scores $s_1, \dots, s_T$, and with the values $v_t$ its output is $\sum_t e^{s_t} v_t / \sum_t
# e^{s_t}$. As $e^{s}$ overflows ([03](03_attention.md)), the largest score $m$ is subtracted first. Written as loops
# that is three passes over the keys, and each needs what the one before has found:

# %%


def safe_mean(scores, v):
    """The softmax of scores (T,) as weights of v (T, K) -> (K,)."""
    largest = -np.inf
    for s in scores:
        largest = max(largest, s)
    total = 0.0
    for s in scores:
        total += np.exp(s - largest)
    out = np.zeros(v.shape[1])  # (K,)
    for s, value in zip(scores, v):
        out += np.exp(s - largest) / total * value
    return out


T = 77
q, k, v = rng.standard_normal((3, T, K))
q *= 2  # the scores of a trained model are further apart than those of random numbers
scores = k @ q[14] / math.sqrt(K)  # (T,) of one query
exact = numpy_ops.softmax(scores) @ v  # (K,)
assert np.allclose(safe_mean(scores, v), exact, rtol=0, atol=1e-12)

# %% [markdown]
# ## Online softmax: one pass
#
# Suppose that we have seen some of the keys. We know the largest score so far, and the sums so far that were taken
# with it:
#
# $$m = \max_t s_t, \qquad l = \sum_t e^{s_t - m}, \qquad o = \sum_t e^{s_t - m} \, v_t$$
#
# Now comes a key with score $s$ and value $v$. If $s$ is not above $m$, we add $e^{s - m}$ to $l$ and $e^{s - m} v$
# to $o$. If it is, all that has been summed was summed with the wrong maximum, $m$ in the place of $m' = \max(m, s)$.
# But the mistake is the same factor in each term, for $e^{s_t - m'} = e^{m - m'} \cdot e^{s_t - m}$, and a factor
# that all terms share can be mended afterwards:
#
# $$m' = \max(m, s), \qquad l' = e^{m - m'} \, l + e^{s - m'}, \qquad o' = e^{m - m'} \, o + e^{s - m'} \, v$$
#
# In the end $o / l$ is the output. At the start $m = -\infty$, so that the first factor is $e^{-\infty} = 0$ and
# nothing needs a special case. (Milakov and Gimelshein, 2018, algorithm 3, for $m$ and $l$; FlashAttention adds $o$,
# and FlashAttention-2, Dao, 2023, divides it by $l$ but once, in the end.)

# %%


def online_mean(scores, v):
    """The same in one pass; after each key it yields m, l and o."""
    largest, total, out = -np.inf, 0.0, np.zeros(v.shape[1])
    for s, value in zip(scores, v):
        new = max(largest, s)
        shrink, weight = np.exp(largest - new), np.exp(s - new)
        total = total * shrink + weight
        out = out * shrink + weight * value  # (K,)
        largest = new
        yield largest, total, out


states = list(online_mean(scores, v))
m, sums, o = (np.array(x) for x in zip(*states))  # m, l and o after each key: (T,), (T,), (T, K)
print(f"after {T} keys: m = {m[-1]:.2f}, l = {sums[-1]:.3f}, off by {abs(o[-1] / sums[-1] - exact).max():.0e}")
assert np.allclose(o[-1] / sums[-1], exact, rtol=0, atol=1e-12)

draw.running(scores[:16, None], m[:16], sums[:16])
plt.show()

# %% [markdown]
# Each blue part is what the bar before it has become. Where the maximum rises, it is rescaled by the factor that
# stands there; where it shrinks below what it was, that is dashed.
#
# Two laws hold not only in the end but after each key. $l \, e^{m}$ is the sum of all $e^{s_t}$ so far. And $o / l$
# is the attention to the keys so far: if they end with the query's own, causal attention. So the state depends on
# *which* keys have been seen and on nothing else: not on their order, and not on how they were cut into pieces. A
# constant added to all scores, be it 10,000, is gone from $l$ and $o$ at once.

# %%
for t in range(T):
    assert np.isclose(sums[t] * np.exp(m[t]), np.exp(scores[: t + 1]).sum(), rtol=1e-12)
    assert np.allclose(o[t] / sums[t], safe_mean(scores[: t + 1], v[: t + 1]), rtol=0, atol=1e-12)

order = rng.permutation(T)
for *_, (_, total, out) in (online_mean(scores[order], v[order]), online_mean(scores + 10_000, v)):
    assert np.isclose(total, sums[-1], rtol=1e-10) and np.allclose(out, o[-1], rtol=0, atol=1e-10)

# %% [markdown]
# ## In tiles
#
# A GPU has units that multiply matrices far faster than it does anything else. So keys come $N$ at a time, a **tile**
# of them, and queries $M$ at a time, each with an $m$, $l$ and $o$ of its own. The formulas stay: $m'$ is the largest
# of $m$ and of all scores in the tile, and the sums take all its terms at once.

# %%


def tiled_attention(q, k, v, M, N, causal=False):
    """q, k, v (T, K) -> (T, K), in tiles of M queries and N keys."""
    T, K = q.shape
    result = np.empty((T, K))
    for i in range(0, T, M):
        tile = q[i : i + M] / math.sqrt(K)  # (M, K)
        largest = np.full((len(tile), 1), -np.inf)  # (M, 1)
        total, out = np.zeros((len(tile), 1)), np.zeros((len(tile), K))  # (M, 1), (M, K)
        for j in range(0, min(T, i + M) if causal else T, N):  # causal: no key behind the last query
            s = tile @ k[j : j + N].T  # (M, N)
            if causal:
                s = np.where(np.tri(*s.shape, i - j, dtype=bool), s, -np.inf)  # query i + a sees keys up to i + a
            new = np.maximum(largest, s.max(axis=1, keepdims=True))  # (M, 1)
            shrink, p = np.exp(largest - new), np.exp(s - new)  # (M, 1), (M, N)
            total = total * shrink + p.sum(axis=1, keepdims=True)
            out = out * shrink + p @ v[j : j + N]  # (M, K)
            largest = new
        result[i : i + M] = out / total
    return result


def reference(q, k, v, causal=False):
    """The library's reference for one head: (T, K) each -> (T, K)."""
    return numpy_ops.attention(*(x[None, :, None] for x in (q, k, v)), causal=causal)[0, :, 0]


# %% [markdown]
# The size of tiles is a matter of speed, and the result must not know of it. Let us take every size that there is for
# the 50 tokens of ViT-B/32, 2,500 pairs of $M$ and $N$, and hold each to the library. The last bits differ, since
# sums are taken in another order; nothing else does.

# %%
few = slice(0, 50)
sizes = [(M, N) for M in range(1, 51) for N in range(1, 51)]
gaps = []
for causal in (False, True):
    exact = reference(q[few], k[few], v[few], causal)  # (T, K)
    gaps += [abs(tiled_attention(q[few], k[few], v[few], M, N, causal) - exact).max() for M, N in sizes]
print(f"{len(sizes):,} pairs of sizes, without a mask and causal: largest difference {max(gaps):.0e}")
assert len(sizes) == 2500 and max(gaps) < 1e-12

# %% [markdown]
# What must be at hand is now $M N$ scores and, for each of $M$ queries, $m$, $l$ and the $K$ numbers of $o$, however
# many keys there are. That replaces $T^2$ scores a head:

# %%
held = 64 * 64 + 64 * (2 + K)  # numbers, with M = N = 64
for T in LENGTHS:
    print(f"T = {T:3}: {T * T:7,} scores, {T * T / held:4.1f} times what tiles of 64 x 64 hold")
assert held == 8320 and math.isqrt(held) == 91

rows = 256 * 16 * 577  # queries of 256 pictures and 16 heads, ViT-L/14
print(f"T = 577, 16 bit: a layer's scores take {rows * 577 * 2 / 1e9:.1f} GB, its queries {rows * K * 2 / 1e9:.1f} GB")

# %% [markdown]
# Up to $T = 91$ the tile is the larger of the two. CLIP's short sequences save no room, then, but the way to memory
# and back; beyond, both.
#
# ## The kernel
#
# In Triton each tile of queries of each head is a program; the loop over keys is inside. The grid has two axes, tiles
# and heads. Sizes of tiles must be powers of two, so the last ones reach beyond $T$, and there masks are needed as in
# [12](12_triton_layer_norm.md). A query that is not there computes something, and nothing of it is stored. A key that
# is not there must get the score $-\infty$.

# %%


@triton.jit
def naive_flash(
    q_ptr, k_ptr, v_ptr, out_ptr, T, scale, K: tl.constexpr, M: tl.constexpr, N: tl.constexpr, CAUSAL: tl.constexpr
):  # fmt: skip
    """q, k, v, out (H, T, K)."""
    i = tl.program_id(0) * M + tl.arange(0, M)[:, None]  # (M, 1) queries
    c = tl.program_id(1) * T * K + tl.arange(0, K)[None, :]  # (1, K) where the numbers of this head's token 0 are
    q = tl.load(q_ptr + i * K + c, mask=i < T, other=0)  # (M, K)
    largest = tl.full([M, 1], -float("inf"), tl.float32)
    total = tl.zeros([M, 1], tl.float32)
    out = tl.zeros([M, K], tl.float32)
    for start in range(0, T, N):
        j = start + tl.arange(0, N)[:, None]  # (N, 1) keys
        k = tl.load(k_ptr + j * K + c, mask=j < T, other=0)  # (N, K)
        v = tl.load(v_ptr + j * K + c, mask=j < T, other=0)  # (N, K)
        s = tl.dot(q, k.T, input_precision="ieee") * scale  # (M, N)
        s = tl.where(j.T < T, s, -float("inf"))
        if CAUSAL:
            s = tl.where(i >= j.T, s, -float("inf"))
        new = tl.maximum(largest, tl.max(s, axis=1, keep_dims=True))  # (M, 1)
        shrink, p = tl.exp(largest - new), tl.exp(s - new)  # (M, 1), (M, N)
        total = total * shrink + tl.sum(p, axis=1, keep_dims=True)
        out = out * shrink + tl.dot(p, v, input_precision="ieee")  # (M, K)
        largest = new
    tl.store(out_ptr + i * K + c, out / total, mask=i < T)


# %% [markdown]
# `tl.dot` is the product of two tiles, of which matrix units take 16 rows at least; "ieee" asks for products of whole
# float32 numbers, which such units else shorten. Every size of tiles again, powers of two now, at lengths that none
# of them divides:

# %%
H, gaps = 2, []
for T, causal in ((50, False), (50, True), (77, False), (77, True)):
    heads = torch.from_numpy(rng.standard_normal((3, H, T, K))).float()  # q, k and v, (H, T, K) each
    exact = np.stack([reference(*heads[:, h].double().numpy(), causal) for h in range(H)])  # (H, T, K)
    for M in (16, 32, 64, 128):
        for N in (16, 32, 64, 128):
            memory = torch.full((H + 1, T, K), torch.nan)  # with room behind that is not ours
            naive_flash[(triton.cdiv(T, M), H)](*heads, memory, T, 1 / math.sqrt(K), K, M, N, causal)
            gaps.append(abs(memory[:H].numpy() - exact).max())
            assert memory[H].isnan().all()
print(f"{len(gaps)} runs, largest difference {max(gaps):.0e}")
assert len(gaps) == 4 * 16 and max(gaps) < 1e-5

# %% [markdown]
# What if a key that is not there is forgotten? It was read as zeros, so its score is 0, and it takes the weight
# $e^{-m}$ of the sum, for a value of nothing. With 77 keys in tiles of 64 there are 51 of them. The output keeps its
# direction and is too short:

# %%
padded = (np.pad(x, [(0, 128 - 77), (0, 0)]) for x in (k, v))  # (128, K) each
forgotten, exact = reference(q, *padded), reference(q, k, v)  # (T, K) each
share = sums[-1] / (sums[-1] + 51 * np.exp(-m[-1]))  # m and l are those of query 14
print(f"query 14 gets {share:.2f} of its output")
assert np.allclose(forgotten[14], share * exact[14], rtol=0, atol=1e-12) and share < 0.95

# %% [markdown]
# ## The library's kernel
#
# [`attention.py`](../../kernels/attention.py) is a ladder of four versions. 1: a query a program, no matrix units. 2:
# a tile of queries, with all keys at once. 3: ours. 4: what is used. Here is a step of it, for $N$ keys:

# %%
print(inspect.getsource(library._inner_step.fn))

# %% [markdown]
# It is the body of our loop, except for three things. Scores are in powers of two, since that is what the hardware
# has: `qk_scale` holds $\log_2 e$ too. `stride_kt` and `stride_vt` are the distances between tokens, so that queries,
# keys and values are read from one packed product. And `MASKED` is a constant: a tile that is known to be full is
# compiled without masks.

# %%
gaps = {}
for T, causal, dtype in ((50, False, torch.float32), (77, True, torch.float32), (77, True, torch.float16)):
    packed = torch.from_numpy(rng.standard_normal((1, T, 3, H, K))).to(dtype)  # (B, T, 3, H, K)
    q, k, v = packed.unbind(2)  # (B, T, H, K) each, read where they lie
    exact = numpy_ops.attention(*(x.double().numpy() for x in (q, k, v)), causal=causal)  # (B, T, H, K)
    outs = [library.attention(q, k, v, causal=causal, version=version) for version in (1, 2, 3, 4)]
    gaps[T, dtype] = [abs(out.double().numpy() - exact).max() for out in outs]
    assert max(gaps[T, dtype]) < (1e-5 if dtype == torch.float32 else 5e-3)

for (T, dtype), row in gaps.items():
    print(f"T = {T}, {dtype}: versions 1 to 4 are off by", *(f"{gap:.0e}" for gap in row))

# %% [markdown]
# ## Lengths that are no multiples
#
# A tile that reaches beyond $T$ is multiplied as a whole, and what is beyond is thrown away. With $257 = 256 + 1$,
# that is $16 \cdot 16$ patches and a class token, the last tile of 64 keys is there for a single one. So version 4
# gives what is left over tiles of its own, as small as 16. Which tiles there are, of queries down and of keys across:

# %%


def edges(T, version):
    """Where the tiles of one head begin and end: queries, keys."""
    if version == 2:  # 64 queries; all keys, padded to a power of two
        return np.arange(0, T + 64, 64), np.array([0, triton.next_power_of_2(T)])
    sizes = device.choose(library.TILES, T)  # of an H100 or H200, for which the interpreter stands
    config = library.tiles(T, T, K, torch.float16, False, False, config=sizes)
    both = []
    for size, tail in ((config["BLOCK_M"], config["TAIL_M"]), (config["BLOCK_N"], config["TAIL_N"])):
        whole = np.arange(0, T + 1, size)
        both.append(whole if T % size == 0 else np.append(whole, whole[-1] + (tail if version == 4 else size)))
    return both


useful = {}
for T in LENGTHS:
    for version in (2, 3, 4):
        queries, keys = edges(T, version)
        useful[T, version] = T * T / (queries[-1] * keys[-1])
    print(f"T = {T:3}: asked for are", *(f"{useful[T, version]:.0%} in version {version}" for version in (2, 3, 4)))
assert round(useful[197, 2], 2) == 0.59 and round(useful[197, 4], 2) == 0.73 and round(useful[257, 4], 2) == 0.89

draw.tile_work(257, {f"version {version}: {useful[257, version]:.0%}": edges(257, version) for version in (2, 3, 4)})
plt.show()

# %% [markdown]
# With this and a kernel for each of the other operations, a whole model runs on Triton, here on the CPU, and computes
# what NumPy does:

# %%
features = []
for backend in ("numpy", "triton"):
    model, _ = miniclip.load("shapes", backend=backend)
    tokens = model.tokenize(["a red heart left of a blue star", "a green circle"])  # (B, T)
    features.append(np.asarray(model.encode_text(tokens)))  # (B, E)
gap = abs(features[1] - features[0]).max() / abs(features[0]).max()
print(f"largest difference, as a share of the largest number: {gap:.0e}")
assert gap < 1e-5

# %% [markdown]
# To close, the query of above with its 77 keys in tiles of 16, and what this spares. After a tile $m$ and $l$ are
# what they are after its last key.

# %%
ends = np.array([15, 31, 47, 63, 76])  # the last key of each tile
draw.running_and_memory(np.split(scores, ends[:-1] + 1), m[ends], sums[ends], LENGTHS, held)
plt.show()

# %% [markdown]
# **Now you.** `miniclip learn start course` lays out exercises, of which `flash_attention` is this page's: see [the
# course](../../miniclip/learn/README.md). Next: [14](14_roofline.md) asks how fast any of this can be.
