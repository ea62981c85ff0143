# %% [markdown]
# # 03 · Attention
#
# - **Builds**: softmax, the attention of one head, several heads, the causal mask, padding.
# - **Time**: 10 s on 2 cores.
# - **Needs**: NumPy, matplotlib.
# - **Before**: [02](02_pixels_to_patches.md), which turns a picture into a row of tokens; [01](01_bytes_to_tokens.md)
#   does it for a text.
#
# A text or a picture has become a row of $T$ *tokens*, each a vector of $D$ numbers. So far no token depends on any
# other: the vector of "red" is the same in "a red heart" and in "a red circle". Attention is the one operation of a
# transformer that lets tokens look at each other. This page builds it step by step, each step with its reason.

# %%
import inspect
import math

import matplotlib.pyplot as plt
import numpy as np

import miniclip
from miniclip.config import TextConfig, VisionConfig
from miniclip.families.clip.presets import PRESETS
from miniclip.ops import numpy_ops
from miniclip.viz import attention as draw

rng = np.random.default_rng(0)

# %% [markdown]
# ## A weighted mean
#
# Each token asks a question, offers an answer, and carries a label that describes the answer. All three are vectors
# of $K$ numbers:
#
# - the **query** $q_i$ describes what token $i$ looks for;
# - the **key** $k_j$ describes what token $j$ offers;
# - the **value** $v_j$ is the information that token $j$ gives.
#
# The **score** of $i$ and $j$ measures how well they match: it is the dot product $s_{ij} = q_i \cdot k_j$. Token $i$
# receives a mean of all values, and values that match better count more. So the scores must become **weights**:
# positive, with a sum of one for each $i$. Softmax does that:
#
# $$\operatorname{softmax}(s)_j = \frac{e^{s_j}}{\sum_t e^{s_t}}$$

# %%


def naive_softmax(s):
    e = np.exp(s)  # (..., T)
    return e / e.sum(axis=-1, keepdims=True)  # (..., T)


weights = naive_softmax(np.array([2.0, 1.0, 0.0]))
print(weights.round(3), "sum", weights.sum().round(6))

# %% [markdown]
# If one score is larger than another by one, its weight is $e$ times as large, whatever the scores are: only
# differences matter.

# %%
assert math.isclose(weights[0] / weights[1], math.e) and math.isclose(weights[1] / weights[2], math.e)

# %% [markdown]
# That is lucky, because the formula as written fails for large scores. The largest number in float32 is about $3.4
# \cdot 10^{38}$, and $e^{89}$ is already larger:

# %%
with np.errstate(over="ignore", invalid="ignore"):
    print("e^88 =", np.exp(np.float32(88)), " e^89 =", np.exp(np.float32(89)))
    print("naive:", naive_softmax(np.array([89, 88, 0], np.float32)))
    assert np.exp(np.float32(88)) < np.exp(np.float32(89)) == np.inf

assert f"{np.finfo(np.float32).max:.1e}" == "3.4e+38"

# %% [markdown]
# Infinity divided by infinity is not a number. Since only differences matter, we may subtract the largest score
# first. Then the largest exponent is 0, and nothing overflows. The library does this:

# %%
print(inspect.getsource(numpy_ops.softmax))
print("ours:", numpy_ops.softmax(np.array([89, 88, 0], np.float32)).round(3))

s = rng.standard_normal((4, 9))
assert np.allclose(naive_softmax(s), numpy_ops.softmax(s))  # the same if nothing overflows

# %% [markdown]
# ## One head
#
# Attention computes scores, then weights, then a weighted mean. Here it is in plain loops, one token at a time:

# %%


def naive_attention(q, k, v):
    """One head: q, k, v (T, K) -> (T, K)."""
    T, K = q.shape
    out = np.zeros((T, K))
    for i in range(T):
        scores = np.array([q[i] @ k[j] for j in range(T)]) / math.sqrt(K)  # (T,)
        weights = naive_softmax(scores)  # (T,), sum 1
        for j in range(T):
            out[i] += weights[j] * v[j]  # (K,)
    return out


# %% [markdown]
# Why divide by $\sqrt K$? If the entries of $q$ and $k$ are independent with mean 0 and variance 1, each product of
# two entries has variance 1 too. A score is a sum of $K$ such products, so its variance is $K$. Every CLIP model that
# OpenAI published has the head width $K = 64$ in its transformers, so scores with a standard deviation of 8 would go
# into an exponential:

# %%
q, k = rng.standard_normal((2, 4000, 64))
scores = (q * k).sum(-1)  # (4000,)
print(f"standard deviation of a score: {scores.std():.2f}, divided by √64: {(scores / 8).std():.2f}")
assert abs(scores.std() - 8) < 0.3

towers = [tower for preset in PRESETS.values() for tower in (preset.visual, preset.text)]
assert {t.width // t.heads for t in towers if isinstance(t, (TextConfig, VisionConfig))} == {64}

# %% [markdown]
# Then one key gets nearly all the weight, and the others get almost none. When softmax makes such a hard choice, it
# has almost no gradient to learn from. Dividing by $\sqrt K$ brings the variance back to 1, for every width:

# %%
widths, T = [1, 4, 16, 64, 256], 50
plain, scaled = [], []
for K in widths:
    q, k = rng.standard_normal((2, 400, T, K))
    scores = q[:, :1] @ k.transpose(0, 2, 1)  # (400, 1, T): 400 queries, each with 50 keys of its own
    plain.append(numpy_ops.softmax(scores).max(-1).mean())
    scaled.append(numpy_ops.softmax(scores / math.sqrt(K)).max(-1).mean())
    print(f"K = {K:3}: the largest of {T} weights is {plain[-1]:.2f} without the factor, {scaled[-1]:.2f} with it")

assert plain[-1] > 0.85 and max(scaled) < 0.2
draw.sharpness(widths, plain, scaled)
plt.show()

# %% [markdown]
# ## Several heads
#
# A head computes one weighted mean for each token. But a token may need several things at once: "heart" needs its
# colour, and also where the sentence ends. So the width is divided: $D = H \cdot K$, and each of $H$ **heads** has
# its own queries, keys and values of width $K$. This needs only a reshape. The products cost the same: $H$ heads of
# width $K$ multiply exactly as many numbers as one head of width $H \cdot K$. But there are now $H$ tables of $T
# \times T$ weights instead of one, and each goes through a softmax. [13](13_flash_attention.md) shows how to do
# without such tables.

# %%
B, T, H, K = 2, 9, 4, 8  # batch, tokens, heads, head width
q, k, v = rng.standard_normal((3, B, T, H, K))

naive = np.zeros((B, T, H, K))
for b in range(B):
    for h in range(H):
        naive[b, :, h] = naive_attention(q[b, :, h], k[b, :, h], v[b, :, h])

# %% [markdown]
# The library has no loop. A matrix product over the last two axes takes all heads of all sequences at once; the code
# only has to bring the axes into the right order. It distinguishes the number of queries, `Tq`, from the number of
# keys, `Tk`: here both are $T$. `causal` and `lengths` are masks, and come next.

# %%
print(inspect.getsource(numpy_ops.attention_weights))
print(inspect.getsource(numpy_ops.attention))

gap = abs(numpy_ops.attention(q, k, v) - naive).max()
print(f"largest difference between the loops and the library: {gap:.1e}")
assert gap < 1e-12

# %% [markdown]
# One law follows directly from the formula. Attention is a mean over *all* keys, and a sum does not depend on the
# order of its terms. Shuffle the tokens, and the outputs are the same, shuffled: attention does not know positions.
# That is why positions were added to the tokens before.

# %%
order = rng.permutation(T)
shuffled = numpy_ops.attention(q[:, order], k[:, order], v[:, order])
assert np.allclose(shuffled, numpy_ops.attention(q, k, v)[:, order])

# %% [markdown]
# ## The causal mask
#
# In CLIP's text tower, token $i$ may look at itself and at the tokens before it, never ahead. (It was built that way
# so that it could be initialised from a language model, which must not see the word that it has to guess: CLIP, sec.
# 2.4.) A key that must not be seen gets the score $-\infty$ **before** the softmax: $e^{-\infty} = 0$, and the other
# weights still sum to one.

# %%
scores = np.array([[0.0, 1.0, 2.0]] * 3)  # (T, T)
visible = np.tri(3, dtype=bool)  # row i: keys 0..i
before = numpy_ops.softmax(np.where(visible, scores, -np.inf))
after = numpy_ops.softmax(scores) * visible
print("masked before the softmax:\n", before.round(2), "\nmasked after it:\n", after.round(2))
print("sums of rows, before:", before.sum(-1).round(2), " after:", after.sum(-1).round(2))

assert np.allclose(before.sum(-1), 1)
assert after[0].sum() < 0.1  # token 0 would receive a tenth of a value, or less

# %% [markdown]
# Now the purpose of the mask. Change token 5, and all tokens after it may change. The tokens before it must not
# change **at all**, not even in the last bit.

# %%
before = numpy_ops.attention(q, k, v, causal=True)
for x in (q, k, v):
    x[:, 5] += 100
after = numpy_ops.attention(q, k, v, causal=True)

change = abs(after - before).max(axis=(0, 2, 3))  # (T,): the largest change of each token's output
print("change of the output of token 0, 1, ...:", change.round(1))
assert (change[:5] == 0.0).all() and (change[5:] > 0).all()

# %% [markdown]
# ## Padding
#
# The texts of a batch rarely have the same length, but an array has one $T$. So the shorter ones are filled with
# **padding**, tokens that mean nothing and that no token should look at. The second mask ensures this. `lengths`
# gives the real number of tokens of each text, and in text $b$ the keys from number `lengths[b]` on get the score
# $-\infty$. Now each text must have the same result as alone, without padding. Again a key that is not seen changes
# nothing, bit for bit:

# %%
q, k, v = rng.standard_normal((3, B, T, H, K))
lengths = [5, 9]  # text 0 has four tokens of padding, text 1 has none
padded = numpy_ops.attention(q, k, v, lengths=lengths)  # (B, T, H, K)

for b, n in enumerate(lengths):
    for h in range(H):
        assert np.allclose(padded[b, :n, h], naive_attention(q[b, :n, h], k[b, :n, h], v[b, :n, h]))

for x in (k, v):
    x[0, 5:] += 100
assert (numpy_ops.attention(q, k, v, lengths=lengths) == padded).all()

# %% [markdown]
# Queries need no such mask: nobody reads the outputs of padding. There may also be fewer queries than keys. If only
# one token's output is needed, one query is enough:

# %%
one = numpy_ops.attention(q[:, 4:5], k, v, lengths=lengths)  # (B, 1, H, K): Tq = 1, Tk = T
assert one.shape == (B, 1, H, K) and np.allclose(one, padded[:, 4:5])

# %% [markdown]
# ## Where a trained model looks
#
# The built-in model reads "a red heart left of a blue star". Every tower takes `trace`, a function that is called
# with the name and the value of each stage. The attention weights of the second and last text block are one of these
# stages.

# %%
model, preprocess = miniclip.load("shapes", backend="numpy")
tokens = model.tokenize(["a red heart left of a blue star"])  # (1, 32)
words = [model.tokenizer.decoder[id].removesuffix("</w>") for id in tokens[0] if id]
words = ["start", *words[1:-1], "end"]
T = len(words)

stages = {}
model.encode_text(tokens, trace=stages.__setitem__)
weights = stages["blocks.1.attention_weights"][0, :, :T, :T]  # (H, T, T)

assert np.allclose(weights.sum(-1), 1, atol=1e-6)
assert (np.triu(weights, k=1) == 0).all()  # nothing above the diagonal: no token looks ahead

# %% [markdown]
# The model takes the meaning of the text from its last row, `end`. There head 1 takes 0.81 of its mean from "heart"
# and head 3 takes 0.99 from "star": the two heads have divided the two nouns between them, without being trained to
# do so. Head 0 gives 0.58 to "of". The word itself hardly matters here: in this block its token has already seen all
# tokens before it.

# %%
end = dict(zip(words, weights[:, -1].T.round(2)))  # word -> its share in each head
assert end["heart"][1] == np.float32(0.81) and end["star"][3] == np.float32(0.99) and end["of"][0] == np.float32(0.58)

draw.head_maps(weights, words, words)
plt.show()

# %% [markdown]
# **Now you.** `miniclip learn start course` writes the exercises. `softmax`, `attention_weights`, `causal_mask` and
# `attention` belong to this page: see [the course](../../miniclip/learn/README.md). Next: [04](04_the_block.md) puts
# attention into a block.
