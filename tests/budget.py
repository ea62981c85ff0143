"""Shared parts of the tests of kernels: inputs, and the error that is allowed, measured against float64 and torch."""

import os

import torch
from hypothesis import settings
from hypothesis import strategies as st

from miniclip.kernels import oracle

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
EMULATED = bool(os.environ.get("MINICLIP_EMULATE"))  # on the CPU, but compiled, as on a GPU: conftest.py
COMPILED = DEVICE == "cuda" or EMULATED
DTYPES = [torch.float32, torch.float16, *([torch.bfloat16] if COMPILED else [])]
LENGTHS = [1, 15, 16, 17, 49, 50, 63, 64, 65, 77]

seeds = st.integers(0, 2**32 - 1)
dtypes = st.sampled_from(DTYPES)


def examples(interpreted, gpu, emulated):
    """Settings of a test for the place where the kernels run: compiling takes seconds, and the emulator is slow."""
    return settings(max_examples=emulated if EMULATED else gpu if COMPILED else interpreted)


few = examples(25, 10, 3)


def normal(seed, *shape, dtype=torch.float32, scale=1.0):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed % 2**63), dtype=torch.float64) * scale
    return x.to(dtype).to(DEVICE)


def within_budget(ours, exact, torchs, exponent=0.0):
    """Check that the error against float64 is at most what `oracle.allowed` says of torch's in the same dtype."""
    assert ours.shape == exact.shape and ours.dtype == torchs.dtype
    assert ours.isfinite().all()
    largest = exact.abs().max()
    error, usual = ((x.double() - exact).abs().max() for x in (ours, torchs))
    allowed = oracle.allowed(usual / largest, ours.dtype, exponent=exponent) if largest else 0
    assert error <= allowed * largest, f"off by {error / largest:.1e} of the largest value, {allowed:.1e} are allowed"


def check(kernel, operation, tensors, exponent=0.0, **options):
    """Check a kernel against torch's operation, on the same tensors in float64 and in their own dtype."""
    wide = [None if x is None else x.double() for x in tensors]
    within_budget(kernel(*tensors), operation(*wide, **options), operation(*tensors, **options), exponent)
