# %% [markdown]
# # 04 · The block
#
# - **Builds**: layer norm, quick-GELU, the MLP, self-attention with its projections, the residual block.
# - **Time**: 5 s on 2 cores.
# - **Needs**: NumPy, matplotlib.
# - **Before**: [03](03_attention.md), which lets tokens look at each other.
#
# A transformer is one piece, stacked: the **block**. It takes $T$ tokens of $D$ numbers and gives back as many of the
# same width, so that the next block can take them. With $x$ for all tokens, it is two steps:
#
# $$x \leftarrow x + \operatorname{attention}(\operatorname{ln_1}(x)) \qquad \text{and then} \qquad
# x \leftarrow x + \operatorname{mlp}(\operatorname{ln_2}(x))$$
#
# In the first half tokens look at each other; in the second each works by itself on what it has seen. Attention is
# there already. Missing are the norm (`ln`), the MLP with its activation, and the reason for the plus signs.

# %%
import dataclasses
import inspect
import math

import matplotlib.pyplot as plt
import numpy as np

import miniclip
from miniclip.ops import numpy_ops
from miniclip.params import tree_map
from miniclip.towers import transformer, vit
from miniclip.train.loop import shapes
from miniclip.viz import block as draw

rng = np.random.default_rng(0)

# %% [markdown]
# ## Layer norm
#
# Every product with a matrix makes vectors longer or shorter, and a deep model has many of them in a row. So each
# half begins by bringing its input to one size. Layer norm does it for each token by itself. Of the $D$ numbers $x_1,
# \dots, x_D$ of a token it takes the mean $\mu$ and the variance $\sigma^2$, and makes of them $y_1, \dots, y_D$:
#
# $$\mu = \frac1D \sum_d x_d \qquad \sigma^2 = \frac1D \sum_d (x_d - \mu)^2 \qquad
# y_d = \frac{x_d - \mu}{\sqrt{\sigma^2 + \varepsilon}} \cdot g_d + b_d$$
#
# The **gain** $g$ and the **bias** $b$ are learned, $D$ numbers each: one size for all of them need not be the best.
# $\varepsilon$ (`eps`) is a small constant, $10^{-5}$ in CLIP.

# %%


def naive_layer_norm(x, gain, bias, eps=1e-5):
    """x (T, D), gain and bias (D,) -> (T, D), a token at a time."""
    y = np.zeros(x.shape)
    for t, row in enumerate(x):  # row (D,)
        mean = sum(row) / len(row)
        variance = sum((row - mean) ** 2) / len(row)  # over D, not D - 1
        y[t] = (row - mean) / math.sqrt(variance + eps) * gain + bias
    return y


print(inspect.getsource(numpy_ops.layer_norm))

D = 128
x = 7 * rng.standard_normal((5, D)) + 3  # (T, D)
gain, bias = rng.standard_normal((2, D))
gap = abs(numpy_ops.layer_norm(x, gain, bias, eps=1e-5) - naive_layer_norm(x, gain, bias)).max()
print(f"largest difference between the loop and the library: {gap:.1e}")
assert gap < 1e-12

# %% [markdown]
# Two details, on which official weights depend. The variance is the *biased* one, divided by $D$; the $D - 1$ of
# statistics would make all results shorter, by 0.4% at this width. And $\varepsilon$ stands *inside* the root. It is
# there for a token whose numbers are all nearly the same: what differs is noise, and should not be blown up to full
# size. With $\sigma = 0.001$ the result has a standard deviation of 0.30. Outside the root, as in $\sigma +
# \varepsilon$, the same $\varepsilon$ would leave 0.99.

# %%
faint = 0.001 * naive_layer_norm(x, 1, 0)  # (T, D), of standard deviation 0.001
inside, outside = naive_layer_norm(faint, 1, 0).std(), (faint / (faint.std() + 1e-5)).std()
assert f"{inside:.2f} {outside:.2f}" == "0.30 0.99" and f"{1 - math.sqrt((D - 1) / D):.1%}" == "0.4%"

# %% [markdown]
# What does a norm forget? Add a number to all entries: $\mu$ takes it away again. Multiply them by a positive number:
# $\sigma$ divides it out. What is left is the pattern. And since $D$ numbers of mean 0 and variance 1 have squares
# that sum to $D$, every token has the length $\sqrt D$ before gain and bias: 11.3 for $D = 128$.

# %%
y = numpy_ops.layer_norm(x, 1, 0, eps=0)  # (T, D); with eps it holds nearly
assert np.allclose(numpy_ops.layer_norm(20 * x - 300, 1, 0, eps=0), y)
assert np.allclose(np.linalg.norm(y, axis=-1), math.sqrt(D)) and round(math.sqrt(D), 1) == 11.3

# %% [markdown]
# And why `wide`? Models are often run in float16, whose largest number is 65,504. Squares soon leave it: $256^2 =
# 65{,}536$. Then the variance is infinite, and a perfectly good token divided by its root is all zeros. Nothing
# fails; the token is gone. So the statistics are taken in float32, and only the result is rounded. OpenAI's own
# `LayerNorm` does the same (`clip/model.py`: "Subclass torch's LayerNorm to handle fp16").

# %%
half = (100 * x).astype(np.float16)  # (T, D)
with np.errstate(over="ignore"):
    centred = half - half.mean(-1, keepdims=True)  # (T, D)
    in_half = centred / np.sqrt(np.square(centred).mean(-1, keepdims=True))  # (T, D)
ours = numpy_ops.layer_norm(half, np.float16(1), np.float16(0), eps=1e-5)  # (T, D) float16
print("squares in float16:", abs(in_half[0, :4]), " in float32:", ours[0, :4])
assert np.finfo(np.float16).max == 65504 < 256**2 and abs(half).max() < 65504
assert (in_half == 0).all() and np.allclose(ours, naive_layer_norm(x, 1, 0), atol=2e-3)

# %% [markdown]
# ## The activation
#
# The MLP will be two linear maps. But two in a row are one: $W_2 (W_1 x) = (W_2 W_1) x$. However wide the layer
# between them, nothing is gained by it. Something that is not straight must stand between: the **activation**, a
# function applied to each number by itself. GELU (Hendrycks and Gimpel, 2016) lets large numbers pass and holds
# negative ones back: it multiplies $x$ by $\Phi(x)$, the share of a standard normal distribution that lies below $x$.
# The same paper (sec. 2) names a cheaper stand-in, with a logistic function in the place of $\Phi$; OpenAI trained
# CLIP with that, as **quick-GELU** (`clip/model.py`, `QuickGELU`):
#
# $$\operatorname{gelu}(x) = x \cdot \tfrac12 \left(1 + \operatorname{erf}(x / \sqrt2)\right) \qquad
# \operatorname{quick\_gelu}(x) = x \cdot \frac{1}{1 + e^{-1.702\, x}}$$
#
# How far are the two apart? 0.0203 at most, at $|x| \approx 2.27$. And why 1.702? Of all factors $a$ in steps of
# 0.001 it is the one for which $1 / (1 + e^{-a x})$ stays closest to $\Phi(x)$ at its worst point.

# %%


def naive_quick_gelu(x):
    return x / (1 + np.exp(-1.702 * x))


print(inspect.getsource(numpy_ops.quick_gelu))

fine = np.linspace(-8, 8, 16_001)  # steps of 0.001
share = np.array([(1 + math.erf(z / math.sqrt(2))) / 2 for z in fine])  # Φ
assert np.allclose(numpy_ops.quick_gelu(fine), naive_quick_gelu(fine), rtol=0, atol=1e-12)
assert np.allclose(numpy_ops.gelu(fine), fine * share, rtol=0, atol=1e-12)

gap = naive_quick_gelu(fine) - fine * share
at = abs(gap).argmax()
print(f"largest gap {abs(gap[at]):.4f}, at |x| = {abs(fine[at]):.2f}")
assert f"{abs(gap[at]):.4f} {abs(fine[at]):.2f}" == "0.0203 2.27" and np.allclose(gap, gap[::-1])  # both sides alike
assert min(np.arange(1600, 1801) / 1000, key=lambda a: abs(numpy_ops.sigmoid(a * fine) - share).max()) == 1.702

# %% [markdown]
# 0.0203 looks harmless, and that is the trap: no weight tells which of the two it was trained with. Give the built-in
# model, trained with quick-GELU, the other one. No error, no warning, and features that are off by one percent of the
# largest number in them, behind only four blocks.

# %%
model, preprocess = miniclip.load("shapes", backend="numpy")
config = model.config.visual  # of the image tower
pictures = [shapes.draw(shapes.one_object(rng, pair), rng) for pair in shapes.HELD_OUT]  # pairs it never trained on
images = preprocess(pictures)  # (B, C, 48, 48)

swapped = dataclasses.replace(config, activation="gelu")
wrong = vit.encode_image(numpy_ops, images, **model.params["visual"], config=swapped)  # (B, E)
off = abs(model.encode_image(images) - wrong).max() / abs(wrong).max()
print(f"features with the wrong activation are off by {off:.1%}")
assert config.activation == "quick_gelu" and config.layers == 4 and round(off, 2) == 0.01

# %% [markdown]
# ## The MLP
#
# A linear map from $D$ to a larger width $M$, the activation, a linear map back. The library calls the two `fc` and
# `proj`, and keeps a weight as (out, in), so that a map is $x W^\top + b$. CLIP has $M = 4 D$. Each token goes
# through alone: change token 5, and the output of no other changes, not by a bit. (`ops` is the module of operations
# that the library's function computes with: NumPy's here, kernels on a GPU.)

# %%


def naive_mlp(x, fc, proj):
    """x (B, T, D) -> (B, T, D)."""
    x = naive_quick_gelu(x @ fc["weight"].T + fc["bias"])  # (B, T, M)
    return x @ proj["weight"].T + proj["bias"]  # (B, T, D)


print(inspect.getsource(transformer.feed_forward))

p = model.params["visual"]["blocks"][0]  # a trained block: ln_1, attention, ln_2, mlp
x = rng.standard_normal((2, 37, D), dtype=np.float32)  # (B, T, D)
ours = transformer.feed_forward(numpy_ops, x, **p["mlp"], activation="quick_gelu")  # (B, T, D)
assert np.allclose(naive_mlp(x, **p["mlp"]), ours, atol=1e-5) and config.mlp_width == 4 * D
x[:, 5] += 1
after = transformer.feed_forward(numpy_ops, x, **p["mlp"], activation="quick_gelu")  # (B, T, D)
assert (after != ours).any(axis=(0, 2)).nonzero()[0].tolist() == [5]

# %% [markdown]
# ## Self-attention
#
# In tutorial 03 queries, keys and values were given. In a block all three come from the same tokens (hence *self*),
# by a linear map each. What the $H$ heads give, side by side a row of $H \cdot K = D$ numbers again, goes through one
# more map, `out`, which mixes what they have found. The library keeps the first three matrices as one, from $D$ to $3
# D$: one large product is faster than three small ones. (`keep` and `trace` come in [05](05_two_towers.md).)

# %%


def naive_self_attention(x, qkv, out, heads):
    """x (B, T, D) -> (B, T, D)."""
    B, T, D = x.shape
    projected = []
    for weight, bias in zip(np.split(qkv["weight"], 3), np.split(qkv["bias"], 3)):  # (D, D) and (D,) each
        y = x @ weight.T + bias  # (B, T, D)
        projected.append(y.reshape(B, T, heads, D // heads))  # (B, T, H, K)
    x = numpy_ops.attention(*projected)  # (B, T, H, K)
    return x.reshape(B, T, D) @ out["weight"].T + out["bias"]  # (B, T, D)


print(inspect.getsource(transformer.self_attention))
ours = transformer.self_attention(numpy_ops, x, **p["attention"], heads=config.heads)  # (B, T, D)
assert np.allclose(naive_self_attention(x, **p["attention"], heads=config.heads), ours, atol=1e-5)

# %% [markdown]
# ## The residual stream
#
# Now the plus signs. A block does not replace its tokens: each half computes something to *add* to them. What runs
# from block to block is the **residual stream**; the halves read from it and write to it. Why add? Because doing
# nothing becomes easy. Set the last map of each half to zero, and the block hands every token through, to the bit.
# And since the derivative of $x + f(x)$ is $1 + f'(x)$, the gradient comes back through each plus sign whole,
# whatever the half beside it adds.
#
# The norm stands *before* each half, on the branch, and the stream itself is never normalised: **pre-norm**, as in
# GPT-2. (The first transformer had it behind each sum: Attention Is All You Need, sec. 3.1.) With what a norm forgets
# this gives a law: what a half writes depends on the direction of a token, never on its length. Make the stream ten
# times as long, and the same is added to it.

# %%


def naive_block(x, ln_1, attention, ln_2, mlp, heads, eps=1e-5):
    """x (B, T, D) -> (B, T, D)."""
    x = x + naive_self_attention(numpy_ops.layer_norm(x, **ln_1, eps=eps), **attention, heads=heads)  # (B, T, D)
    return x + naive_mlp(numpy_ops.layer_norm(x, **ln_2, eps=eps), **mlp)  # (B, T, D)


silent = tree_map(np.copy, p)
for last in (silent["attention"]["out"], silent["mlp"]["proj"]):
    last["weight"][:] = last["bias"][:] = 0
assert (naive_block(x, **silent, heads=config.heads) == x).all()

once, tenfold = (naive_mlp(numpy_ops.layer_norm(s * x, **p["ln_2"], eps=1e-5), **p["mlp"]) for s in (1, 10))
assert np.allclose(once, tenfold, atol=1e-4)  # (B, T, D)

# %% [markdown]
# The library's block looks different at first sight. It **defers** the second sum. A half ends with a plus and the
# next begins with a norm; between the two a GPU would write the sum to memory and read it back at once.
# `add_layer_norm` does both in one pass. So a block returns two things that have yet to be added, `x` and `update`;
# the next block adds them on its way into `ln_1`, and behind the last one `transformer.transformer` does.

# %%
print(inspect.getsource(transformer.block))

stages = {}
model.encode_image(images, trace=stages.__setitem__)  # the stream after each half, and more
x, ours, update = stages["ln_pre"], stages["ln_pre"], None  # what the first block takes, (B, T, D)
options = {"config": config, "causal": False, "lengths": None, "keep": None, "trace": None}
for i, p in enumerate(model.params["visual"]["blocks"]):
    x = naive_block(x, **p, heads=config.heads)  # (B, T, D)
    ours, update = transformer.block(numpy_ops, ours, update, **p, **options)  # (B, T, D) both
    print(f"block {i}: largest difference {abs(x - ours - update).max():.1e}, of numbers up to {abs(x).max():.1f}")
    assert np.allclose(x, ours + update, atol=1e-4) and np.allclose(x, stages[f"blocks.{i}.mlp"], atol=1e-4)

# %% [markdown]
# ## What the stream does in a trained model
#
# These were real pictures in the built-in model. 36 of its 37 tokens are patches; the first, the **class token**, is
# there to collect what is in them. The stream grows: the class token ends 2.5 times as long as it began, a patch 2.1
# times. But the norm hands all of them on at the length $\sqrt D$, before gain and bias. So the later a half comes,
# the more it must write to turn a token as far.

# %%
names = ["ln_pre"] + [f"blocks.{i}.{half}" for i in range(4) for half in ("attention", "mlp")]
lengths = np.array([np.linalg.norm(stages[name], axis=-1).mean(0) for name in names])  # (2L + 1, T), means of pictures
class_token, patches = lengths[:, 0], lengths[:, 1:].mean(-1)  # (2L + 1,)
assert f"{class_token[-1] / class_token[0]:.1f} {patches[-1] / patches[0]:.1f}" == "2.5 2.1"
draw.stream_lengths(class_token, patches, math.sqrt(D))
plt.show()

# %% [markdown]
# And the activation? `trace` does not show the $M$ hidden numbers of a token, but all that they are made of. 71% of
# them are negative, and quick-GELU squeezes those into the strip from −0.164, its lowest point, to 0: nearly off.
# What the MLP tells a token depends on which few are on. 12% lie around the largest gap, at $|x|$ from 1.5 to 3.

# %%
hidden = []
for i, p in enumerate(model.params["visual"]["blocks"]):
    y = numpy_ops.layer_norm(stages[f"blocks.{i}.attention"], **p["ln_2"], eps=config.eps)  # (B, T, D)
    hidden.append(numpy_ops.linear(y, **p["mlp"]["fc"]))  # (B, T, M)
before = np.array(hidden)  # (L, B, T, M)
after = numpy_ops.quick_gelu(before)  # (L, B, T, M)
assert f"{(before < 0).mean():.0%} {after.min():.3f}" == "71% -0.164"
assert f"{((abs(before) > 1.5) & (abs(before) < 3)).mean():.0%}" == "12%"
draw.quick_gelu_at_work(fine, gap, before, after)
plt.show()

# %% [markdown]
# **Now you.** This page's exercises in [the course](../../miniclip/learn/README.md) (`miniclip learn start course`)
# are `layer_norm`, `quick_gelu`, `self_attention` and `block`. Next: [05](05_two_towers.md) makes two towers of
# blocks.
