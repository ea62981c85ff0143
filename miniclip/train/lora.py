"""LoRA: a weight stays as it is, and a product of two thin matrices, which is added to it, is trained.

    W' = W + scale · B A,    W (out, in),  A (r, in),  B (out, r),    scale = alpha / r

(LoRA: Low-Rank Adaptation of Large Language Models, sec. 4.1.) B starts as zeros, so that training starts from the
model as it was. Nothing here belongs to a backend: gradients flow through `merge`.

Our attention has one weight for queries, keys and values, `qkv`. It gets three pairs, A (3, r, D) and B (3, D, r),
which `@` multiplies one by one. So its update is exactly that of PEFT's adapters on transformers' three weights, and is
written to PEFT's files without loss. One pair for all of them would be another method: they would share A.

`checkpoints.peft` reads and writes PEFT's files.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from miniclip import params as parameter_tree
from miniclip.errors import InputError
from miniclip.ops import Array
from miniclip.train import parameters

ALL_LINEAR = "all-linear"  # as PEFT calls it: the weight of every linear layer, no embedding, no convolution
Adapter = dict[str, tuple[Array, Array]]  # {flat name of a weight: (A, B)}


def targets(params: dict, patterns: Iterable[str] = (ALL_LINEAR,)) -> list[str]:
    """The flat names of the weights that patterns name: as in `parameters`, or "all-linear".

    Biases and gains are left out. Raises InputError for a pattern that names no weight.
    """
    used = {name: x for name, x in parameter_tree.flatten(params).items() if not name.startswith(parameters.UNUSED)}
    flat = {name: x for name, x in used.items() if len(x.shape) > 1}
    linear = [name for name, x in flat.items() if name.endswith(".weight") and len(x.shape) == 2]
    patterns = list(patterns)
    others = parameters.select(flat, [pattern for pattern in patterns if pattern != ALL_LINEAR])
    chosen = {*others, *(linear if ALL_LINEAR in patterns else ())}
    return [name for name in flat if name in chosen]


def init(params: dict, rank: int, names: Iterable[str], rng: np.random.Generator) -> Adapter:
    """The pairs at the start of training, float32 ndarrays: {flat name of a weight: (A, B)}.

    A (r, in) is uniform within ±1/√in, B (out, r) is zeros, as in PEFT. A table of embeddings has A from a normal
    distribution. A convolution's weight (out, in, P, P) counts as (out, in·P·P). Raises InputError for a rank below 1,
    for a name that is no weight, and without names.
    """
    flat, adapter = parameter_tree.flatten(params), {}
    if rank < 1:
        raise InputError(f"the rank is {rank}, expected 1 or more")
    for name in names:
        if name not in flat or len(flat[name].shape) < 2:
            raise InputError(f"{name} is not a weight of this model: see lora.targets")
        rows, *rest = flat[name].shape
        n, parts = math.prod(rest), (3,) if ".qkv." in name else ()
        if name.endswith("weight"):
            A = rng.uniform(-(n**-0.5), n**-0.5, (*parts, rank, n))
        else:
            A = rng.standard_normal((rank, n))
        B = np.zeros((*parts, rows // math.prod(parts), rank), np.float32)
        adapter[name] = A.astype(np.float32), B
    if not adapter:
        raise InputError("no weight is named for LoRA")
    return adapter


def merge(params: dict, adapter: Mapping[str, tuple[Array, Array]], scale: float) -> dict:
    """The parameter tree with W + scale · B A for every weight of the adapter; the others are the same arrays."""
    flat = parameter_tree.flatten(params)
    for name, (A, B) in adapter.items():
        flat[name] = flat[name] + scale * (B @ A).reshape(flat[name].shape)
    return parameter_tree.unflatten(flat)


def trained_parameters(adapter: Mapping[str, tuple[Any, Any]]) -> int:
    """The number of trained parameters."""
    return sum(math.prod(x.shape) for pair in adapter.values() for x in pair)
