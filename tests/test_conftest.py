"""What all tests rely on: the backends that they run on, and exact float32 in the libraries that they compare with."""

import os
import subprocess
import sys
from pathlib import Path

import torch


def test_convolutions_of_torch_are_exact_in_float32_on_a_gpu_too():
    assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32


def test_a_backend_can_be_left_out():
    """`make gpu` does without JAX where it is installed: importing it takes most of a GPU's memory."""
    code = "import sys, backends; print(*backends.HERE); assert 'jax' not in sys.modules"
    compiled = "tensorflow onnxruntime openvino"
    for without, expected in {"jax": f"numpy torch triton {compiled}", "jax,triton": f"numpy torch {compiled}"}.items():
        environment = {**os.environ, "MINICLIP_WITHOUT": without, "PYTHONPATH": str(Path(__file__).parent)}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.split() == expected.split()
