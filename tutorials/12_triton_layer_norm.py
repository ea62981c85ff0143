# %% [markdown]
# # 12 · A first kernel: layer norm in Triton
#
# - **Builds**: a vector sum and a layer norm as Triton kernels, masks, the count of bytes moved.
# - **Time**: 20 s on 2 cores.
# - **Needs**: NumPy, matplotlib, torch, triton.
# - **Before**: [04](04_the_block.md), which writes layer norm in NumPy and explains its purpose.
#
# So far each line was an operation on whole arrays: read them from memory, compute, write the result back. On a GPU
# that is slow, and not because of the arithmetic: memory is far away, and the arithmetic of a layer norm takes much
# less time than fetching its numbers. The solution is to do all of it while the numbers are on the chip. A function
# that does so on a GPU is a **kernel**, and Triton is a language for kernels that looks like Python. This page writes
# two.
#
# No GPU is needed. Triton has an interpreter, which runs a kernel step by step on the CPU, in NumPy. It shows what a
# kernel computes and which memory it reads and writes, but not how fast the kernel would be on a GPU: nothing is
# timed here.

# %%
import os

os.environ["TRITON_INTERPRET"] = "1"  # kernels are defined for the interpreter or for a GPU: say so before the import

import inspect

import matplotlib.pyplot as plt
import numpy as np
import torch
import triton
import triton.language as tl
from torch.utils._python_dispatch import TorchDispatchMode

from miniclip.kernels import layer_norm as library
from miniclip.kernels.activation import bias_activation
from miniclip.ops import numpy_ops
from miniclip.viz import kernels as draw

rng = np.random.default_rng(0)


def normal(*shape, mean=0):
    return torch.from_numpy(mean + rng.standard_normal(shape)).float()


# %% [markdown]
# ## A program for each block
#
# Let us add two vectors of $N$ numbers. A GPU has thousands of arithmetic units, so the work is cut into **blocks**
# of equal size, and one copy of the kernel, a **program**, runs for each block. All programs are the same function.
# Each asks for its number, `tl.program_id(0)`, and computes from it which part of the work is its own.
#
# A kernel does not get an array but a **pointer**, the address of its first number. A pointer plus a block of
# offsets, counted in numbers, is a block of addresses; `tl.load` reads the numbers there, `tl.store` writes. There
# are no shapes and no bounds: nothing checks whether a program reads the right addresses.

# %%


@triton.jit
def naive_add(x_ptr, y_ptr, out_ptr, N, BLOCK: tl.constexpr):
    pid = tl.program_id(0)
    offs = pid * BLOCK + tl.arange(0, BLOCK)  # (BLOCK,) the numbers that are this program's
    mask = offs < N  # (BLOCK,) False beyond the last
    x = tl.load(x_ptr + offs, mask=mask)  # (BLOCK,)
    y = tl.load(y_ptr + offs, mask=mask)  # (BLOCK,)
    tl.store(out_ptr + offs, x + y, mask=mask)


# %% [markdown]
# `BLOCK` is a `tl.constexpr`: it is known when the kernel is compiled, and each value has its own compiled kernel. It
# must be known because the numbers of a block are in **registers**, the small memory beside the arithmetic units,
# which the compiler assigns; and it must be a power of two. Each position in a block is a **lane**.
#
# 150 numbers in blocks of 64 take 3 programs. They have 192 lanes, and 42 of these have nothing to do. The **mask**
# switches them off: if it is False, nothing is read and nothing is written. The number of programs, the **grid**, is
# in brackets between the name and the arguments.

# %%
N, BLOCK = 150, 64
x, y = normal(2, N)  # (N,) each
memory = torch.full((256,), torch.nan)  # the first N numbers are for the result, the others are not ours

programs = triton.cdiv(N, BLOCK)  # divided and rounded up
naive_add[(programs,)](x, y, memory, N, BLOCK=BLOCK)

assert programs == 3 and programs * BLOCK - N == 42
assert torch.equal(memory[:N], x + y) and memory[N:].isnan().all()  # not one of the 42 wrote

draw.programs(np.arange(programs * BLOCK).reshape(programs, BLOCK) < N)  # (programs, BLOCK)
plt.show()

# %% [markdown]
# The size of the blocks changes only the speed. The result must be the same for every size:

# %%
for BLOCK in (1, 2, 4, 8, 16, 32, 64, 128, 256):
    out = torch.empty(N)
    naive_add[(triton.cdiv(N, BLOCK),)](x, y, out, N, BLOCK=BLOCK)
    assert torch.equal(out, x + y)

try:
    naive_add[(3,)](x, y, out, N, BLOCK=50)
except triton.runtime.errors.InterpreterError as error:
    refused = str(error)
print("BLOCK=50:", refused)
assert "power of 2" in refused

# %% [markdown]
# ## A row for each program
#
# Layer norm takes a row $x$ of $D$ numbers, a token, with its mean $\mu$ and variance $\sigma^2$, learned numbers
# $w_d$ and $b_d$, and a small $\varepsilon$ that keeps the root from zero:
#
# $$y_d = \frac{x_d - \mu}{\sqrt{\sigma^2 + \varepsilon}} \cdot w_d + b_d, \qquad
# \mu = \frac1D \sum_d x_d, \qquad \sigma^2 = \frac1D \sum_d (x_d - \mu)^2$$
#
# No row needs another row, so each program takes one. Its block must hold the whole row: $D_\text{pad}$ lanes, the
# next power of two. For $D = 50$ there are 64 lanes, and 14 are masked; for the 768 of ViT-B there are 1024.
#
# A masked lane reads nothing, but it exists, and `tl.sum` adds it like any other. `other=0` sets the number that it
# holds: zero, which changes no sum.

# %%


@triton.jit
def naive_norm(x_ptr, weight_ptr, bias_ptr, out_ptr, D, eps, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    offs_d = tl.arange(0, BLOCK)  # (D_pad,)
    mask = offs_d < D
    x = tl.load(x_ptr + row * D + offs_d, mask=mask, other=0).to(tl.float32)  # (D_pad,)
    mean = tl.sum(x, axis=0) / D
    centred = tl.where(mask, x - mean, 0)  # (D_pad,) zero once more: see below
    variance = tl.sum(centred * centred, axis=0) / D
    weight = tl.load(weight_ptr + offs_d, mask=mask, other=0)  # (D_pad,)
    bias = tl.load(bias_ptr + offs_d, mask=mask, other=0)  # (D_pad,)
    y = centred * tl.rsqrt(variance + eps) * weight + bias  # (D_pad,) rsqrt: 1/√
    tl.store(out_ptr + row * D + offs_d, y, mask=mask)


def exact(x, weight, bias):
    """The library's reference, in float64."""
    return numpy_ops.layer_norm(*(a.double().numpy() for a in (x, weight, bias)), eps=1e-5)


R, D, D_pad = 8, 50, triton.next_power_of_2(50)  # rows, width, lanes
x = normal(R, D, mean=3)
weight, bias = normal(2, D)  # (D,) each
out = torch.empty(R, D)
naive_norm[(R,)](x, weight, bias, out, D, 1e-5, BLOCK=D_pad)

gap = abs(out.numpy() - exact(x, weight, bias)).max()
print(f"{D_pad} lanes for {D} numbers; largest difference from NumPy: {gap:.1e}")
assert D_pad - D == 14 and triton.next_power_of_2(768) == 1024 and gap < 1e-5

# %% [markdown]
# ## When a mask is forgotten
#
# That kernel has masks in three kinds of places: at a load, at a store, and in `tl.where` between them. Each can be
# forgotten. The next kernel computes the mean and the variance of one row, and leaves out the mask that `FORGET`
# names.

# %%


@triton.jit
def forgetful(x_ptr, out_ptr, D, BLOCK: tl.constexpr, FORGET: tl.constexpr):
    offs_d = tl.arange(0, BLOCK)  # (D_pad,)
    x = tl.load(x_ptr + offs_d, mask=offs_d < (BLOCK if FORGET == "load" else D), other=0)  # (D_pad,)
    mean = tl.sum(x, axis=0) / D
    centred = x - mean  # (D_pad,)
    if FORGET != "where":
        centred = tl.where(offs_d < D, centred, 0)
    tl.store(out_ptr, mean)
    tl.store(out_ptr + 1, tl.sum(centred * centred, axis=0) / D)


def moments(row, forget=None):
    out = torch.empty(2)
    forgetful[(1,)](row, out, len(row), BLOCK=triton.next_power_of_2(len(row)), FORGET=forget)
    return out.tolist()


mean, variance = moments(x[0])
print(f"nothing forgotten: mean {mean:.3f}, variance {variance:.3f}")
assert np.allclose([mean, variance], [x[0].double().mean(), x[0].double().var(correction=0)])

# %% [markdown]
# **The mask of a load.** Without it the program reads past the end of its row. Usually that is the next row: ordinary
# numbers, and a mean that is wrong but looks right. So we put the row into memory filled with NaN, "not a number":
# every sum with a NaN is NaN. The library's own tests do this: a kernel that reads outside its data gives NaN.

# %%
print(f"read on into the next row: mean {moments(x[0], 'load')[0]:.3f}")
assert np.isclose(moments(x[0], "load")[0], x.flatten()[:64].sum() / 50)

sea = torch.full((128,), torch.nan)
row = sea[32 : 32 + D]  # a view: the kernel gets the address of its first number
row[:] = x[0]
print("in a sea of NaN, forgotten:", moments(row, "load"), " masked:", np.round(moments(row), 3))
assert np.isnan(moments(row, "load")).all() and moments(row) == [mean, variance]

# %% [markdown]
# **The mask of the store.** Without it a program writes its 14 extra lanes over the beginning of the next row, and
# that row's own program may run before or after it: the order is not defined.
#
# **The second zero.** This mistake is not noticed. The masked lanes hold 0, the mean is right, and then the mean is
# subtracted from all lanes: now the masked ones hold $-\mu$, and each adds $\mu^2$ to the sum of squares. The
# computed variance is
#
# $$\frac1D \Big( \sum_{d < D} (x_d - \mu)^2 + \sum_{d = D}^{D_\text{pad} - 1} (0 - \mu)^2 \Big)
# = \sigma^2 + \frac{(D_\text{pad} - D) \, \mu^2}{D}$$

# %%
same_mean, inflated = moments(x[0], "where")
law = variance + (D_pad - D) * mean**2 / D
print(f"variance {variance:.3f}, forgotten {inflated:.3f}, by the formula {law:.3f}")
assert same_mean == mean and np.isclose(inflated, law, rtol=1e-6) and inflated > 3 * variance

lanes = np.pad(x.numpy(), [(0, 0), (0, D_pad - D)])  # (R, D_pad): what they hold after the load, a row for each program
draw.forgotten(lanes[0], D)
plt.show()

# %% [markdown]
# There is no error. The result has the right shape and the right signs, but is too small, by a factor that differs
# from row to row. Two habits in tests hide it completely. Rows of mean zero add 14 times zero. And widths that are
# powers of two have no masked lanes: CLIP's 512 and 1024 would pass, and so would the 128 of our built-in model,
# while 768 would be wrong by a third of $\mu^2$.

# %%
factors = [(moments(row)[1] / moments(row, "where")[1]) ** 0.5 for row in x]
print("too small by the factors", np.round(factors, 2))
assert max(factors) < 0.6 and max(factors) > min(factors) + 0.05

assert np.isclose(moments(x[0] - mean, "where")[1], variance, rtol=1e-6)  # mean zero: not seen
for width in (128, 512, 768, 1024):
    row = normal(width, mean=3)
    (mean, variance), (_, inflated) = moments(row), moments(row, "where")
    assert np.isclose(inflated - variance, mean**2 / 3, rtol=1e-5) if width == 768 else inflated == variance

# %% [markdown]
# The general rule: before a sum over lanes, the masked lanes must hold zero. Before a maximum they need another
# number: a softmax over lanes needs $-\infty$, since a zero would count as $e^0 = 1$.

# %%
s = rng.standard_normal(50)
assert np.allclose(numpy_ops.softmax(np.r_[s, [-np.inf] * 14])[:50], numpy_ops.softmax(s))
share = numpy_ops.softmax(np.r_[s, [0] * 14])[50:].sum()
print(f"14 lanes that hold zero take {share:.0%} of a softmax over 50 numbers")
assert share > 0.1

# %% [markdown]
# ## Float32 inside
#
# For speed CLIP runs with 16-bit numbers. The kernel converts them to float32 as soon as they are loaded, which moves
# no extra bytes: float16 ends at 65,504, and the square of 300 is larger. The kernel also computes the mean first and
# then the squares of the differences. The formula $\sigma^2 = \overline{x^2} - \mu^2$ would need one pass over the
# row instead of two. But if the mean is large, it is the difference of two large numbers, and loses most of its
# digits. Here the second pass is free, since the row is in registers. For a variance of 1:

# %%
assert np.finfo(np.float16).max == 65504 < 300**2

for large in (1, 100, 10_000):
    row = normal(768, mean=large)  # (D,)
    true = row.double().var(correction=0).item()
    one, two = abs(row.square().mean() - row.mean().square() - true).item(), abs(moments(row)[1] - true)
    print(f"mean {large:6,}: the variance is off by {one:.1g} in one pass, by {two:.1g} in two")
assert one > 0.1 and two < 1e-4

# %% [markdown]
# ## The library's kernel
#
# `@triton.jit` turns a function into an object that can be launched; the function itself is its `.fn`.

# %%
for kernel in (library._normalise, library._rows_kernel):
    print(inspect.getsource(kernel.fn))

# %% [markdown]
# The arithmetic, `_normalise`, is the same as ours, for several rows at once: hence the two axes. For a float32 row
# it subtracts the mean twice, since the first sum was rounded. `stride_xm` is the distance between the beginnings of
# rows, which need not be adjacent; `tl.int64` is for offsets beyond $2^{31}$.
#
# There are three versions. A GPU runs its threads in **warps** of 32 that execute together. Version 1 gives a row to
# four warps, and they wait for each other at both sums. Version 2, this one, gives a row of up to 1024 numbers to one
# warp, which waits for no other, and two rows at once if they are narrow. In version 3 a warp computes row after row,
# and weight and bias stay in its registers. With an update $u$, that kernel computes the residual sum $x + u$ and its
# norm at once.

# %%
for D in (1, 50, 64, 768):
    for dtype, close in ((torch.float32, 1e-5), (torch.float16, 1e-2)):  # of numbers up to 10 or so
        x, update = normal(2, 2, 5, D, mean=3).to(dtype)  # (B, T, D) each
        weight, bias = normal(2, D).to(dtype)  # (D,) each
        for version in (1, 2, 3):
            out = library.layer_norm(x, weight, bias, eps=1e-5, version=version)  # (B, T, D)
            assert abs(out.double().numpy() - exact(x, weight, bias)).max() < close

        total, out = library.add_layer_norm(x, update, weight, bias, eps=1e-5)  # (B, T, D) each
        assert torch.equal(total, x + update)
        assert torch.equal(out, library.layer_norm(total, weight, bias, eps=1e-5))  # of the sum as it is stored

sea = torch.full((2, 5, 100), torch.nan)
sea[..., 30:80] = normal(2, 5, 50)
ones = torch.ones(50)
assert library.layer_norm(sea[..., 30:80], ones, ones, eps=1e-5).isfinite().all()  # rows with NaN between them

# %% [markdown]
# ## Counting bytes
#
# How much does the kernel save? Write the formula as operations on whole tensors, as in ordinary torch code, and let
# torch report for each operation what it reads and writes. Tensors on the device "meta" have shapes and no numbers,
# so counting costs nothing. We take 50,000 rows of 768 in 16 bit, about as many as 256 pictures of 197 tokens have.

# %%


class Count(TorchDispatchMode):
    """Inside `with Count() as count:` every operation leaves (name, bytes read, bytes written) in count.steps."""

    def __init__(self):
        super().__init__()
        self.steps = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        out = operation(*args, **(kwargs or {}))
        outs = out if isinstance(out, tuple) else (out,)
        read, written = (sum(a.nbytes for a in xs if isinstance(a, torch.Tensor)) for xs in (args, outs))
        self.steps.append((operation.__name__.split(".")[0], read, written))
        return out


def naive_operations(x, weight, bias):
    centred = x - x.mean(-1, keepdim=True)  # (R, D)
    variance = centred.square().mean(-1, keepdim=True)  # (R, 1)
    return centred / torch.sqrt(variance + 1e-5) * weight + bias  # (R, D)


x, update = torch.empty(2, 50_000, 768, dtype=torch.float16, device="meta")  # (R, D) each
weight, bias = torch.empty(2, 768, dtype=torch.float16, device="meta")  # (D,) each
with Count() as operations:
    naive_operations(x, weight, bias)

for name, read, written in operations.steps:
    print(f"{name:5} reads {read / 1e6:6.1f} MB, writes {written / 1e6:5.1f} MB")
assert 256 * 197 == 50_432

# %% [markdown]
# These are twelve **passes**: the whole of $x$ moves between memory and chip twelve times; tensors with one number a
# row hardly count. The kernel reads $x$ once and writes $y$ once: two passes.
#
# To be fair, torch has a layer norm in one kernel, too. But in a transformer a residual sum comes before most norms,
# and then there are two kernels and five passes, since the norm reads the sum that was just written. `add_layer_norm`
# needs four.

# %%
with Count() as two_kernels:
    torch.nn.functional.layer_norm(x + update, (768,), weight, bias, eps=1e-5)

whole = x.nbytes
cases = {"norm, as operations": operations.steps, "norm, one kernel": [("", whole, whole)]}
cases |= {"sum and norm, two kernels": two_kernels.steps, "sum and norm, one kernel": [("", 2 * whole, 2 * whole)]}
moved = {name: sum(read + written for _, read, written in steps) for name, steps in cases.items()}
assert [round(n / whole) for n in moved.values()] == [12, 2, 5, 4]

# %% [markdown]
# A GPU's memory has a **bandwidth**, the bytes that it moves in a second. Bytes divided by bandwidth are the least
# time that an operation can take. [`kernels/README.md`](../../kernels/README.md) expects an H200 to copy 4.3 TB/s, of
# the 4.8 in NVIDIA's data sheet:

# %%
for name, size in moved.items():
    MB = size / 1e6  # which, divided by TB/s, are µs
    print(f"{name:25} {MB:3.0f} MB, {MB / 4.3:3.0f} µs at 4.3 TB/s, {MB / 4.8:3.0f} µs at 4.8 TB/s")
assert round(moved["norm, one kernel"] / 4.3e12 * 1e6) == 36  # µs, as the header of layer_norm.py says

draw.lanes_and_bytes(lanes, 50, cases, "50,000 rows of 768, 16 bit", 4.3e12)
plt.show()

# %% [markdown]
# The same is true of every operation with little arithmetic for each number. Quick-GELU is three operations and seven
# passes, but two passes in [`activation.py`](../../kernels/activation.py). You could now write this kernel yourself.

# %%
with Count() as gelu:
    x * torch.sigmoid(1.702 * x)
assert len(gelu.steps) == 3 and sum(read + written for _, read, written in gelu.steps) == 7 * whole

x = normal(3, 50)
assert np.allclose(bias_activation(x, None, "quick_gelu"), numpy_ops.quick_gelu(x.numpy()), atol=1e-6)

# %% [markdown]
# **Now you.** `miniclip learn start course` writes the exercises. `vector_add`, `triton_softmax`, `triton_layer_norm`
# and `triton_quick_gelu` belong to this page: see [the course](../../miniclip/learn/README.md). Next:
# [13](13_flash_attention.md) writes attention as one kernel.
