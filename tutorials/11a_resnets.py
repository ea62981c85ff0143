# %% [markdown]
# # 11a · ResNets
#
# - **Builds**: a convolution, BatchNorm folded away, the bottleneck, halving without aliasing, attention pooling.
# - **Time**: 5 s on 2 cores.
# - **Needs**: NumPy, matplotlib.
# - **Before**: [03](03_attention.md), the attention that the last part uses, and [05](05_two_towers.md), the towers
#   that are transformers; [07](07_zero_shot.md), a use of towers.
#
# CLIP's loss does not depend on the kind of tower. Five of the nine models that OpenAI published have a **ResNet**
# instead of a Vision Transformer: a tower of convolutions. This page builds its parts, from the first convolution to
# the feature. OpenAI changed two of them: how a grid is halved, and how the last grid becomes one feature. All
# weights on this page are random or set by hand: we look at structure, and at laws that hold for all weights.

# %%
import inspect
import math

import matplotlib.pyplot as plt
import numpy as np

from miniclip import params
from miniclip.families import batch_norm
from miniclip.families.clip.presets import PRESETS
from miniclip.ops import numpy_ops
from miniclip.towers import resnet
from miniclip.train import shapes
from miniclip.viz import grids as draw

rng = np.random.default_rng(0)

# %% [markdown]
# ## A convolution is a matrix product
#
# A *grid* has $C$ channels, and each channel has $G_y \times G_x$ numbers, its cells; a picture is a grid with $C =
# 3$. A **convolution** makes $O$ new channels of it. Each new channel has a small window of weights, $k \times k$ in
# every old channel, that moves over the grid in steps of `stride`. At each place it gives one number, the dot product
# of its weights and the numbers under the window, plus a bias. Zeros around the grid (`padding`) let the window reach
# over the edge:

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
# All $O$ channels use the same windows. So write every window as a column of $C k^2$ numbers, and the weights as $O$
# rows: the whole convolution is one product of two matrices, the operation that computers are fastest at. This is
# called *im2col*; [02](02_pixels_to_patches.md) did this with patches, which are windows that do not overlap. The
# library writes only as many columns at a time as fit into a core's cache.

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
# In training each convolution of a ResNet is followed by a **BatchNorm** and has no bias. BatchNorm brings every
# channel to mean 0 and variance 1 over the batch, then multiplies by a learned $\gamma$ and adds a learned $\beta$.
# After training, the mean $\mu$ and the variance $\sigma^2$ are constants of the checkpoint. So BatchNorm is only a
# factor $a$ and an addend for each channel, and a convolution $w \star x$ can include them:
#
# $$\gamma \, \frac{w \star x - \mu}{\sqrt{\sigma^2 + \varepsilon}} + \beta = (a w) \star x + (\beta - a \mu)$$
#
# with $a = \gamma / \sqrt{\sigma^2 + \varepsilon}$ and $\varepsilon = 10^{-5}$ (Batch Normalization, alg. 2). So the
# library has no such operation: it *folds* BatchNorms into convolutions when it reads a checkpoint.

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
ours = batch_norm.fold(tensors, [("conv1", "bn1")], eps=1e-5)  # four names fewer, one more
assert list(ours) == ["visual.conv1.weight", "visual.conv1.bias"]
assert np.allclose(ours["visual.conv1.weight"], w) and np.allclose(ours["visual.conv1.bias"], b)

# %% [markdown]
# ## The bottleneck
#
# A ResNet is a stack of **bottlenecks**. Each adds to its grid the result of three convolutions, as a transformer's
# block adds to its tokens. The first, with $k = 1$, goes from $4N$ channels down to $N$; the second, with $k = 3$,
# looks at neighbours; the third, with $k = 1$, goes back to $4N$. Between them is *relu*, which replaces negative
# numbers by 0. Looking at neighbours in all $4N$ channels would cost eight times as much:

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
# takes the **mean** of each four cells, which is `halve` above (CLIP, sec. 2.4). The picture below shows why, on
# rings that become finer towards the corner. If rings are too fine for the small grid, every other pixel still shows
# *something*: coarse rings that do not exist. That is **aliasing**. Shift the picture by one pixel, and false rings
# change from white to black.

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
# At the end there is a grid with $D$ channels, and we want one feature of $E$ numbers. The grid has 7 x 7 cells in
# RN50 and RN101, as here, and more in the three larger models. A standard ResNet takes the mean of the cells.
# OpenAI's takes a *weighted* mean of them, by the attention of [03](03_attention.md): $H$ heads, with queries, keys
# and values of width $K$. The $T = 1 + 7 \cdot 7$ tokens are the mean of the cells, then the cells; learned positions
# are added. Only the mean has a query, so there is one output.

# %%


def naive_pool(x, position_embedding, q, k, v, out, heads):
    """x (D, Gy, Gx) -> (E,)."""
    D = len(x)
    cells = x.reshape(D, -1).T  # (Gy·Gx, D)
    tokens = np.vstack([cells.mean(axis=0), cells]) + position_embedding  # (T, D)
    query = q["weight"] @ tokens[0] + q["bias"]  # (D,)
    keys, values = (tokens @ m["weight"].T + m["bias"] for m in (k, v))  # (T, D)
    taken = []
    for h in np.split(np.arange(D), heads):  # the K channels of each head
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
assert len(cells) == 5 and len(PRESETS) == 9

# %% [markdown]
# One law connects it with mean pooling. Let weights and biases of $Q$ and $K$ be zero, and the positions too. Then
# all scores are equal, each of the $T$ tokens gets $1/T$, and attention pooling **is** mean pooling, followed by the
# matrices of $V$ and of the output. (The extra token does not change this: a mean stays the same if it is added to
# its own set.)

# %%
zero = {"weight": np.zeros((D, D)), "bias": np.zeros(D)}
flat = {**p, "q": zero, "k": zero, "position_embedding": np.zeros((G * G + 1, D))}
expected = p["v"]["weight"] @ x.mean(axis=(1, 2)) + p["v"]["bias"]  # (D,)
expected = p["out"]["weight"] @ expected + p["out"]["bias"]  # (E,)
gap = abs(resnet.pool(numpy_ops, x[None], **flat, heads=H)[0] - expected).max()
print(f"zero Q and K against a mean: {gap:.1e}")
assert gap < 1e-12

# %% [markdown]
# Unlike a mean, attention pooling can choose. We set weights by hand to see it: the cells are the mean colours of a
# picture, $D = 3$, and keys, values and output are these colours unchanged. The query is only a bias. It asks for
# "red, not green, not blue", with a strength of 0, 10 or 60.

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
heart = cells[0, 0] > 2 * cells[0, 1:].max(axis=0)  # (7, 7): cells that are mostly red
shares = [weights[heart].sum() for weights in maps]
assert shares[0] < shares[1] < shares[2] and shares[2] > 0.99
print(f"weight on the {heart.sum()} red cells:", [f"{share:.2f}" for share in shares])
draw.pooled(np.asarray(picture), maps, colours, ["strength 0: a mean", "strength 10", "strength 60"])
plt.show()

# %% [markdown]
# With strength 0 all cells have the same weight, and the result is the mean colour. The stronger the query, the more
# of the weight is on the red cells, and the result becomes red. In a trained model the query is not only a bias: it
# depends on the mean of the grid, so it can be different for each picture.
#
# **Now you.** [The course](../../miniclip/learn/README.md) (`miniclip learn start course`) has no exercise for this
# tower. If you want one: give `naive_convolution` groups. Next: [11b](11b_align.md), the towers of ALIGN, and all
# towers side by side.
