# %% [markdown]
# # 10 · Explain
#
# - **Builds**: the relevance of patches and words from attention and its gradient, rollout over layers, a test of it.
# - **Time**: 20 s on 2 cores.
# - **Needs**: NumPy, matplotlib.
# - **Before**: [03](03_attention.md), whose weights we look at again; [07](07_zero_shot.md), which scores a picture
#   and a text. [16](16_backpropagation_by_hand.md) derives the gradients that are used here.
#
# The model gives a picture and a text a score. Why that score? Which part of the picture made it, and which words?
# This page builds a known answer, **relevance**, and then does what any such answer needs: it tests it.

# %%
import inspect
import math
import types

import matplotlib.pyplot as plt
import numpy as np

import miniclip
from miniclip import explain
from miniclip.ops import numpy_ops
from miniclip.towers import vit
from miniclip.train import shapes
from miniclip.viz import relevance as draw

model, preprocess = miniclip.load("shapes", backend="numpy", dtype="float64")
config = model.config.visual
L, H, G = config.layers, config.heads, config.grid[0]

rng = np.random.default_rng(5)
scene = shapes.two_objects(rng, shapes.PAIRS)
image = preprocess(shapes.draw(scene, rng)).astype(np.float64)  # (C, 48, 48)
texts = [shapes.label(thing.colour, thing.shape) for thing in scene]
print(" and ".join(texts))

# %% [markdown]
# ## Where it looks is not why
#
# In the last block the class token collects from the patches what becomes the feature: nothing else of the other
# tokens is used after it. So look at its attention weights. For each head $h$ and each patch $j$ there is a weight
# $a_{hj}$, and for each head the weights of all patches and of the class token itself sum to one. Here are all
# blocks and heads:

# %%
attention = explain.attention_maps(model, image)  # (L, H, G, G)
assert attention.shape == (L, H, G, G) and (attention.sum(axis=(2, 3)) < 1).all()
seen = explain.visible(preprocess, image)  # (48, 48, 3), the colours again
draw.heads(seen, attention)
plt.show()

# %% [markdown]
# Some heads look at one object, some at the other. But the text is nowhere in this picture. The image tower has not
# read it, so the weights are the same whatever we ask. They show what was collected, not what it was good for.
#
# ## What if a weight were larger?
#
# What a part is good for, we can find out by trying: make one weight a little larger, and see what happens to the
# score. The change of the score, divided by the change of the weight, is a slope, $\partial s / \partial a_{hj}$. If
# it is positive, looking more at patch $j$ would raise the score. Chefer, Gur and Wolf (*Generic Attention-model
# Explainability*, 2021, eq. 5) multiply it by the weight, keep what is positive, and take the mean over heads:
#
# $$r_j = \frac{1}{H} \sum_h \max\left(0,\ a_{hj} \cdot \frac{\partial s}{\partial a_{hj}}\right)$$
#
# A patch is relevant if the class token looks at it **and** the score gains from that.
#
# The tower is a function of its operations (`ops`), so we can try without changing it: we give it operations that
# are the library's, except that in the last block one weight is changed. There are $H \cdot G^2$ weights, and each is
# changed in a copy of its own of the picture.

# %%


def nudged(step):
    """NumPy's operations, but in copy i of the picture, the i-th of the class token's last weights is larger."""

    def nudged_attention(q, k, v, **mask):
        weights = numpy_ops.attention_weights(q, k, **mask)  # (B, H, Tq, Tk)
        if q.shape[1] == 1:  # the last block, where only the class token looks
            h, j = np.divmod(np.arange(len(q)), G * G)
            weights[np.arange(len(q)), h, 0, 1 + j] += step
        return (weights @ v.transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3)  # (B, Tq, H, K)

    return types.SimpleNamespace(**{**vars(numpy_ops), "attention": nudged_attention})


def naive_relevance(image, text, step=1e-4):
    """image (C, height, width), text (E,), a feature of length one -> (G, G)."""

    def scores(ops):
        copies = np.repeat(image[None], H * G * G, axis=0)  # (H·G·G, C, height, width)
        f = vit.encode_image(ops, copies, **model.params["visual"], config=config)  # (H·G·G, E)
        return math.exp(model.logit_scale) * numpy_ops.l2_normalize(f) @ text  # (H·G·G,)

    slopes = (scores(nudged(step)) - scores(nudged(-step))) / (2 * step)
    weights = explain.attention_maps(model, image)[-1]  # (H, G, G)
    return np.maximum(weights * slopes.reshape(H, G, G), 0).mean(axis=0)


# %% [markdown]
# Trying costs two runs of the tower for each weight. The gradient has all slopes at once, for one run forwards and
# one backwards. The library also works on the tower as it is. Its operations note what each attention has read, the
# queries, keys and values, and add zeros to the result $y$; the gradient of the zeros is $\partial s / \partial y$.
# From there to the weights it is one product, for $y = a v$:

# %%
print(inspect.getsource(explain.attention_relevance))

tokens = model.tokenize(texts)  # (2, T)
found = explain.relevance(model, image, tokens)  # one picture with two texts
w = numpy_ops.l2_normalize(model.encode_text(tokens))  # (2, E)
for i in range(2):
    assert np.allclose(naive_relevance(image, w[i]), found.patches[i], atol=1e-7)
print("largest relevance of a patch:", found.patches.max(axis=(1, 2)).round(3))

# %% [markdown]
# The naive version agrees with the library's. Now the text does appear: for each of the two texts, its own map, and
# its words, which we come to below.

# %%
titles = [f"cosine {logit / math.exp(model.logit_scale):.2f}" for logit in found.score]
words = [explain.words(model, text, row) for text, row in zip(texts, found.tokens)]
draw.explanations(seen, [*zip(titles, words, found.patches)])
plt.show()
first, second = np.argsort(-found.patches[0], axis=None)[:2] % found.patches.shape[-1]  # columns, for the circle
assert first < 3 <= second and found.patches[1].argmax() % found.patches.shape[-1] >= 3  # left, right, and right

# %% [markdown]
# For the heart, the map is on the heart. For the circle, the darkest patch is on the circle, and the second one is
# not: a patch beside the heart raises this score as well. Is the map mostly right, or mostly not?
#
# ## Is it on the object?
#
# One picture proves little. So take 100 pictures of two objects each. They were drawn, so we know where the objects
# are. Each text names the first of the two. How much of the relevance is in the square around the object that is
# named, and how much of the attention?

# %%


def covered(thing):
    """The share of each patch that is in the square around an object, (G, G)."""
    edges = np.arange(G + 1) / G
    down, across = (np.diff(edges.clip(c - thing.size, c + thing.size)) * G for c in (thing.y, thing.x))
    return np.outer(down, across)


model, _ = miniclip.load("shapes", backend="numpy")  # float32 is enough from here on
rng = np.random.default_rng(7)
scenes = [shapes.two_objects(rng, shapes.PAIRS) for _ in range(100)]
images = preprocess([shapes.draw(scene, rng) for scene in scenes])  # (100, C, 48, 48)
tokens = model.tokenize([shapes.label(first.colour, first.shape) for first, _ in scenes])  # (100, T)
on, beside = (np.stack([covered(scene[i]) for scene in scenes]) for i in (0, 1))  # (100, G, G): named, and the other

maps = {"attention": explain.attention_maps(model, images)[:, -1].mean(axis=1)}  # (100, G, G), the mean over heads
maps["relevance"] = explain.relevance(model, images, tokens).patches  # (100, G, G)


def share(x, where):
    """How much of the maps x is where an object is: (100, G, G) both, the mean."""
    return ((x * where).sum(axis=(1, 2)) / x.sum(axis=(1, 2))).mean()


print(f"           named  other\npicture    {on.mean():5.0%}  {beside.mean():5.0%}")
for name, x in maps.items():
    print(f"{name:<10} {share(x, on):5.0%}  {share(x, beside):5.0%}")
assert share(maps["relevance"], on) > 0.7 and share(maps["relevance"], beside) < beside.mean()
assert abs(share(maps["attention"], on) - share(maps["attention"], beside)) < 0.1

# %% [markdown]
# Attention is on the objects, but on both alike: it cannot know which one is named. Relevance is on that one.
#
# ## Is it what the score depends on?
#
# A map can look right without being right. The test: **delete** the most relevant patches, and see whether the score
# falls, and falls faster than if we delete patches at random. (A deleted patch gets the picture's median colour,
# mostly that of the ground.) For each of the 100 pictures we delete up to ten of 36 patches, in four orders.

# %%


def without(images, order, count):
    """The pictures (n, C, height, width) without the first `count` patches of each: order (n, G·G)."""
    damaged, P = images.copy(), config.patch_size
    for image, patches in zip(damaged, order):
        colour = np.median(image, axis=(1, 2), keepdims=True)  # (C, 1, 1)
        for y, x in zip(*np.divmod(patches[:count], G)):
            image[:, P * y : P * y + P, P * x : P * x + P] = colour
    return damaged


def mean_cosines(order):
    """(means, standard errors) of the cosines after each number of deletions."""
    features = [numpy_ops.l2_normalize(model.encode_image(without(images, order, n))) for n in counts]
    found = (np.stack(features) * w).sum(axis=-1)  # (counts, 100)
    return found.mean(axis=-1), found.std(axis=-1) / math.sqrt(len(images))


counts = [1, 2, 3, 4, 6, 8, 10]
w = numpy_ops.l2_normalize(model.encode_text(tokens))  # (100, E)
whole = (numpy_ops.l2_normalize(model.encode_image(images)) * w).sum(axis=-1).mean()
ranked = {name: x.reshape(100, G * G).argsort(axis=-1)[:, ::-1] for name, x in maps.items()}  # (100, G·G)
orders = {
    "least relevant first": ranked["relevance"][:, ::-1],
    "most attention first": ranked["attention"],
    "at random": np.argsort(rng.random((100, G * G))),
    "most relevant first": ranked["relevance"],
}
curves = {name: mean_cosines(order) for name, order in orders.items()}
print(f"the whole picture: {whole:.2f}")
for name, (mean, _) in curves.items():
    print(f"{name:<21}", *(f"{n} deleted: {mean[counts.index(n)]:.2f}  " for n in (2, 4, 6, 10)))

relevant, random = (curves[name][0] for name in ("most relevant first", "at random"))
assert counts[3] / (G * G) == 1 / 9 and relevant[3] < whole / 2 and random[3] > 0.95 * whole
assert curves["most attention first"][0][3] > whole + 0.03 and curves["least relevant first"][0][3] > whole + 0.03
least = np.take_along_axis(beside.reshape(100, G * G), ranked["relevance"][:, :-5:-1], axis=1)  # (100, 4)
print(f"of the four least relevant patches, {least.mean():.0%} is on the other object; of all, {beside.mean():.0%}")
assert least.mean() > 1.5 * beside.mean()
draw.deletion(counts, curves, whole)
plt.show()

# %% [markdown]
# Without the four most relevant patches, a ninth of the picture, less than half of the score is left. Four patches at
# random hardly matter. And two curves rise. Delete what has the most attention, and often it is the other object:
# without it, the picture fits the text better. The other object is also among the least relevant patches, more than
# chance puts it there. It speaks against the text, and the formula keeps only what speaks for it.
#
# ## What the tokens had read before
#
# So far only the last block counted. But the tokens that the class token reads there are not patches any more: in
# the blocks before, they have read each other. The paper carries relevance through all blocks (eq. 6). Every token
# begins with relevance for itself alone, $R = I$. In each block, row $i$ of a matrix $A$ holds what the formula
# above gives for token $i$, and $R$ becomes $R + A R$: what $i$ had, and what it now gets from tokens $j$, which
# bring what *they* had. In the end the row of the class token is the map.

# %%


def naive_rollout(cams):
    """The matrices A of L blocks, (L, T, T) -> R (T, T)."""
    R = np.eye(cams.shape[-1])
    for A in cams:
        R = R + A @ R
    return R


cams = rng.random((3, 5, 5))
row = explain.rollout([cams[:1], cams[1:2], cams[2:, :1]], 0)  # of the last A, row 0 is enough
assert np.allclose(row, naive_rollout(cams)[0] - np.eye(5)[0])  # the library leaves out the 1 from I
print(inspect.getsource(explain.rollout))

# %% [markdown]
# How many of the last blocks should count? For CLIP, the authors' own notebook takes one, and the library's default
# is the same: `layers=1`. Here are both tests for our model:

# %%
tried = []
for layers in range(1, L + 1):
    x = explain.relevance(model, images, tokens, layers=layers).patches  # (100, G, G)
    mean, _ = mean_cosines(x.reshape(100, G * G).argsort(axis=-1)[:, ::-1])
    tried.append((share(x, on), mean[3]))
    print(f"{layers} of {L} blocks: {tried[-1][0]:.0%} on the object, four patches less: cosine {tried[-1][1]:.2f}")
assert max(tried)[0] == tried[0][0] and tried[0][1] > tried[1][1] + 0.02

# %% [markdown]
# With one block, more of the map is on the object; with two, the first patches matter more. There is no right number.
# It is a choice, so say which one you made.
#
# ## Words
#
# The text tower has the same blocks, and its feature is that of the end token. So each word has a relevance, by the
# same formula. Deletion is simple here: leave the word out of the caption. Take a picture of each of the 80 pairs.

# %%
rng = np.random.default_rng(7)
scenes = [shapes.one_object(rng, pair, 0.25) for pair in shapes.PAIRS]  # 80
images = preprocess([shapes.draw(scene, rng) for scene in scenes])
captions = [f"a photo of {shapes.label(scene[0].colour, scene[0].shape)}".split() for scene in scenes]
f = numpy_ops.l2_normalize(model.encode_image(images))


def caption_cosine(leave_out):
    """The mean cosine of pictures and captions, each without its word number `leave_out`."""
    shorter = [" ".join(words[:leave_out] + words[leave_out + 1 :]) for words in captions]
    return (f * numpy_ops.l2_normalize(model.encode_text(model.tokenize(shorter)))).sum(axis=-1).mean()


kinds = ["a", "photo", "of", "a or an", "the colour", "the shape"]
tokens = model.tokenize([" ".join(words) for words in captions])  # (n, T): the start, six words, the end
table = {}
for layers in (1, 2):
    x = explain.relevance(model, images, tokens, layers=layers).tokens[:, 1:7]  # (n, 6)
    table[layers] = (x / x.sum(axis=-1, keepdims=True)).mean(axis=0)
lost = [caption_cosine(99) - caption_cosine(i) for i in range(6)]  # 99: no word
print("word        cosine lost   relevance: one block   two blocks")
for kind, fall, one, two in zip(kinds, lost, *table.values()):
    print(f"{kind:<12}{fall:11.2f}{one:23.0%}{two:13.0%}")
assert lost[4] > lost[5] > 0.1 > 10 * max(lost[:4])
assert table[2][4] > table[2][5] > max(table[2][:4]) and table[1][1] > table[1][4]
stages = {}
model.encode_text(tokens, trace=stages.__setitem__)
reads = (stages[f"blocks.{i}.attention_weights"][:, :, 7].mean(axis=(0, 1)) for i in range(2))  # of the end token
first, second = (x[1:7] for x in reads)  # (6,): the mean over captions and heads
print(f"the end token gives the colour {first[4]:.0%} in the first block, the shape {second[5]:.0%} in the second")
assert first.argmax() == 4 and second.argmax() == 5

# %% [markdown]
# The colour and the shape carry the score, the other words nothing at all. Relevance over two blocks says so, and it
# even ranks them right. Over one block it fails: "photo" seems to matter more than the colour. The last line of
# output shows the reason. The end token reads the colour in the first block, and the shape in the second. A map of
# the second block alone cannot show the colour. This tower has two blocks. OpenAI's have twelve, where one may be
# enough: test it.
#
# ## What it cannot say
#
# Here is the first picture again, with two blocks, and with a third text that is wrong.

# %%
texts = [f"a photo of {text}" for text in [*texts, "a green star"]]
found = explain.relevance(model, image, model.tokenize(texts), layers=2)
cosines = found.score / math.exp(model.logit_scale)
words = [explain.words(model, text, row) for text, row in zip(texts, found.tokens)]
draw.explanations(seen, [*zip([f"cosine {cosine:.2f}" for cosine in cosines], words, found.patches)])
plt.show()
assert cosines[2] < 0 < 0.15 < min(cosines[:2]) and found.patches[2].max() > 0

# %% [markdown]
# The wrong text has a map and red words as well. A map shows what would raise the score, not that the score is high:
# read the cosine first. And it says no more than its formula. It knows slopes, which is what happens for tiny
# changes. It leaves out what speaks against the text. It cannot be finer than a patch. And it explains the model,
# mistakes included, never the picture.
#
# On the command line: `miniclip explain picture.png "a red heart" -o map.png`. Towers of convolutions, ResNets and
# ALIGN's, have no patches: their maps are of the last grid, by Grad-CAM. See [Explain](../../docs/explain.md).
#
# **Now you.** Replace `max` in the formula by `min`: this gives what speaks against the text. On pictures of two
# objects, is it on the other one? Next: [11a](11a_resnets.md), the other towers of CLIP.
