# %% [markdown]
# # 05 · Two towers
#
# - **Builds**: the Vision Transformer, the text transformer, the count of their parameters.
# - **Time**: 10 s on 2 cores.
# - **Needs**: NumPy, matplotlib.
# - **Before**: [04](04_the_block.md), which builds the block that both are made of.
#
# CLIP is two models side by side. One takes pictures, the other texts, and each gives back one vector of $E$ numbers,
# its **feature**. What they share is the space of these features: there a picture can be compared with a text. Both
# are built alike. Something becomes $T$ tokens of width $D$; $L$ blocks work on them; one token is read off; a linear
# map, the **projection**, takes it from $D$ to $E$. All pieces are there. This page puts them together, beginning
# with tutorial 04's block.

# %%
import inspect
import math

import matplotlib.pyplot as plt
import numpy as np

import miniclip
from miniclip import params
from miniclip.families.clip.presets import PRESETS
from miniclip.model import CLIP
from miniclip.ops import numpy_ops
from miniclip.towers import text, transformer, vit
from miniclip.train.loop import shapes
from miniclip.viz import towers as draw

rng = np.random.default_rng(0)
model, preprocess = miniclip.load("shapes", backend="numpy")


def naive_block(x, ln_1, attention, ln_2, mlp, config, causal=False):
    """x (B, T, D) -> (B, T, D). `config` has what weights do not tell: heads, activation, eps."""
    y = numpy_ops.layer_norm(x, **ln_1, eps=config.eps)  # (B, T, D)
    x = x + transformer.self_attention(numpy_ops, y, **attention, heads=config.heads, causal=causal)  # (B, T, D)
    y = numpy_ops.layer_norm(x, **ln_2, eps=config.eps)  # (B, T, D)
    return x + transformer.feed_forward(numpy_ops, y, **mlp, activation=config.activation)  # (B, T, D)


# %% [markdown]
# ## The image tower
#
# 1. The picture becomes patches, the patches become tokens, the class token stands before them, positions are added:
#   `patch_embed` of [02](02_pixels_to_patches.md). With $G \times G$ patches, $T = 1 + G^2$.
# 2. One layer norm before the first block, `ln_pre`. The Vision Transformer that CLIP took over has none there (CLIP,
#   sec. 2.4).
# 3. $L$ blocks, in which every token sees every other.
# 4. The class token, and of it alone the norm `ln_post`: pre-norm blocks leave the stream as long as it has grown.
# 5. The projection, $E \times D$, without a bias.

# %%


def naive_image_tower(images, patch_embed, ln_pre, blocks, ln_post, projection, config):
    """images (B, C, height, width) -> features (B, E)."""
    x = numpy_ops.patch_embed(images, **patch_embed)  # (B, T, D)
    x = numpy_ops.layer_norm(x, **ln_pre, eps=config.eps)  # (B, T, D)
    for p in blocks:
        x = naive_block(x, **p, config=config)  # (B, T, D)
    x = numpy_ops.layer_norm(x[:, 0], **ln_post, eps=config.eps)  # (B, D): the class token
    return x @ projection["weight"].T  # (B, E)


print(inspect.getsource(vit.encode_image))

pairs = shapes.PAIRS * 2  # every colour with every shape, twice
images = preprocess([shapes.draw(shapes.one_object(rng, pair), rng) for pair in pairs])  # (B, C, 48, 48)
image_features = model.encode_image(images)  # (B, E)
naive = naive_image_tower(images, **model.params["visual"], config=model.config.visual)
print("largest difference:", abs(naive - image_features).max(), "of numbers up to", abs(naive).max().round(1))
assert np.allclose(naive, image_features, atol=1e-4)

# %% [markdown]
# The library's has two additions. `trace` is told every stage. And `keep` spares work: where nobody looks inside, the
# last block needs the class token's query alone, and sends it alone through the MLP.
#
# Why a class token? It is the same for every picture, to the bit, when it enters the first block. Whatever a feature
# says of its picture came to it from the patches, by attention.

# %%
stages = {}
model.encode_image(images, trace=stages.__setitem__)
assert (stages["ln_pre"][:, 0] == stages["ln_pre"][0, 0]).all()  # (B, D)
assert len(np.unique(image_features, axis=0)) == len(images)

# %% [markdown]
# ## The text tower
#
# 1. A table of $V$ rows of width $D$, one for each entry of the vocabulary: token 17 becomes row 17. Positions are
#   added.
# 2. $L$ blocks with the causal mask: token $i$ sees tokens $0$ to $i$.
# 3. A layer norm, `ln_final`.
# 4. The token *end of text*. Of all tokens of the text it alone has seen all of them. Its id is the highest in the
#   vocabulary, so it is where the ids are largest: an `argmax` finds it.
# 5. The projection, from this tower's $D$ to the same $E$.

# %%


def naive_text_tower(tokens, embed, position_embedding, blocks, ln_final, projection, config):
    """tokens (B, T) -> features (B, E)."""
    x = embed["table"][tokens] + position_embedding[: tokens.shape[1]]  # (B, T, D)
    for p in blocks:
        x = naive_block(x, **p, config=config, causal=True)  # (B, T, D)
    x = numpy_ops.layer_norm(x, **ln_final, eps=config.eps)  # (B, T, D)
    end = tokens.argmax(-1)  # (B,)
    x = np.stack([sequence[e] for sequence, e in zip(x, end)])  # (B, D)
    return x @ projection["weight"].T  # (B, E)


print(inspect.getsource(text.encode_text))

tokens = model.tokenize([shapes.label(*pair) for pair in shapes.PAIRS])  # (B, T)
text_features = model.encode_text(tokens)  # (B, E)
naive = naive_text_tower(tokens, **model.params["text"], config=model.config.text)
print("largest difference:", abs(naive - text_features).max(), "of numbers up to", abs(naive).max().round(1))
assert np.allclose(naive, text_features, atol=1e-4)

# %% [markdown]
# Texts differ in length, and a batch is a rectangle: what is behind the end is padding. What should it be? It does
# not matter. The end sees nothing behind itself, so the feature does not change when the padding does. Not a little,
# but by exactly 0. (So `model.encode_text` cuts a batch behind its last end. Here that leaves 5 columns of 32.)

# %%
behind = np.arange(tokens.shape[1]) > tokens.argmax(-1)[:, None]  # (B, T)
other = np.where(behind, rng.integers(0, tokens.max(), tokens.shape), tokens)  # (B, T): any ids but the end's own
difference = abs(naive_text_tower(other, **model.params["text"], config=model.config.text) - naive).max()
print(f"{(other != tokens).sum()} of {tokens.size} tokens replaced: features differ by {difference}")
assert (other != tokens).sum() > 2000 and difference == 0.0
assert text.length(tokens.argmax(-1)) == 5 and tokens.shape[1] == 32

# %% [markdown]
# In neither tower does one element of a batch see another. Shuffle a batch, and the features are the same, shuffled;
# encode a picture alone, and it has the feature that it has among others. To the last bit? Not quite: a matrix
# product of fewer rows may sum in another order. (`miniclip.load` has an option, `batch_invariant`, for that.)

# %%
order = rng.permutation(len(tokens))
assert np.allclose(model.encode_text(tokens[order]), text_features[order], atol=1e-4)
alone = np.concatenate([model.encode_image(image[None]) for image in images[:8]])  # (8, E)
print(f"alone or among {len(images)}: {abs(alone - image_features[:8]).max():.1e}")
assert np.allclose(alone, image_features[:8], atol=1e-4)

# %% [markdown]
# ## Reading a tower early
#
# Blocks add to a stream, and the stream keeps its width. So nothing keeps us from stopping early: take the class
# token after any half of any block, and send it through `ln_post` and the projection as if it had arrived. Of the
# captions of all 80 pairs ("a red circle", ...), which is nearest? Has it the right colour, the right shape?

# %%
visual = model.params["visual"]


def right(x):
    """Tokens (B, T, D) -> (B, 2): whether the class token is nearest to the right colour, the right shape."""
    x = numpy_ops.layer_norm(x[:, 0], **visual["ln_post"], eps=1e-5)  # (B, D)
    x = x @ visual["projection"]["weight"].T  # (B, E)
    nearest = (x @ numpy_ops.l2_normalize(text_features).T).argmax(-1)  # (B,), of 80 captions
    return np.array(shapes.PAIRS)[nearest] == np.array(pairs)


halves = [f"blocks.{i}.{half}" for i in range(4) for half in ("attention", "mlp")]
found = np.array([right(stages[name]) for name in ["ln_pre", *halves]])  # (2L + 1, B, 2)
accuracy = {"colour": found[..., 0].mean(1), "shape": found[..., 1].mean(1), "both": found.all(-1).mean(1)}
assert accuracy["both"][0] == 1 / 80 and [f"{a:.0%}" for a in accuracy["both"][2::2]] == ["2%", "18%", "79%", "95%"]
assert (accuracy["shape"] > accuracy["colour"])[2:7].all() and np.diff(accuracy["both"])[::2].sum() > 0.9 * 0.95
draw.early_reading(accuracy, 4)
plt.show()

# %% [markdown]
# At the start it gives one answer to all, and is right once in 80 times; after one block it knows hardly more. The
# next take it to 18% and 79%, the last to 95%, and the shape comes before the colour. Nearly all of the rise is
# attention's: that is where the class token hears of the picture. Then what are the MLPs for? Silence them at the
# class token: 96% are still right. Silence them at the patches instead: 4%. They prepare what there is to hear.

# %%
first = np.arange(37)[:, None] == 0  # (T, 1)
for where, silenced in (("class token", first), ("patches", ~first)):
    x = stages["ln_pre"]  # (B, T, D)
    for p in visual["blocks"]:
        without = naive_block(x, **{**p, "mlp": params.tree_map(np.zeros_like, p["mlp"])}, config=model.config.visual)
        x = np.where(silenced, without, naive_block(x, **p, config=model.config.visual))  # (B, T, D)
    accuracy[where] = right(x).all(-1).mean()
    print(f"without the MLPs of the {where}: {accuracy[where]:.0%}")
assert f"{accuracy['class token']:.0%} {accuracy['patches']:.0%}" == "96% 4%"

# %% [markdown]
# ## One statement of the architecture
#
# A configuration is a handful of numbers. Which arrays follow from it is said in one place for each tower, its
# function `shapes`, and every file of weights is held against it when it is loaded.

# %%
for tower in (transformer, vit, text):
    print(inspect.getsource(tower.shapes))

assert {n: a.shape for n, a in params.flatten(model.params).items()} == params.flatten(model.config.shapes())
preset = PRESETS["ViT-B/32"]
names = params.flatten(preset.shapes())  # {flat name: shape}
print(f"{len(names)} arrays, such as visual.blocks.0.mlp.fc.weight {names['visual.blocks.0.mlp.fc.weight']}")

# %% [markdown]
# ## Counting
#
# How many numbers does a CLIP have to learn? A block has two norms of $2D$, four maps of $D^2 + D$ in attention
# (queries, keys, values, out), and an MLP of width $M$:
#
# $$N = 2 \cdot 2D + 4\,(D^2 + D) + (DM + M) + (MD + D)$$
#
# Around its blocks the image tower has $C P^2 D$ numbers for patches of $P \times P$ pixels in $C$ channels, the
# class token, $1 + G^2$ positions, and two norms; the text tower has its table of $V D$, a position for each of up to
# $T$ tokens, and one norm. Each has its projection. One number belongs to neither: `logit_scale`, which
# [06](06_contrastive_learning.md) is about.

# %%


def count_parameters(v, t, E):
    """All parameters of a CLIP: v and t configurations of its image and its text tower, E the width of features."""
    G = v.image_size // v.patch_size
    n = v.channels * v.patch_size**2 * v.width + v.width + (1 + G**2) * v.width  # patches, class token, positions
    n += t.vocab_size * t.width + t.context_length * t.width  # table, positions
    for tower, norms in ((v, 2), (t, 1)):
        D, M = tower.width, tower.mlp_width
        n += tower.layers * (4 * D + 4 * (D * D + D) + (D * M + M) + (M * D + D))  # blocks
        n += norms * 2 * D + E * D  # norms around them, projection
    return n + 1  # logit_scale


for name, c in {**PRESETS, "shapes": model.config}.items():
    if name.startswith(("ViT", "shapes")):
        print(f"{name:14} {count_parameters(c.visual, c.text, c.embed_dim):11,}")
        arrays = params.flatten(c.shapes()).values()
        assert count_parameters(c.visual, c.text, c.embed_dim) == sum(map(math.prod, arrays))

v, t = preset.visual, preset.text
assert (v.image_size, v.patch_size, v.width, v.layers, v.mlp_width, v.channels) == (224, 32, 768, 12, 3072, 3)
assert (t.context_length, t.vocab_size, t.width, t.layers, t.mlp_width) == (77, 49_408, 512, 12, 2048)
assert count_parameters(v, t, 512) == 151_277_313

# %% [markdown]
# 151,277,313 is the number that OpenAI's notebook prints (`Interacting_with_CLIP.ipynb`). Where are they? More than
# half in MLPs, twice as many as in attention. And the largest of all arrays is the text tower's table, 40% of that
# tower, of which a text of ten tokens reads ten rows out of 49,408.

# %%


def count(tower, *words):
    """How many parameters ViT-B/32 has in arrays of a tower whose names have one of the words in them."""
    return sum(math.prod(names[n]) for n in names if n.startswith(tower) and any(word in n for word in words))


parts = ["MLPs", "attention", "patches or table", "projection", "positions", "norms"]
words = [["mlp"], ["attention"], ["patch_embed.weight", "table"], ["projection"], ["position", "class_token"], ["ln_"]]
counts = np.array([[count(tower, *w) for tower in ("visual", "text")] for w in words])  # (parts, 2)
assert counts.sum() + 1 == 151_277_313 < 2 * counts[0].sum()
assert f"{counts[0].sum() / counts[1].sum():.2f} {count('text', 'table') / count('text', ''):.0%}" == "2.00 40%"
assert names["text.embed.table"] == max(names.values(), key=math.prod)
draw.parameter_bars(dict(zip(parts, counts)), ["image tower", "text tower"])
plt.show()

# %% [markdown]
# ## All of it in one picture
#
# Shapes can be watched. Give ViT-B/32 zeros for parameters: it knows nothing, but every stage has the shape that it
# has in the real one. A box is coloured in by its number of parameters, the largest from end to end.

# %%
hollow = CLIP(preset, params.tree_map(lambda shape: np.zeros(shape, np.float32), preset.shapes()), numpy_ops)
pixels, ids = np.zeros((1, 3, 224, 224), np.float32), np.zeros((1, 77), int)  # (B, C, 224, 224) and (B, T)
seen, read = {}, {}
hollow.encode_image(pixels, trace=seen.__setitem__)
hollow.encode_text(ids, trace=read.__setitem__)
image_tower = [
    ("pixels", pixels, 0),
    ("patch_embed", seen["embeddings"], count("visual", "patch_embed")),
    ("ln_pre", seen["ln_pre"], count("visual", "ln_pre")),
    ("12 blocks", seen["blocks.11.mlp"], count("visual", "blocks")),
    ("class token, ln_post", seen["ln_post"], count("visual", "ln_post")),
    ("projection", seen["features"], count("visual", "projection")),
]
text_tower = [
    ("tokens", ids, 0),
    ("embed, positions", read["embeddings"], count("text", "embed", "position")),
    None,
    ("12 causal blocks", read["blocks.11.mlp"], count("text", "blocks")),
    ("ln_final, end of text", read["ln_final"][:, 0], count("text", "ln_final")),
    ("projection", read["features"], count("text", "projection")),
]
draw.flow({"image tower": image_tower, "text tower": text_tower}, ("cosines · exp(logit_scale)", "logit_scale"))
plt.show()

# %% [markdown]
# **Now you.** This page's exercises in [the course](../../miniclip/learn/README.md) (`miniclip learn start course`)
# are `vit` and `text_pooling`. Next: [06](06_contrastive_learning.md) teaches the two towers to agree.
