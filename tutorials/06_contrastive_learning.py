# %% [markdown]
# # 06 · Contrastive learning
#
# - **Builds**: the symmetric loss, its gradient by hand, a small CLIP trained from scratch.
# - **Time**: 120 s on 2 cores.
# - **Needs**: NumPy, matplotlib, torch.
# - **Before**: [05](05_two_towers.md), which builds the two towers; [03](03_attention.md), which has the softmax.
#
# Two towers turn pictures and texts into features, but nothing has made their features agree. What should they learn
# from? Nobody has labelled anything. All we have is **pairs**: a picture, and the text that somebody wrote beside it.
# This page makes that enough. It finds the loss, takes its gradient by hand, and trains a model while you wait.

# %%
import inspect
import math

import matplotlib.pyplot as plt
import numpy as np
import torch

import miniclip
from miniclip import zero_shot
from miniclip.config import CLIPConfig, TextConfig, VisionConfig
from miniclip.image import Preprocess
from miniclip.loss import contrastive_loss, contrastive_loss_gradient
from miniclip.model import CLIP
from miniclip.ops import numpy_ops, torch_ops
from miniclip.tokenizer import Tokenizer
from miniclip.train.loop import loop, shapes
from miniclip.viz import learning as draw

torch.set_num_threads(1)  # sums in one order, however many cores there are

# %% [markdown]
# ## A batch is a table
#
# Take $N$ pairs: pictures $1$ to $N$, and text $i$ belongs to picture $i$. Every feature is scaled to length one, so
# that it lies on the unit sphere: what counts is where it points. The dot product of two such vectors is their
# *cosine*, 1 where they point the same way, -1 where they point opposite ways. All cosines of the batch are one
# matrix product. A factor, the **scale**, makes them **logits**, the numbers that go into a softmax:
#
# $$x = \text{scale} \cdot \text{image} \cdot \text{text}^{\top}$$
#
# Row $i$ of this $N \times N$ table is picture $i$ against all texts, column $j$ is text $j$ against all pictures.
# What belongs together stands on the **diagonal**.
#
# To have a table to look at, let us fake two towers that are half trained. Give each word a direction of its own; a
# text points along the sum of its words, a picture along the same, and noise disturbs both.

# %%
captions = ["a red heart", "a red star", "a blue heart", "a blue star", "a green cross", "a green circle"]
words = sorted({word for caption in captions for word in caption.split()[1:]})
meaning = np.array([[float(word in caption.split()) for word in words] for caption in captions])  # (N, E)
N = len(captions)

rng = np.random.default_rng(0)
text = numpy_ops.l2_normalize(meaning + 0.175 * rng.standard_normal(meaning.shape))  # (N, E)
image = numpy_ops.l2_normalize(meaning + 0.35 * rng.standard_normal(meaning.shape))  # (N, E)
logits = 5 * image @ text.T  # (N, N), with a scale of 5
print(logits.round(1))

by_row = logits.argmax(axis=1) == np.arange(N)  # does picture i find text i?
by_column = logits.argmax(axis=0) == np.arange(N)  # does text j find picture j?
print(f"the diagonal wins {by_row.sum()} of {N} rows and {by_column.sum()} of {N} columns")
assert by_row.sum() == 5 and by_column.sum() == 5

# %% [markdown]
# That is the aim: **in each row and in each column, the diagonal should win.** So the task is a classification after
# all. For a picture, the classes are the $N$ texts that happen to be in the batch, and the right one is known, for
# free. The other $N - 1$ are the *contrast*. A model that gives all pictures the same feature gets nothing out of it.
#
# ## The loss
#
# Softmax turns a row into $N$ probabilities, and $-\ln$ of the right one is the *cross-entropy*, the usual loss of a
# classifier: 0 where it is sure and right, large where it is sure and wrong.
#
# $$-\ln \frac{e^{x_{ii}}}{\sum_j e^{x_{ij}}} = \ln \sum_j e^{x_{ij}} - x_{ii}$$
#
# Rows alone would be one-sided: pictures look for texts. So the columns do the same, texts look for pictures, and the
# loss is the mean of all $2N$ (CLIP, fig. 3). As in [03](03_attention.md), the largest number of each row is
# subtracted first: it changes nothing, and nothing overflows.

# %%


def naive_loss(logits):
    """logits (N, N) -> the mean cross-entropy of N rows and N columns."""
    N, total = len(logits), 0.0
    for table in (logits, logits.T):  # pictures look for texts, then texts for pictures
        for i in range(N):
            row = table[i] - max(table[i])  # (N,), the largest is 0
            total += math.log(sum(math.exp(x) for x in row)) - row[i]
    return total / (2 * N)


print(f"in loops {naive_loss(logits):.6f}, the library's {contrastive_loss(logits):.6f}")
assert math.isclose(naive_loss(logits), contrastive_loss(logits), rel_tol=1e-12)
print(inspect.getsource(contrastive_loss))

# %% [markdown]
# `ops` chooses NumPy or torch. `label_smoothing` is a share $s$ of each target that is spread evenly over all $N$
# candidates, so that nobody is asked to be quite sure: 0 for CLIP, 0.1 for [ALIGN](11_other_towers.md). A target $y$
# is then $s/N$ everywhere, and $1 - s$ more on the diagonal, and the cross-entropy of a row with its softmax $p_{ij}$
# is
#
# $$-\sum_j y_{ij} \ln p_{ij} = -(1 - s) \ln p_{ii} - \frac{s}{N} \sum_j \ln p_{ij}$$

# %%
s = 0.1
y = (1 - s) * np.eye(N) + s / N  # (N, N), rows and columns summing to one
ln_p = numpy_ops.log_softmax(logits) + numpy_ops.log_softmax(logits.T).T  # (N, N), of rows and of columns
assert math.isclose(contrastive_loss(logits, label_smoothing=s), -(y * ln_p).sum() / (2 * N), rel_tol=1e-12)

# %% [markdown]
# Before you train anything, know what the loss of knowing nothing is. If all logits are equal, each of the $N$
# candidates has the probability $1/N$, and the loss is $-\ln(1/N) = \ln N$, whichever number they all are. A loss
# that stays there has learned nothing. And it depends on $N$: losses of different batch sizes cannot be compared.

# %%
for n in (2, 6, 60, 32_768):
    print(f"N = {n:6,}: ln N = {math.log(n):.3f}" + "  (CLIP's batch, sec. 2.5)" * (n == 32_768))
for n in (2, 6, 60):
    for value in (0.0, -3.0, 1e4):
        assert math.isclose(contrastive_loss(np.full((n, n), value)), math.log(n), rel_tol=1e-14)

# %% [markdown]
# ## What the scale does
#
# Cosines end at 1. Without a factor even a perfect table could not be sure, since $e^1$ against $e^{-1}$ is no great
# odds. With a large one, softmax decides on the slightest difference. How large should it be? Here are three batches:
# ours; the same without the noise, in which all are right; and that one with two captions mixed up, as happens in
# what people write on the web.

# %%
clean = numpy_ops.l2_normalize(meaning)  # (N, E)
cosines = {
    "no noise": clean @ clean.T,  # (N, N) each
    "our batch": image @ text.T,
    "two captions mixed up": clean @ clean[[1, 0, 2, 3, 4, 5]].T,
}
scales = np.geomspace(0.1, 100, 121)
losses = {name: np.array([contrastive_loss(scale * c) for scale in scales]) for name, c in cosines.items()}
lowest = {name: scales[line.argmin()] for name, line in losses.items()}
for name in ("our batch", "two captions mixed up"):
    print(f"{name}: lowest loss {losses[name].min():.2f}, at a scale of {lowest[name]:.1f}")

assert (np.diff(losses["no noise"]) <= 0).all() and losses["no noise"][-1] < 1e-6  # falls all the way, to nothing
assert 0.2 < lowest["two captions mixed up"] < lowest["our batch"] < 50  # each has its lowest point on the way
assert all(abs(line[0] - math.log(N)) < 0.1 for line in losses.values()) and round(1 / 0.07) == 14
draw.loss_by_scale(scales, losses, math.log(N))
plt.show()

# %% [markdown]
# Towards a scale of zero all logits are equal: $\ln N$. If every diagonal wins, a larger scale is always better. But
# as long as some are wrong, too large a scale is punished: being sure of a wrong answer costs in proportion to the
# scale. The more that is wrong, the sooner. So the best scale says how far cosines can be trusted *now*, and CLIP
# does not choose it but **learns** it, as one more parameter. `logit_scale` is its logarithm, so that the scale is
# always positive. It starts at $\ln(1/0.07)$, a scale of about 14, and is kept from going above 100 (sec. 2.5). The
# inverse of the scale is called the **temperature**.
#
# ## The gradient
#
# Which logits should rise, which fall, and how much does it matter? That is the gradient, a table as large as the
# logits: entry $(i, j)$ is by how much the loss grows when $x_{ij}$ grows. In the cross-entropy of a row above, the
# derivative of $\ln \sum_j e^{x_{ij}}$ by $x_{ij}$ is $e^{x_{ij}} / \sum_t e^{x_{it}}$: just the softmax. The
# derivative of $-x_{ii}$ is $-1$, on the diagonal alone. Together, for rows and columns:
#
# $$G = \frac{\operatorname{softmax}_{\text{rows}}(x) + \operatorname{softmax}_{\text{columns}}(x) - 2I}{2N}$$
#
# - $\operatorname{softmax}_{\text{rows}}(x)$: the share that picture $i$ gives to text $j$. It is **pushed** away
#   from each text as hard as it is drawn to it.
# - $\operatorname{softmax}_{\text{columns}}(x)$: the share that text $j$ gives to picture $i$, the same push for the
#   text.
# - $-2I$, with $I$ the identity matrix, 1 on the diagonal and 0 elsewhere: the **pull** of the partners, once for the
#   row and once for the column. It ends where both give their partner the whole of 1.
# - $2N$: the loss is a mean of so many.
#
# A formula by hand is checked against the definition: move one logit a little up and a little down, and see what the
# loss does. Such *finite differences* need double precision.

# %%


def naive_gradient(logits, h=1e-5):
    """logits (N, N) float64 -> the slope of the loss in each of them, (N, N), by central differences."""
    slopes = np.zeros_like(logits)
    for i in range(len(logits)):
        for j in range(len(logits)):
            up, down = logits.copy(), logits.copy()
            up[i, j] += h
            down[i, j] -= h
            slopes[i, j] = (naive_loss(up) - naive_loss(down)) / (2 * h)
    return slopes


print(inspect.getsource(contrastive_loss_gradient))

G = contrastive_loss_gradient(logits)  # (N, N)
rows, columns = numpy_ops.softmax(logits), numpy_ops.softmax(logits.T).T  # (N, N) each
assert np.allclose(G, (rows + columns - 2 * np.eye(N)) / (2 * N), atol=1e-15)

assert logits.dtype == np.float64
error = np.linalg.norm(naive_gradient(logits) - G) / np.linalg.norm(G)
print(f"relative error of the formula against finite differences: {error:.1e}")
assert error < 1e-6

# %% [markdown]
# Here it is, beside the logits. A blue entry is pulled: the loss wants it to rise. A red one is pushed down. Only the
# diagonal is pulled, all else is pushed, and the pushes and pulls add up to zero: add the same number to all logits,
# and the loss does not change.

# %%
assert (np.diag(G) < 0).all() and (G[~np.eye(N, dtype=bool)] > 0).all() and abs(G.sum()) < 1e-15
pushed = np.unravel_index(G.argmax(), G.shape)  # the hardest push
easy = G[captions.index("a red heart"), captions.index("a green cross")]
print(f"hardest push: picture of {captions[pushed[0]]}, text {captions[pushed[1]]!r}: {G[pushed]:.3f}, not {easy:.4f}")
assert logits[pushed] > np.diag(logits)[pushed[0]] - 0.25  # the wrong text is about as high as the right one
assert set(captions[pushed[0]].split()) & set(captions[pushed[1]].split()) > {"a"}  # with a word in common
assert G[pushed] > 40 * easy
draw.logits_and_gradient(captions, logits, G)
plt.show()

# %% [markdown]
# Look where the colour is. That a red heart is no green cross is known already, and hardly pushed any more. The
# strong entries are among captions that share a word, and most of all where the wrong one is about as high as the
# right one. Nobody told the loss which pairs are hard: softmax finds them. It also says why batches should be large:
# in a batch without a second blue shape, nothing would ask what sets the two apart.
#
# From logits to features it is one step of the chain rule. Logits are products, so the slope for the image features
# is $\text{scale} \cdot G \cdot \text{text}$, and for the text features $\text{scale} \cdot G^{\top} \cdot
# \text{image}$: each picture moves towards its own text, and away from the others, by the shares above. Let us walk:

# %%
moved_image, moved_text = image, text
for _ in range(100):
    slope = 5 * contrastive_loss_gradient(5 * moved_image @ moved_text.T)  # (N, N)
    moved_image, moved_text = moved_image - 0.1 * slope @ moved_text, moved_text - 0.1 * slope.T @ moved_image
    moved_image, moved_text = numpy_ops.l2_normalize(moved_image), numpy_ops.l2_normalize(moved_text)  # (N, E) each

after = 5 * moved_image @ moved_text.T  # (N, N)
print(f"loss {contrastive_loss(logits):.3f} before, {contrastive_loss(after):.3f} after 100 steps")
assert contrastive_loss(after) < contrastive_loss(logits) / 2
assert (after.argmax(axis=0) == np.arange(N)).all() and (after.argmax(axis=1) == np.arange(N)).all()

# %% [markdown]
# The diagonal has won everywhere. That is all that a training does, except that features are not free to go where
# they like: they come out of two towers, and what moves is the towers' parameters, which all pictures share.
# torch, which will train them, finds gradients by itself, and finds the same table:

# %%
x = torch.tensor(logits, requires_grad=True)  # (N, N)
contrastive_loss(x, ops=torch_ops).backward()
assert np.allclose(x.grad, G, atol=1e-15)

# %% [markdown]
# ## A small CLIP, from scratch
#
# Now for real. `miniclip.train.shapes` draws pictures: a shape of some colour at any place, on grounds of many kinds.
# With ten colours and eight shapes there are eighty pairs of a colour and a shape. A quarter of them is **held out**:
# no such picture is drawn, no such caption written. Every batch has each of the other $N = 60$ once, newly drawn each
# time, with its caption: "a red circle".

# %%
prepare = Preprocess(48)  # P pictures -> (P, C, 48, 48)
captions = [shapes.label(*pair) for pair in shapes.SEEN]
N = len(captions)


def draw_pictures(pairs, rng):
    """P pairs -> pictures (P, C, 48, 48), each of a shape that reaches 0.36 of a side or more from its centre."""
    return prepare([shapes.draw(shapes.one_object(rng, pair, smallest=0.36), rng) for pair in pairs])


def draw_batch(step):
    return draw_pictures(shapes.SEEN, np.random.default_rng([0, step])), captions


assert len(shapes.COLOURS) == 10 and len(shapes.SHAPES) == 8 and len(shapes.HELD_OUT) == 20
assert N == len(set(captions)) == 60  # no caption is true of another's picture

# %% [markdown]
# The towers are those of [05](05_two_towers.md), small and with random parameters. The vocabulary is made of the
# captions, as in [01](01_bytes_to_tokens.md).

# %%
tokenizer = Tokenizer.train(captions, vocab_size=600)
image_tower = VisionConfig(image_size=48, patch_size=8, width=96, layers=3, heads=3, mlp_width=384)
text_tower = TextConfig(context_length=8, vocab_size=len(tokenizer), width=96, layers=1, heads=3, mlp_width=384)
config = CLIPConfig(visual=image_tower, text=text_tower, embed_dim=96)
model = CLIP(config, loop.init_params(config, np.random.default_rng(0)), torch_ops, tokenizer=tokenizer)
print(inspect.getsource(loop.fit))

# %% [markdown]
# Each step draws a batch, sends it through both towers, takes the loss, and has torch carry its gradient back to
# every parameter. An *optimizer* makes a step out of it: one named Muon for the matrices of the blocks, and AdamW,
# which CLIP used throughout, for all else. `schedule` lets steps grow at first, and shrink towards the end.
#
# On the way, an examination every 20 steps: a new picture of each of the eighty pairs, the held-out ones too, and
# all eighty captions. Is the nearest caption of the right colour? Of the right shape? (This cell takes a minute or
# two.)

# %%
every = [shapes.label(*pair) for pair in shapes.PAIRS]  # 80 captions: eight of each colour, in the order of shapes


def right(model, pictures, truth):
    """pictures (P, C, 48, 48), truth (P,) numbers of captions -> colour right, shape right: (2, P)."""
    with torch.no_grad():
        cosines = model.ops.l2_normalize(model.encode_image(pictures)) @ zero_shot.class_embeddings(model, every).T
    nearest = model.ops.to_numpy(cosines).argmax(axis=-1)  # (P,)
    return np.array([nearest // 8 == truth // 8, nearest % 8 == truth % 8])


some = draw_pictures(shapes.PAIRS, np.random.default_rng(1))  # (80, C, 48, 48)
recipe = loop.Recipe(steps=1000, muon_learning_rate=0.01, warmup=50)
losses, scales, found = [], [], {}
for step, loss in loop.fit(model, draw_batch, recipe):
    losses.append(loss)
    scales.append(math.exp(model.logit_scale.item()))
    if step % 20 == 19:
        found[step + 1] = right(model, some, np.arange(80)).mean(axis=1)  # (2,)

smooth = np.array([np.mean(losses[max(0, step - 24) : step + 25]) for step in range(len(losses))])  # of 49 steps
print(*(f"step {n:4}: loss {smooth[n - 1]:.2f}, scale {scales[n - 1]:.1f}" for n in range(100, 1001, 100)), sep="\n")

# %% [markdown]
# Two levels of the loss can be told beforehand. Who knows nothing has $\ln N$. And who sees the colour but not the
# shape still has as many candidates as the batch has shapes of one colour, which is six: $\ln 6$.

# %%
levels = {f"ln {N}: knows nothing": math.log(N), "ln 6: knows the colour": math.log(6)}
draw.course(losses, smooth, levels, found, scales)
plt.show()

colour, shape = np.array(list(found.values())).T  # (50,) each
at = np.argmax(colour > 0.9)  # the first examination with nine in ten colours right
print(f"step {list(found)[at]}: {colour[at]:.0%} of colours right, {shape[at]:.0%} of shapes")
assert {sum(pair[0] == c for pair in shapes.SEEN) for c in shapes.COLOURS} == {6}
assert losses[0] > math.log(N) and smooth[-1] < 0.5 * math.log(6)
assert colour[at] > 0.9 and shape[at] < 0.6 < shape[-1] and scales[-1] > scales[0]

# %% [markdown]
# The first loss is *above* $\ln N$: random towers have random preferences, and a scale of 14 takes them seriously.
# Then colours come, and the curve bends near the second level as if all had been learned: a colour can be read off
# one patch, but for a shape the patches must first be related to each other. The scale waits, and rises as diagonals
# are won: cosines have come to deserve more trust.
#
# ## What it has understood
#
# Now twenty new pictures of each pair. A guess among eighty captions is right once in eighty times. Who has learned
# the sixty captions by heart names none of the held-out pairs. To name them, a model must have colour and shape
# apart, in pictures *and* in texts, and put them together anew. Beside ours stands the built-in model: the same loss,
# but it is larger, was trained longer, and saw smaller shapes and richer captions.

# %%
pictures = draw_pictures([pair for pair in shapes.PAIRS for _ in range(20)], np.random.default_rng(2))  # (1600, ...)
truth = np.arange(80).repeat(20)  # (1600,)
unseen = np.array([pair in shapes.HELD_OUT for pair in shapes.PAIRS])  # (80,)
chance = 1 / len(every)

grids, lines = {}, [f"chance: {chance:.2%}"]
for name, each in {"ours": model, "built-in": miniclip.load("shapes", backend="numpy")[0]}.items():
    hits = right(each, pictures, truth).reshape(2, 80, 20)  # colour and shape, pairs, pictures
    shares = hits.all(axis=0).mean(axis=1)  # (80,), how often each pair was named rightly
    seen, held_out, (colour, shape) = shares[~unseen].mean(), shares[unseen].mean(), hits[:, unseen].mean(axis=(1, 2))
    lines.append(f"{name}: seen {seen:.1%}, held out {held_out:.1%}, which is {held_out / chance:.0f} times chance")
    lines.append(f"    of the held-out ones, the colour {colour:.1%}, the shape {shape:.1%}")
    grids[f"{name}: seen {seen:.0%}, held out {held_out:.0%}"] = shares.reshape(10, 8)  # colours, shapes
    assert held_out > 0.5 > 30 * chance and colour > 0.9 and colour >= shape

print(*lines, sep="\n")
draw.accuracy_grids(list(shapes.COLOURS), list(shapes.SHAPES), grids, shapes.HELD_OUT)
plt.show()

# %% [markdown]
# Outlined pairs were never shown, and most of them are named all the same, by a model that is minutes old. What it
# gets wrong is shapes, hardly ever a colour. Nobody told it what red is, or a heart: sixty sentences, and the
# pictures that they stood beside, were enough. Compare the two numbers above its grid: as far as they differ, it has
# learned pairs by heart, and not colour and shape apart.
#
# Do not expect more of it. It has seen large shapes, one in each picture, and one way of naming them. Even [the
# built-in model](../../docs/built-in-model.md) fails at two objects in one picture.
#
# **Now you.** `miniclip learn start course` lays out exercises, of which `contrastive_loss` and
# `contrastive_gradient` are this page's: see [the course](../../miniclip/learn/README.md). And here: let a batch have
# one pair of each colour only, ten in all. What is left to learn, and what becomes of the shapes? Next:
# [07](07_zero_shot.md) makes a classifier of the two towers.
