#!/bin/sh
# In 16 bits, KernelBench accepts the mean of the values as attention.
#
# Sources:  github.com/ScalingIntelligence/KernelBench at 423217d, level 1, problem 97.
# Packages: torch 2.13.0 (CPU), numpy 2.4.6, pydantic 2.14.4, requests 2.34.2, python-dotenv 1.2.4, tqdm 4.70.1.
# Expect:   A function that never looks at queries and keys is wrong, in every precision.
# Found:    All inputs are uniform between 0 and 1. So all scores of a query are nearly alike, and so are
#           its weights: attention is within 0.012 of the mean of the values. That is more than the 1e-4 that
#           is allowed in fp32, and less than the 1e-2 + 1e-2 · 0.5 that is allowed in fp16 and bf16.
# Seen:     fp32: wrong, by 0.0118
#           fp16: correct, (5 / 5)
#           bf16: correct, (5 / 5)
# Matters:  Most attention kernels are for 16 bits. V.mean() reads 1 tensor of the 3, and no score.
# Avoid:    Normal inputs: then the mean is wrong by 0.5 in all three.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
git init --quiet "$dir/code"
git -C "$dir/code" fetch --quiet --depth 1 https://github.com/ScalingIntelligence/KernelBench \
    423217d9fda91e0c2d67e4a43bf62f96f6d104f1
git -C "$dir/code" checkout --quiet FETCH_HEAD
python3 -m venv "$dir/env"
"$dir/env/bin/pip" install --quiet --no-compile torch==2.13.0 numpy==2.4.6 pydantic==2.14.4 requests==2.34.2 \
    python-dotenv==1.2.4 tqdm==4.70.1
cd "$dir/code"
PYTHONPATH=src "$dir/env/bin/python" - <<'PYTHON'
import sys
import types
from pathlib import Path

import torch

# What asks language models for kernels is imported too, and not used here.
sys.modules["openai"] = types.SimpleNamespace(OpenAI=None)
sys.modules["litellm"] = types.SimpleNamespace(completion=None)
torch.cuda.synchronize = lambda device=None: None  # there is no GPU
from kernelbench import eval as runner

PROBLEM = Path("KernelBench/level1/97_ScaledDotProductAttention.py").read_text()
MEAN = """
import torch

class ModelNew(torch.nn.Module):
    def forward(self, Q, K, V):
        return V.mean(-2, keepdim=True).expand(V.shape)
"""


def check(problem, precision):
    """What KernelBench says of the mean: all five trials, for 4 heads instead of 32 · 32."""
    problem = problem.replace("batch_size = 32", "batch_size = 1").replace("num_heads = 32", "num_heads = 4")
    Model, _, get_inputs = runner.load_original_model_and_inputs(problem, {})
    ModelNew = runner.load_custom_model(MEAN, {})
    dtype = runner.get_torch_dtype_from_string(precision)
    return runner.run_and_check_correctness(
        Model(), ModelNew(), get_inputs, {}, num_correct_trials=5, device="cpu", precision=dtype
    )


for precision in ("fp32", "fp16", "bf16"):
    result = check(PROBLEM, precision)
    trials = result.metadata["correctness_trials"]
    largest = max(map(float, result.metadata.get("max_difference", [0])))
    print(f"{precision}: {f'correct, {trials}' if result.correctness else f'wrong, by {largest:.4f}'}")
    assert result.correctness == (precision != "fp32")
    normal = check(PROBLEM.replace("torch.rand(", "torch.randn("), precision)
    assert not normal.correctness and max(map(float, normal.metadata["max_difference"])) > 0.3
PYTHON
