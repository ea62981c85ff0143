# %% [markdown]
# # 02 · Pixels to patches
#
# - **Builds**: resizing, cropping, normalising, the patch embedding with its class token and positions.
# - **Time**: 10 s on 2 cores.
# - **Needs**: NumPy, matplotlib.
# - **Before**: [01](01_bytes_to_tokens.md) makes a row of tokens of a text. This page does it for a picture, and can
#   be read by itself.
#
# A transformer reads a row of tokens, each a vector of $D$ numbers. A picture is a rectangle of pixels, of any size.
# This page goes from the one to the other: first every picture gets the same size and range of numbers, then it is
# cut into patches, then each patch becomes a token.

# %%
import inspect

import matplotlib.pyplot as plt
import numpy as np

import miniclip
from miniclip import image as preprocessing
from miniclip import weights
from miniclip.ops import numpy_conv, numpy_ops
from miniclip.runtime import pictures
from miniclip.train.loop import shapes
from miniclip.viz import pixels as draw

rng = np.random.default_rng(0)
model, preprocess = miniclip.load("shapes", backend="numpy")

# %% [markdown]
# ## A picture is an array
#
# Three numbers for each pixel, its red, green and blue, from 0 to 255: shape (height, width, 3).

# %%
example = weights.DIRECTORY / "example.png"  # a red heart, part of miniclip
pixels = np.asarray(pictures.open_picture(example))  # (240, 300, 3) uint8
print(pixels.shape, pixels.dtype, "top left:", pixels[0, 0], "in the heart:", pixels[100, 150])
assert pixels.shape == (240, 300, 3) and pixels.dtype == np.uint8 and model.config.visual.image_size == 48

# %% [markdown]
# ## Resizing
#
# The built-in model reads pictures of 48 x 48, OpenAI's of 224 x 224 and more. So this one must shrink, five times.
# Each pixel of the result is a weighted mean of pixels of the source, and the question is with which weights.
#
# Along one axis, let $n$ pixels become $m$. With $s = n / m$, the middle of the new pixel $i$ lies at $c_i = (i +
# \tfrac12) s - \tfrac12$ in the source. A source pixel $j$ counts by its distance from there, measured in new pixels,
# through a function $k$ called the **kernel**:
#
# $$w_{ij} = \frac{k((j - c_i) / s)}{\sum_t k((t - c_i) / s)}$$
#
# (When a picture is enlarged, distances are measured in source pixels instead.) The **bilinear** kernel is a tent,
# $k(x) = 1 - |x|$ up to 1. The **bicubic** one is made of two cubic pieces, dips below zero, and ends at 2 (Keys,
# Cubic Convolution Interpolation for Digital Image Processing, 1981).

# %%


def bilinear(x):
    return np.maximum(0, 1 - abs(x))


def bicubic(x):
    x = abs(x)
    near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0))


def naive_weights(n, m, kernel):
    """(m, n): how much each of n source pixels counts in each of m new ones."""
    s = n / m
    centre = (np.arange(m) + 0.5) * s - 0.5  # (m,)
    w = kernel((np.arange(n) - centre[:, None]) / max(s, 1))  # (m, n)
    return w / w.sum(axis=1, keepdims=True)


def naive_resize(pixels, height, width, kernel=bicubic):
    """Rows first, then columns: each is one matrix product. Rounded to whole numbers after both, as Pillow does."""
    w = naive_weights(pixels.shape[1], width, kernel)  # (width, old width)
    x = np.einsum("vw,hwc->hvc", w, pixels)  # (old height, width, C)
    x = np.floor(x + 0.5).clip(0, 255)
    w = naive_weights(pixels.shape[0], height, kernel)  # (height, old height)
    x = np.einsum("gh,hvc->gvc", w, x)  # (height, width, C)
    return np.floor(x + 0.5).clip(0, 255)


ours = naive_resize(pixels, 48, 60)
library = np.asarray(preprocessing.resize_and_crop(pictures.open_picture(example), (48, 60)))  # (48, 60, 3), by Pillow
print("largest difference to the library, in grey levels:", abs(ours - library).max())
print(f"values that differ: {(ours != library).mean():.2%}")
assert abs(ours - library).max() <= 1 and (ours != library).mean() < 0.001
assert np.allclose(naive_weights(300, 60, bicubic).sum(axis=1), 1)  # what is plain stays plain

# %% [markdown]
# Why so much ado? One could take for each new pixel the **nearest** source pixel, and skip the other 24. See what
# that does to rings that get finer outwards: at the distance $r$ from the middle, one ring is $240 / r$ pixels wide.
# A ring needs two new pixels to show, one for its dark part and one for its bright, and that is 10 old ones. So
# beyond $r = 24$ the right result is plain grey. Contrast is measured here as the standard deviation of the grey
# levels.

# %%
y, x = np.mgrid[:240, :240] - 119.5
r = np.hypot(x, y)  # (240, 240)
rings = np.repeat((127.5 + 127.5 * np.cos(np.pi * r**2 / 240)).round()[:, :, None], 3, axis=2)  # (240, 240, 3)
results = {
    "source": rings,
    "nearest": rings[2::5, 2::5],  # (48, 48, 3), as the two below
    "bilinear": naive_resize(rings, 48, 48, bilinear),
    "bicubic": naive_resize(rings, 48, 48, bicubic),
}
contrast = {}
for name, result in results.items():
    at = r if name == "source" else r[2::5, 2::5]
    contrast[name] = [int(result[part].std().round()) for part in ((at > 10) & (at < 24), at > 60)]
    print(f"{name:9} contrast from 10 to 24: {contrast[name][0]}, beyond 60: {contrast[name][1]}")

assert contrast == {"source": [91, 90], "nearest": [87, 92], "bilinear": [52, 2], "bicubic": [66, 1]}
draw.resampling({f"{name}, {len(result)} x {len(result)}": result for name, result in results.items()})
plt.show()

# %% [markdown]
# Nearest draws targets all over, where there is only one; a model would see them too. The two kernels look at every
# pixel, and what cannot be drawn becomes grey. Of what can be drawn, bicubic keeps more: it is the sharper one. But
# the real reason to take it is another. OpenAI's models learned from pictures that were made so (clip/clip.py,
# `_transform`), and a model should see what it has learned to see.
#
# ## Cropping and normalising
#
# Pictures are rectangles of any shape, the model's is a square of side $S$. The shorter side becomes $S$, the longer
# one keeps the proportion, and of the result we take the middle. Two roundings hide in that sentence, and both are
# decided by the official code: the longer side is **truncated** to a whole number, and the corner of the crop is
# rounded **half to even**, which is what Python's `round` does. Round otherwise, and every pixel of the crop may
# differ.
#
# Numbers from 0 to 255 are awkward to learn from. They are divided by 255. Then each channel $c$ loses a mean $\mu_c$
# and is divided by a standard deviation $\sigma_c$, so that its numbers lie around 0, and about 1 away from it. The
# six constants stand in the official code too and belong to the models: a model that was trained with them must be
# used with them. With $p_c$ for a pixel's value in channel $c$:
#
# $$x_c = \frac{p_c / 255 - \mu_c}{\sigma_c}$$
#
# And the channels go to the front: (3, height, width).

# %%


def naive_preprocess(pixels, S):
    """(height, width, 3) uint8 -> (3, S, S), and which row and column of the resized picture come first in it."""
    height, width, _ = pixels.shape
    short = min(height, width)
    height, width = int(S * height / short), int(S * width / short)
    top, left = round((height - S) / 2), round((width - S) / 2)
    x = naive_resize(pixels, height, width)[top : top + S, left : left + S]  # (S, S, 3)
    x = (x / 255 - preprocessing.MEAN) / preprocessing.STD  # (S, S, 3)
    return x.transpose(2, 0, 1), (top, left)  # (3, S, S)


print("mean:", preprocessing.MEAN, "standard deviation:", preprocessing.STD)
level = 1 / 255 / min(preprocessing.STD)  # what one grey level makes at most
image = preprocess(example)  # (3, 48, 48) float32: the library's
ours, corner = naive_preprocess(pixels, 48)
assert abs(ours - image).max() < 1.01 * level and corner == (0, 6)

for width, exactly in [(640, 55.5), (643, 56.5)]:
    noise = rng.integers(0, 256, (427, width, 3), dtype=np.uint8)
    ours, corner = naive_preprocess(noise, 224)
    print(f"427 x {width}: resized to 224 x {224 * width / 427:.2f}, truncated; left edge {exactly}, taken {corner[1]}")
    assert abs(ours - preprocessing.Preprocess(224)(noise)).max() < 1.01 * level
    assert corner == (0, 56) and (224 * width // 427 - 224) / 2 == exactly

# %% [markdown]
# In the figure, the frame holds what is kept: 6 of 60 columns fall away on each side. The ground is bright, so above
# the mean in all channels; the heart is above it in red and below it in green and blue.

# %%
assert (image[:, 0, 0] > 0).all() and image[0, 20, 24] > 0 > image[1:, 20, 24].max()

draw.preprocessing(pixels, (5 * 6, 5 * 54), image)  # one new column is five old ones
plt.show()

# %% [markdown]
# ## Patches
#
# What shall be a token? A pixel would do, but 48 x 48 of them are 2,304, and attention compares each token with each
# ([03](03_attention.md)). So the picture is cut into **patches** of $P$ x $P$ pixels, that do not overlap, a grid of
# $G$ x $G$ with $G = S / P$. The built-in model has $P = 8$, so $G = 6$. Each patch, laid out in a row, is $C \cdot P
# \cdot P$ numbers, with $C = 3$ channels.

# %%


def naive_patches(image, P):
    """(C, height, width) -> (G·G, C·P·P), row by row of the grid."""
    patches = []
    for top in range(0, image.shape[1] - P + 1, P):
        for left in range(0, image.shape[2] - P + 1, P):
            patch = image[:, top : top + P, left : left + P]  # (C, P, P)
            patches.append(patch.reshape(-1))  # (C·P·P,)
    return np.array(patches)


C, P, G = 3, 8, 6
patches = naive_patches(image, P)
print(patches.shape)
assert patches.shape == (G * G, C * P * P) == (36, 192) and patches.size == image.size and 48 * 48 == 2304

# %% [markdown]
# No loop is needed. Split the height into (which patch, which row in it), the width likewise; bring the two *which
# patch* to the front; flatten:

# %%
x = image.reshape(C, G, P, G, P).transpose(1, 3, 0, 2, 4)  # (C, Gy, P, Gx, P) -> (Gy, Gx, C, P, P)
assert (x.reshape(G * G, C * P * P) == patches).all()  # (Gy·Gx, C·P·P)

# %% [markdown]
# ## The projection
#
# A patch is 192 raw numbers, a token should be a vector of the width $D$ of the model, here 128. A learned matrix $W$
# of shape $(D, C \cdot P \cdot P)$ does it: row $d$ of $W$ is a small picture, and number $d$ of a token says how
# much the patch looks like it.

# %%
parts = model.params["visual"]["patch_embed"]
weight = parts["weight"]  # (D, C, P, P)
D = len(weight)
tokens = patches @ weight.reshape(D, -1).T  # (G·G, D)
print(weight.shape, tokens.shape)
assert weight.shape == (128, 3, 8, 8) and tokens.shape == (36, 128)

# %% [markdown]
# In the official code (clip/model.py, `VisionTransformer`) you will find no patches and no such product. You find a
# **convolution** with a kernel of $P$ x $P$ and a stride of $P$. A convolution moves a window over the picture,
# multiplies it with each of $D$ kernels and sums; the *stride* is how far the window moves each time:

# %%


def naive_convolution(image, weight, stride):
    """image (C, height, width), weight (D, C, P, P) -> (D, G, G)."""
    D, _, P, _ = weight.shape
    G = (image.shape[1] - P) // stride + 1
    out = np.zeros((D, G, G))
    for i in range(G):
        for j in range(G):
            window = image[:, i * stride : i * stride + P, j * stride : j * stride + P]  # (C, P, P)
            for d in range(D):
                out[d, i, j] = (weight[d] * window).sum()
    return out


convolved = naive_convolution(image, weight, stride=P)  # (D, G, G)
gap = abs(convolved.reshape(D, G * G).T - tokens).max()
print(f"largest difference between convolution and matrix product: {gap:.1e}")
assert gap < 1e-5
assert abs(convolved - numpy_conv.conv2d(image[None], weight, stride=P)[0]).max() < 1e-5

# %% [markdown]
# It is the same thing. Where the window moves by its own width, windows do not overlap, and each is one patch.
#
# ## The class token and positions
#
# Two things are added. The picture as a whole needs a place where what is found out about it is gathered: a learned
# vector, the **class token**, goes before all patches. (CLIP reads the picture's features off there,
# [05](05_two_towers.md).) And to each token a learned vector is added that says where it is, its **position
# embedding**. So a picture of 48 x 48 has $T = 1 + 36 = 37$ tokens:
#
# $$x = [\,\text{class};\ \text{patches} \cdot W^\top\,] + \text{positions}$$

# %%
ours = np.concatenate([parts["class_token"][None], tokens]) + parts["position_embedding"]  # (T, D)

print(inspect.getsource(numpy_ops.patch_embed))
library = numpy_ops.patch_embed(image[None], **parts)[0]  # (T, D)
print(f"largest difference: {abs(library - ours).max():.1e}")
assert library.shape == (37, 128) and abs(library - ours).max() < 1e-5

# %% [markdown]
# OpenAI's Vision Transformers say in their names how large a patch is: ViT-B/32 cuts 224 x 224 pixels into 7 x 7
# patches of 32. What does a token know at this point? Its own patch, and nothing else. Change one pixel, and one
# token changes; the others do not, to the last bit.

# %%
for name, S, P in [("ViT-B/32", 224, 32), ("ViT-B/16", 224, 16), ("ViT-L/14", 224, 14), ("ViT-L/14@336px", 336, 14)]:
    print(f"{name:15} {S}/{P} = {S // P}, T = {(S // P) ** 2} + 1 = {(S // P) ** 2 + 1}")

shapes_b32 = (1, 3, 224, 224), (768, 3, 32, 32), 768, (50, 768)  # picture, weight, class token, positions of ViT-B/32
assert numpy_ops.patch_embed(*map(np.zeros, shapes_b32)).shape == (1, 49 + 1, 768)

changed = image.copy()
changed[0, 20, 24] += 1  # red, row 20, column 24: the patch of row 2 and column 3 of the grid
change = abs(numpy_ops.patch_embed(changed[None], **parts)[0] - library).max(axis=1)  # (T,)
print("tokens that changed:", np.flatnonzero(change))
assert np.flatnonzero(change).tolist() == [1 + 2 * 6 + 3] and (np.delete(change, 16) == 0.0).all()

# %% [markdown]
# ## Why positions
#
# All that follows in a transformer treats every token alike ([03](03_attention.md)). Without positions, a picture is
# a bag of patches. We can try: shuffle the patches of the heart, and let two models look at both pictures. One is the
# built-in model, the other the same with its positions set to zero.

# %%
shuffled = patches[rng.permutation(36)].reshape(6, 6, 3, 8, 8).transpose(2, 0, 3, 1, 4).reshape(3, 48, 48)
blind = miniclip.load("shapes", backend="numpy")[0]
blind.params["visual"]["patch_embed"]["position_embedding"][:] = 0

for name, m in [("with positions", model), ("without", blind)]:
    both = m.encode_image(np.stack([image, shuffled]))  # (2, E): features of the picture, and of the shuffled one
    both = numpy_ops.l2_normalize(both)
    cosine = both[0] @ both[1]
    print(f"{name:15} cosine of the two pictures' features: {cosine:.4f}")
    assert cosine < 0.9 if m is model else abs(both[0] - both[1]).max() < 1e-5

# %% [markdown]
# Without positions the two pictures are one and the same to it.
#
# ## What the positions have become
#
# Each of the 36 positions is a vector of 128 numbers, and none of them says "row 2, column 3". But we can ask how
# alike two of them are, by the **cosine** of their angle: 1 for the same direction, 0 at a right angle. That gives a
# map for each position: its cosine with every other one.
#
# OpenAI's models start from random positions (clip/model.py). That a grid of likeness appears in training was
# observed in the first Vision Transformers (Dosovitskiy et al., An Image is Worth 16x16 Words, sec. 4.5 and fig. 7).
# The built-in model was given a start: sines and cosines of the row and the column (miniclip/train.py, `sine_cosine`,
# from Beyer et al., Better plain ViT baselines for ImageNet-1k, 2022, sec. 2). So in its case a grid alone proves
# nothing. The question is what training has made of it.

# %%
y, x = np.mgrid[:6, :6].reshape(2, 36, 1) * 100.0 ** -np.linspace(0, 1, 32)  # (36, 32) each: 32 frequencies
start = 0.3 * np.concatenate([np.sin(x), np.cos(x), np.sin(y), np.cos(y)], axis=1)  # (36, D)
trained = parts["position_embedding"][1:]  # (36, D): the first is the class token's


def cosines(vectors):
    vectors = numpy_ops.l2_normalize(vectors)
    return vectors @ vectors.T  # (36, 36)


before, after = cosines(start), cosines(trained)
row, column = np.divmod(np.arange(36), 6)
distance = np.hypot(row[:, None] - row, column[:, None] - column)  # (36, 36), in patches
for name, c in [("before", before), ("after", after)]:
    nearest = (c - 2 * np.eye(36)).argmax(axis=1)  # the other position that is most alike
    print(f"{name:7} most alike is a direct neighbour: {(distance[np.arange(36), nearest] == 1).sum()} of 36;", end=" ")
    print(f"corner to the opposite corner: {c[0, 35]:.2f}, to near the middle: {c[0, 21]:.2f}")
    assert (distance[np.arange(36), nearest] == 1).all()

# %% [markdown]
# In both, the position most alike is always a direct neighbour: what lies side by side has like positions. But look
# at the corner. At the start its opposite corner was the least alike of all, 0.49, and a patch near the middle was at
# 0.64. Training has turned that round: 0.78 and 0.21. It has told the border from the inside. At the start, positions
# on the border were as alike to those inside (0.79) as to each other (0.76); now it is 0.48 to 0.72. A likely reason
# is in the pictures: of 6,000 shapes drawn as in training, not one in a hundred has its middle in a patch on the
# border.

# %%
assert before[0].argmin() == 35
assert [f"{c[0, j]:.2f}" for c in (before, after) for j in (35, 21)] == ["0.49", "0.64", "0.78", "0.21"]

border = np.isin(row, (0, 5)) | np.isin(column, (0, 5))  # (36,)
means = [c[border][:, other].mean() for c in (before, after) for other in (border, ~border)]
assert [f"{mean:.2f}" for mean in means] == ["0.76", "0.79", "0.72", "0.48"]

objects = [o for pair in shapes.SEEN * 100 for o in shapes.one_object(rng, pair)]
middles = np.array([(o.x, o.y) for o in objects])  # (6000, 2), in 0..1
assert len(middles) == 6000 and (abs(middles - 0.5) > 2 / 6).any(axis=1).mean() < 0.01

draw.grid_and_positions(image, 8, {"at the start": before, "trained": after})
plt.show()

# %% [markdown]
# On the left the 36 patches with the numbers of their tokens; 0 is the class token. Each small map belongs to the
# patch at its place, and shows how alike its position is to each.
#
# **Now you.** `miniclip learn start course` lays out exercises, of which `patch_embed` is this page's: see [the
# course](../../miniclip/learn/README.md). Next: in [03](03_attention.md) the tokens begin to look at each other.
