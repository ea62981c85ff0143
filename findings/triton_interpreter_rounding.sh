#!/bin/sh
# Triton's interpreter cuts float32 to bfloat16; the compiled kernel rounds.
#
# Packages: triton 3.7.1, torch 2.13.0 (CPU). The compiler runs without a GPU and shows the PTX.
# Expect:   x.to(tl.bfloat16) rounds to the nearest value, ties to even, in both modes.
# Found:    the interpreter drops the low 16 bits, so each conversion is up to one unit too small and
#           the error always has the same sign. The PTX instruction is cvt.rn.bf16.f32 (round to
#           nearest). A float8 conversion beyond the largest value (448) wraps round in the
#           interpreter, to 256 for 500, where the PTX has "satfinite" and gives 448.
# Seen:     bfloat16 of 1.01171875: interpreter 1.0078125, torch 1.015625
#           float8 of 500: interpreter 256.0, torch 448.0
#           to_bfloat16: PTX cvt.rn.bf16.f32
#           to_float8: PTX cvt.rn.satfinite.e4m3x2.f32
# Matters:  a tolerance that is found with the interpreter measures the interpreter.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/env"
"$dir/env/bin/pip" install --quiet --no-compile torch==2.13.0 triton==3.7.1 numpy==2.4.6
cat > "$dir/kernels.py" <<'PYTHON'
import os
import re

import triton
import triton.language as tl


@triton.jit
def to_bfloat16(x_ptr, out_ptr):
    tl.store(out_ptr, tl.load(x_ptr).to(tl.bfloat16).to(tl.float32))


@triton.jit
def to_float8(x_ptr, out_ptr):
    tl.store(out_ptr, tl.load(x_ptr).to(tl.float8e4nv).to(tl.float32))


if os.environ.get("TRITON_INTERPRET") == "1":
    import torch

    for name, kernel, dtype, value, cut, rounded in [
            ("bfloat16", to_bfloat16, torch.bfloat16, 1.01171875, 1.0078125, 1.015625),
            ("float8", to_float8, torch.float8_e4m3fn, 500.0, 256.0, 448.0)]:
        x, out = torch.tensor([value]), torch.zeros(1)
        kernel[(1,)](x, out)
        expected = x.to(dtype).item()
        print(f"{name} of {value:.10g}: interpreter {out.item()}, torch {expected}")
        assert (out.item(), expected) == (cut, rounded)
else:
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    for kernel, wanted in [(to_bfloat16, "cvt.rn.bf16.f32"), (to_float8, "cvt.rn.satfinite.e4m3x2.f32")]:
        source = ASTSource(kernel, {"x_ptr": "*fp32", "out_ptr": "*fp32"})
        ptx = triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm["ptx"]
        print(f"{kernel.__name__}: PTX {wanted}")
        assert wanted in re.findall(r"cvt\.[\w.]+", ptx), ptx
PYTHON
export TRITON_CACHE_DIR="$dir/cache"
TRITON_INTERPRET=1 "$dir/env/bin/python" "$dir/kernels.py"
"$dir/env/bin/python" "$dir/kernels.py"
