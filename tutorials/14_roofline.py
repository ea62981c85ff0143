# %% [markdown]
# # 14 · The roofline
#
# - **Builds**: counts of FLOPs and bytes, a profile by operation, the roofline of one core of your CPU.
# - **Time**: 40 s on 2 cores.
# - **Needs**: NumPy, matplotlib.
# - **Before**: [12](12_triton_layer_norm.md), which counts the bytes of a layer norm, and
#   [13](13_flash_attention.md), which avoids most bytes of attention. This page can be read without them.
#
# Somebody has made an operation three times as fast. Is it fast now? That depends on how fast it could be at most.
# There is a limit: no machine computes faster than its arithmetic units, or than its memory delivers numbers. This
# page counts the work of CLIP's operations, measures the limits of your machine, and draws both in one picture, the
# **roofline** (Williams, Waterman and Patterson, 2009).
#
# The measured numbers are printed or drawn, and differ from machine to machine. The text is true on all machines.

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
# Two things cost time: computing, and fetching the numbers to compute with. We count both for one matrix product, $M
# \times K$ times $K \times N$. A **FLOP** is a floating-point operation, here an addition or a multiplication:

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
# The loops fetch each number many times, but once would be enough: we count only the bytes that cannot be avoided.
# Reads and writes on the chip, in a **cache** (the small, fast memory beside the arithmetic units), are not counted.
#
# FLOPs divided by bytes are the **arithmetic intensity** of an operation. It measures how much work there is for each
# byte that is moved. For square matrices of side $S$ it is $2S^3 / 12S^2 = S / 6$: large products do a lot of work
# with each number. Adding two vectors has one addition for two numbers read and one written, for any length:

# %%
for S in (6, 96, 1536):
    assert 2 * S**3 / (4 * 3 * S**2) == S / 6
print(f"adding vectors: {1 / 12:.3f} FLOPs per byte; a square product of side 1536: {1536 / 6:.0f}")

# %% [markdown]
# ## One block, counted
#
# Here are the operations of one block of ViT-B/32, as calls of the library's functions with arrays of the right
# shapes (and the patch embedding, which comes once before all blocks). The numbers in the arrays are random.

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
# FLOPs follow from the shapes. In a product each number of $x$ takes part in one multiplication and one addition for
# each row of the weights. Attention has two such products: each of the $BTHK$ numbers of $q$ is used with $T$ keys,
# and the resulting weights are used with as many values. The other operations do a few FLOPs for each number of $x$;
# count them in the source:

# %%
print(inspect.getsource(numpy_ops.quick_gelu))  # ·, tanh, ·, +, ·: five, if a tanh counts as one

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
# The intensity of the operations differs by a factor of more than 500. We compare our count with the library's own,
# [`work.py`](../../miniclip/bench/work.py), which counts products and attention of a whole tower. A tower with one
# more block must need one block more, in FLOPs and in weights. And attention has, in float32, exactly $T/4$ FLOPs per
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
# That is the work. Where does the time go? A tower is a function whose first argument, `ops`, is the module that it
# computes with; [11b](11b_align.md) gave it operations that count. Now we give it operations that measure time.
# `linear` includes its activation, so we separate the two.
#
# From here on everything runs on **one core**. NumPy runs a matrix product on all cores and everything else on one,
# so their times could not be compared. The library also works this way: it cuts a batch, and each core takes its part
# through the whole tower alone ([`chunks.py`](../../miniclip/runtime/chunks.py)).

# %%


def timed(function, noted):
    """A function of numpy_ops that also records its cost: noted[its name] is [seconds, FLOPs]."""

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
    """(ops, noted): numpy_ops whose functions record their cost in noted, {name: [seconds, FLOPs]}."""
    noted = {}
    names = ("patch_embed", "layer_norm", "add_layer_norm", "linear", "attention", "quick_gelu", "gather")
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
# The weights are random, since the time does not depend on them. One picture goes through the tower ten times, and
# the fastest run counts.

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
# Before the seconds we check the FLOPs, which should be those of `work`. They are a little more, and we know why:
# after `qkv` the last block continues with the class token alone, but `qkv` computes the queries of all tokens.
# `work` counts the smallest number that is enough.

# %%
done = {name: flops for name, (_, flops) in noted.items() if name not in (*PER_NUMBER, "gather")}
unused = 2 * len(images) * (T - 1) * D * D  # queries that are not used
assert sum(done.values()) == work(PRESETS["ViT-B/32"], "visual", len(images))[0] + unused

groups = {"linear": ["linear"], "attention": ["attention"], "norms and sums": ["layer_norm", "add_layer_norm"]}
groups |= {"quick-GELU": ["quick_gelu"], "patch embedding": ["patch_embed"]}
seconds, flops = (np.array([sum(noted[n][i] for n in group) for group in groups.values()]) for i in (0, 1))  # (5,) each
seconds, flops = np.append(seconds, whole - seconds.sum()), np.append(flops, 0)  # (6,) each: with the rest of the time
draw.profile([*groups, "the rest"], flops / flops.sum(), seconds / whole, "one picture, ViT-B/32, one core")
plt.show()

# %% [markdown]
# Norms and quick-GELU have less than a hundredth of the FLOPs. If only FLOPs counted, they would also have less than
# a hundredth of the time; compare the bars. So how long does a FLOP take in each operation, compared with a FLOP of a
# product?

# %%
small = [list(groups).index(name) for name in ("norms and sums", "quick-GELU")]
assert flops[small].sum() < 0.01 * flops.sum()
each = seconds[:5] / flops[:5]  # (5,)
for name, price in zip(groups, each / each[0]):
    print(f"{name:16}{price:6.1f}")

# %% [markdown]
# ## Two limits
#
# How fast *can* one core compute, and how fast can memory deliver numbers? We can measure both. To find the **peak**,
# in FLOP/s, multiply large matrices: there is so much work for each number that memory does not matter. We take a
# square matrix, and the shapes of our block's products, since we do not know beforehand which shape is fastest on a
# processor.
#
# To find the **bandwidth**, in bytes/s, copy an array that is larger than the caches, and count the bytes read and
# written. But there is a problem. Memory is moved in lines of about 64 bytes. To write a number, a processor first
# fetches its line into the cache, changes it there and sends it back later; this is called **write-allocate**. Then
# the copy moves three times the array where we count two, unless it uses instructions that write past the cache.
# Since we cannot see which, we also measure reading alone: a matrix times a vector reads each number of the matrix
# once. The larger of the two results is the limit.

# %%


def sample(runs, rounds, rates):
    """Run each of runs {name: (amount of work, call)} once a round; add its work per second to rates[name]."""
    for _ in range(rounds):
        for name, (amount, call) in runs.items():
            call()  # once untimed: getting new memory from the operating system takes time
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
# It cannot do more than this, and not more than the peak. These two limits are the roof:

# %%


def roof(intensity):
    """FLOPs per byte -> FLOP/s at most."""
    return np.minimum(peak, bandwidth * intensity)


print(
    f"peak {peak / 1e9:.0f} GFLOP/s, bandwidth {bandwidth / 1e9:.1f} GB/s: ridge {peak / bandwidth:.1f} FLOPs per byte"
)

# %% [markdown]
# The two parts meet at the **ridge point**, peak / bandwidth. An operation on the left of it is **memory-bound**:
# only fewer bytes make it faster, not better arithmetic. An operation on the right is **compute-bound**. The library
# computes the same as a time: the least time that the work can take, and which of the two limits it:

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
# Now the operations themselves: each is a point, at its intensity and at the FLOP/s that it reaches.
#
# No point may be above the roof. This follows from the definition; but both are measured, and four things could make
# it fail. We prevent each:
#
# - *A cache.* It delivers numbers faster than memory. So every operation that could be memory-bound reads and writes
#   48 MB or more. If a cache can hold even that, it also holds our smallest copy, and raises the roof with the point.
# - *Other programs.* If one is busy while we measure the roof and idle while we measure the point, the roof is too
#   low. So we alternate: each round measures the roof and all points.
# - *Luck.* The roof is the best of all its samples: the limit of the machine. A point is the median of its samples:
#   the usual speed of the operation.
# - *A wrong count.* We count the bytes that cannot be avoided. An operation that moves more is further below the
#   roof.
#
# And the roof is the best of several sizes and shapes, including those of the points.

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

core = f"one core of {cpu.name()}, float32"
draw.rooflines([(core, "", peak, bandwidth, points)])
plt.show()

# %% [markdown]
# The products are close to the flat part. All other operations have a gap above them, so they must do something else
# as well. On a logarithmic axis the length of a gap is a factor. Quick-GELU and the norm are written as several
# operations on whole arrays, and each of them reads and writes the whole array; [12](12_triton_layer_norm.md) counts
# such passes, and a kernel needs only the first read and the last write. A tanh takes longer than the one FLOP that
# we count for it. Attention writes its scores to memory and reads them again, which [13](13_flash_attention.md)
# avoids, and multiplies matrices of 50 rows, too small to be fast. The patch embedding multiplies like `fc` but first
# sorts its pixels into patches, which has no FLOPs at all.
#
# ## Climbing the roof
#
# The intensity of an operation is not fixed: it depends on the size of the batch. Take `fc` with $M$ rows. The
# weights must be read for one row as well as for a thousand; for small $M$ they are nearly all of the bytes. In the
# last block a single picture has one row, its class token; in the other blocks it has 50 rows.
#
# So that the weights do not stay in a cache, each run uses those of all 12 blocks in turn: more than 100 MB.

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
    assert share <= 1 and intensity < M / 2  # M rows: 2M FLOPs for each weight of 4 bytes, and more bytes
    climb.append((intensity, rate, f"M = {M}"))

# %% [markdown]
# This is why batches are fast: with one row the arithmetic units wait while the weights are read. (If a point in the
# middle is low: the library that computes NumPy's `@` rearranges the matrices before it multiplies them, and that
# pays off only for many rows. The roof shows what is possible, not what a program reaches.)
#
# On a GPU the ridge is much further to the right, and more of CLIP's operations are on its left.
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
# This page runs everywhere, so it does not measure a GPU. `miniclip bench kernels`, or `make gpu`, does it on a
# machine that has one, and keeps a record of each measurement: its FLOPs and bytes, its time, the two limits measured
# in the same run, the device, the date, the versions. Here are the kernels of the newest run on each device. A record
# counts only the FLOPs of products. For a kernel without products we count as above: a logarithmic axis has no 0.
# (The kernels of the activations also add a bias, one FLOP more for each number.)

# %%
PER_NUMBER_THERE = {**PER_NUMBER, "quick_gelu": 6, "gelu": 6}


def newest_runs():
    """Records of our kernels in bfloat16: for each device a list, those of its newest run."""
    found = {}  # device -> run -> its records
    for r in records.read(report.RESULTS, missing_ok=True):
        if r["dtype"] == "bfloat16" and r.get("ceilings") and r["times"] and " " not in r["name"]:  # a name of one word
            found.setdefault(r["device"], {}).setdefault((records.stamp(r), str(r["ceilings"])), []).append(r)
    return [max(runs.values(), key=lambda run: (run[0]["date"], len(run))) for _, runs in sorted(found.items())]


def panel(run):
    """The panel that `rooflines` draws of a run; checks that the counts of its products are ours."""
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
    print("There are no records of a GPU here: the picture shows only this CPU.")
for title, stamp, *_ in gpus:
    print(f"{title}; {stamp}")

# %% [markdown]
# Last, `fc` with a growing number of rows under the roof of your core, and below it the recorded GPUs, if there are
# any.

# %%
draw.rooflines([(core, "fc of ViT-B/32 with M rows", peak, bandwidth, {"fc": climb}), *gpus])
plt.show()

# %% [markdown]
# **Now you.** Call `sample` without `on_one_core`: then the products run on all cores, and so does reading. How do
# the peak and the bandwidth, which all cores share, change? Does the ridge move to the left or to the right? Then
# write a quick-GELU that takes one piece of the array after the other, each small enough for the cache: its FLOPs and
# bytes stay the same, and its point rises. For exercises with a grader see [the
# course](../../miniclip/learn/README.md).
