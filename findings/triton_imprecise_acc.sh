#!/bin/sh
# On Hopper, tl.dot(..., max_num_imprecise_acc=N) of 8 bit numbers adds sums before they are finished.
#
# Packages: triton 3.7.1 (3.6.0 is the same); nothing is launched, no GPU is needed.
# Expect:   the matrix units sum N products of e4m3 with few bits; when that is done, the sum is added to
#           one in float32.
# Found:    the PTX adds the registers that wgmma writes right after its last instruction, before the
#           commit and the wait. By the PTX ISA they hold nothing yet. NVIDIA's assembler notices, puts a
#           wait of its own between (C7517), and the products no longer overlap with anything.
# Seen:     max_num_imprecise_acc=64: add.f32 before the wait: 32, the assembler's waits: True
#           acc += tl.dot(a, b.T):    add.f32 before the wait: 0, the assembler's waits: False
# Avoid:    acc += tl.dot(a, b.T) with a BLOCK_K of N: the same sums, and a wait where it belongs.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/env"
"$dir/env/bin/pip" install --quiet --no-compile triton==3.7.1
cat > "$dir/kernels.py" <<'PYTHON'
import re
import subprocess
import tempfile
from pathlib import Path

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

PTXAS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "ptxas"


@triton.jit
def product(a_ptr, b_ptr, out_ptr, K, LEFT: tl.constexpr):
    i = tl.arange(0, 64)
    acc = tl.zeros([64, 64], tl.float32)
    for start in range(0, K, 64):
        a = tl.load(a_ptr + i[:, None] * K + start + i[None, :])
        b = tl.load(b_ptr + i[:, None] * K + start + i[None, :])
        if LEFT:
            acc = tl.dot(a, b.T, acc, max_num_imprecise_acc=LEFT)
        else:
            acc += tl.dot(a, b.T)
    tl.store(out_ptr + i[:, None] * 64 + i[None, :], acc)


names = {"a_ptr": "*fp8e4nv", "b_ptr": "*fp8e4nv", "out_ptr": "*fp32", "K": "i32"}
aligned = {(i,): [["tt.divisibility", 16]] for i in range(len(names))}


def compiled(left):
    """(additions of floats between the first product and its wait, whether the assembler adds waits)."""
    source = ASTSource(product, {**names, "LEFT": "constexpr"}, constexprs={"LEFT": left}, attrs=aligned)
    text = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 4}).asm["ptx"]
    between = text[text.index("wgmma.mma_async") : text.index("wgmma.wait_group")]
    with tempfile.NamedTemporaryFile("w", suffix=".ptx") as file:
        file.write(text)
        file.flush()
        command = [PTXAS, "-v", "--gpu-name=sm_90a", file.name, "-o", "/dev/null"]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    return len(re.findall(r"add\.(?:rn\.)?f32", between)), "C7517" in said


for text, left in (("max_num_imprecise_acc=64:", 64), ("acc += tl.dot(a, b.T):   ", 0)):
    early, waits = compiled(left)
    print(f"{text} add.f32 before the wait: {early}, the assembler's waits: {waits}")
assert compiled(64) == (32, True) and compiled(0) == (0, False)
PYTHON
"$dir/env/bin/python" "$dir/kernels.py"
