# %% [markdown]
# # 08 · Retrieval
#
# - **Builds**: recall@k, the mean reciprocal rank, search in both directions and by sums of features.
# - **Time**: 15 s on 2 cores.
# - **Needs**: NumPy, matplotlib.
# - **Before**: [07](07_zero_shot.md), which compared one picture with a few texts.
#
# In [07](07_zero_shot.md) a picture chose among a few labels. Now there are many pictures, and somebody looks for one
# of them, by a text or by another picture. This is **retrieval**. The work of the two towers can be done in advance:
# every picture becomes one feature, once. A question then costs one feature more, and a product.

# %%
import inspect

import matplotlib.pyplot as plt
import numpy as np

import miniclip
from miniclip.evaluate import metrics
from miniclip.search import Index, exact
from miniclip.train import shapes
from miniclip.viz import retrieval as draw

model, preprocess = miniclip.load("shapes", backend="numpy")
rng = np.random.default_rng(8)

# %% [markdown]
# ## A hundred pictures, a hundred captions
#
# Each picture has two objects, and its caption names both. The caption is the right answer for its picture, and the
# picture is the right answer for its caption; the other 99 are wrong.

# %%
scenes = [shapes.two_objects(rng, shapes.PAIRS) for _ in range(100)]
pictures = [shapes.draw(scene, rng) for scene in scenes]
captions = [" and ".join(shapes.label(thing.colour, thing.shape) for thing in scene) for scene in scenes]
N = len(captions)
assert len(set(captions)) == N == 100

images = model.encode_image(preprocess(pictures), normalize=True)  # (N, E)
texts = model.encode_text(model.tokenize(captions), normalize=True)  # (N, E)
similarity = images @ texts.T  # (N, N): cosines, pictures down, captions across
print(captions[0], "has a cosine of", similarity[0, 0].round(2))

# %% [markdown]
# Sort a row, and you have a picture's captions from the best to the worst. The place of the right one is its
# **rank**, 1 at best. From the ranks of all queries come the usual numbers:
#
# $$\text{recall@}k = \frac{\#\{\text{rank} \le k\}}{N}, \qquad
# \text{MRR} = \frac{1}{N} \sum_{\text{queries}} \frac{1}{\text{rank}}.$$
#
# Recall@k is the share of people who find what they look for if they look at $k$ answers. The *mean reciprocal rank*
# gives a full point for rank 1, half a point for rank 2, a third for rank 3, and needs no $k$.

# %%


def naive_ranks(similarity):
    """similarity (N, N), answer i is right for query i -> the rank of the right answer of each query, (N,)."""
    ranks = []
    for i, row in enumerate(similarity):
        order = sorted(range(len(row)), key=lambda j: -row[j])  # the best first
        ranks.append(1 + order.index(i))
    return np.array(ranks)


def naive_recall_at_k(ranks, k):
    return np.mean(ranks <= k)


def naive_mrr(ranks):
    return np.mean(1 / ranks)


# %% [markdown]
# Both directions use the same matrix: rows are the questions "which caption has this picture?", columns are the
# questions "which picture has this caption?". The two results differ, because a rank compares a score with the others
# of its own row, or of its own column.

# %%
directions = {"picture to text": similarity, "text to picture": similarity.T}
for name, scores in directions.items():
    ranks = naive_ranks(scores)  # (N,)
    theirs = metrics.ranks(scores, np.arange(N))
    for k in (1, 5, 10):
        assert np.isclose(naive_recall_at_k(ranks, k), metrics.recall_at_k(theirs, k))
    assert np.isclose(naive_mrr(ranks), metrics.mean_reciprocal_rank(theirs))
    assert np.median(ranks) == metrics.median_rank(theirs) == 1
    recalls = ", ".join(f"recall@{k} {naive_recall_at_k(ranks, k):.0%}" for k in (1, 5, 10))
    print(f"{name}: {recalls}, MRR {naive_mrr(ranks):.3f}, median rank {np.median(ranks):.0f}")
    assert 0.75 < naive_recall_at_k(ranks, 1) < 0.95 < naive_recall_at_k(ranks, 5)

# %% [markdown]
# ## What guessing gives
#
# Is that good? Compare it with a model that knows nothing. Its right answer has each rank from 1 to $N$ with the same
# probability, so recall@k is $k / N$, and the mean reciprocal rank is
#
# $$\frac{1}{N} \left(1 + \frac{1}{2} + \dots + \frac{1}{N}\right) = \frac{H(N)}{N},$$
#
# where $H(N)$ is the *harmonic number*. For $N = 100$ that is 0.0519: far more than the $1/100$ of recall@1, because
# a lucky rank 1 counts for a hundred ranks of 100.

# %%
guess = sum(1 / rank for rank in range(1, N + 1)) / N
print(f"guessing: MRR {guess:.4f}")
assert round(guess, 4) == 0.0519

random = [naive_mrr(naive_ranks(rng.random((N, N)))) for _ in range(50)]
print(f"50 times random scores: MRR {np.mean(random):.4f}")
assert abs(np.mean(random) - guess) < 0.01

# %%
curves = {
    name: [metrics.recall_at_k(metrics.ranks(scores, np.arange(N)), k) for k in range(1, 11)]
    for name, scores in directions.items()
}
draw.recall_curves(curves, N)
plt.show()

# %% [markdown]
# Most of what is missing at $k = 1$ is there at $k = 2$ and 3. Which captions are better than the right one?

# %%
missed = np.flatnonzero(naive_ranks(similarity) > 1)
taken = similarity[missed].argmax(axis=1)
for i, j in zip(missed[:4], taken):
    print(f"{captions[i]}   was mistaken for   {captions[j]}")
common = [len(set(captions[i].split()) & set(captions[j].split()) - {"a", "an", "and"}) for i, j in zip(missed, taken)]
print(f"words that both captions have, of two colours and two shapes: {np.mean(common):.1f} on average")
assert np.mean(common) > 2.5 and curves["picture to text"][2] > 0.95 > curves["picture to text"][0]

# %% [markdown]
# They are nearly right: most often one of the four words is wrong. In a larger collection more captions are nearly
# right, so recall@1 falls as $N$ grows. Results can only be compared if $N$ is the same: those on Flickr30k are among
# 1,000 pictures, those on COCO among 5,000.
#
# ## A model that looks perfect
#
# `naive_ranks` has a fault. Here is a model that gives every pair the same score:

# %%
same = np.ones((N, N))
print("first query:", naive_ranks(same)[0], " last query:", naive_ranks(same)[-1])
favourable = np.array([1 + np.sum(row > row[i]) for i, row in enumerate(same)])  # "how many are better?"
print(f"recall@1 if the rank is 1 + the number of better answers: {naive_recall_at_k(favourable, 1):.0%}")
assert (favourable == 1).all()

# %% [markdown]
# `sorted` leaves equal scores in the order of the data, so that the result depends on the order of the data. Counting
# the better answers, as many programs do, makes this model perfect. Neither is right: of $t$ equal answers, the right
# one has each of these $t$ ranks with the same probability. The library takes the mean over all orders, so that a
# model that knows nothing gets what guessing gets. (Equal scores are not rare: 16-bit features have few different
# cosines, and a collection may have the same picture twice.)

# %%
fair = metrics.ranks(same, np.arange(N))
print(f"fair: recall@1 {metrics.recall_at_k(fair, 1):.2f}, MRR {metrics.mean_reciprocal_rank(fair):.4f}")
assert np.isclose(metrics.recall_at_k(fair, 1), 1 / N)
assert np.isclose(metrics.mean_reciprocal_rank(fair), guess)

# %% [markdown]
# ## Several right answers
#
# Mostly, more than one answer is right. Here are 400 pictures of one object, five for each pair of colour and shape.
# The query "a red heart" has five right answers, and the rank is that of the *first* of them, as in the papers on
# CLIP.

# %%
scenes = [shapes.one_object(rng, pair) for pair in shapes.PAIRS for _ in range(5)]
gallery = [shapes.draw(scene, rng) for scene in scenes]
names = [shapes.label(*pair) for pair in shapes.PAIRS for _ in range(5)]  # what each picture shows, 400
features = np.concatenate(
    [model.encode_image(preprocess(gallery[i : i + 50]), normalize=True) for i in range(0, 400, 50)]
)  # (400, E)

labels = [shapes.label(*pair) for pair in shapes.PAIRS]  # 80
queries = model.encode_text(model.tokenize(labels), normalize=True)  # (80, E)
right = np.array([[label == name for name in names] for label in labels])  # (80, 400)
found = metrics.ranks(queries @ features.T, right)
print(f"80 queries, 5 right answers among 400: recall@1 {metrics.recall_at_k(found, 1):.0%}")

# the same with a loop: is the best answer one of the right ones?
best = (queries @ features.T).argmax(axis=1)  # (80,)
assert np.isclose(np.mean([names[j] == label for j, label in zip(best, labels)]), metrics.recall_at_k(found, 1))
assert metrics.recall_at_k(found, 1) > 0.95

# %% [markdown]
# ## A search engine
#
# A search engine is the product, and the $k$ largest numbers in it. For the $k$ largest there is no need to sort: cut
# off the rest first.

# %%


def naive_search(features, query, k):
    """features (n, E), query (E,), all of length one -> the k best rows and their cosines, the best first."""
    scores = features @ query  # (n,)
    top = np.argpartition(-scores, k)[:k]  # the k largest, in any order: O(n), not O(n log n)
    top = top[np.argsort(-scores[top])]
    return top, scores[top]


index = Index(features, [str(i) for i in range(400)], model=model, preprocess=preprocess)
for label, query in zip(labels[::20], queries[::20]):
    top, scores = naive_search(features, query, 5)
    hits = index.search(label, k=5)
    assert [int(name) for name, _ in hits] == top.tolist()
    assert np.allclose([score for _, score in hits], scores, atol=1e-6)

# %% [markdown]
# `miniclip.search.Index` does the same for millions of rows: it goes through them in chunks that fit into a
# processor's cache, on all cores, and keeps what is better than the $k$-th best so far. This is one chunk:

# %%
print(inspect.getsource(exact.Best._add))

# %% [markdown]
# ## Sums of features
#
# A query is a direction. So one may add directions, and subtract them: a picture, *plus* a text, *minus* a text,
#
# $$q = \frac{f + t_+ - t_-}{\lVert f + t_+ - t_- \rVert},$$
#
# all of length one. Take a red circle, add "blue" and subtract "red":

# %%
example = gallery[names.index("a red circle")]
questions = {
    "a red heart": ("a red heart",),
    "something blue": ("something blue",),
    "this picture": (example,),
    "this picture | + “blue” | − “red”": (example, "blue"),
}
goals = dict(zip(questions, ["a red heart", "blue", "a red circle", "a blue circle"]))  # what a hit should say
sheet = []
for title, wanted in questions.items():
    hits = index.search(*wanted, minus=["red"] if "−" in title else [], k=5)
    shown = [names[int(name)] for name, _ in hits]
    print(f"{title}: {', '.join(shown)}")
    goal = goals[title]
    sheet.append([(gallery[int(name)], score, goal in names[int(name)]) for name, score in hits])

by_sum = [names[int(name)] for name, _ in index.search(example, "blue", minus=["red"], k=5)]
assert by_sum.count("a blue circle") >= 4

# %% [markdown]
# The picture's colour has been exchanged, and its shape has been kept. Nobody trained the model to do this. It
# follows from the training on texts and pictures in one space, as long as colour and shape are nearly separate
# directions in it.

# %%
draw.ranked([*questions], sheet)
plt.show()

# %% [markdown]
# **Now you.** On the command line, `miniclip embed` writes the features of your photos, `miniclip search` asks, and
# `miniclip evaluate` measures recall on pictures with captions: see [A search engine for your
# photos](../../docs/search.md). Next: [09](09_probe_and_fine_tune.md) trains the model further, on scans of digits.
