"""The interface of OpenAI's package: load, tokenize, available_models (clip/clip.py)."""

import dataclasses
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from miniclip import checkpoints, ops, vocabulary, weights
from miniclip.errors import InputError
from miniclip.image import Preprocess
from miniclip.model import CLIP


def available_models() -> list[str]:
    """The names that `load` knows; it takes paths as well."""
    return list(weights.manifest()["models"])


def load(
    name: str | os.PathLike = "shapes",
    backend: str = "auto",
    device: Any = None,
    dtype: Any = None,
    download_root: str | os.PathLike | None = None,
    *,
    tower: str | None = None,
) -> tuple[CLIP, Preprocess | None]:
    """Load a model: returns (model, preprocess).

    name      one of `available_models()`, a safetensors file, or a Hugging Face directory with a CLIP
    backend   "numpy", "torch", "triton", or "auto": "triton" where there is a GPU for it, "torch" on another `device`
              than the CPU, else "numpy"
    device    where the parameters go, as torch names it ("cuda", "cpu"); None: for triton the GPU, else the CPU
    dtype     of parameters and features: "float32" (default), on numpy and torch "float64", on torch and triton
              "float16" and "bfloat16"
    download_root  the directory for models that have to be fetched; the built-in one and paths need none
    tower     "visual" or "text" to load one tower alone; None: all that the file has

    model is a `CLIP`. preprocess turns a picture (path, PIL image, uint8 array) into (3, S, S) and a list of them
    into a batch (B, 3, S, S), arrays on NumPy, else tensors; it is None without an image tower.
    Raises InputError with the reason and the remedy.
    """
    backend_ops = ops.select(backend, device)
    dtype = _dtype_name(dtype, backend_ops)
    config, tree, tokenizer = checkpoints.load(find(name))
    if tower is not None:
        config, tree = _one_tower(config, tree, tower)
    model = CLIP(config, tree, backend_ops, tokenizer=tokenizer, device=device, dtype=dtype)
    return model, Preprocess(config.visual.image_size, backend_ops.asarray) if config.visual else None


def tokenize(texts: str | Iterable[str], context_length: int = 77, truncate: bool = False) -> np.ndarray:
    """Texts to ids in the official vocabulary: a str or a list of n of them -> (n, context_length) int32.

    Start, the text's ids, end, then zeros; a text that is too long raises InputError naming it, or is cut with
    `truncate`. The built-in model has a vocabulary of its own: use `model.tokenize`, which is right for every model.
    """
    return vocabulary.official_tokenizer().tokenize(texts, context_length, truncate)


def find(name):
    """The file or directory behind a model's name: of a built-in model, or the path that `name` is."""
    models = weights.manifest()["models"]
    if name in models:
        return weights.DIRECTORY / models[name]["file"]
    if Path(name).exists():
        return Path(name)
    raise InputError(
        f"there is no model {str(name)!r}: give one of {', '.join(models)}, or the path of a safetensors file "
        f"or of a Hugging Face directory"
    )


def _dtype_name(dtype, backend_ops):
    """A dtype of NumPy or torch, or a name -> its name, checked against what the backend computes in."""
    if dtype is None:
        return "float32"
    name = str(dtype).removeprefix("torch.") if not isinstance(dtype, type) else np.dtype(dtype).name
    if name not in backend_ops.DTYPES:
        known = ", ".join(backend_ops.DTYPES)
        raise InputError(f"the {backend_ops.NAME} backend does not compute in {name}; choose one of {known}")
    return name


def _one_tower(config, tree, tower):
    if tower not in ("visual", "text"):
        raise InputError(f"there is no tower {tower!r}; choose visual or text")
    if tower not in tree:
        raise InputError(f"this model has no {tower} tower")
    other = {"visual": "text", "text": "visual"}[tower]
    return dataclasses.replace(config, **{other: None}), {tower: tree[tower]}
