"""What `bench kernels` measures: each kernel's inputs, work and peers, and the shapes CLIP has, as data.

Work is what cannot be avoided: the FLOPs of matrix products, every input read once and every output written once.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from miniclip.kernels import activation, attention, layer_norm, linear, patch_embed, similarity
from miniclip.ops import torch_ops


class Kernel(NamedTuple):
    """ours, plain and peers are called alike, with what `inputs` gives."""

    inputs: Callable  # (dtype=, device=, **shape) -> {argument: tensor or option}
    rows: tuple  # the arguments that have one row for each of the result's
    work: Callable  # (**shape) -> (FLOPs, numbers read and written)
    ours: Callable
    plain: Callable  # torch's own: in float64 the oracle, in the same dtype the measure of its error
    versions: tuple = ()  # of ours, as `version=`
    peers: dict = {}  # noqa: RUF012 others than `plain`
    tuned: object = None  # the module whose tiles `autotune` measures
    key: Callable | None = None  # (dtype=, **shape) -> what `tuned` finds them by


class Case(NamedTuple):
    kernel: str
    shape: dict
    dtype: str = "bfloat16"
    compiled: bool = False  # against torch.compile too, which takes long to prepare


def describe(case):
    shape = " ".join(f"{name}={value}" for name, value in case.shape.items())
    return f"{case.kernel} {shape} {case.dtype}" + (" with torch.compile" if case.compiled else "")


def input_sets(case, device):
    """Sets of random inputs without end, {argument: value} each, of which the first is always the same."""
    torch.manual_seed(0)
    while True:
        yield KERNELS[case.kernel].inputs(**case.shape, dtype=getattr(torch, case.dtype), device=device)


# ------------------------------------------------------------------------------------------ attention


def _attention_inputs(B, T, H, K, causal=False, *, dtype, device):
    packed = torch.randn(B, T, 3, H, K, dtype=dtype, device=device)  # as the model's product leaves them
    return {**dict(zip("qkv", packed.unbind(2))), "causal": causal}


def _attention_work(B, T, H, K, causal=False):
    pairs = T * (T + 1) // 2 if causal else T * T
    return 4 * B * H * pairs * K, 4 * B * T * H * K


def _sdpa(backend, q, k, v, causal):
    with sdpa_kernel(backend):
        return torch_ops.attention(q, k, v, causal=causal)


# ------------------------------------------------------------------------- what works on rows of numbers


def _norm_inputs(rows, D, *, dtype, device, update=False):
    normal = partial(torch.randn, dtype=dtype, device=device)
    x = {"x": normal(rows, D), "update": normal(rows, D)} if update else {"x": normal(rows, D)}
    return {**x, "weight": 1 + 0.1 * normal(D), "bias": normal(D), "eps": 1e-5}


def _activation_inputs(rows, N, *, dtype, device, activation):
    normal = partial(torch.randn, dtype=dtype, device=device)
    return {"x": normal(rows, N), "bias": normal(N), "activation": activation}


def _activation(name):
    return Kernel(
        inputs=partial(_activation_inputs, activation=name),
        rows=("x",),
        work=lambda rows, N: (0, 2 * rows * N + N),
        ours=activation.bias_activation,
        plain=lambda x, bias, activation: torch_ops.ACTIVATIONS[activation](x + bias),
        versions=(1, 2),
        tuned=activation,
        key=lambda rows, N, dtype: activation.key(rows, N, dtype),
    )


# ------------------------------------------------------------------------------------ matrix products


def _linear_inputs(M, N, K, *, dtype, device):
    normal = partial(torch.randn, dtype=dtype, device=device)
    return {"x": normal(M, K), "weight": normal(N, K) * K**-0.5, "bias": normal(N), "activation": "quick_gelu"}


def _one_pass(x, weight, bias, activation):
    return _bias_activation(F.linear(x, weight), bias, activation, in_place=True)


_bias_activation = activation.bias_activation  # `activation` is also an argument's name


def _patch_inputs(B, P, D, size, *, dtype, device):
    normal = partial(torch.randn, dtype=dtype, device=device)
    return {
        "images": normal(B, 3, size, size),
        "weight": normal(D, 3, P, P) * (3 * P * P) ** -0.5,
        "class_token": normal(D),
        "position_embedding": normal((size // P) ** 2 + 1, D),
    }


def _patch_work(B, P, D, size):
    patches, K = (size // P) ** 2, 3 * P * P
    return 2 * B * patches * D * K, 3 * B * size**2 + D * K + D + (patches + 1) * D + B * (patches + 1) * D


def _similarity_inputs(B, N, E, *, dtype, device):
    normal = partial(torch.randn, dtype=dtype, device=device)
    scale = torch.full((), math.log(100), dtype=dtype, device=device)
    return {"image_features": normal(B, E), "text_features": normal(N, E), "logit_scale": scale}


# ------------------------------------------------------------------------------------------- the table

KERNELS = {
    "attention": Kernel(
        inputs=_attention_inputs,
        rows=("q", "k", "v"),
        work=_attention_work,
        ours=attention.attention,
        plain=torch_ops.attention,
        versions=(1, 2, 3, 4),
        peers={
            "SDPA, cuDNN": partial(_sdpa, SDPBackend.CUDNN_ATTENTION),
            "SDPA, Flash": partial(_sdpa, SDPBackend.FLASH_ATTENTION),
        },
        tuned=attention,
        key=lambda B, T, H, K, dtype, causal=False: attention.key(T, T, K, dtype, causal, B),
    ),
    "layer_norm": Kernel(
        inputs=_norm_inputs,
        rows=("x",),
        work=lambda rows, D: (0, 2 * rows * D + 2 * D),
        ours=layer_norm.layer_norm,
        plain=torch_ops.layer_norm,
        versions=(1, 2),
        tuned=layer_norm,
        key=layer_norm.key,
    ),
    "add_layer_norm": Kernel(
        inputs=partial(_norm_inputs, update=True),
        rows=("x", "update"),
        work=lambda rows, D: (0, 4 * rows * D + 2 * D),
        ours=layer_norm.add_layer_norm,
        plain=torch_ops.add_layer_norm,
        tuned=layer_norm,
        key=layer_norm.key,
    ),
    "quick_gelu": _activation("quick_gelu"),
    "gelu": _activation("gelu"),
    "linear": Kernel(  # bias and quick_gelu fused into it
        inputs=_linear_inputs,
        rows=("x",),
        work=lambda M, N, K: (2 * M * N * K, M * K + N * K + N + M * N),
        ours=linear.linear,
        plain=torch_ops.linear,
        versions=(1, 2, 3),
        peers={"torch's product, one pass": _one_pass},
        tuned=linear,
        key=linear.key,
    ),
    "patch_embed": Kernel(
        inputs=_patch_inputs,
        rows=("images",),
        work=_patch_work,
        ours=patch_embed.patch_embed,
        plain=torch_ops.patch_embed,
        versions=(1, 2),
    ),
    "similarity": Kernel(
        inputs=_similarity_inputs,
        rows=("image_features",),
        work=lambda B, N, E: (2 * B * N * E, B * E + N * E + B * N),
        ours=similarity.similarity,
        plain=torch_ops.similarity,
        versions=(1, 2),
    ),
}

TOKENS = [  # of the towers of B/32, text, B/16, L/14 and L/14@336px, with their heads
    {"T": 50, "H": 12, "K": 64},
    {"T": 77, "H": 8, "K": 64, "causal": True},
    {"T": 197, "H": 12, "K": 64},
    {"T": 257, "H": 16, "K": 64},
    {"T": 577, "H": 16, "K": 64},
]
NORMS = [
    (name, {"rows": 50_000, "D": D})
    for D in (768, 512, 1024)
    for name in ("layer_norm", "add_layer_norm")
]  # fmt: skip
PRODUCTS = [  # the first of each block's MLP, for 256 pictures of B/32, B/16, L/14, 256 texts, and one picture
    {"M": 12_800, "N": 3072, "K": 768},
    {"M": 50_432, "N": 3072, "K": 768},
    {"M": 65_792, "N": 4096, "K": 1024},
    {"M": 19_712, "N": 2048, "K": 512},
    {"M": 50, "N": 3072, "K": 768},
]
OTHERS = [
    *(
        (name, {"rows": rows, "N": N})
        for name in ("quick_gelu", "gelu")
        for rows, N in ((12_800, 3072), (65_792, 4096))
    ),
    *(("linear", shape) for shape in PRODUCTS),
    *(("patch_embed", {"B": 256, "P": P, "D": D, "size": 224}) for P, D in ((32, 768), (16, 768), (14, 1024))),
    ("similarity", {"B": 256, "N": 1000, "E": 512}),
    ("similarity", {"B": 4096, "N": 4096, "E": 768}),
]

# In the order of interest: where time runs out, what is left over comes last.
CASES = [
    *(Case("attention", {"B": 256, **shape}) for shape in TOKENS),
    *(Case(name, shape) for name, shape in [*NORMS, *OTHERS]),
    *(Case("attention", {"B": B, **shape}) for B in (1, 8, 64) for shape in TOKENS),
    *(Case("attention", {"B": 256, **shape}, "float16") for shape in TOKENS),
    *(Case(name, shape, "float16") for name, shape in NORMS),
    *(Case("attention", {"B": 256, **shape}, "float32") for shape in TOKENS if shape["T"] in (50, 257)),
    *(Case(name, shape, compiled=True) for name, shape in [*NORMS, *OTHERS]),
    *(Case("attention", {"B": 256, **shape}, compiled=True) for shape in TOKENS),
]
