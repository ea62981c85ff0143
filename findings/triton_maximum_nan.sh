#!/bin/sh
# tl.maximum shows a NaN in Triton's interpreter and hides it in the compiled kernel.
#
# Packages: triton 3.7.1, torch 2.13.0 (CPU). The compiler runs without a GPU and shows the PTX.
# Expect:   the interpreter finds the bugs that the compiled kernel has: tl.maximum(x, 0) (a ReLU) and
#           tl.max(x) treat NaN the same way in both modes.
# Found:    tl.maximum documents that it does not pass NaN on unless asked, and the PTX has max.f32,
#           which returns the number. The interpreter calls np.maximum, which returns the NaN.
#           tl.max is the other way round: the interpreter ignores a NaN, but tl.argmax
#           and tl.max(return_indices=True) of the same tensor point at it.
# Seen:     relu(nan): interpreter nan
#           of [1, nan, 3, 2] in the interpreter: max 3.0, with index: max nan at 1, argmax 1
#           relu: PTX max.f32
#           relu_with_nan: PTX max.NaN.f32
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/env"
"$dir/env/bin/pip" install --quiet --no-compile torch==2.13.0 triton==3.7.1 numpy==2.4.6
cat > "$dir/kernels.py" <<'PYTHON'
import math
import os
import re

import triton
import triton.language as tl


@triton.jit
def relu(x_ptr, out_ptr):
    tl.store(out_ptr, tl.maximum(tl.load(x_ptr), 0.0))


@triton.jit
def relu_with_nan(x_ptr, out_ptr):
    tl.store(out_ptr, tl.maximum(tl.load(x_ptr), 0.0, propagate_nan=tl.PropagateNan.ALL))


@triton.jit
def largest(x_ptr, out_ptr):
    x = tl.load(x_ptr + tl.arange(0, 4))
    value, index = tl.max(x, 0, return_indices=True)
    tl.store(out_ptr, tl.max(x, 0))
    tl.store(out_ptr + 1, value)
    tl.store(out_ptr + 2, index.to(tl.float32))
    tl.store(out_ptr + 3, tl.argmax(x, 0).to(tl.float32))


if os.environ.get("TRITON_INTERPRET") == "1":
    import torch

    nan, out = math.nan, torch.zeros(4)
    relu[(1,)](torch.tensor([nan]), out)
    print(f"relu(nan): interpreter {out[0].item()}")
    assert math.isnan(out[0])
    largest[(1,)](torch.tensor([1, nan, 3, 2]), out)
    print("of [1, nan, 3, 2] in the interpreter: max {}, with index: max {} at {:.0f}, argmax {:.0f}".format(*out.tolist()))
    assert out[0] == 3 and math.isnan(out[1]) and out[2] == out[3] == 1
else:
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    for kernel, wanted in [(relu, "max.f32"), (relu_with_nan, "max.NaN.f32")]:
        source = ASTSource(kernel, {"x_ptr": "*fp32", "out_ptr": "*fp32"})
        ptx = triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm["ptx"]
        print(f"{kernel.__name__}: PTX {wanted}")
        assert re.findall(r"max\.[\w.]+", ptx) == [wanted], ptx
PYTHON
export TRITON_CACHE_DIR="$dir/cache"
TRITON_INTERPRET=1 "$dir/env/bin/python" "$dir/kernels.py"
"$dir/env/bin/python" "$dir/kernels.py"
