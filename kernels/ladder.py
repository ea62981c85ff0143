"""The record of a kernel, and `show`: `python -m miniclip.kernels.attention` prints the error of each version.

The file of a kernel ends with `KERNELS`, a record for each of its operations. `table.py` collects them, and everything
that goes over all kernels reads that table: tests, `offline`, and the benchmarks.
"""

import os
import sys
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import triton

from miniclip.kernels import device, oracle


class Kernel(NamedTuple):
    """One operation. `ours`, `plain` and the peers are called with what `inputs` gives, by name."""

    ours: Callable
    plain: Callable  # torch's own: in float64 it is the oracle, in the same dtype the measure of our error
    # (new, **shape) -> {argument: tensor or option}. new(*shape) makes a tensor of normal numbers, in guarded memory or
    # on a GPU; inputs of another size change them in place, as new(D).mul_(0.1) does.
    inputs: Callable
    rows: tuple  # the arguments that have one row for each row of the results; (): results may be sums over rows
    work: Callable  # (**shape) -> (FLOPs of matrix products, numbers read and written at least)
    small: tuple  # shapes that the interpreter computes in a second and that fill no tile: tested
    clip: tuple = ()  # shapes that CLIP has: compiled and measured
    compiled: tuple = ()  # shapes that are compiled only
    capability: int = device.LEAST_CAPABILITY  # the least compute capability that it runs on, 10 · major + minor
    peers: dict = {}  # noqa: RUF012 {name: call}: what is measured beside `plain`
    tuned: str = ""  # the name in tuned.json of what `candidates` and `key` are for; "": tiles are not tuned
    key: Callable | None = None  # (dtype=, **shape) -> the key that a tuned configuration is recorded under
    candidates: Callable | None = None  # () -> the configurations to measure

    def runs_on(self, capability):
        """Whether it is made for a target; what needs more than the least capability, for none of AMD's."""
        return (capability if isinstance(capability, int) else device.LEAST_CAPABILITY) >= self.capability

    @property
    def versions(self):
        """{name: a call of `ours`}, for each version, the fast one last; {"miniclip": ours} if there is only one."""
        count = self.ours.versions
        if count == 1:
            return {"miniclip": self.ours}
        return {f"version {i}": partial(self.ours, version=i) for i in range(1, count + 1)}


def describe(name, shape):
    """A kernel and a shape in a line: "attention B=256 T=50 H=12 K=64"."""
    return " ".join([name, *(f"{size}={value}" for size, value in shape.items())])


def show(kernels):
    """Print each version's error against float64 beside torch's own; on a GPU also its time.

    kernels: {name: Kernel}. Without a GPU: small shapes, in Triton's interpreter.
    """
    if device.why_not():
        # The interpreter is chosen when triton is imported, which has happened: start Python again.
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, "TRITON_INTERPRET": "1"})
    print("error: max |x - exact| / max |exact|, exact in float64")
    with torch.no_grad():
        for name, kernel in kernels.items():
            for shape in kernel.small if device.INTERPRETING else (kernel.clip or kernel.compiled)[:1]:
                for dtype in (torch.float32, torch.float16) if device.INTERPRETING else (torch.float32, torch.bfloat16):
                    print(f"\n{describe(name, shape)} {str(dtype)[6:]}")
                    _show(kernel, shape, dtype)


def _show(kernel, shape, dtype):
    torch.manual_seed(0)
    place = "cpu" if device.INTERPRETING else "cuda"
    inputs = kernel.inputs(partial(randn, dtype=dtype, device=place), **shape)
    check, usual = oracle.checker(kernel, inputs)
    for name, call in {"torch": kernel.plain, **kernel.versions}.items():
        error = usual if name == "torch" else check(call(**inputs), slack=float("inf"))
        line = f"  {name:<12} error {error:.1e}"
        if not device.INTERPRETING:
            milliseconds = triton.testing.do_bench(partial(call, **inputs), return_mode="median")
            line += f"   {milliseconds * 1e3:10,.1f} µs"
        print(line, flush=True)


def randn(*shape, dtype, device):
    """A tensor of normal numbers; `torch.randn`, for the shape () too."""
    return torch.randn(shape, dtype=dtype, device=device)
