"""Choosing a backend by name, by device and by the machine; a backend that cannot run says why."""

import os
import subprocess
import sys

import pytest
import torch

from miniclip import ops as ops_package
from miniclip.ops import numpy_ops, select, torch_ops


def test_unknown_backends_and_devices_are_refused_by_name(monkeypatch):
    monkeypatch.setattr(ops_package, "_has_gpu", lambda: False)
    with pytest.raises(
        ValueError, match=r"no backend 'tpu'; choose one of auto, numpy, torch, triton, jax, tensorflow, "
    ):
        select("tpu")
    with pytest.raises(ValueError, match="numpy backend runs on the CPU, not on cuda"):
        select("numpy", "cuda")
    assert select("auto") is numpy_ops
    assert select("auto", "meta") is torch_ops
    with pytest.raises(ValueError, match="torch backend cannot use the device 'gpu'"):
        select("auto", "gpu")


def test_auto_is_triton_where_there_is_a_gpu_for_it(monkeypatch):
    from miniclip.kernels import device, triton_ops

    monkeypatch.setattr(ops_package, "_has_gpu", lambda: True)
    monkeypatch.setattr(device, "why_not", lambda name=None: None)
    assert select("auto") is triton_ops
    assert select("auto", "cpu") is numpy_ops
    assert select("auto", "meta") is torch_ops
    for module in (device, triton_ops):
        monkeypatch.setattr(module, "why_not", lambda name=None: "it is too old")
    assert select("auto") is numpy_ops
    with pytest.raises(ValueError, match="triton backend cannot run: it is too old; pass backend='torch' or 'numpy'"):
        select("triton")


@pytest.mark.parametrize(
    ("before", "interpret", "said"),
    [
        ("", "0", "torch sees no CUDA GPU"),
        ("", "1", "CLIP(CLIPConfig("),
        ("device = 'cpu'; ", "0", "run on a GPU, not on cpu; with TRITON_INTERPRET=1"),
        ("device = 'gpu'; ", "0", "triton backend cannot run: Expected one of cpu, cuda"),
        ("dtype = 'bfloat16'; ", "1", "interpreter multiplies bfloat16 wrongly"),
        ("dtype = 'float64'; ", "1", "choose one of float32, float16, bfloat16"),
        (
            "sys.modules['triton'] = None; ",
            "0",
            "needs triton: in the checkout, pip install -c constraints.txt -e '.[gpu]'",
        ),
        ("sys.modules['triton'] = None; backend = 'auto'; ", "0", "CLIP(CLIPConfig("),
    ],
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_asking_for_triton_where_it_cannot_run_says_why(before, interpret, said):
    code = f"""
import sys, miniclip
backend, device, dtype = "triton", None, None
{before}
try:
    print(miniclip.load("shapes", backend, device, dtype)[0])
except miniclip.InputError as error:
    print(error)
"""
    environment = {**os.environ, "TRITON_INTERPRET": interpret}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert said in done.stdout, done.stderr


def test_asking_for_jax_where_it_is_not_installed_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "jax", None)
    monkeypatch.delitem(sys.modules, "miniclip.ops.jax_ops", raising=False)
    with pytest.raises(ValueError, match=r"needs jax: in the checkout, pip install -c constraints\.txt -e '\.\[jax\]'"):
        select("jax")


def test_triton_keeps_gradients():
    x = torch.ones(2, requires_grad=True)
    select("triton").asarray(x, dtype="float16").sum().backward()
    assert torch.equal(x.grad, torch.ones(2))
