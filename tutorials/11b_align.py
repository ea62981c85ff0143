# %% [markdown]
# # 11b · ALIGN
#
# - **Builds**: EfficientNet's block, word pieces, BERT's padding, and a comparison of all image towers.
# - **Time**: 5 s on 2 cores.
# - **Needs**: NumPy, matplotlib.
# - **Before**: [01](01_bytes_to_tokens.md) and [05](05_two_towers.md), CLIP's tokens and its towers;
#   [11a](11a_resnets.md), convolutions and the ResNets of the comparison.
#
# ALIGN is the same idea as CLIP, at Google: two towers and a contrastive loss, which does not depend on the kind of
# tower. Its towers are an **EfficientNet** for pictures and a **BERT** for texts. This page builds the new parts in
# them, then compares all image towers: EfficientNet, Vision Transformers and ResNets. All weights on it are random:
# we look at structure, and at laws that hold for all weights. The accuracies are published ones.

# %%
import math
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np

from miniclip import params
from miniclip.families.align.config import ALIGN_BASE, ALIGNConfig, BertConfig, EfficientNetConfig
from miniclip.families.align.model import ALIGN
from miniclip.families.clip.presets import PRESETS
from miniclip.ops import numpy_ops
from miniclip.tokenizers.wordpiece import WordPiece
from miniclip.towers import bert, efficientnet, tracing
from miniclip.viz import attention as draw_attention
from miniclip.viz import towers as draw

rng = np.random.default_rng(0)

# %% [markdown]
# ## ALIGN's image tower
#
# An image tower of convolutions works on a *grid*: $C$ channels, and each has $G_y \times G_x$ numbers, its cells. A
# **convolution** makes $O$ new channels of it, each with a window of $k \times k$ weights in every old channel
# ([11a](11a_resnets.md) builds it). The blocks of an EfficientNet combine two ideas about convolutions, from
# MobileNetV2 and from Squeeze-and-Excitation Networks. (EfficientNet's own idea is how to make such a network
# larger.)
#
# The first idea is to split a convolution in two. A full convolution from $C$ channels to $O$ costs $k^2 C O$
# multiplications a cell: every output uses all channels *and* all neighbours. Instead, one convolution looks at
# neighbours, each channel by itself (**depthwise**, $k^2 C$), and a second, with $k = 1$, looks at channels
# (**pointwise**, $C O$):

# %%
C, O, k = 192, 192, 5  # noqa: E741
full, split = k * k * C * O, k * k * C + C * O
print(f"full {full:,}, split in two {split:,}: {full / split:.0f} times fewer")
assert math.isclose(split / full, 1 / O + 1 / k**2) and round(full / split) == 22


def naive_depthwise(x, weight, bias):
    """x (N, Gy, Gx), weight (N, 1, k, k), bias (N,) -> (N, Gy, Gx); k is odd."""
    k = weight.shape[-1]
    around = np.pad(x, ((0, 0), (k // 2, k // 2), (k // 2, k // 2)))
    out = np.zeros(x.shape)
    for n, r, s in np.ndindex(x.shape):
        window = around[n, r : r + k, s : s + k]  # (k, k)
        out[n, r, s] = (weight[n, 0] * window).sum() + bias[n]
    return out


def naive_pointwise(x, weight, bias):
    """x (C, Gy, Gx), weight (O, C, 1, 1), bias (O,) -> (O, Gy, Gx): in each cell a matrix times C numbers."""
    out = np.zeros((len(weight), *x.shape[1:]))
    for r, s in np.ndindex(x.shape[1:]):
        out[:, r, s] = weight[:, :, 0, 0] @ x[:, r, s] + bias
    return out


def random_convolution(C, O, k):  # noqa: E741
    return {"weight": 0.3 * rng.standard_normal((O, C, k, k)), "bias": 0.3 * rng.standard_normal(O)}


# %% [markdown]
# The two together are still one convolution, but not with any weights: those of output $o$ in channel $c$ are the
# window of channel $c$ times one number, $m_{oc}$.

# %%
x, d, m = rng.standard_normal((5, 6, 7)), random_convolution(1, 5, k=3), random_convolution(5, 4, k=1)
assert np.allclose(naive_depthwise(x, **d), numpy_ops.conv2d(x[None], **d, padding=1, groups=5)[0])
assert np.allclose(naive_pointwise(x, **m), numpy_ops.conv2d(x[None], **m)[0])
both = naive_pointwise(naive_depthwise(x, d["weight"], np.zeros(5)), m["weight"], np.zeros(4))  # (4, 6, 7)
weight = m["weight"] * d["weight"][:, 0]  # (4, 5, 1, 1) · (5, 3, 3) -> (4, 5, 3, 3)
assert np.allclose(both, numpy_ops.conv2d(x[None], weight, padding=1)[0])

# %% [markdown]
# The second idea is **squeeze and excitation**. Two small matrices take the means of all $N$ channels and give a
# number from 0 to 1 for each channel, which multiplies the channel. So each cell gets information from the whole
# grid, which a small window cannot give. Between two convolutions with $k = 1$ that widen and narrow the grid, this
# makes the block:

# %%


def naive_inverted_bottleneck(x, expand, depthwise, squeeze, excite, project):
    """x (C, Gy, Gx) -> the same shape, by way of N channels."""
    silu = numpy_ops.silu  # x · σ(x), where σ is the sigmoid, 1 / (1 + e^-x)
    y = silu(naive_pointwise(x, **expand))  # (N, Gy, Gx)
    y = silu(naive_depthwise(y, **depthwise))
    z = silu(squeeze["weight"][:, :, 0, 0] @ y.mean(axis=(1, 2)) + squeeze["bias"])  # (S,), S < N
    z = excite["weight"][:, :, 0, 0] @ z + excite["bias"]  # (N,)
    y = y / (1 + np.exp(-z))[:, None, None]  # y · σ(z)
    return x + naive_pointwise(y, **project)


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
# Text is split into **word pieces**. CLIP's byte-pair encoding ([01](01_bytes_to_tokens.md)) starts from bytes and
# merges. WordPiece starts from the word and cuts: from the left, always the longest piece that is in the vocabulary.
# `##` marks pieces that continue a word. (google-research/bert, tokenization.py, has the first word below as an
# example.)

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
# The greedy choice has a price: from "abc" it takes `ab` first, and then there is no `##c`, although `a` and `##bc`
# would work.
#
# The transformer is **BERT**. Three differences from CLIP's text tower matter here. There is no causal mask: tokens
# see each other in both directions. So any token can represent the text; BERT takes the first, `[CLS]`, a piece that
# means nothing by itself. And since tokens now see the tokens *after* them, padding must be hidden. Below are three
# words with three tokens of padding, seen by one head with the same random queries and keys.
#
# There are smaller differences. As in the first transformer, a norm comes after each residual sum, not before each
# half of a block. The GELU is the exact one. A third embedding is added to word and position, that of the token's
# *type* (the first or the second of two texts; ours is always the first), and a norm follows. The projection has a
# bias. And the $\varepsilon$ in the norms is $10^{-12}$, not $10^{-5}$.

# %%
ours, theirs = ALIGN_BASE.text, PRESETS["ViT-B/32"].text
assert (ours.activation, ours.token_types, ours.eps) == ("gelu", 2, 1e-12)
assert (theirs.activation, theirs.eps) == ("quick_gelu", 1e-5)
ours, theirs = (set(params.flatten(config.shapes()["text"])) for config in (ALIGN_BASE, PRESETS["ViT-B/32"]))
assert {"type_embedding", "ln_embed.weight", "ln_embed.bias", "projection.bias"} <= ours - theirs


def random_like(tree):
    """A tree of shapes -> the same tree of small random numbers."""
    return params.tree_map(lambda shape: 0.3 * rng.standard_normal(shape), tree)


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
    np.stack([causal[0, 0], both[0, 0]]), words, words, titles=["causal, as in CLIP", "both directions, as in BERT"]
)
plt.show()

# %% [markdown]
# There are two laws. The padding does not change the feature, not even in the last bit. And a word also changes the
# tokens before it, which is impossible in CLIP.

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
# How does the EfficientNet compare with CLIP's image towers, the Vision Transformers of [05](05_two_towers.md) and
# the ResNets of [11a](11a_resnets.md)? First the parameters: `shapes` of a configuration has them all. Towers of
# convolutions need one more step. When such a tower is trained, its convolutions, except those that squeeze and
# excite, are followed by a BatchNorm, and the library folds it into the convolution ([11a](11a_resnets.md)). For each
# channel others count the $\gamma$ and the $\beta$ of the BatchNorm, we count one bias. (Its mean and variance are
# measured, not learned, and do not count.) With this, all nine totals, both towers together, are those of the
# official checkpoints, and EfficientNet-B7 is that of torchvision without the last convolution and the classifier.

# %%


def size(tree):
    return sum(math.prod(shape) for shape in params.flatten(tree).values())


def folded_away(visual):
    """The number of channels of all convolutions that had a BatchNorm."""
    without = ("squeeze", "excite", "patch_embed")
    flat = params.flatten(visual)
    return sum(flat[name][0] for name in flat if len(flat[name]) == 4 and not any(part in name for part in without))


published = {  # name: (parameters of both towers, GFLOPs for a picture, accuracy in percent); the last two: see below
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
# Now the operations. A tower is a function whose first argument, `ops`, is the module that it computes with. So we
# can count its cost without computing anything: pass it operations that record their cost, two FLOPs for a
# multiplication and its addition, and return zeros of the right shape.

# %%


def counting():
    """(ops, flops): numpy_ops with matrix products that only count, and the list of their FLOPs."""
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
        flops.append(4 * q.size * k.shape[1])  # scores, then the weighted mean of the values
        return np.zeros(q.shape, np.float32)  # (1, Tq, H, K)

    def count_patch_embed(images, weight, class_token, position_embedding):
        flops.append(2 * weight.size * (len(position_embedding) - 1))
        return np.zeros((1, *position_embedding.shape), np.float32)  # (1, T, D)

    counted = {"conv2d": count_conv2d, "linear": count_linear, "attention": count_attention}
    counted |= {"patch_embed": count_patch_embed, "attention_weights": lambda q, k, **mask: None}  # only for a trace
    return SimpleNamespace(**vars(numpy_ops) | counted), flops


def gflops(config, E):
    ops, flops = counting()
    weights = params.tree_map(lambda shape: np.broadcast_to(np.float32(0), shape), config.tower.shapes(config, E))
    image = np.zeros((1, 3, config.image_size, config.image_size), np.float32)  # (1, C, height, width)
    config.tower.encode_image(ops, image, **weights, config=config, trace=tracing.untraced)
    return sum(flops) / 1e9


# %% [markdown]
# (With a `trace` all tokens of the last block are computed, as others count it; without one, only the token that the
# feature needs.) OpenCLIP has published its own count of these towers (docs/model_profile.csv). The transformers
# agree to the last digit given. OpenCLIP's ResNets cost a little more: in the attention that pools their last grid
# all cells have a query, and all outputs except one are thrown away. Add this cost, and the counts agree too.

# %%
counted = {}
for name, (_, theirs, _) in published.items():
    visual, E = PRESETS[name].visual, PRESETS[name].embed_dim
    counted[name] = gflops(visual, E)
    D, cells = 32 * visual.width, math.prod(visual.grid)  # of a ResNet's last grid
    thrown_away = 0 if "ViT" in name else 2 * cells * (D * D + E * D + 2 * (cells + 1) * D) / 1e9
    assert abs(counted[name] + thrown_away - theirs) < 0.006

# %% [markdown]
# Last the accuracy on ImageNet, zero-shot, top-1, as OpenCLIP measured it with OpenAI's weights
# (docs/openclip_results.csv; CLIP's own table 11 differs by some tenths). For ALIGN with an EfficientNet-B7 we know
# no such number; the one in its paper, 76.4, is for a larger tower.

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
# The area of a point shows its parameters. Within each family, more operations give higher accuracy; between the
# families, the transformer gets more from them. ViT-L/14 is better than RN50x64 with less than a third of its
# operations. CLIP's paper found the same for linear classifiers on the features: "about 3x more compute efficient"
# (sec. 3.2).

# %%
assert counted["ViT-L/14"] < counted["RN50x64"] / 3 and published["ViT-L/14"][2] > published["RN50x64"][2]
assert all(sorted(points, key=lambda p: p[1]) == sorted(points, key=lambda p: p[2]) for points in towers.values())

# %% [markdown]
# **Now you.** [The course](../../miniclip/learn/README.md) (`miniclip learn start course`) has no exercise for these
# towers. If you want one: give `naive_depthwise` a stride; some blocks of an EfficientNet halve the grid with it.
# Next: [12](12_triton_layer_norm.md), a first kernel.
