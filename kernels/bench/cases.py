"""What `bench kernels` measures: the kernels of `table.py` at CLIP's shapes, as data.

Work is what cannot be avoided: the FLOPs of matrix products, every input read once and every output written once.
"""

from functools import partial
from typing import NamedTuple

import torch

from miniclip.kernels import ladder
from miniclip.kernels.table import KERNELS

PLAIN, LONG = "default", "max-autotune-no-cudagraphs"  # modes of torch.compile: its own graphs would not fit into ours


class Case(NamedTuple):
    kernel: str
    shape: dict
    dtype: str = "bfloat16"
    modes: tuple = ()  # of torch.compile, which is measured too


def describe(case):
    compiled = f" with torch.compile ({', '.join(case.modes)})" if case.modes else ""
    return f"{ladder.describe(case.kernel, case.shape)} {case.dtype}{compiled}"


def input_sets(case, device):
    """Yields sets of random inputs without end, {argument: value} each; the first is always the same."""
    torch.manual_seed(0)
    new = partial(ladder.randn, dtype=getattr(torch, case.dtype), device=device)
    while True:
        yield KERNELS[case.kernel].inputs(new, **case.shape)


def moves(name):
    """Whether a kernel multiplies no matrices, so that moving numbers is all it does."""
    kernel = KERNELS[name]
    return kernel.work(**kernel.small[-1])[0] == 0


# By target, then by what a model spends most time on. Kernels that are not named follow in the table's order.
FIRST = ("attention", "layer_norm", "add_layer_norm", "linear", "patch_embed", "quick_gelu")
NAMES = [*FIRST, *(name for name in KERNELS if name not in FIRST)]
TOKENS = KERNELS["attention"].clip
ALL = [(name, shape) for name in NAMES for shape in KERNELS[name].clip]
NORMS = [(name, shape) for name, shape in ALL if name in ("layer_norm", "add_layer_norm")]
# torch.compile makes one kernel of torch's several where a kernel of ours does that: then it is the peer.
MAIN = [Case(name, shape, modes=(PLAIN,) if moves(name) or name == "similarity" else ()) for name, shape in ALL]

# In the order of interest: the last cases are left out if time runs out.
CASES = [
    *MAIN,
    *(Case("attention", {**shape, "B": B}) for B in (1, 8, 64) for shape in TOKENS),
    *(Case("attention", shape, "float16") for shape in TOKENS),
    *(Case(name, shape, "float16") for name, shape in NORMS),
    *(Case("attention", shape, "float32") for shape in TOKENS if shape["T"] in (50, 257)),
    *(case._replace(modes=(PLAIN, LONG)) for case in MAIN if case.kernel != "attention"),
    *(case._replace(modes=(PLAIN, LONG)) for case in MAIN if case.kernel == "attention"),
]
# The first shape of each kernel comes first: one is enough to compare versions.
LADDERS = [
    Case(name, KERNELS[name].clip[i])
    for i in range(max(len(kernel.clip) for kernel in KERNELS.values()))
    for name in NAMES
    if i < len(KERNELS[name].clip) and len(KERNELS[name].versions) > 1
]
