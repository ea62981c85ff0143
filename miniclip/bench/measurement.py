"""What the cases of `bench cpu` have in common: the model they look at, and what each of them compares."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from miniclip import params
from miniclip.checkpoints import huggingface

OURS, TRANSFORMERS, OFFICIAL = "miniclip", "transformers", "official"


class Measurement(NamedTuple):
    builders: dict  # {provider: () -> its call, without arguments}, raising where it is not installed
    check: Callable  # (provider, what its call gave), raising WrongAnswer
    count: int  # what a call does so many of,
    unit: str  # a second
    flops: float | None = None  # of a call, where it is made of matrix products
    facts: dict = {}  # noqa: RUF012 what else the record says


NOTHING = Measurement({}, lambda name, answer: None, 0, "")  # where a case cannot be prepared


class Model(NamedTuple):
    config: object
    path: Path  # of a directory of transformers', with random weights
    scratch: Path  # for other files


def save_random(config, scratch):
    """A Model whose random parameters keep sizes as they are on their way."""
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
    """An ndarray of a backend's features, or of a picture."""
    return features if isinstance(features, np.ndarray) else features.detach().float().numpy()
