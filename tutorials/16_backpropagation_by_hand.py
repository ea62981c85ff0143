# %% [markdown]
# # 16 · Backpropagation by hand
#
# - **Builds**: the gradients of a linear map, softmax, layer norm, attention and the loss; a tape that joins them.
# - **Time**: 60 s on 2 cores.
# - **Needs**: NumPy, matplotlib, torch.
# - **Before**: [06](06_contrastive_learning.md), which derives the gradient of the loss; [03](03_attention.md) and
#   [04](04_the_block.md), whose operations we go through backwards.
#
# [06](06_contrastive_learning.md) trained a small CLIP, and torch computed the gradients. How? There is one idea, and
# a short formula for each operation. This page derives the formulas, checks each against its definition, and joins
# them. In the end NumPy trains such a model, and its loss follows torch's.

# %%
import inspect
import itertools
import math

import matplotlib.pyplot as plt
import numpy as np
import torch

from miniclip.config import CLIPConfig, TextConfig, VisionConfig
from miniclip.image import Preprocess
from miniclip.loss import contrastive_loss, contrastive_loss_gradient
from miniclip.model import CLIP
from miniclip.ops import numpy_grad, numpy_gradients, numpy_ops, torch_ops
from miniclip.ops.numpy_activation_gradients import quick_gelu_gradient
from miniclip.ops.tape import Variable
from miniclip.params import flatten, tree_map, unflatten
from miniclip.tokenizer import Tokenizer
from miniclip.train import learners, loop, shapes
from miniclip.train.initialize import init_params
from miniclip.train.recipe import Recipe
from miniclip.viz import gradients as draw

torch.set_num_threads(1)  # the same order of sums on any number of cores
rng = np.random.default_rng(0)

# %% [markdown]
# ## Send a gradient back
#
# Training needs one thing: for each parameter, how fast the loss $L$ grows when the parameter grows. That is the
# gradient of $L$. Between a parameter and $L$ there are many operations. The idea is to look at only one of
# them, $y = f(x)$. Suppose that somebody has already found how fast $L$ grows with each number of the *result*. We
# call this array `dy`, with one number for each number of $y$:
#
# $$dy_j = \frac{\partial L}{\partial y_j}$$
#
# Move $x_i$ a little. Each $y_j$ moves by $\partial y_j / \partial x_i$ times as much, and each of these moves $L$ by
# $dy_j$ times as much. So all that is left to do is the **chain rule**:
#
# $$dx_i = \sum_j dy_j \, \frac{\partial y_j}{\partial x_i}$$
#
# The operation gets `dy` and sends back `dx`, which is the `dy` of the operation before it. No operation has to know
# what comes after it, or what $L$ is. For an activation, which takes each number by itself, the sum has one term:
# $dx = dy \cdot f'(x)$.
#
# ## Is a gradient right?
#
# Its definition is a test: move one number a little up and a little down, and see how $L$ moves. For any `dy` we can
# make a loss that has it, $L = \sum_j dy_j \, y_j$.

# %%


def naive_slopes(loss, x, h=1e-5):
    """How fast the number loss() grows with each number of x, an array that it is computed from."""
    slopes = np.zeros_like(x)
    for at in np.ndindex(x.shape):
        before = x[at]
        x[at] = before + h
        up = loss()
        x[at] = before - h
        slopes[at] = (up - loss()) / (2 * h)
        x[at] = before
    return slopes


def wrong_by(gradients, forward, dy, *inputs):
    """The largest relative error of gradients, one for each input, against finite differences of L = Σ dy · y."""
    assert all(x.dtype == np.float64 for x in inputs)
    errors = []
    for x, dx in zip(inputs, gradients, strict=True):
        slopes = naive_slopes(lambda: (dy * forward(*inputs)).sum(), x)
        errors.append(np.linalg.norm(dx - slopes) / np.linalg.norm(slopes))
    print("relative errors:", *(f"{error:.0e}" for error in errors))
    return max(errors)


dy, x = rng.standard_normal((2, 4, 5))
assert wrong_by([quick_gelu_gradient(dy, x)], numpy_ops.quick_gelu, dy, x) < 1e-6

# %% [markdown]
# How small should the step $h$ be? With a large step the curve bends on the way: the error is proportional to $h^2$.
# With a small one, `up` and `loss()` are nearly equal, and only the last digits of their difference are left, which
# rounding has spoiled: this error is proportional to $\varepsilon / h$, where $\varepsilon$ is the precision of a
# number. So the error is a **V**. Its lowest point is near $h = \sqrt[3]{\varepsilon}$.

# %%
h = np.geomspace(1e-12, 1, 73)[:, None, None]
f, single, step = numpy_ops.quick_gelu, x.astype(np.float32), h.astype(np.float32)
slopes = {
    "up and down, float64": (f(x + h) - f(x - h)) / (2 * h),  # (73, 4, 5) each
    "only up, float64": (f(x + h) - f(x)) / h,
    "up and down, float32": (f(single + step) - f(single - step)) / (2 * step),
}
exact = quick_gelu_gradient(dy, x)  # (4, 5)
errors = {name: np.linalg.norm(dy * s - exact, axis=(1, 2)) / np.linalg.norm(exact) for name, s in slopes.items()}
for name, error in errors.items():
    print(f"{name}: lowest error {error.min():.0e}, at h = {h.flat[error.argmin()]:.0e}")

both, up, single = errors.values()
tenth, one = h.ravel().searchsorted([1e-3, 1e-2])
assert 90 < both[one] / both[tenth] < 110 and 9 < up[one] / up[tenth] < 11
assert both.min() < 1e-9 < up.min() < 1e-7 and single.min() > 1e-6
for error, kind in ((both, np.float64), (single, np.float32)):
    assert 0.05 < h.flat[error.argmin()] / np.cbrt(np.finfo(kind).eps) < 20
draw.gradient_check(h.ravel(), errors, limit=1e-6)
plt.show()

# %% [markdown]
# From $h = 10^{-2}$ to $10^{-3}$ the error falls by a factor of 100. A step in one direction only is a much worse
# test: its error is proportional to $h$. And float32 is never below our limit, $10^{-6}$, whatever the step: a
# gradient must be checked in float64. All of this page is in float64 until the training begins.
#
# ## A linear map
#
# $y = x W^\top + b$: one number of the result is $y_{ro} = \sum_i x_{ri} W_{oi} + b_o$, for each row $r$, a token
# say. Three derivatives can be read from it: $W_{oi}$ for $x_{ri}$, $x_{ri}$ for $W_{oi}$, and 1 for $b_o$. Each
# input collects $dy_{ro}$ times its derivative over all the results that it is part of. The weights are used in
# every row, so they collect over rows.

# %%


def naive_linear_gradient(dy, x, weight):
    """dy (rows, out), x (rows, in), weight (out, in) -> dx (rows, in), dweight (out, in), dbias (out,)."""
    dx, dweight, dbias = np.zeros_like(x), np.zeros_like(weight), np.zeros(len(weight))
    for r in range(len(x)):
        for o in range(len(weight)):
            dx[r] += dy[r, o] * weight[o]
            dweight[o] += dy[r, o] * x[r]
            dbias[o] += dy[r, o]
    return dx, dweight, dbias


print(inspect.getsource(numpy_gradients.linear_gradient))

dy, x, weight, bias = (rng.standard_normal(shape) for shape in ((4, 3), (4, 5), (3, 5), (3,)))
found = numpy_gradients.linear_gradient(dy, x, weight)
assert all(np.allclose(a, b, atol=1e-14) for a, b in zip(found, naive_linear_gradient(dy, x, weight)))
assert wrong_by(found, numpy_ops.linear, dy, x, weight, bias) < 1e-6

# %% [markdown]
# `dx` is `dy @ weight`, `dweight` is `dy.T @ x`. You need not remember it: every gradient has the shape of what it
# belongs to, and no other product of these arrays has that shape. Each of the two takes as many multiplications as
# $x W^\top$ itself. So going back costs about twice as much as going forward.
#
# ## Softmax
#
# $y_j = e^{x_j} / S$ with $S = \sum_t e^{x_t}$. Every $x_i$ is in $S$, so every $y_j$ depends on every $x_i$. By the
# quotient rule, with $[i = j]$ for 1 if $i$ is $j$, else 0:
#
# $$\frac{\partial y_j}{\partial x_i} = \frac{[i = j] \, e^{x_j} S - e^{x_j} e^{x_i}}{S^2} = y_j \, ([i = j] - y_i)$$
#
# This is an $n \times n$ matrix for each row of $n$ numbers. But the sum over $j$ can be written out:
#
# $$dx_i = \sum_j dy_j \, y_j \, ([i = j] - y_i) = y_i \, \Big(dy_i - \sum_j dy_j \, y_j\Big)$$
#
# The last sum is the mean of `dy` with the weights $y$, and what counts is how far each `dy` is from this mean. The
# matrix is not needed.

# %%


def naive_softmax_gradient(dy, y):
    """dy, y (rows, n) -> dx (rows, n), with the n x n matrix of each row."""
    return np.array([(np.diag(row) - np.outer(row, row)) @ slopes for row, slopes in zip(y, dy)])


print(inspect.getsource(numpy_gradients.softmax_gradient))

dy, x = rng.standard_normal((2, 4, 6))
y = numpy_ops.softmax(x)
found = numpy_gradients.softmax_gradient(dy, y)  # (4, 6)
assert np.allclose(found, naive_softmax_gradient(dy, y), atol=1e-15)
assert wrong_by([found], numpy_ops.softmax, dy, x) < 1e-6
assert abs(found.sum(axis=-1)).max() < 1e-14  # adding a number to a whole row of x changes nothing

# %% [markdown]
# ## Layer norm
#
# $y = \hat x \cdot w + b$, with $\hat x_j = c_j / \sigma$, $c_j = x_j - \mu$ and $\sigma = \sqrt{\frac1D \sum_j c_j^2
# + \varepsilon}$. We go back in three steps, and call what arrives at $\hat x$ simply $g$.
#
# 1. From $y$ to $\hat x$, weight by weight: $g_j = dy_j \cdot w_j$. ($w$ and $b$ are used in every row: they collect
#    $dy \cdot \hat x$ and $dy$ over rows.)
# 2. From $\hat x$ to $c$. Directly, $c_i$ counts $1 / \sigma$. But $c_i$ is in $\sigma$, too: $\partial \sigma /
#    \partial c_i = c_i / (D \sigma) = \hat x_i / D$, and a larger $\sigma$ shrinks every $\hat x_j$: $\partial \hat
#    x_j / \partial \sigma = -\hat x_j / \sigma$. Together: $dc_i = \left(g_i - \hat x_i \cdot \frac1D \sum_j g_j \,
#    \hat x_j\right) / \sigma$.
# 3. From $c$ to $x$. $c_j = x_j - \frac1D \sum_i x_i$, so each $x_i$ gets $dc_i$, minus $\frac1D$ of every $dc_j$:
#    $dx_i = dc_i - \operatorname{mean}(dc)$.
#
# The mean of $\hat x$ is 0, so $\operatorname{mean}(dc)$ is $\operatorname{mean}(g) / \sigma$, and one line remains:
#
# $$dx = \frac{g - \operatorname{mean}(g) - \hat x \cdot \operatorname{mean}(g \cdot \hat x)}{\sigma}$$

# %%


def naive_layer_norm_gradient(dy, x, weight, eps):
    """dy, x (rows, D), weight (D,) -> dx (rows, D), dweight (D,), dbias (D,), in the three steps."""
    dx, dweight = np.zeros_like(x), np.zeros_like(weight)
    for r, row in enumerate(x):
        centred = row - row.mean()
        sigma = math.sqrt((centred**2).mean() + eps)
        x_hat = centred / sigma
        dweight += dy[r] * x_hat
        g = dy[r] * weight  # 1: to x̂
        dc = g / sigma  # 2: directly,
        dc -= (g * x_hat / sigma).sum() * x_hat / len(row)  # and through σ
        dx[r] = dc - dc.mean()  # 3: through the mean
    return dx, dweight, dy.sum(axis=0)


print(inspect.getsource(numpy_gradients.layer_norm_gradient))

(dy, x), (weight, bias) = rng.standard_normal((2, 4, 6)), rng.standard_normal((2, 6))
found = numpy_gradients.layer_norm_gradient(dy, x, weight, eps=1e-5)
assert all(np.allclose(a, b, atol=1e-14) for a, b in zip(found, naive_layer_norm_gradient(dy, x, weight, 1e-5)))
assert wrong_by(found, lambda *inputs: numpy_ops.layer_norm(*inputs, eps=1e-5), dy, x, weight, bias) < 1e-6

# %% [markdown]
# What do the two terms do? [04](04_the_block.md) has shown what a norm ignores: adding a number to all of $x$, and
# making $x - \mu$ longer. A change that $y$ ignores cannot change $L$. So `dx` has no part in these two directions,
# and the two terms are what removes it: $g - \operatorname{mean}(g)$ has no part along $(1, \dots, 1)$, and the last
# term takes the part along $\hat x$. This is a *projection*: done twice, it removes nothing more.
#
# With $D = 3$ we can see it. All $\hat x$ are on a circle with the radius $\sqrt 3$, in the plane where the sum is 0.
# Take a loss that falls in the same direction everywhere, the grey arrows.

# %%
angles = np.arange(8) * math.pi / 4 + 0.2
plane = np.array([[1, -1, 0], [1, 1, -2]]) / np.sqrt([[2], [6]])  # two directions of the plane, of length one
x = np.sqrt(3) * np.stack([np.cos(angles), np.sin(angles)], axis=1) @ plane  # (8, 3): x̂ already, as σ is 1
down = np.tile(0.9 * plane[0] + 0.3 * plane[1] + np.array([0.5, 0.5, 0.5]), (8, 1))  # (8, 3)
left = numpy_gradients.layer_norm_gradient(down, x, np.ones(3), eps=0)[0]  # (8, 3)

assert np.allclose(numpy_ops.layer_norm(x, 1, 0, eps=0), x) and np.allclose(np.linalg.norm(x, axis=-1), math.sqrt(3))
assert abs(left.sum(axis=-1)).max() < 1e-14 and abs((left * x).sum(axis=-1)).max() < 1e-14
assert np.allclose(numpy_gradients.layer_norm_gradient(left, x, np.ones(3), eps=0)[0], left)
draw.what_a_norm_removes(x, down, left)
plt.show()

# %% [markdown]
# On the left, from the side, the plane is a line: the part of each arrow that leaves the plane goes. On the right we
# look down on the plane: only the part along the circle is left for $x$. Where the loss falls straight away from the
# circle, hardly anything is left: no change of $x$ leads there.

# %% [markdown]
# ## Attention
#
# Attention is made of what we have: a product, a softmax, a product. With the weights $A$ and the scores $s$,
#
# $$s = q k^\top / \sqrt K \qquad A = \operatorname{softmax}(s) \qquad y = A v$$
#
# We go back through them in reverse order. For the products we need only look at the shapes:
#
# $$dv = A^\top dy \qquad dA = dy \, v^\top \qquad ds = \text{softmax's } dx \qquad dq = ds \, k / \sqrt K \qquad
# dk = ds^\top q / \sqrt K$$

# %%


def naive_attention_gradient(dy, q, k, v, causal=False):
    """dy and q (B, Tq, H, K), k and v (B, Tk, H, K) -> dq, dk, dv, one head at a time."""
    dq, dk, dv = np.zeros_like(q), np.zeros_like(k), np.zeros_like(v)
    weights = numpy_ops.attention_weights(q, k, causal=causal)  # (B, H, Tq, Tk)
    for b, h in np.ndindex(weights.shape[:2]):
        A, head = weights[b, h], (b, slice(None), h)  # (Tq, Tk)
        dv[head] = A.T @ dy[head]
        ds = naive_softmax_gradient(dy[head] @ v[head].T, A)  # (Tq, Tk)
        dq[head] = ds @ k[head] / math.sqrt(q.shape[-1])
        dk[head] = ds.T @ q[head] / math.sqrt(q.shape[-1])
    return dq, dk, dv


print(inspect.getsource(numpy_gradients.attention_weights_gradient))
print(inspect.getsource(numpy_gradients.attention_gradient))

dy, *qkv = rng.standard_normal((4, 2, 5, 2, 3))  # (B, T, H, K) each
for causal in (False, True):
    found = numpy_gradients.attention_gradient(dy, *qkv, causal=causal)
    assert all(np.allclose(a, b) for a, b in zip(found, naive_attention_gradient(dy, *qkv, causal)))
    assert wrong_by(found, lambda *qkv, causal=causal: numpy_ops.attention(*qkv, causal=causal), dy, *qkv) < 1e-6

# %% [markdown]
# The mask needs no line of its own. A hidden key has the weight 0, softmax's gradient multiplies by the weight, and
# so nothing is sent there, exactly. If only the first three tokens have a gradient, the keys and values of the last
# two have none. Information flows forward in a text, and gradients flow backward on the same paths.

# %%
dy[:, 3:] = 0
_, dk, dv = numpy_gradients.attention_gradient(dy, *qkv, causal=True)
assert dk[:, :3].all() and dv[:, :3].all() and not dk[:, 3:].any() and not dv[:, 3:].any()

# %% [markdown]
# ## The loss
#
# The loss comes last, so this is where going back begins: $\partial L / \partial L = 1$. Each of its two sides is the
# mean of $-\ln p_{ii}$, so that the diagonal of $\ln p$ gets $-1/(2N)$. Softmax's rule for logarithms is shorter, as
# $\ln p_j = x_j - \ln S$ has the derivative $[i = j] - p_i$: a row's $dx$ is $dy - p \cdot \sum_j dy_j$. Rows and
# columns are two uses of the same logits. **What is used twice gets the sum of both gradients**: by the chain rule
# again, since a small change acts through both. The result is the table of [06](06_contrastive_learning.md),
# probabilities minus targets.

# %%
N = 6
logits = 3 * rng.standard_normal((N, N))
G = np.zeros((N, N))
for table, result in ((logits, G), (logits.T, G.T)):  # both views of one array
    result += numpy_gradients.log_softmax_gradient(-np.eye(N) / (2 * N), numpy_ops.log_softmax(table))
assert np.allclose(G, contrastive_loss_gradient(logits), atol=1e-16)
assert wrong_by([G], contrastive_loss, 1.0, logits) < 1e-6

# %% [markdown]
# ## The tape
#
# Now we join them. While we compute, we write down each result, what it was made from, and the function that sends
# its gradient back. This list is the **tape**. Then we read it from its end.

# %%


class Note:
    """A value, what it was made from, and how a gradient goes back to that."""

    def __init__(self, value, sources=(), send=lambda dy: ()):
        self.value, self.sources, self.send, self.gradient = value, sources, send, 0.0


def read_backwards(tape, dy):
    """Fill the gradients; tape: all notes in the order that they were made."""
    tape[-1].gradient = dy
    for note in reversed(tape):
        for source, dx in zip(note.sources, note.send(note.gradient)):
            source.gradient = source.gradient + dx  # the sum over all uses


arrays = [rng.standard_normal(shape) for shape in ((4, 6), (6,), (6,), (6, 6), (6,))]
dy = rng.standard_normal((4, 6))
x, gain, shift, weight, bias = leaves = [Note(array) for array in arrays]
normed = Note(
    numpy_ops.layer_norm(x.value, gain.value, shift.value, eps=1e-5), (x, gain, shift),
    lambda dy: numpy_gradients.layer_norm_gradient(dy, x.value, gain.value, eps=1e-5),
)  # fmt: skip
mixed = Note(
    numpy_ops.linear(normed.value, weight.value, bias.value), (normed, weight, bias),
    lambda dy: numpy_gradients.linear_gradient(dy, normed.value, weight.value),
)  # fmt: skip
added = Note(x.value + mixed.value, (x, mixed), lambda dy: (dy, dy))  # x is used a second time
read_backwards([*leaves, normed, mixed, added], dy)

# %% [markdown]
# This is one half of a block, $x + \text{linear}(\text{norm}(x))$. The plus sign sends `dy` unchanged to both of its
# sides: that is the reason for the residual stream in [04](04_the_block.md). The library's note is a `Variable`. It
# knows the operators of Python, and `numpy_grad` has the operations of `numpy_ops` under the same names. Each is a
# line of forward, and a line of backward:

# %%
print(inspect.getsource(numpy_grad.layer_norm), inspect.getsource(Variable.backward), sep="\n")

variables = [Variable(array) for array in arrays]
x, gain, shift, weight, bias = variables
(x + numpy_grad.linear(numpy_grad.layer_norm(x, gain, shift, eps=1e-5), weight, bias)).backward(dy)
assert all(np.allclose(a.gradient, b.gradient, atol=1e-14) for a, b in zip(variables, leaves))

# %% [markdown]
# ## A whole model
#
# The towers are written once, for any `ops`. Called with `numpy_grad`, they leave a tape. Here is the small CLIP of
# [06](06_contrastive_learning.md), smaller still, in float64, and the gradient of every parameter beside torch's.

# %%
captions = [shapes.label(*pair) for pair in shapes.SEEN]
tokenizer = Tokenizer.train(captions, vocab_size=600)
image_tower = VisionConfig(image_size=48, patch_size=8, width=64, layers=2, heads=2, mlp_width=256)
text_tower = TextConfig(context_length=8, vocab_size=len(tokenizer), width=64, layers=1, heads=2, mlp_width=256)
config = CLIPConfig(visual=image_tower, text=text_tower, embed_dim=64)
prepare = Preprocess(48)


def draw_batch(step):
    """One picture of each of the 60 pairs that are not held out, (60, C, 48, 48), with their captions."""
    rng = np.random.default_rng([0, step])
    scenes = [shapes.one_object(rng, pair, smallest=0.36) for pair in shapes.SEEN]
    return prepare([shapes.draw(scene, rng) for scene in scenes]), captions


start = init_params(config, np.random.default_rng(0))
wide = tree_map(lambda p: p.astype(np.float64), start)
images, tokens = draw_batch(0)[0][:12].astype(np.float64), tokenizer.tokenize(captions[:12], 8)


def loss_of(params, ops):
    return contrastive_loss(CLIP(config, params, ops)(images, tokens)[0], ops=ops)


learned = tree_map(Variable, wide)
loss_of(learned, numpy_grad).backward()
ours = {name: p.gradient for name, p in flatten(learned).items()}

tensors = tree_map(lambda p: torch.tensor(p, requires_grad=True), wide)
loss_of(tensors, torch_ops).backward()
theirs = {name: p.grad.numpy() for name, p in flatten(tensors).items()}

squares = {name: (np.square(ours[name] - theirs[name]).sum(), np.square(theirs[name]).sum()) for name in ours}
apart = math.sqrt(sum(a for a, _ in squares.values()) / sum(b for _, b in squares.values()))
print(f"{len(ours)} arrays, {sum(g.size for g in ours.values()):,} numbers, relative difference {apart:.0e}")
assert apart < 1e-12

# %% [markdown]
# The definition can check all of these numbers at once. Move *every* parameter at the same time, in a random
# direction $r$: by the chain rule the loss must move by $\sum_i g_i \, r_i$. A mistake in one array changes this sum.

# %%
direction = {name: rng.standard_normal(g.shape) for name, g in ours.items()}
h = 1e-6
moved = ({name: p + s * direction[name] for name, p in flatten(wide).items()} for s in (h, -h))
up, down = (loss_of(unflatten(params), numpy_ops) for params in moved)
expected = sum((ours[name] * direction[name]).sum() for name in ours)
print(f"finite difference {(up - down) / (2 * h):.8f}, from the gradient {expected:.8f}")
assert abs((up - down) / (2 * h) / expected - 1) < 1e-6

# %% [markdown]
# ## The same training twice
#
# `miniclip train shapes --backend numpy` trains without torch. Here both learners begin with the same parameters, and
# get the same batches, in float32. AdamW makes the steps, in NumPy too. (This cell takes most of the page's time.)

# %%
recipe = Recipe(steps=300, optimizer="adamw", learning_rate=1e-3, warmup=20)
pair = [learners.make(config, start, recipe, backend=name, tokenizer=tokenizer) for name in ("numpy", "torch")]
batches = itertools.tee(map(draw_batch, itertools.count()))
losses = []
for (_, by_hand), (_, by_torch) in zip(*(loop.fit(*each, recipe) for each in zip(pair, batches))):
    losses.append((by_hand, by_torch))
curves = dict(zip(("NumPy, by hand", "torch, automatic"), zip(*losses)))

gap = np.array([abs(a - b) for a, b in losses])
print(f"first loss {losses[0][0]:.4f}, last {losses[-1][0]:.4f}; largest difference {gap.max():.1e}")
draw.same_training(curves, {"ln 60: knows nothing": math.log(60), "ln 6: knows the colour": math.log(6)})
plt.show()

assert gap[:20].max() < 1e-5 and gap.max() < 1e-3 and losses[0][0] > math.log(60) > 1.5 * losses[-1][0]

# %% [markdown]
# The wide curve is NumPy's, the thin one torch's. They differ in the last digits of a float32: the formulas are the
# same, but sums are made in another order. Every step begins where the last one ended, so a difference can grow, and
# with larger steps it does: try a learning rate twice as large.
#
# So there is no magic in `backward()`: formulas of one operation each, a list of what was done, and a sum where
# something is used twice. torch has more formulas, and runs them on GPUs.
#
# **Now you.** The exercises of this page are `softmax_gradient`, `layer_norm_gradient`, `attention_weights_gradient`
# and `attention_gradient`; `contrastive_gradient` belongs to [06](06_contrastive_learning.md). They are in
# [the course](../../miniclip/learn/README.md): `miniclip learn start course`. And try this: remove a term from the
# library's `layer_norm_gradient`, $\operatorname{mean}(g)$ say, and train with it. Does the loss still fall?
# `wrong_by` sees such a mistake at once; the curve of a loss often does not. Next: [17](17_two_losses.md) puts
# another loss beside this one, SigLIP's.
