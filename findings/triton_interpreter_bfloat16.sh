#!/bin/sh
# Triton's interpreter adds and multiplies the bits of bfloat16 numbers as if they were integers.
#
# Packages: triton 3.7.1 (TRITON_INTERPRET=1), torch 2.13.0 (CPU).
# Expect:   x + y, tl.dot and tl.sum of bfloat16 tensors are close to the float32 results, as they are
#           for float16; if the interpreter cannot do bfloat16, it says so.
# Found:    the interpreter keeps bfloat16 in NumPy arrays of uint16. Loads, stores and conversions know
#           this. Arithmetic does not: it works on the 16-bit patterns (1.0 is 0x3F80 = 16256) and
#           returns nonsense without an error.
# Seen:     1 + 1: float16 2.0, bfloat16 1.7014118346046923e+38
#           sum of 4 ones: float16 4.0, bfloat16 -4.253529586511731e+37
#           16x16 ones times 16x16 ones: float16 16.0, bfloat16 4228120576.0 (= 16 * 16256 * 16256)
# Avoid:    convert to float32 right after tl.load while the interpreter runs.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/env"
"$dir/env/bin/pip" install --quiet --no-compile torch==2.13.0 triton==3.7.1 numpy==2.4.6
cat > "$dir/kernels.py" <<'PYTHON'
import torch
import triton
import triton.language as tl


@triton.jit
def dot(a_ptr, b_ptr, out_ptr, N: tl.constexpr):
    offsets = tl.arange(0, N)[:, None] * N + tl.arange(0, N)[None, :]
    tl.store(out_ptr + offsets, tl.dot(tl.load(a_ptr + offsets), tl.load(b_ptr + offsets)))


@triton.jit
def add(x_ptr, out_ptr):
    tl.store(out_ptr, tl.load(x_ptr) + tl.load(x_ptr))


@triton.jit
def total(x_ptr, out_ptr, N: tl.constexpr):
    tl.store(out_ptr, tl.sum(tl.load(x_ptr + tl.arange(0, N)), 0))


def run(dtype):
    ones, outs = torch.ones(16, 16, dtype=dtype), [torch.zeros(1), torch.zeros(1), torch.zeros(16, 16)]
    add[(1,)](ones, outs[0])
    total[(1,)](ones, outs[1], N=4)
    dot[(1,)](ones, ones, outs[2], N=16)
    assert (outs[2] == outs[2][0, 0]).all()
    return [out.flatten()[0].item() for out in outs]


half, brain = run(torch.float16), run(torch.bfloat16)
for name, a, b in zip(["1 + 1", "sum of 4 ones", "16x16 ones times 16x16 ones"], half, brain):
    print(f"{name}: float16 {a}, bfloat16 {b}")
assert half == [2, 4, 16]
assert brain[0] > 1e38 and brain[1] != 4 and brain[2] == 16 * 16256 * 16256
PYTHON
TRITON_INTERPRET=1 "$dir/env/bin/python" "$dir/kernels.py"
