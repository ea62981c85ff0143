# %% [markdown]
# # 11 · Other towers
#
# - **Builds**: a convolution, BatchNorm folded away, attention pooling, and the two towers of ALIGN.
# - **Time**: 15 s on 2 cores.
# - **Needs**: NumPy, matplotlib.
# - **Before**: [03](03_attention.md) and [05](05_two_towers.md), the towers that are transformers;
#   [07](07_zero_shot.md), what towers are good for.
#
# Nothing in CLIP's loss knows what a tower is made of. Five of the nine models that OpenAI published have a
# **ResNet** where the others have a Vision Transformer, and ALIGN, the same idea at Google, has an **EfficientNet**
# and a **BERT**. This page builds what is new in them. All weights on it are random: what we look at is structure,
# and laws that hold whatever the weights are. Accuracies are published ones.

# %%
import inspect
import math
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np

from miniclip import params
from miniclip.families import batch_norm
from miniclip.families.align.config import ALIGN_BASE, ALIGNConfig, BertConfig, EfficientNetConfig
from miniclip.families.align.model import ALIGN
from miniclip.families.clip.presets import PRESETS
from miniclip.ops import numpy_ops
from miniclip.tokenizers.wordpiece import WordPiece
from miniclip.towers import bert, efficientnet, resnet, tracing
from miniclip.train.loop import shapes
from miniclip.viz import attention as draw_attention
from miniclip.viz import other_towers as draw

rng = np.random.default_rng(0)

# %% [markdown]
# ## A convolution is a matrix product
#
# A *grid* has $C$ channels, and in each of them $G_y \times G_x$ numbers, its cells; a picture is one with $C = 3$. A
# **convolution** makes $O$ new channels of it. Each has a small window of weights, $k \times k$ in every channel,
# that moves over the grid in steps of `stride`; at each place it gives one number, the dot product of its weights
# with what lies under the window, plus a bias. Zeros around the grid (`padding`) let the window stand over the rim:

# %%


def naive_convolution(x, weight, bias, stride=1, padding=0):
    """x (C, height, width), weight (O, C, k, k), bias (O,) -> (O, Gy, Gx)."""
    k = weight.shape[-1]
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding)))
    Gy, Gx = ((side - k) // stride + 1 for side in x.shape[1:])
    out = np.zeros((len(weight), Gy, Gx))
    for o in range(len(weight)):
        for r in range(Gy):
            for s in range(Gx):
                window = x[:, r * stride : r * stride + k, s * stride : s * stride + k]  # (C, k, k)
                out[o, r, s] = (weight[o] * window).sum() + bias[o]
    return out


def random_convolution(C, O, k):  # noqa: E741
    return {"weight": 0.3 * rng.standard_normal((O, C, k, k)), "bias": 0.3 * rng.standard_normal(O)}


# %% [markdown]
# All $O$ channels look at the same windows. So write every window as a column of $C k^2$ numbers, and the weights as
# $O$ rows: the whole convolution is one product of two matrices, which is what computers do fastest. This is called
# *im2col*; [02](02_pixels_to_patches.md) did so with patches, which are windows that do not overlap. The library lays
# out no more columns at a time than stay in a core's cache.

# %%
x, p = rng.standard_normal((5, 8, 9)), random_convolution(5, 4, k=3)
for stride, padding in ((1, 1), (2, 1), (2, 0), (3, 2)):
    naive = naive_convolution(x, **p, stride=stride, padding=padding)  # (O, Gy, Gx)
    ours = numpy_ops.conv2d(x[None], **p, stride=stride, padding=padding)  # (1, O, Gy, Gx)
    assert np.allclose(ours[0], naive)
    print(f"stride {stride}, padding {padding}: {x.shape} -> {naive.shape}")

# %% [markdown]
# ## BatchNorm disappears
#
# In training each convolution of a ResNet has a **BatchNorm** behind it in the place of a bias. It brings every
# channel to mean 0 and variance 1 over the batch, then multiplies by a learned $\gamma$ and adds a learned $\beta$.
# Once training is over, the mean $\mu$ and the variance $\sigma^2$ are constants of the checkpoint. All that is left
# is a factor $a$ and an addend for each channel, and a convolution $w \star x$ can do that by itself:
#
# $$\gamma \, \frac{w \star x - \mu}{\sqrt{\sigma^2 + \varepsilon}} + \beta = (a w) \star x + (\beta - a \mu)$$
#
# where $a = \gamma / \sqrt{\sigma^2 + \varepsilon}$ and $\varepsilon = 10^{-5}$ (Batch Normalization, alg. 2). So the
# library has no such operation at all: BatchNorms are *folded* away when a checkpoint is read.

# %%


def naive_fold(weight, gamma, beta, mean, variance, eps=1e-5):
    a = gamma / np.sqrt(variance + eps)  # (O,)
    return a[:, None, None, None] * weight, beta - a * mean  # (O, C, k, k), (O,)


gamma, beta, mean, variance = *rng.standard_normal((3, 4)), rng.uniform(0.5, 2, 4)  # (O,) each
y = numpy_ops.conv2d(x[None], p["weight"], padding=1)[0]  # (O, 8, 9)
unfolded = [gamma[o] * (y[o] - mean[o]) / math.sqrt(variance[o] + 1e-5) + beta[o] for o in range(4)]
w, b = naive_fold(p["weight"], gamma, beta, mean, variance)
gap = abs(numpy_ops.conv2d(x[None], w, b, padding=1)[0] - unfolded).max()
print(f"largest difference between folded and unfolded: {gap:.1e}")
assert gap < 1e-12

norm = {"weight": gamma, "bias": beta, "running_mean": mean, "running_var": variance}
tensors = {"visual.conv1.weight": p["weight"], **{f"visual.bn1.{part}": value for part, value in norm.items()}}
ours = batch_norm.fold(tensors)  # four names less, one more
assert list(ours) == ["visual.conv1.weight", "visual.conv1.bias"]
assert np.allclose(ours["visual.conv1.weight"], w) and np.allclose(ours["visual.conv1.bias"], b)

# %% [markdown]
# ## The bottleneck
#
# A ResNet is a stack of **bottlenecks**. Each adds to its grid what three convolutions make of it, as a transformer's
# block adds to its tokens. The first, with $k = 1$, leads from $4N$ channels down to $N$; the second, with $k = 3$,
# looks at neighbours; the third, with $k = 1$, leads back up. Between them stands *relu*, which turns what is
# negative into 0. To look at neighbours in all $4N$ channels would cost eight times as much:

# %%
N = 64
narrow, wide = 4 * N * N + 9 * N * N + N * 4 * N, 9 * (4 * N) ** 2  # multiplications for each cell
print(f"bottleneck {narrow:,}, a full 3 x 3 convolution {wide:,}: {wide / narrow:.1f} times as many")
assert round(wide / narrow) == 8

print(inspect.getsource(resnet.bottleneck))


def naive_bottleneck(x, conv1, conv2, conv3):
    """x (4·N, Gy, Gx) -> the same shape."""
    y = np.maximum(naive_convolution(x, **conv1), 0)  # (N, Gy, Gx)
    y = np.maximum(naive_convolution(y, **conv2, padding=1), 0)  # (N, Gy, Gx)
    return np.maximum(x + naive_convolution(y, **conv3), 0)  # (4·N, Gy, Gx)


x = rng.standard_normal((8, 6, 6))
p = {f"conv{i}": random_convolution(*sizes) for i, sizes in enumerate([(8, 2, 1), (2, 2, 3), (2, 8, 1)], 1)}
assert np.allclose(naive_bottleneck(x, **p), resnet.bottleneck(numpy_ops, x[None], **p)[0])

# %% [markdown]
# ## Halving a grid without aliasing
#
# Between its four stages a ResNet halves the grid. The original takes every other cell, by a stride of 2. OpenAI's
# takes the **mean** of each four, which is `halve` above (CLIP, sec. 2.4). The picture below shows why, on rings that
# become finer towards the corner. Where they are finer than the small grid can show, every other pixel still shows
# *something*: coarse rings that are not there. That is **aliasing**. Shift the picture by one pixel, and false rings
# turn from white to black.

# %%
G = 96
i, j = np.mgrid[:G, : G + 2]
rings = (1 + np.cos(math.pi / (2 * G) * (i**2 + j**2)))[None, None] / 2  # (1, 1, G, G + 2), in 0..1


def every_other(x):
    return x[:, :, ::2, ::2]


def mean_of_four(x):
    return numpy_ops.avg_pool2d(x, 2)


views = rings[..., :G], rings[..., 1 : G + 1]  # the picture, and the picture shifted by one pixel
rows = [[view[0, 0], every_other(view)[0, 0], mean_of_four(view)[0, 0]] for view in views]
change = [abs(before - after).mean() for before, after in zip(*rows)]
print("mean change of a pixel: picture {:.2f}, every other {:.2f}, mean of four {:.2f}".format(*change))
assert change[1] > 3 * change[2]
draw.shifted(rows, ["picture", "every other pixel", "mean of four"], ["as it is", "shifted by 1"])
plt.show()

# %% [markdown]
# ## Attention pooling
#
# At the end there is a grid with $D$ channels, and one feature of $E$ numbers is wanted. In RN50 and RN101 it has 7 x
# 7 cells, as here, in the three larger ones more. A ResNet takes the mean of the cells. OpenAI's takes a *weighted*
# mean of them, by the attention of [03](03_attention.md): $H$ heads, with queries, keys and values of width $K$. The
# $T = 1 + 7 \cdot 7$ tokens are the cells, and in front of them their mean; learned positions are added. The mean
# alone asks: one query, one output.

# %%


def naive_pool(x, position_embedding, q, k, v, out, heads):
    """x (D, Gy, Gx) -> (E,)."""
    D = len(x)
    cells = x.reshape(D, -1).T  # (Gy·Gx, D)
    tokens = np.vstack([cells.mean(axis=0), cells]) + position_embedding  # (T, D)
    query = q["weight"] @ tokens[0] + q["bias"]  # (D,)
    keys, values = (tokens @ m["weight"].T + m["bias"] for m in (k, v))  # (T, D)
    taken = []
    for h in np.split(np.arange(D), heads):  # the K places of each head
        weights = numpy_ops.softmax(keys[:, h] @ query[h] / math.sqrt(len(h)))  # (T,)
        taken.append(weights @ values[:, h])  # (K,)
    return out["weight"] @ np.concatenate(taken) + out["bias"]  # (E,)


def random_like(tree):
    """A tree of shapes -> the same tree of small random numbers."""
    return params.tree_map(lambda shape: 0.3 * rng.standard_normal(shape), tree)


D, E, H, G = 12, 5, 3, 7
linear = {"weight": (D, D), "bias": (D,)}
p = random_like({"q": linear, "k": linear, "v": linear, "out": {"weight": (E, D), "bias": (E,)}})
p["position_embedding"] = rng.standard_normal((G * G + 1, D))  # (T, D)
x = rng.standard_normal((D, G, G))
assert np.allclose(naive_pool(x, **p, heads=H), resnet.pool(numpy_ops, x[None], **p, heads=H)[0])

cells = {name: math.prod(PRESETS[name].visual.grid) for name in PRESETS if name.startswith("RN")}
print(cells)
assert cells["RN50"] == cells["RN101"] == 7 * 7 and sum(number > 7 * 7 for number in cells.values()) == 3

# %% [markdown]
# A law ties it to what it replaces. Let weights and biases of $Q$ and $K$ be zero, and the positions too. Then all
# scores are equal, each of the $T$ tokens gets $1/T$, and attention pooling **is** mean pooling, followed by the
# matrices of $V$ and of the output. (The extra token is no matter: a mean stays where it is when it joins its own
# set.)

# %%
zero = {"weight": np.zeros((D, D)), "bias": np.zeros(D)}
flat = {**p, "q": zero, "k": zero, "position_embedding": np.zeros((G * G + 1, D))}
expected = p["v"]["weight"] @ x.mean(axis=(1, 2)) + p["v"]["bias"]  # (D,)
expected = p["out"]["weight"] @ expected + p["out"]["bias"]  # (E,)
gap = abs(resnet.pool(numpy_ops, x[None], **flat, heads=H)[0] - expected).max()
print(f"zero Q and K against a mean: {gap:.1e}")
assert gap < 1e-12

# %% [markdown]
# What it can do beyond that is choose. We make weights by hand to see it: the cells are the mean colours of a
# picture, $D = 3$, and keys, values and output hand them through. The query, a bias alone, asks for "red, not green,
# not blue", with a strength of 0, 10 or 60.

# %%
picture = shapes.draw([shapes.Object("red", "heart", 0.62, 0.4, 0.24)], np.random.default_rng(8)).resize((224, 224))
cells = numpy_ops.avg_pool2d(np.asarray(picture).transpose(2, 0, 1)[None] / 255, 32)  # (1, 3, 7, 7)
through = {"weight": np.eye(3), "bias": np.zeros(3)}
maps, colours = [], []
for strength in (0, 10, 60):
    query = {"weight": np.zeros((3, 3)), "bias": strength * np.array([1.0, -1.0, -1.0])}
    by_hand = {"q": query, "k": through, "v": through, "out": through, "position_embedding": np.zeros((G * G + 1, 3))}
    seen = {}
    colours.append(resnet.pool(numpy_ops, cells, **by_hand, heads=1, trace=seen.__setitem__)[0])  # (3,)
    maps.append(seen["attention_pool.attention_weights"][0, 0, 0, 1:].reshape(G, G))  # without the extra token

assert np.allclose(maps[0], 1 / 50) and np.allclose(colours[0], cells.mean(axis=(0, 2, 3)))
assert colours[2][0] > 0.8 and colours[2][1:].max() < 0.3  # red
draw.pooled(np.asarray(picture), maps, colours, ["strength 0: a mean", "strength 10", "strength 60"])
plt.show()

# %% [markdown]
# ## ALIGN's image tower
#
# The blocks of an EfficientNet have two ideas, which come from MobileNetV2 and from Squeeze-and-Excitation Networks.
# (EfficientNet's own is how to make such a network larger.) The first is to take a convolution apart. A full one from
# $C$ channels to $O$ costs $k^2 C O$ multiplications a cell: every output looks at all inputs *and* all neighbours.
# Let one convolution look at neighbours, each channel by itself (**depthwise**, $k^2 C$), and a second, with $k = 1$,
# at channels ($C O$):

# %%
C, O, k = 192, 192, 5  # noqa: E741
full, apart = k * k * C * O, k * k * C + C * O
print(f"full {full:,}, apart {apart:,}: {full / apart:.0f} times less")
assert math.isclose(apart / full, 1 / O + 1 / k**2) and round(full / apart) == 22

# %% [markdown]
# The second is **squeeze and excitation**. Two small matrices look at the means of all $N$ channels and answer with a
# number from 0 to 1 for each channel, by which it is multiplied. So a cell learns what goes on elsewhere, which no
# small window tells it. Between two convolutions with $k = 1$ that widen and narrow the grid, this makes the block:

# %%


def naive_inverted_bottleneck(x, expand, depthwise, squeeze, excite, project):
    """x (C, Gy, Gx) -> the same shape, by way of N channels."""
    silu = numpy_ops.silu  # x · σ(x), where σ is the sigmoid, 1 / (1 + e^-x)
    y = silu(naive_convolution(x, **expand))  # (N, Gy, Gx)
    for n, (weight, bias) in enumerate(zip(depthwise["weight"], depthwise["bias"])):  # one channel at a time
        y[n] = naive_convolution(y[n : n + 1], weight[None], [bias], padding=2)[0]
    y = silu(y)
    z = silu(squeeze["weight"][:, :, 0, 0] @ y.mean(axis=(1, 2)) + squeeze["bias"])  # (S,), S < N
    z = excite["weight"][:, :, 0, 0] @ z + excite["bias"]  # (N,)
    y = y / (1 + np.exp(-z))[:, None, None]  # y · σ(z)
    return x + naive_convolution(y, **project)


C, N, S = 4, 24, 2
sizes = {"expand": (C, N, 1), "depthwise": (1, N, 5), "squeeze": (N, S, 1), "excite": (S, N, 1), "project": (N, C, 1)}
p = {name: random_convolution(*size) for name, size in sizes.items()}
block = efficientnet.Block(C, N, S, O=C, kernel=5, stride=1, padding=(2, 2), residual=True)
x = rng.standard_normal((C, 6, 6))
ours = efficientnet.bottleneck(numpy_ops, x[None], **p, block=block, activation="silu")[0]
assert np.allclose(naive_inverted_bottleneck(x, **p), ours)

# %% [markdown]
# ALIGN's feature is the mean of the last grid: no attention pooling, no class token, and no projection.
#
# ## ALIGN's text tower
#
# Text comes as **word pieces**. CLIP's byte-pair encoding ([01](01_bytes_to_tokens.md)) merges upwards, from bytes.
# WordPiece cuts downwards: from the left, always the longest piece that is in the vocabulary. `##` marks pieces that
# continue a word. (google-research/bert, tokenization.py, which has the first word below for an example.)

# %%


def naive_pieces(word, vocabulary):
    found, start = [], 0
    while start < len(word):
        for end in range(len(word), start, -1):
            piece = ("##" if start else "") + word[start:end]
            if piece in vocabulary:
                break
        else:
            return ["[UNK]"]  # nothing fits: the whole word is unknown
        found.append(piece)
        start = end
    return found


pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "red", "heart", "star"]
pieces += ["un", "##aff", "##able", "##s", "ab", "##bc"]
wordpiece = WordPiece(pieces)
for word in ("unaffable", "hearts", "green", "abc"):
    found = naive_pieces(word, pieces)
    assert [pieces.index(piece) for piece in found] == wordpiece.encode(word)
    print(word, "->", found)

assert naive_pieces("abc", pieces) == ["[UNK]"] and naive_pieces("abc", ["a", "##bc"]) == ["a", "##bc"]

# %% [markdown]
# Being greedy has a price: of "abc" it takes `ab` first, and then there is no `##c`, though `a` and `##bc` would do.
#
# The transformer behind them is **BERT**. Three differences from CLIP's text tower matter here. There is no causal
# mask: tokens see each other both ways. So any token can stand for the text, and it is the first, `[CLS]`, a piece
# that means nothing by itself. And since tokens now see what is *behind* them, padding must be hidden. Below are
# three words with three tokens of padding, seen by one head with the same random queries and keys.
#
# The smaller differences: as in the first transformer, a norm stands behind each residual sum, not in front of each
# half of a block. The GELU is the exact one. To word and position a third embedding is added, of the token's *type*
# (which of two texts it belongs to; ours is always the first), and a norm follows. The projection has a bias. And
# $\varepsilon$, which norms add to the variance, is $10^{-12}$, not $10^{-5}$.

# %%
ours, theirs = ALIGN_BASE.text, PRESETS["ViT-B/32"].text
assert (ours.activation, ours.token_types, ours.eps) == ("gelu", 2, 1e-12)
assert (theirs.activation, theirs.eps) == ("quick_gelu", 1e-5)
ours, theirs = (set(params.flatten(config.shapes()["text"])) for config in (ALIGN_BASE, PRESETS["ViT-B/32"]))
assert {"type_embedding", "ln_embed.weight", "ln_embed.bias", "projection.bias"} <= ours - theirs

small = EfficientNetConfig(64, resized=64, width_coefficient=0.1, depth_coefficient=0.3)
text = BertConfig(context_length=8, vocab_size=len(pieces), width=24, layers=2, heads=3, mlp_width=48)
config = ALIGNConfig(small, text, embed_dim=small.width)
tree = random_like(config.shapes()) | {"temperature": np.array(0.07)}
model = ALIGN(config, tree, numpy_ops, tokenizer=wordpiece)

tokens = model.tokenize(["a red heart"])  # (1, T)
words = [pieces[id] for id in tokens[0]]
length = words.index("[SEP]") + 1
q, k = rng.standard_normal((2, 1, 8, 1, 8))  # (B, T, H, K)
causal, both = numpy_ops.attention_weights(q, k, causal=True), numpy_ops.attention_weights(q, k, lengths=[length])
assert words[0] == "[CLS]" and words[length:] == ["[PAD]"] * 3 and (both[..., length:] == 0).all()
draw_attention.head_maps(
    np.stack([causal[0, 0], both[0, 0]]), words, words, titles=["causal, as in CLIP", "both ways, as in BERT"]
)
plt.show()

# %% [markdown]
# Two laws. Whatever stands in the padding, the feature is the same, to the last bit. And a word changes the tokens in
# front of it as well, which in CLIP it cannot.

# %%


def features_of(tokens, trace=None):
    return bert.encode_text(numpy_ops, tokens, np.array([length - 1]), **tree["text"], config=text, trace=trace)


other, garbage = tokens.copy(), tokens.copy()
garbage[:, length:] = pieces.index("star")
other[0, 3] = pieces.index("star")  # for "heart"
assert (features_of(garbage) == features_of(tokens)).all() and np.allclose(
    features_of(tokens), model.encode_text(tokens)
)

before, after = {}, {}
features_of(tokens, before.__setitem__), features_of(other, after.__setitem__)
change = abs(after["blocks.0.mlp"] - before["blocks.0.mlp"]).max(axis=(0, 2))  # (T,)
print("heart -> star changes", dict(zip(words[:length], change.round(3).tolist())))
assert (change[:length] > 0).all()

ln_2 = tree["text"]["blocks"][0]["ln_2"]
normed = (before["blocks.0.mlp"] - ln_2["bias"]) / ln_2["weight"]  # (1, T, D): a block ends with its norm
assert np.allclose(normed.mean(axis=-1), 0) and np.allclose(normed.std(axis=-1), 1)

# %% [markdown]
# And the logits? CLIP multiplies cosines by $e^s$, ALIGN divides them by a learned temperature $\tau$. With $s = -\ln
# \tau$ the two are the same.

# %%
f, w = model.encode_image(rng.standard_normal((2, 3, 64, 64))), model.encode_text(tokens)  # (2, E), (1, E)
cosines = numpy_ops.l2_normalize(f) @ numpy_ops.l2_normalize(w).T  # (2, 1)
assert np.allclose(model.logits(f, w), cosines / 0.07)
assert np.allclose(model.logits(f, w), math.exp(model.logit_scale) * cosines)

# %% [markdown]
# ## The towers side by side
#
# Parameters first: `shapes` of a configuration has them all. For ResNets there is one step more, since we have folded
# their BatchNorms. Where OpenAI's count has a $\gamma$ and a $\beta$ for each channel, ours has one bias. ($\mu$ and
# $\sigma^2$ are measured, not learned, and do not count.) Then all nine totals, both towers together, are those of
# the official checkpoints, and EfficientNet-B7 is that of torchvision without the last convolution and the
# classifier.

# %%


def size(tree):
    return sum(math.prod(shape) for shape in params.flatten(tree).values())


def folded_away(visual):
    """One for each channel of a convolution that had a BatchNorm."""
    without = ("squeeze", "excite", "patch_embed")
    flat = params.flatten(visual)
    return sum(flat[name][0] for name in flat if len(flat[name]) == 4 and not any(part in name for part in without))


published = {  # name: parameters of both towers; for a picture GFLOPs; accuracy in percent. The last two: see below
    "RN50": (102_007_137, 12.22, 59.82),
    "RN101": (119_688_033, 19.54, 62.28),
    "RN50x4": (178_300_601, 42.56, 66.27),
    "RN50x16": (290_979_217, 149.39, 70.72),
    "RN50x64": (623_258_305, 529.11, 73.91),
    "ViT-B/32": (151_277_313, 8.82, 63.32),
    "ViT-B/16": (149_620_737, 35.13, 68.34),
    "ViT-L/14": (427_616_513, 162.03, 75.54),
    "ViT-L/14@336px": (427_944_193, 381.92, 76.56),
}
for name, (total, *_) in published.items():
    tree = PRESETS[name].shapes()
    assert size(tree) + folded_away(tree["visual"]) == total
b7 = ALIGN_BASE.shapes()["visual"]
assert size(b7) + folded_away(b7) == 66_347_960 - (640 * 2560 + 2 * 2560) - (2560 * 1000 + 1000)
print(f"folded away in RN50: {folded_away(PRESETS['RN50'].shapes()['visual']):,}")

# %% [markdown]
# Now the operations. A tower is a function whose first argument, `ops`, is the module that it computes with. So its
# cost can be had without a single multiplication: hand it operations that note what they would have cost, two FLOPs
# for a multiplication and its addition, and return zeros of the right shape.

# %%


def counting():
    """numpy_ops, but matrix products count instead; and the list that takes their FLOPs."""
    flops = []

    def count_conv2d(x, weight, bias, *, stride=1, padding=0, groups=1, residual=None, activation=None):
        around = sum(padding) if isinstance(padding, tuple) else 2 * padding
        grid = [(side + around - weight.shape[-1]) // stride + 1 for side in x.shape[2:]]
        flops.append(2 * weight.size * math.prod(grid))
        return np.zeros((1, len(weight), *grid), np.float32)  # (1, O, Gy, Gx)

    def count_linear(x, weight, bias=None, *, activation=None):
        flops.append(2 * weight.size * x[..., 0].size)
        return np.zeros((*x.shape[:-1], len(weight)), np.float32)  # (..., out)

    def count_attention(q, k, v, **mask):
        flops.append(4 * q.size * k.shape[1])  # scores, then their mean of the values
        return np.zeros(q.shape, np.float32)  # (1, Tq, H, K)

    def count_patch_embed(images, weight, class_token, position_embedding):
        flops.append(2 * weight.size * (len(position_embedding) - 1))
        return np.zeros((1, *position_embedding.shape), np.float32)  # (1, T, D)

    products = {"conv2d": count_conv2d, "linear": count_linear, "attention": count_attention}
    return SimpleNamespace(**vars(numpy_ops) | products | {"patch_embed": count_patch_embed}), flops


def gflops(config, E):
    ops, flops = counting()
    weights = params.tree_map(lambda shape: np.broadcast_to(np.float32(0), shape), config.tower.shapes(config, E))
    image = np.zeros((1, 3, config.image_size, config.image_size), np.float32)  # (1, C, height, width)
    config.tower.encode_image(ops, image, **weights, config=config, trace=tracing.untraced)
    return sum(flops) / 1e9


# %% [markdown]
# (With a `trace` all tokens of the last block are computed, as everybody counts it; without one, only what the
# feature needs.) OpenCLIP has published its own count of these towers (docs/model_profile.csv). The transformers
# agree to the last digit given. Its ResNets cost a little more: there, all cells ask in the attention pooling, and
# all answers but one are thrown away. Add what that costs, and they agree too.

# %%
counted = {}
for name, (_, theirs, _) in published.items():
    visual, E = PRESETS[name].visual, PRESETS[name].embed_dim
    counted[name] = gflops(visual, E)
    D, cells = 32 * visual.width, math.prod(visual.grid)  # of a ResNet's last grid
    thrown_away = 0 if "ViT" in name else 2 * cells * (D * D + E * D + 2 * (cells + 1) * D) / 1e9
    assert abs(counted[name] + thrown_away - theirs) < 0.006

# %% [markdown]
# And what they are worth: accuracy on ImageNet, zero-shot, top-1, as OpenCLIP measured it with OpenAI's weights
# (docs/openclip_results.csv; CLIP's own table 11 differs by some tenths). For ALIGN with an EfficientNet-B7 we know
# of no such figure; its paper's, 76.4, is for a larger tower.

# %%
towers = {"ResNet": [], "Vision Transformer": []}
print(f"{'image tower':<18}{'parameters':>12}{'GFLOPs':>9}{'accuracy':>10}")
for name, (*_, percent) in published.items():
    tree = PRESETS[name].shapes()["visual"]
    family, total = "Vision Transformer" if "ViT" in name else "ResNet", size(tree) + folded_away(tree)
    towers[family].append((name, counted[name], percent, total))
    print(f"{name:<18}{total:>12,}{counted[name]:>9.1f}{percent:>10}")
align = gflops(ALIGN_BASE.visual, None)
print(f"{'EfficientNet-B7':<18}{size(b7) + folded_away(b7):>12,}{align:>9.1f}")

draw.comparison(towers, ("EfficientNet-B7", align))
plt.show()

# %% [markdown]
# The area of a point is that of its parameters. Within each family, operations buy accuracy; between the families,
# the transformer gets more for them. ViT-L/14 is ahead of RN50x64 with less than a third of its operations. CLIP's
# paper found the same for linear classifiers on the features: "about 3x more compute efficient" (sec. 3.2).

# %%
assert counted["ViT-L/14"] < counted["RN50x64"] / 3 and published["ViT-L/14"][2] > published["RN50x64"][2]
assert all(sorted(points, key=lambda p: p[1]) == sorted(points, key=lambda p: p[2]) for points in towers.values())

# %% [markdown]
# **Now you.** [The course](../../miniclip/learn/README.md) (`miniclip learn start course`) has no exercise for these
# towers. If you want one: give `naive_convolution` groups. Next: [12](12_triton_layer_norm.md), a first kernel.
