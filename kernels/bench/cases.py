"""What `bench kernels` measures: the kernels of `table.py` at CLIP's shapes, as data.

Work is what cannot be avoided: the FLOPs of matrix products, every input read once and every output written once.
"""

from functools import partial
from typing import NamedTuple

import torch

from miniclip.kernels import ladder
from miniclip.kernels.table import KERNELS


class Case(NamedTuple):
    kernel: str
    shape: dict
    dtype: str = "bfloat16"
    compiled: bool = False  # measured beside torch.compile too, which takes long to prepare


def describe(case):
    with_compile = " with torch.compile" if case.compiled else ""
    return f"{ladder.describe(case.kernel, case.shape)} {case.dtype}{with_compile}"


def input_sets(case, device):
    """Yields sets of random inputs without end, {argument: value} each; the first is always the same."""
    torch.manual_seed(0)
    new = partial(ladder.randn, dtype=getattr(torch, case.dtype), device=device)
    while True:
        yield KERNELS[case.kernel].inputs(new, **case.shape)


TOKENS = KERNELS["attention"].clip
ALL = [(name, shape) for name, kernel in KERNELS.items() for shape in kernel.clip]  # attention comes first
NORMS = [(name, shape) for name, shape in ALL if name in ("layer_norm", "add_layer_norm")]

# In the order of interest: the last cases are left out if time runs out.
CASES = [
    *(Case(name, shape) for name, shape in ALL),
    *(Case("attention", {**shape, "B": B}) for B in (1, 8, 64) for shape in TOKENS),
    *(Case("attention", shape, "float16") for shape in TOKENS),
    *(Case(name, shape, "float16") for name, shape in NORMS),
    *(Case("attention", shape, "float32") for shape in TOKENS if shape["T"] in (50, 257)),
    *(Case(name, shape, compiled=True) for name, shape in ALL if name != "attention"),
    *(Case("attention", shape, compiled=True) for shape in TOKENS),
]
