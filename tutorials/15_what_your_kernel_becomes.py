# %% [markdown]
# # 15 · What your kernel becomes
#
# - **Builds**: PTX and machine code of a layer norm and of attention, read and run instruction by instruction.
# - **Time**: 20 s on 2 cores.
# - **Needs**: NumPy, matplotlib, torch, triton.
# - **Before**: [12](12_triton_layer_norm.md) and [13](13_flash_attention.md), which write these kernels.
#
# A Triton kernel says what a block of numbers becomes. A GPU has no blocks: it has threads, each with some registers
# of 32 bits, in warps of 32 that execute the same instruction together. Between the two is a compiler, and what it
# makes decides how fast the kernel is. This page looks at all of it:
#
# - **Triton**, which you write: one program on blocks of numbers.
# - **PTX**, which Triton makes of it: a text for one thread, with as many registers as it likes. NVIDIA documents it.
# - **SASS**, which NVIDIA's assembler, ptxas, makes of that: what the hardware executes.
#
# No GPU is needed for any of it. Triton's package has the assembler and a disassembler, so a laptop can compile for
# an H100 (compute capability 9.0, called `sm_90`). And the library has an **emulator** of PTX in NumPy: it runs what
# was compiled, on the CPU, and can be asked after each instruction what every thread holds. It has no clock.

# %%
import os

os.environ.pop("TRITON_INTERPRET", None)  # this page compiles: the interpreter of pages 12 and 13 must be off

import inspect
import math
import re
import textwrap
from collections import Counter
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
import triton
import triton.language as tl

from miniclip.kernels import attention, cycles, emulator, first_steps, layer_norm, offline
from miniclip.kernels.cycles import sass
from miniclip.kernels.emulator import matrix, operands, ptx
from miniclip.ops import numpy_ops
from miniclip.viz import machine as draw

rng = np.random.default_rng(0)


def normal(*shape, mean=0):
    return torch.from_numpy(mean + rng.standard_normal(shape)).float()


# %% [markdown]
# ## From a line to instructions
#
# The first kernel is the layer norm that [12](12_triton_layer_norm.md) arrived at, as the library has it for
# beginners. A program takes a row; ours has 100 numbers, in a block of 128. Inside `compiling(90)` a launch compiles
# and runs nothing. Tensors on the device "meta" have shapes and no numbers.

# %%
R, D, lanes = 3, 100, 128  # rows, width, the next power of two
with offline.compiling(90) as kernels:
    first_steps.layer_norm(*(torch.empty(shape, device="meta") for shape in ((R, D), D, D)), eps=1e-5)
(compiled,) = kernels
text = Path(compiled.files[".ptx"]).read_text()
kernel = ptx.parse(text)

print(f"{compiled.name}: {len(kernel.instructions)} instructions of PTX, {compiled.instructions} of SASS,", end=" ")
print(f"{kernel.threads} threads a program, {compiled.registers} registers a thread")
assert kernel.threads == lanes == 32 * compiled.warps  # a lane of the block for each thread

# %% [markdown]
# Before each instruction the PTX says in a `.loc` line where it comes from. What a function of Triton's own library
# does, such as `tl.sum`, we count for the line that calls it. Here is the kernel, and in front of each line how many
# instructions it became:

# %%


def count_lines(text, file):
    """{line of the source: its instructions} of a PTX text."""
    found, line = {}, None
    for row in text.splitlines():
        if row.strip().startswith(".loc"):
            line = int(re.findall(rf"{file}:(\d+)", row)[-1])  # "standard.py:293:36 @[ first_steps.py:105:18 ]"
        elif re.match(r"\s+(@\S+\s+)?[a-z]\S*\s*.*;", row):
            found.setdefault(line, []).append(row.strip())
    return found


by_line = count_lines(text, "first_steps.py")
source, first = inspect.getsourcelines(first_steps.layer_norm_kernel.fn)
for number, line in enumerate(source, first):
    print(f"{len(by_line.get(number, [])) or '':>3}  {line}", end="")

assert sum(map(len, by_line.values())) == len(kernel.instructions)
numbers = {part: first + next(n for n, line in enumerate(source) if part in line) for part in ("x =", "mean =", "y =")}
assert len(by_line[numbers["mean ="]]) > 5 * len(by_line[numbers["y ="]])

# %% [markdown]
# The formula at the end, a division, a product and a sum, is next to nothing. The two sums over the row are most of
# the kernel: that is where threads have to talk to each other. And these instructions are the load of $x$:

# %%
print("\n".join(by_line[numbers["x ="]]))
load = next(i for i in kernel.instructions if i.opcode.startswith("ld.global"))
assert load.guard and not load.guard[1]  # @%p...: only where the predicate is true

# %% [markdown]
# A `*` of the source became `mul`, a pointer plus an offset `mad.wide` and `add.s64`: addresses have 64 bits. The
# mask became a **predicate**, a register of one bit. An instruction with `@%p1` in front does nothing in threads
# where `%p1` is false; these keep the zero that was put there before, Triton's `other`. That is all that masks are.
#
# ## Machine code
#
# ptxas translates the PTX once more. PTX names a new register for every result; the machine has 255 for a thread at
# most, and the fewer a thread takes, the more threads there can be at once. So a register is used again as soon as
# nobody reads it any more:

# %%
assert not any(i.opcode.startswith("bra") for i in kernel.instructions)  # no branch: each is executed once, in order
spans = {}
for i in kernel.instructions:
    for name in re.findall(r"%(?:rd|r|p)\d+", i.text):
        spans[name] = (spans.get(name, (i.index,))[0], i.index)  # first written, last read
words = {name: kernel.registers[name][1] // 4 for name in spans}  # of 32 bits: 2 for an address, 0 for a predicate
alive = [sum(words[n] for n, (a, b) in spans.items() if a <= i.index < b) for i in kernel.instructions]

print(f"{sum(words.values())} registers of 32 bits in the PTX, {max(alive)} of them in use at once;", end=" ")
print(f"ptxas takes {compiled.registers}")
assert max(alive) < sum(words.values()) / 3 and compiled.registers < sum(words.values()) / 3

draw.lifetimes(spans, alive, [i.opcode for i in kernel.instructions])
plt.show()

# %% [markdown]
# Read it from left to right: parameters and addresses, one load, a sum, a barrier; the second sum; the loads of
# weight and bias; the store. The long bars are what must be kept: the row itself, its mask, addresses.
#
# And the SASS. NVIDIA does not document it, but the disassembler prints it. It has something that PTX has not: time.
# The hardware does not check by itself whether a result is there. Arithmetic takes a fixed number of cycles, so
# ptxas writes into each instruction how long to wait after it (`stall`). What takes longer sets one of six flags, a
# **scoreboard**, and who needs the result waits for it:

# %%
code = compiled.code.instructions
loads = [n for n, i in enumerate(code) if i.name == "LDG"]
exchange = next(n for n, i in enumerate(code) if i.name == "SHFL")
for n in (loads[0], exchange, exchange + 1):
    i = code[n]
    print(f"{n:3}  {i.guard:4} {i.opcode:10} {', '.join(i.operands):32}", end=" ")
    print(f"stall {i.stall}, sets {i.write}, waits for {i.wait}")
assert code[loads[0]].write in code[exchange].wait and code[exchange].write is not None
assert len(loads) == 3  # x, weight, bias
assert sum(i.name == "SHFL" for i in code) == sum(i.opcode.startswith("shfl") for i in kernel.instructions)

# %% [markdown]
# The exchange cannot begin before the load's scoreboard is clear, and memory is far away. The instructions between
# the two need not wait: ptxas has moved them there.
#
# ## Running it
#
# Inside `emulating(90)` a launch on ordinary CPU tensors is compiled in the same way, and then executed in NumPy,
# all threads of a program side by side. `trace` is called after every instruction. Let us follow one thread of
# program 0, from its number to the first exchange:

# %%
x, weight, bias = normal(R, D, mean=3), normal(D), normal(D)
exchanges, lines, requests = [], [], []


def watch(program, i, thread=5):
    if program.index != (0, 0, 0):
        return
    target = i.operands[0].strip("{} ") if i.operands else ""
    if i.opcode.startswith("shfl"):
        exchanges.append((int(i.operands[2]), program.register(i.operands[1], "float32")))
    if "ld.global" in i.opcode:
        requests.append(operands.address(program.kernel, i.operands[1])(program))
    if target in program.kernel.registers and "param" not in i.opcode and len(exchanges) < 2:
        width = program.kernel.registers[target][1]
        is_float = i.opcode.startswith(("ld.global", "shfl", "add.f32"))
        value = program.register(target, {0: bool, 4: "float32" if is_float else "int32", 8: "int64"}[width])[thread]
        if width == 8 and value >> 44:  # the address of a tensor's number
            value = f"byte {value - program.memory.find(value).base} of tensor {(value >> 44) - 1}"
        lines.append(f"{' '.join(i.text.split()):44} {value}")


with emulator.emulating(90, trace=watch) as launches:
    out = first_steps.layer_norm(x, weight, bias, eps=1e-5)
print("\n".join(lines))

# %% [markdown]
# (The emulator gives each tensor a range of addresses to itself, so that an address can say whose it is.) The result
# is that of NumPy:

# %%
exact = numpy_ops.layer_norm(*(a.double().numpy() for a in (x, weight, bias)), eps=1e-5)
gap = abs(out.numpy() - exact).max()
(launch,) = launches
print(f"{launch.programs} programs, {sum(launch.counts.values())} instructions, largest difference {gap:.0e}")
assert launch.programs == R and gap < 1e-5
assert sum(launch.counts.values()) == R * len(kernel.instructions)  # no branch, no loop: each once a program
assert not exchanges[0][1][D:].any() and exchanges[0][1][:D].all()  # what threads have after the load: masked, zero

# %% [markdown]
# The load is one instruction for a warp. Its 32 threads ask for 4 bytes each, side by side, so it is one request of
# 128 bytes, a **cache line**, and that is how memory likes to be read:

# %%
warp = requests[0][:32]
print("bytes from thread to thread:", *set(np.diff(warp)), "· bytes that a warp asks for:", warp[-1] + 4 - warp[0])
assert set(np.diff(warp)) == {4} and warp[-1] + 4 - warp[0] == 128

# %% [markdown]
# ## Thirty-two lanes add up
#
# How does a warp sum 32 numbers, one in each thread? `shfl.sync.bfly` gives each lane the register of another lane,
# whose number differs in one bit: first lane 16 further (`lane ^ 16`), then 8, 4, 2, 1. After each exchange comes an
# `add.f32`. In NumPy:

# %%


def naive_warp_sum(held):
    """held (32,) of a warp -> [held after each step]; at the end all lanes have the sum."""
    steps = [held]
    for distance in (16, 8, 4, 2, 1):
        taken = steps[-1][np.arange(32) ^ distance]  # shfl
        steps.append(steps[-1] + taken)  # add
    return steps


loaded = np.pad(x[0].numpy(), (0, lanes - D))  # (128,) with the zeros of masked lanes
distances, held = [d for d, _ in exchanges[:5]], np.stack([values[:32] for _, values in exchanges[:5]])  # (5, 32)
steps = naive_warp_sum(loaded[:32])
assert distances == [16, 8, 4, 2, 1]
assert np.array_equal(held, steps[:5])  # to the last bit
assert len(set(steps[5].tolist())) == 1 and np.isclose(steps[5][0], x[0, :32].sum())

draw.butterfly(np.stack(steps), distances)
plt.show()

# %% [markdown]
# Five steps, where a loop would take 31, and at the end every lane has the sum. But a row of 100 numbers is on four
# warps, and a shuffle does not leave its warp. So one thread of each warp writes its sum to **shared memory**, all
# wait at a barrier (`bar.sync`), and four threads read the four sums and add them with two more exchanges. Then they
# write the total, all wait again, and all read it:

# %%
later = [(distance, values[:4]) for distance, values in exchanges[5:7]]
sums = loaded.reshape(4, 32).sum(axis=1)  # of each warp
print("sums of the warps:", np.round(later[0][1], 2), " after one exchange:", np.round(later[1][1], 2))
assert [distance for distance, _ in later] == [2, 1] and np.allclose(later[0][1], sums)
assert np.allclose(later[1][1], sums + sums[[2, 3, 0, 1]])

barriers = launch.counts["bar.sync"] // R
print(f"{barriers} barriers a row, {len(exchanges)} exchanges")
assert barriers == 5 and len(exchanges) == 2 * (5 + 2)

# %% [markdown]
# This is what "four warps share a row, and wait for each other at both sums" in
# [`layer_norm.py`](../../kernels/layer_norm.py) means, and why its versions 2 and 3 give a row to one warp: 10
# exchanges, and no barrier at all. We come back to them at the end.
#
# ## Matrix units: who holds what
#
# `tl.dot` becomes an instruction that a whole warp executes together: `mma.sync` multiplies a matrix of 16 × 16
# numbers by one of 16 × 8. Neither matrix is anywhere: it is spread over the registers of 32 threads. Two numbers of
# 16 bits share a register. Lane $4g + t$ holds, in register $r$, half $h$:
#
# - of A: row $g + 8 (r \bmod 2)$, column $2t + h + 8 \lfloor r / 2 \rfloor$, for 4 registers;
# - of B: row $2t + h + 8r$, column $g$, for 2 registers;
# - of C, whose numbers have 32 bits: row $g + 8 \lfloor r / 2 \rfloor$, column $2t + r \bmod 2$, for 4 registers.

# %%
lane, r, h = np.ogrid[:32, :4, :2]  # (32, 4, 2)
g, t = lane // 4, lane % 4
place_a = g + 8 * (r % 2), 2 * t + h + 8 * (r // 2)  # row and column of each number: (32, 4, 2)
place_b = 2 * t + h + 8 * r[:, :2], g + 0 * (r[:, :2] + h)  # (32, 2, 2)
place_c = (g + 8 * (r // 2))[..., 0], (2 * t + r % 2)[..., 0]  # (32, 4)

owners = {"A": np.zeros((16, 16), int), "B": np.zeros((16, 8), int), "C": np.zeros((16, 8), int)}
for matrix_lanes, place in zip(owners.values(), (place_a, place_b, place_c)):
    matrix_lanes[place] = lane[..., 0] if place is place_c else lane
assert all(set(Counter(m.ravel().tolist()).values()) == {m.size // 32} for m in owners.values())  # all hold as many
assert all(len(set(row)) == 4 for row in owners["C"].tolist())
assert np.array_equal(owners["A"][:, :8], owners["C"]) and np.array_equal(owners["A"][:, 8:], owners["C"])

draw.fragments(owners)
plt.show()

# %% [markdown]
# The picture says which lane has each number. Four lanes hold a row of A, and a row of C, too: that is why the
# maximum of a row of scores takes only two shuffles in attention, and why p, which was a C, can become the next
# product's A without leaving its lanes.
#
# Is that so? PTX is a text, so let us write a kernel in PTX by hand. Each thread loads its four registers of A and
# two of B, there is one product, and it stores four numbers of C:

# %%
by_hand = """
.version 8.7
.target sm_90a
.address_size 64
.visible .entry one_product(.param .u64 .ptr .global .align 16 a, .param .u64 .ptr .global .align 16 b,
                            .param .u64 .ptr .global .align 16 c)
.reqntid 32
{
    .reg .b32 %lane, %a<4>, %b<2>, %c<4>; .reg .b64 %rd<6>;
    ld.param.b64 %rd0, [a]; ld.param.b64 %rd1, [b]; ld.param.b64 %rd2, [c];
    mov.u32 %lane, %tid.x;
    mad.wide.u32 %rd3, %lane, 16, %rd0;
    ld.global.v4.b32 {%a0, %a1, %a2, %a3}, [%rd3];
    mad.wide.u32 %rd4, %lane, 8, %rd1;
    ld.global.v2.b32 {%b0, %b1}, [%rd4];
    mov.b32 %c0, 0; mov.b32 %c1, 0; mov.b32 %c2, 0; mov.b32 %c3, 0;
  mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%c0,%c1,%c2,%c3}, {%a0,%a1,%a2,%a3}, {%b0,%b1}, {%c0,%c1,%c2,%c3};
    mad.wide.u32 %rd5, %lane, 16, %rd2;
    st.global.v4.b32 [%rd5], {%c0, %c1, %c2, %c3};
    ret;
}
"""
A, B = rng.integers(-9, 10, (16, 16)).astype(np.float16), rng.integers(-9, 10, (16, 8)).astype(np.float16)
a, b = np.ascontiguousarray(A[place_a]), np.ascontiguousarray(B[place_b])  # (32, 4, 2), (32, 2, 2): by lanes
c = np.full((32, 4), np.nan, np.float32)
emulator.run(by_hand, [a, b, c])

C = np.empty((16, 8), np.float32)
C[place_c] = c
assert np.array_equal(C, A.astype(np.float32) @ B.astype(np.float32))
print("one mma.sync:", 16 * 16 * 8, "multiply-adds of a warp; C is A @ B")

# %% [markdown]
# An H100 still has this, and a larger one, `wgmma`: four warps together, for 64 rows of C. C is in registers in the
# same way, but B is read directly from shared memory, and so is A if it is not in registers already. What does
# attention use? The library's, for 197 tokens in bfloat16, compiled for an A100 and for an H100:

# %%
T, K = 197, 64
q, k, v = normal(1, T, 3, 1, K).bfloat16().unbind(2)  # (B, T, H, K) each


def attend(capability=90, **options):
    with emulator.emulating(capability, **options) as launches:
        out = attention.attention(q, k, v, version=4)
    return out.double().numpy(), launches[0]


exact = numpy_ops.attention(*(a.double().numpy() for a in (q, k, v)))  # (B, T, H, K)
SHAPE = re.compile(r"mma.*\.m(\d+)n(\d+)k(\d+)\.")
for capability in (80, 90):
    out, launch = attend(capability)
    products = {opcode: n for opcode, n in launch.counts.items() if SHAPE.search(opcode)}
    teams = launch.kernel.threads // (128 if capability == 90 else 32)  # of four warps, or one: each has a product
    work = teams * sum(n * math.prod(map(int, SHAPE.search(opcode).groups())) for opcode, n in products.items())
    gap = abs(out - exact).max() / abs(exact).max()
    useful = 2 * T * T * K / work
    print(f"sm_{capability}: {work / 1e6:.1f} million multiply-adds, {useful:.0%} useful; off by {gap:.0e}")
    for opcode, n in products.items():
        print(f"  {n:4} {opcode}")
    assert gap < 0.01 and 0.5 < useful <= 1

# %% [markdown]
# The same work takes far fewer instructions on the H100. SASS has one for each of its products, and calls it HGMMA.
# Most others are for the softmax and for addresses:

# %%
hopper = Counter(i.name for i in sass.read(launch.files[".cubin"]).instructions)
in_ptx = sum("wgmma.mma" in i.opcode for i in launch.kernel.instructions)
print(f"PTX: {len(launch.kernel.instructions)} instructions, {in_ptx} of them wgmma.mma_async")
print(f"SASS: {hopper.total()} instructions, {hopper['HGMMA']} of them HGMMA; others:", hopper.most_common(4))
assert hopper["HGMMA"] == in_ptx

# %% [markdown]
# ## Shared memory has banks
#
# Shared memory is 32 **banks** of 4 bytes: an address, divided by 4, modulo 32. In a cycle each bank gives one word,
# so a read is fast if its threads want different banks. Matrix units read 8 rows, 16 bytes of each. With K = 64
# numbers of 16 bits, a row of keys has 128 bytes: all banks, once. Stored one after the other, 8 pieces of the same
# column are in the same four banks, and are read in 8 turns. So Triton stores them **swizzled**: within a row the
# pieces are exchanged, by an XOR with the number of the row.

# %%
row, column = np.ogrid[:8, :8]
plain = row * 128 + column * 16  # (8, 8) where each piece is, in bytes
layouts = {}
for title, at in (("one after the other", plain), ("swizzled", matrix.swizzled(plain, 128))):
    where = at % 128 // 16  # (8, 8) the four banks that a piece of the tile is in
    columns = np.empty((8, 8), int)
    columns[row, where] = column
    layouts[title] = columns
    turns = [Counter(where[:, i].tolist()).most_common(1)[0][1] for i in range(8)]
    print(f"{title}: to read a column takes {turns} turns")
    assert set(turns) == ({8} if at is plain else {1})
assert np.array_equal(matrix.swizzled(plain, 128), plain ^ (row << 4))

draw.banks(layouts, read=2)
plt.show()

# %% [markdown]
# Each cell shows "row, column" of the piece in that place; orange is column 2. Does the compiled kernel do this? The
# emulator knows. `ldmatrix` reads such pieces for `mma.sync`, 8 addresses at a time:

# %%
turns = Counter()


def count_turns(program, i):
    if i.opcode.startswith("ldmatrix"):
        at = operands.address(program.kernel, i.operands[1])(program).reshape(-1, 8)  # (groups of 8 lanes, 8)
        turns.update(max(Counter((group % 128 // 16).tolist()).values()) for group in at)


attend(80, trace=count_turns)
print(f"{turns.total():,} reads of 8 pieces: all in {max(turns)} turn")
assert set(turns) == {1}

# %% [markdown]
# ## What arrives late
#
# Loads and products take long. To hide that, both are **asynchronous** on an H100: `cp.async` copies from memory to
# shared memory, `wgmma` multiplies, and the program continues. It gathers them in groups, and a wait names a number:
# `cp.async.wait_group 2` waits until all groups but the two newest are there. Here is what one program has begun and
# not yet waited for:

# %%
going = {"cp.async: groups of copies under way": [], "wgmma: groups of products under way": []}


def look(program, i):
    if program.index == (0, 0, 0):
        for counts, groups in zip(going.values(), (program.copies.groups, program.products.groups)):
            counts.append(sum(bool(group) for group in groups))


out, launch = attend(trace=look)
draw.under_way(going)
plt.show()

# %% [markdown]
# What if a wait is missing? On a GPU the numbers are often there already, so the result is right, and sometimes they
# are not. The emulator is strict. What is asynchronous arrives as late as the rules allow, at its wait, and until
# then its place holds NaN. `edit` changes the text of the PTX before it is run. So we remove waits, one at a time:

# %%
WAIT = re.compile(r"(cp\.async|wgmma)\.wait_group\S*\s+\d+;")


def without(number):
    """A function of a PTX text: the same without its wait of that number."""

    def edit(text):
        found = list(WAIT.finditer(text))[number]
        return text[: found.start()] + text[found.end() :]

    return edit


waits = [found[0] for found in WAIT.finditer(Path(launch.files[".ptx"]).read_text())]
lost = []
for number, wait in enumerate(waits):
    wrong, _ = attend(edit=without(number))
    lost.append(np.isnan(wrong).mean())
    print(f"without {' '.join(wait.split()):36} {lost[-1]:.0%} of the result is NaN")

assert not np.isnan(out).any() and max(lost) == 1 and min(lost) == 0

# %% [markdown]
# Most waits are needed. A few are not: `wait_group 0` waits for everything before it, so another one, before anybody
# reads, does the same; and after the last copies of a loop nobody reads at all.
#
# If results came at once, as `late=False` has it, then all waits together could go, and no test would see it:

# %%
early, _ = attend(late=False, edit=lambda text: WAIT.sub("", text))
print(f"everything arrives at once, no waits: off by {abs(early - exact).max() / abs(exact).max():.0e}")
assert np.array_equal(early, out)

# %% [markdown]
# The emulator is not a GPU, either. Its warps never run ahead of each other, so it does not miss a barrier. On a GPU
# this kernel would read what other warps have not written yet, sometimes:

# %%
unsafe, changed = attend(edit=lambda text: re.sub(r"bar\.sync\s+0;", "", text))
print(f"without its {launch.counts['bar.sync']} barriers: the same result, {np.array_equal(unsafe, out)}")
assert launch.counts["bar.sync"] and not changed.counts["bar.sync"] and np.array_equal(unsafe, out)

# %% [markdown]
# ## Read too early
#
# Where do such faults come from, if the compiler writes the waits? Sometimes from the compiler. Take the loop of
# [13](13_flash_attention.md) over tiles of 64 keys, with a smaller tile for the tail. In the source it makes no
# difference whether the tail comes before or after the loop:

# %%


@triton.jit
def naive_step(acc, m_i, l_i, q, k_ptr, v_ptr, start_n, T, N: tl.constexpr, TAIL: tl.constexpr):
    offs_n = start_n + tl.arange(0, N)[:, None]  # (N, 1)
    offs = offs_n * 64 + tl.arange(0, 64)[None, :]  # (N, K)
    mask = offs_n < T if TAIL else offs_n >= 0
    k = tl.load(k_ptr + offs, mask=mask, other=0)  # (N, K)
    v = tl.load(v_ptr + offs, mask=mask, other=0)  # (N, K)
    qk = tl.dot(q, k.T)  # (M, N)
    if TAIL:
        qk = tl.where(offs_n.T < T, qk, -float("inf"))
    m_new = tl.maximum(m_i, tl.max(qk, axis=1))  # (M,)
    p, alpha = tl.exp2(qk - m_new[:, None]), tl.exp2(m_i - m_new)  # (M, N), (M,)
    return tl.dot(p.to(v.dtype), v, acc * alpha[:, None]), m_new, l_i * alpha + tl.sum(p, axis=1)


@triton.jit
def naive_tail(q_ptr, k_ptr, v_ptr, out_ptr, T, TAIL_LAST: tl.constexpr):
    """One program of 64 queries; q, k, v, out (., 64)."""
    offs = tl.arange(0, 64)[:, None] * 64 + tl.arange(0, 64)[None, :]  # (M, K)
    q = tl.load(q_ptr + offs)
    acc, m_i, l_i = tl.zeros([64, 64], tl.float32), tl.full([64], -1e30, tl.float32), tl.zeros([64], tl.float32)
    end_n = T // 64 * 64
    if not TAIL_LAST:
        acc, m_i, l_i = naive_step(acc, m_i, l_i, q, k_ptr, v_ptr, end_n, T, 16, True)
    for start_n in range(0, end_n, 64):
        acc, m_i, l_i = naive_step(acc, m_i, l_i, q, k_ptr, v_ptr, start_n, T, 64, False)
    if TAIL_LAST:
        acc, m_i, l_i = naive_step(acc, m_i, l_i, q, k_ptr, v_ptr, end_n, T, 16, True)
    tl.store(out_ptr + offs, acc / l_i[:, None])


# %%
query = (q[0, :64, 0].double() * np.log2(np.e) / np.sqrt(K)).bfloat16()  # (M, K): scaled, as exp2 is used
arguments = query, k[0, :, 0].contiguous(), v[0, :, 0].contiguous(), torch.empty(64, K)
right = numpy_ops.attention(*(a.double().numpy() for a in (q[:, :64], k, v)))[0, :, 0]  # (M, K)
facts = {}
for tail_last in (False, True):
    with emulator.emulating(90) as launches:
        naive_tail[(1,)](*arguments, T, tail_last, num_stages=3)
    with offline.compiling(90) as kernels:
        naive_tail[(1,)](*(a.to("meta") for a in arguments), T, tail_last, num_stages=3)
    names = Counter(i.opcode.partition(".64x")[0] for i in kernels[0].code.instructions)
    products, stops, out = names["HGMMA"], names["WARPGROUP.DEPBAR.LE"], arguments[-1].numpy()
    wrong = np.isnan(out).mean()
    gap = abs(out - right).max() / abs(right).max()
    facts[tail_last] = products, stops, wrong, gap, kernels[0].warnings
    print(f"tail {'last ' if tail_last else 'first'}: {wrong:.0%} NaN, off by {gap:.0e};", end=" ")
    print(f"SASS: {products} products, {stops} waits for them")
    for warning in kernels[0].warnings:
        print(textwrap.fill(f"ptxas: {warning}", 110))

# %%
for tail_last, (products, stops, wrong, gap, warnings) in facts.items():
    if tail_last:
        assert wrong == 1 and stops >= products and "C7515" in warnings[0]
    else:
        assert wrong == 0 and gap < 0.01 and stops < products and not warnings

# %% [markdown]
# With the tail last, the PTX is wrong. Triton leaves the loop's last product under way, and copies its accumulators
# for the tail before it waits: the emulator sees NaN. On a GPU the result is right all the same, for ptxas notices
# and repairs it. But its repair is to make *every* product of the kernel wait for the one before. Nothing is
# asynchronous any more, and Triton says nothing about it: the warning is ptxas', and Triton drops it.
#
# The library's attention once had its tail last. That is why version 4 of its ladder takes the tail first (see the
# header of [`attention.py`](../../kernels/attention.py)), why the faulty one is [kept in the
# tests](../../tests/faulty_attention.py), and why they ask ptxas for its warnings.
#
# ## What it costs
#
# Back to layer norm, and to the versions of the library's for real work: 50,000 rows of 768 in bfloat16. Counting
# needs no GPU, and neither does a **model**: the library follows the programs through their SASS, with the stalls
# and scoreboards that ptxas wrote, and with units that do one thing at a time. Its times are good to perhaps 25%, to
# compare versions with, and nobody has measured them.

# %%
R, D = 50_000, 768
x, weight, bias = (torch.empty(shape, dtype=torch.bfloat16, device="meta") for shape in ((R, D), D, D))
least = 2 * (x.nbytes + weight.nbytes)  # bytes: x and y, weight and bias
gpus = (cycles.H100, cycles.H200)
needed = {gpu.name: least / gpu.bandwidth * 1e6 for gpu in gpus}  # µs
rows = {}
for version in range(1, layer_norm.layer_norm.versions + 1):
    with offline.compiling(90) as kernels:
        layer_norm.layer_norm(x, weight, bias, eps=1e-5, version=version)
    (one,) = kernels
    results = {gpu.name: cycles.estimate(one, gpu, least) for gpu in gpus}
    issued = results["H100"].issued * np.prod(one.grid) / R
    rows[f"version {version}"] = issued, {name: result.microseconds for name, result in results.items()}
    code = Counter(i.name for i in one.code.instructions)
    widest = max(sass.width(i.opcode) for i in one.code.instructions if i.name == "LDG")
    print(f"version {version}: {one.warps} warps, {one.registers} registers,", end=" ")
    print(f"{one.programs_per_processor} programs at once, {code['BAR']} barriers, {code['SHFL']} exchanges,", end=" ")
    print(f"loads of {widest} bytes, {issued:.0f} instructions")
    assert widest == 16
    assert (code["BAR"], code["SHFL"]) == ((5, 14) if version == 1 else (0, 10))

# %%
issued, times = zip(*rows.values())
assert list(issued) == sorted(issued, reverse=True) and issued[-1] < issued[0] / 2
assert all(time[name] > 0.75 * needed[name] for time in times for name in needed)
assert times[0]["H100"] < 1.1 * times[-1]["H100"] and times[0]["H200"] > 1.1 * times[-1]["H200"]

draw.costs(rows, needed)
plt.show()

# %% [markdown]
# The last number is how many instructions a row costs, all warps together. A load takes 16 bytes for each thread
# now, where our first kernel took 4. The last version needs less than half of the first one's instructions, and on
# an H100 that hardly matters, by the model: its memory is what all versions wait for. An H200 has the same
# multiprocessors and faster memory, and there version 1 is slower: it cannot issue its instructions as fast as the
# rows come.
#
# **Now you.** Take a kernel of yours from [12](12_triton_layer_norm.md) or [13](13_flash_attention.md), compile it
# for 80 as well as for 90, and count: which of its lines becomes the most instructions? Then make `BLOCK` twice as
# large: do the registers grow, too? `miniclip bench kernels --mine` counts it beside the library's: see
# [`kernels/README.md`](../../kernels/README.md). Next: [16](16_backpropagation_by_hand.md) goes through the model
# backwards, in NumPy.
