# %% [markdown]
# # 13 · FlashAttention
#
# - **Builds**: safe and online softmax, attention in tiles, a Triton kernel for it.
# - **Time**: 40 s on 2 cores.
# - **Needs**: NumPy, matplotlib, torch, triton.
# - **Before**: [03](03_attention.md), which builds attention; [12](12_triton_layer_norm.md), which writes a first
#   kernel.
#
# Layer norm became one kernel because its row fits on the chip. Attention has a row of scores for each query, one for
# each key, and softmax seems to need the whole row before the first weight is known. It does not. This page computes
# a softmax that never sees more than a piece of its row, and makes attention one kernel, known as FlashAttention (Dao
# et al., 2022).

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
# ## What attention moves through memory
#
# A head has $T$ queries, keys and values of $K$ numbers each. In NumPy or in eager torch, every line of attention is
# an operation that reads its input from memory and writes its output back: the scores $q k^\top / \sqrt K$, which are
# $T \times T$ numbers, then the weights, as many again, then the product with the values. So at least $4T^2$ numbers
# are moved for scores and weights (each is written once and read once), in addition to the $4TK$ that cannot be
# avoided: $q$, $k$, $v$ and the output. With $K = 64$:

# %%
K = 64
for T in LENGTHS:
    print(f"T = {T:3}: {4 * T * T:9,} numbers for scores and weights, {4 * T * K:7,} for the rest, ratio {T / K:.1f}")
assert LENGTHS == [50, 77, 197, 257, 577]
assert round(197 / K) == 3 and round(577 / K) == 9  # as the header of attention.py says

# %% [markdown]
# So scores should never leave the chip. But the chip has no room for a row of any length. Let us see how much of its
# row a softmax needs.
#
# ## Safe softmax: three passes
#
# One query has the scores $s_1, \dots, s_T$, and with the values $v_t$ its output is $\sum_t e^{s_t} v_t / \sum_t
# e^{s_t}$. As $e^{s}$ overflows ([03](03_attention.md)), the largest score $m$ is subtracted first. Written as loops
# these are three passes over the keys, and each needs the result of the one before:

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
# Suppose that we have seen some of the keys. We know the largest score so far, and the sums so far, computed with it:
#
# $$m = \max_t s_t, \qquad l = \sum_t e^{s_t - m}, \qquad o = \sum_t e^{s_t - m} \, v_t$$
#
# The next key has the score $s$ and the value $v$. If $s$ is not above $m$, we add $e^{s - m}$ to $l$ and $e^{s - m}
# v$ to $o$. If it is, all terms so far were summed with the wrong maximum, $m$ instead of $m' = \max(m, s)$. But the
# error is the same factor in each term, for $e^{s_t - m'} = e^{m - m'} \cdot e^{s_t - m}$, and a factor that all
# terms share can be corrected afterwards:
#
# $$m' = \max(m, s), \qquad l' = e^{m - m'} \, l + e^{s - m'}, \qquad o' = e^{m - m'} \, o + e^{s - m'} \, v$$
#
# At the end $o / l$ is the output. At the start $m = -\infty$, so that the first factor is $e^{-\infty} = 0$ and no
# special case is needed. (Milakov and Gimelshein, 2018, algorithm 3, for $m$ and $l$; FlashAttention adds $o$, and
# FlashAttention-2, Dao, 2023, divides it by $l$ only once, at the end.)

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
# Each blue part is the sum carried over from the bar before it. If the maximum rises, the sum is multiplied by the
# factor shown there. A dashed outline marks a sum that has become smaller than before.
#
# Two laws hold not only at the end but after each key. $l \, e^{m}$ is the sum of all $e^{s_t}$ so far. And $o / l$
# is the attention to the keys so far: if they end with the query's own, causal attention. So the state depends only
# on *which* keys have been seen: not on their order, and not on how they were cut into pieces. A constant added to
# all scores, for example 10,000, does not change $l$ and $o$.

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
# A GPU has units that multiply matrices far faster than it does anything else. So keys are taken $N$ at a time, a
# **tile** of them, and queries $M$ at a time, each with its own $m$, $l$ and $o$. The formulas stay the same: $m'$ is
# the largest of $m$ and of all scores in the tile, and all terms of the tile are added to the sums at once.

# %%


def tiled_attention(q, k, v, M, N, causal=False):
    """q, k, v (T, K) -> (T, K), in tiles of M queries and N keys."""
    T, K = q.shape
    result = np.empty((T, K))
    for i in range(0, T, M):
        tile = q[i : i + M] / math.sqrt(K)  # (M, K)
        largest = np.full((len(tile), 1), -np.inf)  # (M, 1)
        total, out = np.zeros((len(tile), 1)), np.zeros((len(tile), K))  # (M, 1), (M, K)
        for j in range(0, min(T, i + M) if causal else T, N):  # causal: no key after the last query
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
# The size of tiles changes only the speed; the result must be the same. We take every possible size for the 50 tokens
# of ViT-B/32, 2,500 pairs of $M$ and $N$, and compare each with the library. Only the last bits differ, since the
# order of the sums differs.

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
# Now the chip must hold $M N$ scores and, for each of $M$ queries, $m$, $l$ and the $K$ numbers of $o$, for any
# number of keys. That replaces $T^2$ scores a head:

# %%
held = 64 * 64 + 64 * (2 + K)  # numbers, with M = N = 64
for T in LENGTHS:
    print(f"T = {T:3}: {T * T:7,} scores, {T * T / held:4.1f} times what tiles of 64 x 64 hold")
assert held == 8320 and math.isqrt(held) == 91

rows = 256 * 16 * 577  # queries of 256 pictures and 16 heads, ViT-L/14
print(f"T = 577, 16 bit: a layer's scores take {rows * 577 * 2 / 1e9:.1f} GB, its queries {rows * K * 2 / 1e9:.1f} GB")

# %% [markdown]
# Up to $T = 91$ the tile is the larger of the two. So for CLIP's short sequences tiles save no space, only the way to
# memory and back; for longer ones they save both.
#
# ## The kernel
#
# In Triton each tile of queries of each head is a program; the loop over keys is inside. The grid has two axes, tiles
# and heads. Sizes of tiles must be powers of two, so the last tiles reach beyond $T$ and need masks, as in
# [12](12_triton_layer_norm.md). A query beyond $T$ computes something, but nothing of it is stored. A key beyond $T$
# must get the score $-\infty$.

# %%


@triton.jit
def naive_flash(
    q_ptr, k_ptr, v_ptr, out_ptr, T, scale,
    HEAD_DIM: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, CAUSAL: tl.constexpr
):  # fmt: skip
    """q, k, v, out (H, T, K)."""
    pid, head = tl.program_id(0), tl.program_id(1)
    offs_m = pid * BLOCK_M + tl.arange(0, BLOCK_M)[:, None]  # (M, 1) queries
    offs_d = head * T * HEAD_DIM + tl.arange(0, HEAD_DIM)[None, :]  # (1, K) this head's, of its token 0
    q = tl.load(q_ptr + offs_m * HEAD_DIM + offs_d, mask=offs_m < T, other=0)  # (M, K)
    m_i = tl.full([BLOCK_M, 1], -float("inf"), tl.float32)
    l_i = tl.zeros([BLOCK_M, 1], tl.float32)
    acc = tl.zeros([BLOCK_M, HEAD_DIM], tl.float32)
    for start_n in range(0, T, BLOCK_N):
        offs_n = start_n + tl.arange(0, BLOCK_N)[:, None]  # (N, 1) keys
        k = tl.load(k_ptr + offs_n * HEAD_DIM + offs_d, mask=offs_n < T, other=0)  # (N, K)
        v = tl.load(v_ptr + offs_n * HEAD_DIM + offs_d, mask=offs_n < T, other=0)  # (N, K)
        qk = tl.dot(q, k.T, input_precision="ieee") * scale  # (M, N)
        qk = tl.where(offs_n.T < T, qk, -float("inf"))
        if CAUSAL:
            qk = tl.where(offs_m >= offs_n.T, qk, -float("inf"))
        m_new = tl.maximum(m_i, tl.max(qk, axis=1, keep_dims=True))  # (M, 1)
        alpha, p = tl.exp(m_i - m_new), tl.exp(qk - m_new)  # (M, 1), (M, N)
        l_i = l_i * alpha + tl.sum(p, axis=1, keep_dims=True)
        acc = acc * alpha + tl.dot(p, v, input_precision="ieee")  # (M, K)
        m_i = m_new
    tl.store(out_ptr + offs_m * HEAD_DIM + offs_d, acc / l_i, mask=offs_m < T)


# %% [markdown]
# `tl.dot` is the product of two tiles. Matrix units need at least 16 rows. "ieee" asks for products of full float32
# numbers, which such units would otherwise round first. Again we try every size of tiles, now powers of two, at
# lengths that none of them divides:

# %%
H, gaps = 2, []
for T, causal in ((50, False), (50, True), (77, False), (77, True)):
    heads = torch.from_numpy(rng.standard_normal((3, H, T, K))).float()  # q, k and v, (H, T, K) each
    exact = np.stack([reference(*heads[:, h].double().numpy(), causal) for h in range(H)])  # (H, T, K)
    for M in (16, 32, 64, 128):
        for N in (16, 32, 64, 128):
            memory = torch.full((H + 1, T, K), torch.nan)  # the last (T, K) numbers are not ours
            naive_flash[(triton.cdiv(T, M), H)](*heads, memory, T, 1 / math.sqrt(K), K, M, N, causal)
            gaps.append(abs(memory[:H].numpy() - exact).max())
            assert memory[H].isnan().all()
print(f"{len(gaps)} runs, largest difference {max(gaps):.0e}")
assert len(gaps) == 4 * 16 and max(gaps) < 1e-5

# %% [markdown]
# What if the mask for keys beyond $T$ is forgotten? Such a key was read as zeros, so its score is 0, and it adds
# $e^{-m}$ to the sum, with a value of zero. With 77 keys in tiles of 64 there are 51 such keys. The output keeps its
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
# [`attention.py`](../../kernels/attention.py) is a ladder of six versions. Version 1 has one query a program, and no
# matrix units. Version 2 has a tile of queries, with all keys at once. Version 3 is the kernel above. Version 4 takes
# any lengths on any GPU; 5 and 6 are for lengths that they fit, on an H100. Here is a step of version 4, for $N$
# keys, and the update that versions 3 to 5 share:

# %%
print(inspect.getsource(library._inner_step.fn))
print(inspect.getsource(library.online_softmax.fn))

# %% [markdown]
# It is the body of our loop with three differences. It uses powers of two instead of $e$, since the hardware has an
# instruction for them: `qk_scale` includes $\log_2 e$. `stride_kt` and `stride_vt` are the distances between tokens,
# so that queries, keys and values are read directly from one packed product. And `MASKED` is a constant: a tile that
# is known to be full is compiled without masks.

# %%
gaps = {}
for T, causal, dtype in ((50, False, torch.float32), (77, True, torch.float32), (77, True, torch.float16)):
    packed = torch.from_numpy(rng.standard_normal((1, T, 3, H, K))).to(dtype)  # (B, T, 3, H, K)
    q, k, v = packed.unbind(2)  # (B, T, H, K) each: views, not copies
    exact = numpy_ops.attention(*(x.double().numpy() for x in (q, k, v)), causal=causal)  # (B, T, H, K)
    outs = [library.attention(q, k, v, causal=causal, version=version) for version in (1, 2, 3, 4)]
    gaps[T, dtype] = [abs(out.double().numpy() - exact).max() for out in outs]
    assert max(gaps[T, dtype]) < (1e-5 if dtype == torch.float32 else 5e-3)

for (T, dtype), row in gaps.items():
    print(f"T = {T}, {dtype}: versions 1 to 4 are off by", *(f"{gap:.0e}" for gap in row))

# %% [markdown]
# ## Lengths that are no multiples
#
# A tile that reaches beyond $T$ is multiplied as a whole, and the part beyond is thrown away. With $257 = 256 + 1$,
# that is $16 \cdot 16$ patches and a class token, the last tile of 64 keys has only one real key. So version 4 uses
# smaller tiles for the remainder, as small as 16. The picture shows the tiles, queries down and keys across:

# %%


def edges(T, version):
    """Where the tiles of one head begin and end: queries, keys."""
    if version == 2:  # 64 queries; all keys, padded to a power of two
        return np.arange(0, T + 64, 64), np.array([0, triton.next_power_of_2(T)])
    sizes = device.choose(library.TILES, T)  # the interpreter uses the sizes for an H100 or H200
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
# With this and a kernel for each of the other operations, a whole model runs on Triton, here on the CPU, and gives
# the same results as NumPy:

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
# Last, the query from above with its 77 keys in tiles of 16, and the memory that tiles save. After a tile, $m$ and
# $l$ are the same as after its last key.

# %%
ends = np.array([15, 31, 47, 63, 76])  # the last key of each tile
draw.running_and_memory(np.split(scores, ends[:-1] + 1), m[ends], sums[ends], LENGTHS, held)
plt.show()

# %% [markdown]
# **Now you.** `miniclip learn start course` writes the exercises. `flash_attention` belongs to this page: see [the
# course](../../miniclip/learn/README.md). Next: [14](14_roofline.md) asks how fast any of this can be.
