#!/bin/sh
# Triton's interpreter adds and multiplies the bits of bfloat16 numbers as if they were integers.
#
# Packages: triton 3.7.1 (TRITON_INTERPRET=1), torch 2.13.0 (CPU).
# Expect:   tl.dot and tl.sum of bfloat16 tensors are close to the float32 results, as they are for
#           float16; if the interpreter cannot do bfloat16, it says so.
# Found:    the interpreter keeps bfloat16 in NumPy arrays of uint16. Loads, stores and conversions know
#           this. tl.dot and tl.sum do not: they work on the 16-bit patterns (1.0 is 0x3F80 = 16256)
#           and return nonsense without an error. Adding two tensors with "+" is not affected.
# Seen:     16x16 ones times 16x16 ones: float16 16.0, bfloat16 4228120576.0 (= 16 * 16256 * 16256)
#           sum of 4 ones: float16 4.0, bfloat16 -4.253529586511731e+37
# Avoid:    convert to float32 before tl.dot and tl.sum while the interpreter runs.
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
def total(x_ptr, out_ptr, N: tl.constexpr):
    tl.store(out_ptr, tl.sum(tl.load(x_ptr + tl.arange(0, N)), 0))


def run(dtype):
    ones, product, total_of_4 = torch.ones(16, 16, dtype=dtype), torch.zeros(16, 16), torch.zeros(1)
    dot[(1,)](ones, ones, product, N=16)
    total[(1,)](ones, total_of_4, N=4)
    assert (product == product[0, 0]).all()
    return product[0, 0].item(), total_of_4.item()


half, brain = run(torch.float16), run(torch.bfloat16)
print(f"16x16 ones times 16x16 ones: float16 {half[0]}, bfloat16 {brain[0]}")
print(f"sum of 4 ones: float16 {half[1]}, bfloat16 {brain[1]}")
assert half == (16, 4)
assert brain[0] == 16 * 16256 * 16256 and brain[1] != 4
PYTHON
TRITON_INTERPRET=1 "$dir/env/bin/python" "$dir/kernels.py"
