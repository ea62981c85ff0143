"""The parts that the cases of `bench cpu` share: the model that they measure, and a case's providers and checks."""

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from miniclip import params
from miniclip.bench.records import OURS
from miniclip.checkpoints import huggingface

TRANSFORMERS, OFFICIAL = "transformers", "official"
ON_TORCH, ON_ONNX_RUNTIME, ON_OPENVINO = (f"{OURS} on {name}" for name in ("torch", "onnxruntime", "openvino"))
COMPILED = f"{ON_TORCH}, compiled"


class Measurement(NamedTuple):
    builders: dict  # {provider: () -> its call, a function without arguments}; raises if it is not installed
    check: (
        Callable  # (provider, answer of its call) -> the least cosine with the right features, or None; or WrongAnswer
    )
    count: int  # pictures, texts or other units per call
    unit: str  # such as "pictures/s"
    flops: float | None = None  # FLOPs of a call that consists of matrix products
    facts: dict = {}  # noqa: RUF012 other values for the record


NOTHING = Measurement({}, lambda name, answer: None, 0, "")  # for a case that cannot be prepared


class Model(NamedTuple):
    config: object
    path: Path  # a directory in transformers' format, with random weights
    scratch: Path  # for other files


def save_random(config, scratch):
    """A Model with random parameters."""
    scratch.mkdir(exist_ok=True)
    huggingface.save(scratch / "model", config, random_parameters(config, np.random.default_rng(0)))
    return Model(config, scratch / "model", scratch)


def random_parameters(config, rng):
    """A parameter tree that keeps values at about their size through all layers."""
    flat = {}
    for name, shape in params.flatten(config.shapes()).items():
        spread = np.prod(shape[1:]) ** -0.5 if len(shape) > 1 else 0.02
        flat[name] = np.float32(spread) * rng.standard_normal(shape, np.float32)
        if name.endswith(".weight") and len(shape) == 1:  # a layer norm's
            flat[name] += 1
    return params.unflatten(flat)


def module_of(package, name):
    """A module of an installed package, imported by path, because its package needs torchvision; or ImportError."""
    found = importlib.util.find_spec(package)
    if found is None:
        raise ImportError(f"{package} is not installed")
    path = Path(found.submodule_search_locations[0], f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"{package}_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def python(code, *arguments):
    """What a new process prints that runs this code; RuntimeError if it fails."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or [f"a process ended with {done.returncode}"])[-1])
    return done.stdout


def extra_memory(prepare, work, *arguments):
    """How many bytes a new process's peak of memory grows by when `work` follows `prepare`, code; None if unknown."""
    if sys.platform != "linux":
        return None
    return int(python(MEMORY.format(prepare=prepare, work=work), *arguments))


MEMORY = """
import re, sys
{prepare}
peak = lambda: int(re.search(r"VmHWM:\\s*(\\d+) kB", open("/proc/self/status").read())[1]) * 1024
before = peak()
{work}
print(peak() - before)
"""


def array(features):
    """Features or a picture, an ndarray or a tensor, as an ndarray."""
    return features if isinstance(features, np.ndarray) else features.detach().float().numpy()
