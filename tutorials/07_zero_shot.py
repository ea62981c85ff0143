# %% [markdown]
# # 07 · Zero-shot
#
# - **Builds**: a classifier made of words, its temperature, ensembles of prompts.
# - **Time**: 20 s on 2 cores.
# - **Needs**: NumPy, matplotlib.
# - **Before**: [06](06_contrastive_learning.md), which trained the two towers; [05](05_two_towers.md) built them.
#
# Training has given us two towers. One turns a picture into a feature, a vector of $E$ numbers, the other turns a
# text into a feature, and the two point the same way if text and picture belong together. No classifier was trained.
# But you can have one, for any classes that you can name, without one labelled example. That is the meaning of
# **zero-shot**.

# %%
import inspect
import math

import matplotlib.pyplot as plt
import numpy as np

import miniclip
from miniclip import zero_shot
from miniclip.fetch import hub, vocabulary
from miniclip.ops import numpy_ops
from miniclip.runtime import caches
from miniclip.train import shapes
from miniclip.viz import similarity_matrix
from miniclip.viz import zero_shot as draw
from miniclip.weights import DIRECTORY

model, preprocess = miniclip.load("shapes", backend="numpy")
image = preprocess(DIRECTORY / "example.png")[None]  # (1, C, 48, 48): a red heart

# %% [markdown]
# ## Labels are weights
#
# A *linear classifier* for $N$ classes has one row of weights $w_n$ for each class, and gives class $n$ the score
# $w_n \cdot f$, where $f$ is the picture's feature. Usually the rows are learned from labelled pictures. Here they
# are **written**: row $n$ is the text tower's feature for the name of class $n$. Rows and features are scaled to
# length one, so that each score is a *cosine*, between -1 and 1. Then come a factor and the softmax of
# [03](03_attention.md):
#
# $$p_n = \operatorname{softmax}_n\left(
# e^s \cdot \frac{w_n}{\lVert w_n \rVert} \cdot \frac{f}{\lVert f \rVert}\right)$$
#
# The factor $e^s$ was learned in training; checkpoints contain its logarithm $s$ under the name `logit_scale`. (CLIP,
# sec. 3.1.2, describes the text tower as a network that generates the weights of another.) The whole classifier:

# %%


def naive_classify(model, images, labels):
    """images (B, C, height, width), N labels -> probabilities (B, N)."""
    f = model.encode_image(images)  # (B, E)
    w = model.encode_text(model.tokenize(labels))  # (N, E)
    f = f / np.linalg.norm(f, axis=-1, keepdims=True)  # (B, E), each of length one
    w = w / np.linalg.norm(w, axis=-1, keepdims=True)  # (N, E), each of length one
    cosines = f @ w.T  # (B, N)
    logits = math.exp(model.logit_scale) * cosines  # (B, N)
    e = np.exp(logits - logits.max(axis=-1, keepdims=True))  # (B, N)
    return e / e.sum(axis=-1, keepdims=True)  # (B, N), rows summing to one


# %% [markdown]
# The library does this in two steps: `class_embeddings` writes the weights, `probabilities` applies them.
# (`templates` come further down.)

# %%
print(inspect.getsource(zero_shot.classify))
print(inspect.getsource(zero_shot.probabilities))

# %% [markdown]
# The classes are an argument: we can ask different questions about the same picture, and the weights of the towers
# stay the same.

# %%
answers = []
for labels in (["something red", "something green"], ["a heart", "a circle", "a star"], ["a red heart", "a picture"]):
    p = naive_classify(model, image, labels)  # (1, N)
    assert np.allclose(p, zero_shot.classify(model, image, labels), atol=1e-6)
    assert p[0].argmax() == 0  # the first is the right one each time
    answers.append(dict(zip(labels, p[0].round(3).tolist())))
print(*answers, sep="\n")

# %% [markdown]
# ## What the temperature does
#
# Why is there a factor? Because cosines are small. Leave it out, $e^s = 1$, and take a perfect match among $N$
# labels: a cosine of 1 for one of them, -1 for all others. Softmax could still not be sure. Its largest probability
# would be $e / (e + (N - 1) e^{-1})$: a half for eight labels, less than a hundredth for a thousand.
#
# $e^s$ is the inverse of a *temperature*: the larger $e^s$ is, the sharper the probabilities are. It multiplies all
# scores alike, so it changes how sure the classifier is, never which label it chooses. Here are the same eight
# cosines with no factor, with 5, and with the factor that this model has learned. OpenAI's ViT-B/32 has 100, the
# largest that its training allowed (CLIP, sec. 2.5).

# %%
labels = ["a red heart", "a blue heart", "a pink heart", "a red circle", "a red star", "a green square",
          "a black cross", "a white crescent"]  # fmt: skip
w = zero_shot.class_embeddings(model, labels)  # (8, E)
cosines = (numpy_ops.l2_normalize(model.encode_image(image)) @ w.T)[0]  # (8,)
print("cosines", cosines.round(2))
scales = np.array([1, 5, math.exp(model.logit_scale)])
p = numpy_ops.softmax(scales[:, None] * cosines)  # (3, 8)

most = {N: math.e / (math.e + (N - 1) / math.e) for N in (8, 1000)}
assert round(most[8], 1) == 0.5 and most[1000] < 0.01
assert p[0].max() < most[8] and p[2].max() > 0.99
assert (p.argsort(axis=-1) == cosines.argsort()).all()  # the same order in every row
draw.probabilities_by_scale(labels, p, ["no factor", "$e^s$ = 5", f"$e^s$ = {scales[2]:.1f}, learned"])
plt.show()

# %% [markdown]
# So read such probabilities with care. They show how much better one of *your* labels fits than the others, not
# whether any of them fits: the probabilities always sum to 1. Remove the right answer, and the classifier chooses a
# wrong one.

# %%
p = zero_shot.classify(model, image, labels[1:])[0]  # without "a red heart"
print(f"{labels[1 + p.argmax()]}: {p.max():.0%} at a cosine of {cosines[1:].max():.2f}, not {cosines[0]:.2f}")
assert p.max() > 0.6 and cosines[1:].max() < 0.5 < 0.7 < cosines[0]

# %% [markdown]
# ## Many prompts for one label
#
# A label can be written in many ways: "a red heart", "a photo of a red heart", "look, a red heart!". Each such
# *template*, a text with `{}` for the label, gives slightly different weights. A **prompt ensemble** takes their
# mean: each embedding is first scaled to length one, so that all count alike, and the mean is scaled again, since a
# mean of different unit vectors is shorter than one.

# %%


def naive_class_embeddings(model, labels, templates):
    """N labels and their templates -> one direction for each label, (N, E)."""
    rows = []
    for label in labels:
        units = []
        for template in templates:
            e = model.encode_text(model.tokenize([template.replace("{}", label)]))[0]  # (E,)
            units.append(e / np.linalg.norm(e))
        mean = np.mean(units, axis=0)  # (E,)
        assert np.linalg.norm(mean) < 1
        rows.append(mean / np.linalg.norm(mean))
    return np.stack(rows)


plain = list(dict.fromkeys(shapes.FRAMES))  # the 11 that captions had in training
print(plain[:7])
naive = naive_class_embeddings(model, labels, plain)  # (8, E)
assert np.allclose(naive, zero_shot.class_embeddings(model, labels, plain), atol=1e-6)

# %% [markdown]
# Once the weights are written, an ensemble costs nothing: there is still one row for each class. CLIP, sec. 3.1.4,
# reports for ImageNet that "a photo of a {}." instead of the bare label gains 1.3 points of accuracy, and an ensemble
# of 80 prompts another 3.5.
#
# And for our model? We need a task that is not solved already: 400 pictures of one shape each, smaller than most
# shapes that the model has seen, and all 80 pairs of colour and shape as labels.

# %%
every = [shapes.label(*pair) for pair in shapes.PAIRS]  # 80 labels
rng = np.random.default_rng(7)
truth = rng.integers(len(every), size=400)  # (400,)
pictures = []
for index in truth:
    size = rng.uniform(0.12, 0.2)  # from the centre to the rim, in sides of the picture
    x, y = rng.uniform(size, 1 - size, 2)
    pictures.append(shapes.draw([shapes.Object(*shapes.PAIRS[index], x, y, size)], rng))
f = numpy_ops.l2_normalize(model.encode_image(preprocess(pictures)))  # (400, E)


def hit_rate(w):
    return np.mean((f @ w.T).argmax(axis=-1) == truth)


bare = hit_rate(zero_shot.class_embeddings(model, every))
e_plain = np.stack([zero_shot.class_embeddings(model, every, [template]) for template in plain])  # (11, 80, E)
singly = [hit_rate(w) for w in e_plain]
print(f"the label alone {bare:.1%}; each of {len(plain)} plain templates {min(singly):.1%} to {max(singly):.1%}")
assert len(plain) == 11 and max(singly) - min(singly) < 0.01

# %% [markdown]
# There is almost no difference. This model ignores a frame such as "a photo of {}", so there is no error that an
# ensemble could average out. So we give it worse templates, which say something untrue: "{} and a blue star", "{} and
# a black cross", and so on through all 80 labels. How good is an ensemble of $m$ of them? We try each $m$ with 40
# random choices; the band in the picture is their standard deviation.

# %%
crowded = [f"{{}} and {label}" for label in every]  # 80 templates
e_crowded = np.stack([zero_shot.class_embeddings(model, every, [template]) for template in crowded])  # (80, 80, E)

numbers = [1, 2, 4, 8, 16, 32]
curves, lines = {}, []
for name, e in (("plain templates", e_plain), ("templates that say too much", e_crowded)):
    tried = []  # 40 accuracies for each m
    for m in (m for m in numbers if m <= len(e)):
        chosen = [rng.choice(len(e), m, replace=False) for _ in range(40)]
        tried.append([hit_rate(numpy_ops.l2_normalize(e[rows].mean(axis=0))) for rows in chosen])
    curves[name] = np.mean(tried, axis=-1), np.std(tried, axis=-1)
    lines += [name, *(f"    m = {m:2}: {mean:.1%} ± {spread:.1%}" for m, mean, spread in zip(numbers, *curves[name]))]
print(*lines, sep="\n")

mean, spread = curves["templates that say too much"]
assert round(100 * (bare - mean[0])) == 6 and round(100 * (mean[3] - mean[0])) == 4 and spread[3] < spread[0] / 2
assert np.ptp(curves["plain templates"][0]) < 0.005 and max(mean.max(), *curves["plain templates"][0]) < bare + 0.001
assert shapes.PLAIN == 0.5
draw.accuracy_by_prompts(numbers, curves, bare)
plt.show()

# %% [markdown]
# One bad prompt costs six points, and eight of them regain four: that is the effect of an ensemble. But no ensemble
# here is better than the label alone. Half of the captions that this model learned from (`shapes.PLAIN`) were such
# bare labels. CLIP's captions were rarely a single word, and so a sentence around the label helps there (sec. 3.1.4).
# Which prompts are good depends on the training data.
#
# ## Why an ensemble helps
#
# Split the embedding of label $n$ in template $t$ into $c + a_n + b_t + r_{nt}$: the part that all have in common,
# the part that the label adds, the part that the template adds to all labels alike, and a rest, the effect of the
# template on this one label. The harm seems to be in $b_t$. But $b_t$ adds the same number $f \cdot b_t$ to the score
# of every label, and this does not change a softmax, which depends on differences alone. Most of the harm is in
# $r_{nt}$. The rests of different templates point different ways, so a mean over $m$ random templates leaves one
# $m$-th of their squared length. The mean over all eighty is, by definition, $c + a_n$, without any rest. It is still
# not as good as the label alone. That difference is in $a_n$, and no averaging removes it.

# %%


def parts_of(e):
    """e (t, N, E) -> c (E,), a (N, E), b (t, 1, E) and r (t, N, E), whose sum is e."""
    c = e.mean(axis=(0, 1))
    a, b = e.mean(axis=0) - c, e.mean(axis=1, keepdims=True) - c
    return c, a, b, e - c - a - b


for name, e in (("plain", e_plain), ("too much", e_crowded)):
    share = [np.square(part).sum(axis=-1).mean() for part in parts_of(e)]  # mean squared lengths
    print(f"{name:<8} common {share[0]:.3f}, label {share[1]:.3f}, template {share[2]:.3f}, rest {share[3]:.4f}")
    assert math.isclose(sum(share), 1, abs_tol=1e-5)  # e has length one

c, a, b, r = parts_of(e_crowded)
crowd, no_rest = np.mean([hit_rate(w) for w in e_crowded]), hit_rate(c + a)
print(f"accuracy: one template {crowd:.1%}, without its rest {no_rest:.1%}, the label alone {bare:.1%}")
assert np.allclose(e_crowded.mean(axis=0), c + a, atol=1e-6)
assert bare - crowd > no_rest - crowd > 2 * (bare - no_rest) > 0.03

p, without_b = (numpy_ops.softmax(math.exp(model.logit_scale) * f @ e.T) for e in (e_crowded[0], e_crowded[0] - b[0]))
assert np.allclose(p, without_b, atol=1e-4)  # (400, 80): b[0] changes no probability

left = {m: np.square([r[rng.choice(80, m)].mean(axis=0) for _ in range(200)]).sum(axis=-1).mean() for m in (1, 2, 4, 8)}
print("rest that m templates leave:", {m: round(float(value), 4) for m, value in left.items()})
assert all(abs(m * value / left[1] - 1) < 0.1 for m, value in left.items())
assert share[2] > 0.25 > 0.05 > share[3]

# %% [markdown]
# This explains why "{} and a blue star" works at all: more than a quarter of its squared length is the harmless
# $b_t$, less than a twentieth is the rest.
#
# ## Eighty labels, and pairs that were never shown
#
# Twenty of the eighty pairs of colour and shape were never in training, neither drawn nor named. A classifier with an
# output for each of the other sixty could not name them at all. Here a class is a text, so the twenty are classes
# like all others. The shapes now have the same sizes as in training.

# %%
w = zero_shot.class_embeddings(model, every)  # (80, E)
lines = [f"chance: {1 / len(every):.2%}"]
for name, pairs in (("seen in training", shapes.SEEN), ("held out", shapes.HELD_OUT)):
    rng = np.random.default_rng(21)
    drawn = [pairs[index] for index in rng.integers(len(pairs), size=400)]
    truth = np.array([shapes.PAIRS.index(pair) for pair in drawn])  # (400,)
    pictures = [shapes.draw(shapes.one_object(rng, pair), rng) for pair in drawn]
    f = numpy_ops.l2_normalize(model.encode_image(preprocess(pictures)))  # (400, E)
    best = (f @ w.T).argmax(axis=-1)
    right = np.mean(best == truth)
    error = math.sqrt(right * (1 - right) / len(truth))  # the standard error for 400 pictures
    colours = np.mean(best // len(shapes.SHAPES) == truth // len(shapes.SHAPES))
    lines.append(f"{len(pairs)} pairs {name}: {right:.2%} ± {error:.2%}, the colour alone {colours:.2%}")
    assert right > 0.95 and colours == 1
print(*lines, sep="\n")

# %% [markdown]
# No colour was wrong: all errors are between shapes. ([The built-in model](../../docs/built-in-model.md) has the
# numbers for 2,000 pictures of each kind: 97.8% and 96.4%.) Now the picture at the top of the
# [README](../../README.md): eight of the held-out pairs, and the cosine of every picture with every caption. If each
# picture matches its own caption best, the largest number of every row and of every column is on the diagonal.

# %%
rng = np.random.default_rng(3)
pairs = shapes.HELD_OUT[:16:2]
assert not set(pairs) & set(shapes.SEEN)
pictures = [shapes.draw(shapes.one_object(rng, pair), rng).resize((96, 96)) for pair in pairs]
captions = [shapes.label(*pair) for pair in pairs]
images = numpy_ops.l2_normalize(model.encode_image(preprocess(pictures)))  # (8, E)
texts = zero_shot.class_embeddings(model, captions)  # (8, E)
cosines = texts @ images.T  # (8, 8): captions down, pictures across

wins = [int((cosines.argmax(axis=axis) == np.arange(8)).sum()) for axis in (0, 1)]
print(f"the diagonal wins {wins[0]} of 8 columns and {wins[1]} of 8 rows")
assert wins == [8, 8]
similarity_matrix(pictures, captions, cosines)
plt.show()

# %% [markdown]
# ## What it cannot do
#
# Two objects are in one picture: "a red circle and a blue square", or "a blue circle and a red square"? The words are
# the same. The captions differ in how they pair colours with shapes, called **binding**.

# %%
rng = np.random.default_rng(0)
scenes = [shapes.two_objects(rng, shapes.PAIRS) for _ in range(600)]
scenes = [(a, b) for a, b in scenes if a.colour != b.colour and a.shape != b.shape]
f = numpy_ops.l2_normalize(model.encode_image(preprocess([shapes.draw(scene, rng) for scene in scenes])))


def embed_captions(i, j, k, l):  # noqa: E741
    """Unit embeddings (n, E) of "COLOUR SHAPE and COLOUR SHAPE", where i, j, k, l are numbers of objects."""
    texts = [f"{shapes.label(s[i].colour, s[j].shape)} and {shapes.label(s[k].colour, s[l].shape)}" for s in scenes]
    return numpy_ops.l2_normalize(model.encode_text(model.tokenize(texts)))


true, swapped, turned = embed_captions(0, 0, 1, 1), embed_captions(1, 0, 0, 1), embed_captions(1, 1, 0, 0)
right = np.mean((f * true).sum(axis=-1) > (f * swapped).sum(axis=-1))
error = math.sqrt(0.25 / len(scenes))
print(f"the true caption beats the one with its colours swapped in {right:.1%} of {len(scenes)} pictures")
print(f"guessing: 50% ± {error:.1%}")
assert abs(right - 0.5) < 3 * error

# %% [markdown]
# That is no better than guessing, and the texts alone show why. Swapping the colours changes the meaning; naming the
# objects in the other order does not. For the text tower it is the opposite:

# %%
other, same = np.mean((true * swapped).sum(axis=-1)), np.mean((true * turned).sum(axis=-1))
print(f"cosine with the caption with swapped colours: {other:.4f}, with the objects in the other order: {same:.4f}")
assert other > same > 0.99

# %% [markdown]
# For this model a caption is a bag of words. The loss required no more: a batch hardly ever has a second picture with
# the same words in another order. (Large models do the same: Yuksekgonul et al., *When and why vision-language models
# behave like bags-of-words*, 2023.)
#
# ## OpenAI's own picture
#
# The README of openai/CLIP classifies its own figure, CLIP.png, with ViT-B/32 and the labels "a diagram", "a dog" and
# "a cat", and prints the probabilities 0.9927937, 0.00421068 and 0.00299572. If weights, picture and vocabulary are
# in miniclip's cache (`miniclip download ViT-B/32 vocabulary CLIP.png`), this page computes them from the pixels.
# Otherwise it starts from the cosines of the features that NPCLIP, a NumPy port, has published, and from a
# factor of 100. Nothing is downloaded.

# %%
weights = hub.find_model("ViT-B/32")  # looks, fetches nothing
if weights and vocabulary.find() and (caches.cache_directory() / "CLIP.png").is_file():
    official, prepare = miniclip.load(weights, backend="numpy")
    image = prepare(caches.cache_directory() / "CLIP.png")[None]  # (1, C, 224, 224)
    p = naive_classify(official, image, ["a diagram", "a dog", "a cat"])[0]
    print("computed from the pixels, with the official weights:", p)
else:
    cosines = np.array([0.25552785, 0.20089889, 0.19749455])
    p = numpy_ops.softmax(100 * cosines)
    print("the official weights are not here; from the cosines of published features:", p)

assert np.allclose(p, [0.9927937, 0.00421068, 0.00299572], atol=1e-4)

# %% [markdown]
# **Now you.** `miniclip learn start course` writes the exercises. `zero_shot` belongs to this page: see [the
# course](../../miniclip/learn/README.md). Next: [08](08_retrieval.md) searches many pictures.
