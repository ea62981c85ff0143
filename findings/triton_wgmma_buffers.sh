#!/bin/sh
# On Hopper, Triton overwrites a tile that is being multiplied, if anything else uses the same load.
#
# Packages: triton 3.7.1 (3.6.0 is the same); nothing is launched, no GPU is needed.
# Expect:   a loop over tiles a and b that sums a @ b.T. In the machine code a product is still under way
#           when the next tiles are copied, so that three loads ahead need three buffers for each operand.
# Found:    if the loop also sums the squares of a, a has two buffers, but the product is waited for as
#           late as before: cp.async writes into the buffer that wgmma still reads. The PTX ISA calls that
#           undefined. The interpreter is right, there is no warning, and on a GPU it depends on timing.
# Seen:     a and b are only multiplied: buffers [3, 3], products under way at the wait in the loop: 1
#           a is squared, too:           buffers [2, 3], products under way at the wait in the loop: 1
# Known:    github.com/triton-lang/triton/issues/6691, and pull request 7110.
# Avoid:    load the tile a second time for the other use, with another cache_modifier, or in a loop before.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/env"
"$dir/env/bin/pip" install --quiet --no-compile triton==3.7.1
cat > "$dir/kernels.py" <<'PYTHON'
import re

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource


@triton.jit
def product(a_ptr, b_ptr, out_ptr, squares_ptr, K, SQUARES: tl.constexpr):
    i = tl.arange(0, 64)
    acc = tl.zeros([64, 64], tl.float32)
    squares = tl.zeros([64], tl.float32)
    for start in range(0, K, 64):
        a = tl.load(a_ptr + i[:, None] * K + start + i[None, :])
        b = tl.load(b_ptr + i[:, None] * K + start + i[None, :])
        acc = tl.dot(a, b.T, acc)
        if SQUARES:
            squares += tl.sum(a.to(tl.float32) * a.to(tl.float32), axis=1)
    tl.store(out_ptr + i[:, None] * 64 + i[None, :], acc)
    tl.store(squares_ptr + i, squares)


names = {"a_ptr": "*bf16", "b_ptr": "*bf16", "out_ptr": "*fp32", "squares_ptr": "*fp32", "K": "i32"}
aligned = {(i,): [["tt.divisibility", 16]] for i in range(len(names))}


def compiled(squares):
    """(buffers of a and of b, products that may be under way after the wait in the loop)."""
    source = ASTSource(product, {**names, "SQUARES": "constexpr"}, constexprs={"SQUARES": squares}, attrs=aligned)
    options = {"num_stages": 3, "num_warps": 4}
    assembly = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options).asm
    buffers = re.findall(r"ttg\.local_alloc : \(\) -> !ttg\.memdesc<(\d)x64x64xbf16", assembly["ttgir"])
    in_loop, _after = re.findall(r"wgmma\.wait_group\S*\s+(\d+)", assembly["ptx"])
    return list(map(int, buffers)), int(in_loop)


for text, squares in (("a and b are only multiplied:", False), ("a is squared, too:          ", True)):
    print(f"{text} buffers {compiled(squares)[0]}, products under way at the wait in the loop: {compiled(squares)[1]}")
assert compiled(False) == ([3, 3], 1) and compiled(True) == ([2, 3], 1)
PYTHON
"$dir/env/bin/python" "$dir/kernels.py"
