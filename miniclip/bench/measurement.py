"""The parts that the cases of `bench cpu` share: the model that they measure, and a case's providers and checks."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from miniclip import params
from miniclip.checkpoints import huggingface

OURS, TRANSFORMERS, OFFICIAL = "miniclip", "transformers", "official"


class Measurement(NamedTuple):
    builders: dict  # {provider: () -> its call, a function without arguments}; raises if it is not installed
    check: Callable  # (provider, answer of its call); raises WrongAnswer
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
    """A Model with random parameters that keep values at about their size through all layers."""
    rng = np.random.default_rng(0)
    flat = {}
    for name, shape in params.flatten(config.shapes()).items():
        spread = np.prod(shape[1:]) ** -0.5 if len(shape) > 1 else 0.02
        flat[name] = np.float32(spread) * rng.standard_normal(shape, np.float32)
        if name.endswith(".weight") and len(shape) == 1:  # a layer norm's
            flat[name] += 1
    huggingface.save(scratch / "model", config, params.unflatten(flat))
    return Model(config, scratch / "model", scratch)


def array(features):
    """Features or a picture, an ndarray or a tensor, as an ndarray."""
    return features if isinstance(features, np.ndarray) else features.detach().float().numpy()
