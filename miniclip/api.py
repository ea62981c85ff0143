"""The interface of OpenAI's package: load, tokenize, available_models (clip/clip.py)."""

import dataclasses
import functools
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from miniclip import checkpoints, families, ops
from miniclip.errors import InputError
from miniclip.fetch import hub, vocabulary
from miniclip.image import Preprocess
from miniclip.model import CLIP
from miniclip.tokenizer import Tokenizer
from miniclip.weights import manifest

FILES = (".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".onnx")  # whoever writes these means a file


def available_models() -> list[str]:
    """The names that `load` knows, the built-in model's first; it takes paths and ids of Hugging Face's hub as well."""
    return list(manifest()["models"])


def load(
    name: str | os.PathLike = "shapes",
    backend: str = "auto",
    device: Any = None,
    dtype: Any = None,
    download_root: str | os.PathLike | None = None,
    *,
    tower: str | None = None,
    image_size: int | tuple[int, int] | None = None,
    activation: str | None = None,
    batch_invariant: bool = False,
) -> tuple[CLIP, Preprocess | None]:
    """Load a model: returns (model, preprocess).

    name      one of `available_models()`, the path of a file of weights (safetensors, OpenAI's or another .pt, .bin),
              of a directory of Hugging Face's or OpenCLIP's, or the id of one on Hugging Face's hub
    backend   "numpy", "torch", "triton", "jax", or "auto": "triton" where there is a GPU for it, "torch" on another
              `device` than the CPU, else "numpy"
    device    where the parameters go, as torch names it ("cuda", "cpu"); None: for triton the GPU, for jax its
              default device, else the CPU
    dtype     of parameters and features: "float32" (default), on numpy and torch "float64", on all but numpy
              "float16" and "bfloat16"
    download_root  the directory for models that have to be fetched, None: miniclip's cache
    tower     "visual" or "text" to load one tower alone; None: all that the file has
    image_size  for pictures of another size than the model was trained with, in pixels, a square's side or
              (height, width): its position embeddings are interpolated
    activation  "quick_gelu" or "gelu", for files that do not tell; None: as the file says
    batch_invariant  on numpy, for the price of speed: a picture or text has the same feature, to the bit, whatever else
              is in its batch, and on any number of cores. (Not so logits, and what a `trace` sees.)

    model is a `CLIP`. preprocess turns a picture (path, PIL image, uint8 array) into (3, height, width) and a list of
    them into a batch (B, 3, height, width), arrays on NumPy, else tensors; it is None without an image tower.
    Raises InputError with the reason and the remedy.
    """
    backend_ops = ops.select(backend, device)
    dtype = dtype_name(dtype, backend_ops)
    config, tree, tokenizer = checkpoints.load(
        find(name, download_root),
        dtype=dtype if dtype in ("float32", "float64") else None,  # to 16 bits the backend converts, on its device
        image_size=image_size,
        activation=activation,
    )
    if tower is not None:
        config, tree = _one_tower(config, tree, tower)
    family = families.of(config)
    official = None
    if config.text and family.tokenizer is Tokenizer:  # one that came without has the official vocabulary
        official = functools.partial(vocabulary.tokenizer_of_size, config.text.vocab_size)
    model = family.model(
        config,
        tree,
        backend_ops,
        tokenizer=official if tokenizer is None else tokenizer,
        device=device,
        dtype=dtype,
        batch_invariant=batch_invariant,
    )
    return model, preprocess_of(config, backend_ops.asarray)


def preprocess_of(config, asarray=np.asarray):
    """What prepares pictures for a model with this configuration; None if it has no image tower."""
    return families.of(config).preprocess(config.visual, asarray) if config.visual else None


def tokenize(texts: str | Iterable[str], context_length: int = 77, truncate: bool = False) -> np.ndarray:
    """Texts to ids in the official vocabulary: a str or a list of n of them -> (n, context_length) int32.

    Start, the text's ids, end, then zeros; a text that is too long raises InputError naming it, or is cut with
    `truncate`. The built-in model has a vocabulary of its own: use `model.tokenize`, which is right for every model.
    """
    return vocabulary.official_tokenizer().tokenize(texts, context_length, truncate)


def find(name: str | os.PathLike, root: str | os.PathLike | None = None) -> Path:
    """The file or directory behind what `load` is given as `name`; it is fetched, into `root`, if it is not here.

    Raises InputError.
    """
    if name in available_models():
        return hub.model(name, root)
    if not isinstance(name, (str, os.PathLike)):
        raise InputError(f"name is {name!r}, expected a model's name or a path")
    path = Path(os.path.expanduser(name))  # which leaves ~NOBODY as it is
    if str(name) and os.path.exists(path):  # Path.exists raises where a name is too long to be one
        return path
    if path.suffix in FILES:
        raise InputError(f"{path}: no such file")
    known = ", ".join(available_models())
    if not hub.REPOSITORY.fullmatch(str(name)):
        raise InputError(
            f"there is no model {str(name)!r} here, neither one of {known} nor a path, and it is not written like an "
            f"id on Hugging Face's hub, owner/name"
        )
    try:
        return hub.snapshot(str(name), root)
    except InputError as error:
        raise InputError(
            f"{error}; {str(name)!r} was taken for an id on Hugging Face's hub, since it is no path here and none of "
            f"{known}"
        ) from error


def dtype_name(dtype, backend_ops):
    """A dtype of NumPy or torch, or a name -> its name, checked against what the backend computes in."""
    if dtype is None:
        return "float32"
    name = str(dtype).removeprefix("torch.") if not isinstance(dtype, type) else np.dtype(dtype).name
    if name not in backend_ops.DTYPES:
        known = ", ".join(backend_ops.DTYPES)
        raise InputError(
            f"the {backend_ops.NAME} backend does not compute in {name}; choose one of {known}, or backend='torch'"
        )
    return name


def _one_tower(config, tree, tower):
    if tower not in ("visual", "text"):
        raise InputError(f"there is no tower {tower!r}; choose visual or text")
    if tower not in tree:
        raise InputError(f"this model has no {tower} tower")
    other = {"visual": "text", "text": "visual"}[tower]
    return dataclasses.replace(config, **{other: None}), {tower: tree[tower]}
