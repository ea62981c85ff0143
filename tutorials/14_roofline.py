# %% [markdown]
# # 14 · The roofline
#
# - **Builds**: counts of FLOPs and bytes, a profile by operation, the roofline of one core of your CPU.
# - **Time**: 40 s on 2 cores.
# - **Needs**: NumPy, matplotlib.
# - **Before**: [12](12_triton_layer_norm.md), which counts the bytes of a layer norm, and
#   [13](13_flash_attention.md), which spares those of attention. This page can be read without them.
#
# Somebody has made an operation three times as fast. Is it fast now? That is a question of how fast it could be at
# most, and there is an answer: no machine computes faster than its arithmetic units do, nor faster than its memory
# hands it numbers. This page counts what CLIP's operations ask for, measures what your machine can give, and draws
# both into one picture, the **roofline** (Williams, Waterman and Patterson, 2009).
#
# What is measured here is printed or drawn, and differs on your machine. What the text says holds on all of them.

# %%
import dataclasses
import functools
import inspect
import math
import textwrap
import time
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np

from miniclip import params
from miniclip.bench import records, timing
from miniclip.bench.work import work
from miniclip.families.clip.presets import PRESETS
from miniclip.kernels.bench import report
from miniclip.ops import numpy_ops
from miniclip.runtime import cpu
from miniclip.towers import vit
from miniclip.viz import roofline as draw

rng = np.random.default_rng(0)
normal = functools.partial(rng.standard_normal, dtype=np.float32)

# %% [markdown]
# ## What costs time
#
# Two things: computing, and fetching what to compute with. Count both for one matrix product, $M \times K$ times $K
# \times N$. A **FLOP** is a floating-point operation, here an addition or a multiplication:

# %%


def naive_product(a, b):
    """a (M, K), b (K, N) -> their product (M, N), and the FLOPs that it took."""
    (M, K), N = a.shape, b.shape[1]
    out, flops = np.zeros((M, N), a.dtype), 0
    for m in range(M):
        for n in range(N):
            for k in range(K):
                out[m, n] += a[m, k] * b[k, n]
                flops += 2  # one multiplication, one addition
    return out, flops


M, N, K = 5, 7, 11
a, b = normal((M, K)), normal((K, N))
out, flops = naive_product(a, b)
moved = a.nbytes + b.nbytes + out.nbytes  # each input read once, the output written once
assert np.allclose(out, a @ b, atol=1e-5)
assert flops == 2 * M * N * K and moved == 4 * (M * K + K * N + M * N)  # a float32 has 4 bytes
print(f"{flops} FLOPs, {moved} bytes: {flops / moved:.2f} FLOPs for each byte")

# %% [markdown]
# The loops fetch each number many times, but nobody has to: those are the bytes that cannot be avoided. What is in
# between, on the chip, in a **cache** (the small, fast memory beside the arithmetic units), is not counted.
#
# FLOPs divided by bytes are the **arithmetic intensity** of an operation. It says how much there is to do with a
# number once it is there. For square matrices of side $S$ it is $2S^3 / 12S^2 = S / 6$: large products have a lot to
# do with each number. Adding two vectors has one addition for two numbers read and one written, whatever their
# length:

# %%
for S in (6, 96, 1536):
    assert 2 * S**3 / (4 * 3 * S**2) == S / 6
print(f"adding vectors: {1 / 12:.3f} FLOPs per byte; a square product of side 1536: {1536 / 6:.0f}")

# %% [markdown]
# ## One block, counted
#
# Now for CLIP. Here are the operations of one block of ViT-B/32, as calls of the library's functions with arrays of
# the right shapes (and the patch embedding, which comes once before all blocks). The numbers in them are random.

# %%
config = PRESETS["ViT-B/32"].visual
B, T, D, H = 80, math.prod(config.grid) + 1, config.width, config.heads  # pictures, tokens, width, heads
rows, W, P = B * T, config.mlp_width, config.patch_size


def affine(rows, N, K):
    return "linear", {"x": normal((rows, K)), "weight": normal((N, K)), "bias": normal(N)}


q, k, v = np.moveaxis(normal((B, T, 3, H, D // H)), 2, 0)  # (B, T, H, K) views, as the product qkv leaves them
stream = {"x": normal((rows, D)), "update": normal((rows, D)), "weight": normal(D), "bias": normal(D), "eps": 1e-5}
pixels = {"images": normal((B, 3, 224, 224)), "weight": normal((D, 3, P, P))}
calls = {
    "sum and norm": ("add_layer_norm", stream),
    "qkv": affine(rows, 3 * D, D),
    "attention": ("attention", {"q": q, "k": k, "v": v}),
    "out": affine(rows, D, D),
    "fc": affine(rows, W, D),
    "quick-GELU": ("quick_gelu", {"x": normal((rows, W))}),
    "proj": affine(rows, D, W),
    "patches": ("patch_embed", {**pixels, "class_token": normal(D), "position_embedding": normal((T, D))}),
}

# %% [markdown]
# FLOPs follow from the shapes. In a product each number of $x$ meets each row of the weights, once to multiply and
# once to add. Attention has two such products: each of $BTHK$ numbers of $q$ meets $T$ keys, and the weights that
# come of it meet as many values. The rest does some operations for each number of $x$; count them in the source:

# %%
print(inspect.getsource(numpy_ops.quick_gelu))  # ·, tanh, ·, +, ·: five, a tanh taken for one

PER_NUMBER = {"quick_gelu": 5, "layer_norm": 7, "add_layer_norm": 8}


def cost(name, given, out):
    """(FLOPs, bytes) of a call of numpy_ops' function `name` with the arguments `given`, {name: value}."""
    if name in ("linear", "patch_embed"):
        flops = 2 * given["x" if name == "linear" else "images"].size * len(given["weight"])
    elif name == "attention":
        flops = 4 * given["q"].size * given["k"].shape[1]
    else:
        flops = PER_NUMBER.get(name, 0) * given["x"].size
    both = [*given.values(), *(out if isinstance(out, tuple) else (out,))]
    return flops, sum(x.nbytes for x in both if isinstance(x, np.ndarray))


costs = {what: cost(name, given, getattr(numpy_ops, name)(**given)) for what, (name, given) in calls.items()}
print(f"{B} pictures{'':6}{'GFLOP':>9}{'MB':>8}{'FLOPs per byte':>17}")
for what, (flops, moved) in costs.items():
    print(f"{what:18}{flops / 1e9:9.3f}{moved / 1e6:8.1f}{flops / moved:17.1f}")

# %% [markdown]
# Between the operations the intensity differs by a factor of more than 500. Hold that against the library's own
# count, [`work.py`](../../kernels/bench/work.py), which gives products and attention of a whole tower. A tower of one
# block more needs one block more, in FLOPs and in weights. And attention has, in float32, exactly $T/4$ FLOPs per
# byte.

# %%
more = dataclasses.replace(PRESETS["ViT-B/32"], visual=dataclasses.replace(config, layers=config.layers + 1))
(flops_more, numbers_more), (flops, numbers) = work(more, "visual", B), work(PRESETS["ViT-B/32"], "visual", B)
products = ("qkv", "out", "fc", "proj")
assert flops_more - flops == sum(costs[what][0] for what in (*products, "attention"))
weights = sum(calls[what][1][part].size for what in products for part in ("weight", "bias"))
assert numbers_more - numbers == weights + 2 * (D + D)  # and two layer norms
assert costs["attention"][0] / costs["attention"][1] == T / 4
intensities = [flops / moved for flops, moved in costs.values()]
assert max(intensities) > 500 * min(intensities)
assert costs["fc"] == (2 * rows * W * D, 4 * (rows * D + W * D + W + rows * W))

# %% [markdown]
# ## A profile
#
# So much for what is to be done. Where does the time go? A tower is a function whose first argument, `ops`, is the
# module that it computes with; [11](11_other_towers.md) handed it operations that count. Let us hand it operations
# that look at the clock. `linear` takes its activation along, so we take it apart to see both.
#
# One thing first. All that follows runs on **one core**. NumPy spreads a matrix product over all cores and does
# everything else on one, which would compare the two on different machines. The library does likewise: it cuts a
# batch, and each core takes its part through the whole tower alone
# ([`chunks.py`](../../miniclip/runtime/chunks.py)).

# %%


def timed(function, noted):
    """A function of numpy_ops, which then notes what it costs: noted[its name] is [seconds, FLOPs]."""

    def run(*arguments, **options):
        start = time.perf_counter()
        out = function(*arguments, **options)
        seconds = time.perf_counter() - start
        given = inspect.signature(function).bind(*arguments, **options).arguments
        total = noted.setdefault(function.__name__, [0, 0])
        total[:] = total[0] + seconds, total[1] + cost(function.__name__, given, out)[0]
        return out

    return run


def stopwatch():
    """numpy_ops, whose functions note what they cost: {name: [seconds, FLOPs]}."""
    noted = {}
    names = ("patch_embed", "layer_norm", "add_layer_norm", "linear", "attention", "quick_gelu", "pool")
    ops = SimpleNamespace(**{name: timed(getattr(numpy_ops, name), noted) for name in names})
    product = ops.linear

    def linear_then_activation(x, weight, bias=None, *, activation=None):
        x = product(x, weight, bias)
        return ops.quick_gelu(x) if activation else x

    ops.linear = linear_then_activation
    return ops, noted


def on_one_core(run):
    with cpu.one_blas_thread():
        cpu.limit_this_thread()
        return run()


# %% [markdown]
# The weights are random, as time does not depend on them. One picture goes through the tower ten times, and the
# fastest counts.

# %%
shapes = config.tower.shapes(config, PRESETS["ViT-B/32"].embed_dim)
tree = params.tree_map(lambda shape: normal(shape) * np.float32(math.prod(shape[1:]) ** -0.5), shapes)
images = normal((1, 3, 224, 224))  # (B, C, height, width)
profiles = []
for _ in range(10):
    ops, noted = stopwatch()
    start = time.perf_counter()
    features = on_one_core(lambda: vit.encode_image(ops, images, **tree, config=config))  # noqa: B023
    profiles.append((time.perf_counter() - start, noted))
whole, noted = min(profiles, key=lambda profile: profile[0])

print(f"one picture in {1e3 * whole:.0f} ms on one core of {cpu.name()}")
assert np.allclose(features, vit.encode_image(numpy_ops, images, **tree, config=config), atol=1e-4)

# %% [markdown]
# Before we look at the seconds, the FLOPs, which must be `work`'s. They are a little more, and one can say which: the
# last block goes on with the class token alone, but `qkv` computes the queries of all tokens. `work` counts the least
# that does it.

# %%
done = {name: flops for name, (_, flops) in noted.items() if name not in PER_NUMBER}
unasked = 2 * len(images) * (T - 1) * D * D  # queries that nobody asks for
assert sum(done.values()) == work(PRESETS["ViT-B/32"], "visual", len(images))[0] + unasked

groups = {"linear": ["linear"], "attention": ["attention"], "norms and sums": ["layer_norm", "add_layer_norm"]}
groups |= {"quick-GELU": ["quick_gelu"], "patch embedding": ["patch_embed"]}
seconds, flops = (np.array([sum(noted[n][i] for n in group) for group in groups.values()]) for i in (0, 1))  # (5,) each
seconds, flops = np.append(seconds, whole - seconds.sum()), np.append(flops, 0)  # (6,) each: and all the rest
draw.profile([*groups, "the rest"], flops / flops.sum(), seconds / whole, "one picture, ViT-B/32, one core")
plt.show()

# %% [markdown]
# Norms and quick-GELU have not even a hundredth of the FLOPs. Were FLOPs all that counts, they would have no more of
# the time; compare the bars. So what does a FLOP cost in each operation, measured in the FLOPs of a product?

# %%
small = [list(groups).index(name) for name in ("norms and sums", "quick-GELU")]
assert flops[small].sum() < 0.01 * flops.sum()
each = seconds[:5] / flops[:5]  # (5,)
for name, price in zip(groups, each / each[0]):
    print(f"{name:16}{price:6.1f}")

# %% [markdown]
# ## Two limits
#
# How fast *can* one core compute, and how fast does memory serve it? Nobody needs a data sheet. To see the **peak**,
# in FLOP/s, multiply large matrices: so much to do for each number that memory does not matter. We take a square,
# and the shapes of our block's products, since what suits one processor best is not known beforehand.
#
# To see the **bandwidth**, in bytes/s, copy an array that is larger than the caches, and count what is read and what
# is written. But there is a catch. Memory is moved in lines, of 64 bytes or so. To write a number, a processor
# fetches its line into the cache first, changes it there and sends it back later; this is **write-allocate**. The
# copy then moves three times the array where we count two, unless it uses instructions that write past the cache. As
# we cannot see which, we measure plain reading, too: a matrix times a vector reads each number of the matrix once.
# The better of the two is the limit.

# %%


def sample(runs, rounds, rates):
    """Each of runs, name -> (what it does so much of, call), once a round; what it did a second is added to rates."""
    for _ in range(rounds):
        for name, (amount, call) in runs.items():
            call()  # once untimed, since memory that is new comes from the operating system, which takes its time
            start = time.perf_counter()
            call()
            rates.setdefault(name, []).append(amount / (time.perf_counter() - start))


compute, move = {}, {}
for M, K, N in ((1024, 1024, 1024), (3 * D, D, rows), (D, D, rows), (W, D, rows), (D, W, rows)):
    a, b, out = normal((M, K)), normal((N, K)).T, np.empty((M, N), np.float32)  # transposed, as `linear` has it
    compute[f"product {M} x {K} x {N}"] = 2 * M * N * K, functools.partial(np.matmul, a, b, out=out)
for MB in (48, 128, 256):  # moved in all
    matrix = np.ones((MB * 250_000 // D, D), np.float32)  # a float32 has 4 bytes
    target, source = np.array_split(np.ones(MB * 250_000, np.float32), 2)
    move[f"copy, {MB} MB moved"] = target.nbytes + source.nbytes, functools.partial(np.copyto, target, source)
    move[f"read, {MB} MB"] = matrix.nbytes, functools.partial(np.matmul, matrix, np.ones(D, np.float32))

limits = compute | move
rates = {}
on_one_core(lambda: sample(limits, 2, rates))


def best():
    """The highest of all rates so far: FLOP/s, bytes/s."""
    return (max(rate for name in runs for rate in rates[name]) for runs in (compute, move))


for name in limits:
    print(f"{name:28}{max(rates[name]) / 1e9:7.1f} {'GFLOP/s' if name in compute else 'GB/s'}")
peak, bandwidth = best()

# %% [markdown]
# An operation of intensity $I$ that gets all of the bandwidth has $I \cdot \text{bandwidth}$ FLOPs to do each second.
# It cannot do more, and it cannot do more than the peak. That is the whole roof:

# %%


def roof(intensity):
    """FLOPs per byte -> FLOP/s at most."""
    return np.minimum(peak, bandwidth * intensity)


print(
    f"peak {peak / 1e9:.0f} GFLOP/s, bandwidth {bandwidth / 1e9:.1f} GB/s: ridge {peak / bandwidth:.1f} FLOPs per byte"
)

# %% [markdown]
# Where its two parts meet is the **ridge point**, peak / bandwidth. An operation on the left of it is
# **memory-bound**: better arithmetic does nothing for it, fewer bytes do. One on the right is **compute-bound**. The
# library says the same the other way round, as the time that the work takes at least, and which of the two it is:

# %%
print(inspect.getsource(timing.limit))

ceilings = {"copy": bandwidth / 1e9, "product": peak / 1e12}  # GB/s, TFLOP/s
for what, (flops, moved) in costs.items():
    microseconds, bound = timing.limit(flops, moved, ceilings)
    assert math.isclose(flops / roof(flops / moved), microseconds / 1e6)
    print(f"{what:14}{microseconds / 1e3:8.1f} ms at least, bound by the {bound}")

# %% [markdown]
# ## The roofline
#
# Now the operations themselves: each is a point, at its intensity and at the FLOP/s that it reached.
#
# No point may lie above the roof. By the definition that is so; but both are measured, and four things could spoil
# it. We guard against each:
#
# - *A cache.* Numbers that are still in it come faster than from memory. So all that memory could bind has 48 MB to
#   read and to write, or more. Should a cache hold even that, it holds our smallest copy as well, and lifts the roof
#   with the point.
# - *Other programs.* If one is busy while we measure the roof and idle while we measure the point, the roof is too
#   low. So they take turns: each round measures the roof and all points.
# - *Luck.* The roof is the best of all its samples, what the machine can do. A point is the median of its own, what
#   the operation usually gets.
# - *A wrong count.* We count the bytes that cannot be avoided. Whoever moves more sinks below the roof.
#
# And the roof is the best of several sizes and shapes, among them those of the points.

# %%
assert min(moved for flops, moved in costs.values() if flops / moved < 100) > 48e6
runs = {
    what: (costs[what][0], functools.partial(getattr(numpy_ops, name), **given))
    for what, (name, given) in calls.items()
}
on_one_core(lambda: sample(limits | runs, 5, rates))
peak, bandwidth = best()

points = {}
for what, (flops, moved) in costs.items():
    intensity, rate = flops / moved, np.median(rates[what])
    assert rate <= roof(intensity)
    points.setdefault(", ".join(products) if what in products else what, []).append((intensity, rate))

cpu = f"one core of {cpu.name()}, float32"
draw.rooflines([(cpu, "", peak, bandwidth, points)])
plt.show()

# %% [markdown]
# The products hang under the flat part. Everything else has a gap above it, and a gap is a question: what else does
# it do? On a logarithmic axis a step down is a factor. Quick-GELU and the norm are written as several operations on
# whole arrays, each of which reads and writes all of it; [12](12_triton_layer_norm.md) counts such passes, and a
# kernel needs but the first reading and the last writing. A tanh is more than the one FLOP we took it for. Attention
# writes its scores down and reads them again, which [13](13_flash_attention.md) spares, and multiplies matrices of 50
# rows, too small to be fast. The patch embedding multiplies like `fc` but sorts its pixels into patches first, which
# has no FLOPs at all.
#
# ## Climbing the roof
#
# The intensity of an operation is not its own: it depends on how much is asked for at once. Take `fc` with $M$ rows.
# The weights have to be read for one row as well as for a thousand; for small $M$ they are nearly all of the bytes. A
# single row is what the last block has of a single picture, its class token; 50 rows are one picture in the others.
#
# So that no cache keeps the weights, each run takes those of all 12 blocks in turn: more than 100 MB.

# %%
fc = [block["mlp"]["fc"] for block in tree["blocks"]]
assert len(fc) == 12 and sum(p["weight"].nbytes for p in fc) > 100e6 and T == 50

series, runs = {}, {}
for M in (1, 4, 16, 50, 200):
    x = normal((M, D))
    series[M] = cost("linear", {"x": x, **fc[0]}, np.empty((M, W), np.float32))
    runs[M] = 12 * series[M][0], lambda x=x: [numpy_ops.linear(x, **p) for p in fc]
on_one_core(lambda: sample(limits | runs, 5, rates))
peak, bandwidth = best()

climb = []
for M, (flops, moved) in series.items():
    intensity, rate = flops / moved, np.median(rates[M])
    share = rate / roof(intensity)
    print(f"{M:3} rows: {intensity:4.1f} FLOPs per byte, {rate / 1e9:6.1f} GFLOP/s, {share:4.0%} of the roof")
    assert share <= 1 and intensity < M / 2  # M rows: 2M FLOPs for each weight of 4 bytes, and a rest
    climb.append((intensity, rate, f"M = {M}"))

# %% [markdown]
# This is why batches are fast: one row leaves the arithmetic idle while the weights come in. (Should a point in the
# middle hang low: what is behind NumPy's `@` sorts the matrices into pieces before it multiplies them, and that pays
# for many rows only. The roof says what is possible, not that somebody has done it.)
#
# On a GPU the ridge is much further to the right, and more of what CLIP does lies left of it.
# [`kernels/README.md`](../../kernels/README.md) expects 790 TFLOP/s and 4.3 TB/s of an H200 in 16 bit. How many
# pictures does `fc` need to reach that ridge?

# %%
ridge = 790e12 / 4.3e12
needed = next(n for n in range(1, 100) if 2 * n * T * W * D / (2 * (n * T * (W + D) + W * D + W)) > ridge)
print(f"ridge {ridge:.0f} FLOPs per byte: {needed} pictures")
assert needed == 6

# %% [markdown]
# ## Recorded GPUs
#
# A GPU is nothing to measure on a page that is to run everywhere. `miniclip bench kernels`, or `make gpu`, does it
# where there is one, and keeps a record of each measurement: its FLOPs and bytes, its time, the two limits measured
# in the same run, the device, the date, the versions. Of each device, here are the kernels of its newest run. A
# record counts the FLOPs of products alone. Where that is none, we count as above: on a logarithmic axis there is no
# 0. (The kernels of the activations add a bias on the way, one more for each number.)

# %%
PER_NUMBER_THERE = {**PER_NUMBER, "quick_gelu": 6, "gelu": 6}


def newest_runs():
    """Records of our kernels in bfloat16, a list for each device: of one run, its newest."""
    found = {}  # device -> run -> its records
    for r in records.read(report.RESULTS, missing_ok=True):
        if r["dtype"] == "bfloat16" and r.get("ceilings") and r["times"] and " " not in r["name"]:  # a name of one word
            found.setdefault(r["device"], {}).setdefault((records.stamp(r), str(r["ceilings"])), []).append(r)
    return [max(runs.values(), key=lambda run: (run[0]["date"], len(run))) for _, runs in sorted(found.items())]


def panel(run):
    """What `rooflines` draws of a run; the counts of its products must be ours."""
    points = {}
    for r in run:
        if r["name"] == "linear":
            M, N, K = (r["shape"][name] for name in "MNK")
            assert (r["flops"], r["bytes"]) == (2 * M * N * K, 2 * (M * K + N * K + N + M * N))
        flops = r["flops"] or PER_NUMBER_THERE[r["name"]] * math.prod(r["shape"].values())
        points.setdefault(r["name"], []).append((flops / r["bytes"], flops / r["times"][r["ours"]] * 1e6))
    stamp = textwrap.fill(records.stamp(run[0]), 115)
    peak, bandwidth = run[0]["ceilings"]["product"] * 1e12, run[0]["ceilings"]["copy"] * 1e9
    return f"{run[0]['device']}, bfloat16", stamp, peak, bandwidth, dict(sorted(points.items()))


gpus = [panel(run) for run in newest_runs()]
if not gpus:
    print("Here are no records of a GPU: the picture shows this CPU alone.")
for title, stamp, *_ in gpus:
    print(f"{title}; {stamp}")

# %% [markdown]
# To close, `fc` climbing the roof of your core, and below it the recorded GPUs, if there are any.

# %%
draw.rooflines([(cpu, "fc of ViT-B/32 with M rows", peak, bandwidth, {"fc": climb}), *gpus])
plt.show()

# %% [markdown]
# **Now you.** Call `sample` without `on_one_core`: then the products run on all cores, and so does the reading. What
# happens to the peak, and what to the bandwidth, which all cores share? Which way does the ridge move? Then write a
# quick-GELU that works on a piece of the array that fits into the cache, one piece after the other: its FLOPs and
# bytes stay the same, and its point rises. For exercises with a grader see [the
# course](../../miniclip/learn/README.md).
