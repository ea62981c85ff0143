"""The interface of OpenAI's package: load, tokenize, available_models (clip/clip.py)."""

import dataclasses
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from miniclip import checkpoints, families, ops
from miniclip.errors import InputError
from miniclip.families.clip.presets import VOCABULARY
from miniclip.fetch import hub, vocabulary
from miniclip.image import Preprocess
from miniclip.model import CLIP
from miniclip.tokenizer import Tokenizer
from miniclip.weights import manifest

FILES = (".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".onnx")  # a name that ends in one of these means a file


def available_models() -> list[str]:
    """The names that `load` knows, the built-in model first. `load` also takes paths and ids on Hugging Face's hub."""
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

    name      one of `available_models()`, the path of a weights file (.safetensors, OpenAI's .pt, another .pt or .bin),
              the path of a directory in Hugging Face's or OpenCLIP's format, or the id of one on Hugging Face's hub
    backend   "numpy", "torch", "triton", "jax", or "auto": "triton" if there is a GPU for it, "torch" if `device` is
              any other device than the CPU, else "numpy"
    device    where the parameters go, in torch's notation ("cuda", "cpu"); None: the GPU for triton, the default
              device for jax, the CPU for the others
    dtype     of parameters and features: "float32" (default); numpy and torch also take "float64", all backends
              except numpy also "float16" and "bfloat16"
    download_root  the directory for downloaded models; None: miniclip's cache
    tower     "visual" or "text" to load one tower alone; None: all towers in the file
    image_size  in pixels, one number for a square or (height, width): use the model with pictures of this size instead
              of the size it was trained with; its position embeddings are interpolated
    activation  "quick_gelu" or "gelu", for files that do not say which; None: as the file says
    batch_invariant  numpy only, slower: the features of a picture or text are the same, bit for bit, whatever else is
              in the batch and on any number of cores (logits and the values that a `trace` sees are not)

    model is a `CLIP`. preprocess turns a picture (path, PIL image, uint8 array) into (3, height, width), and a list of
    pictures into a batch (B, 3, height, width): arrays on NumPy, else tensors. It is None if there is no image tower.
    Raises InputError, which gives the reason and the remedy.
    """
    backend_ops = ops.select(backend, device)
    dtype = dtype_name(dtype, backend_ops)
    config, tree, tokenizer = checkpoints.load(
        find(name, download_root),
        dtype=dtype if dtype in ("float32", "float64") else None,  # the backend converts to 16 bits, on its device
        image_size=image_size,
        activation=activation,
    )
    if tower is not None:
        config, tree = _one_tower(config, tree, tower)
    family = families.of(config)
    official = None
    if config.text and family.tokenizer is Tokenizer and config.text.vocab_size == VOCABULARY:
        official = vocabulary.official_tokenizer  # for a model without its own vocabulary
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
    """The preprocessing function of a model with this configuration; None if it has no image tower."""
    return families.of(config).preprocess(config.visual, asarray) if config.visual else None


def tokenize(texts: str | Iterable[str], context_length: int = 77, truncate: bool = False) -> np.ndarray:
    """Texts to ids of the official vocabulary: a str or a list of n -> (n, context_length) int32.

    A row is the start token, the text's ids, the end token, then zeros. A text that is too long raises InputError,
    which names it; with `truncate` it is cut. The built-in model has its own vocabulary: `model.tokenize` is right for
    every model.
    """
    return vocabulary.official_tokenizer().tokenize(texts, context_length, truncate)


def find(name: str | os.PathLike, root: str | os.PathLike | None = None) -> Path:
    """The file or directory that `load` reads for `name`, downloaded to `root` if needed. Raises InputError."""
    if name in available_models():
        return hub.model(name, root)
    if not isinstance(name, (str, os.PathLike)):
        raise InputError(f"name is {name!r}, expected a model's name or a path")
    path = Path(os.path.expanduser(name))  # expanduser leaves ~NOBODY as it is, Path.expanduser raises
    if str(name) and os.path.exists(path):  # Path.exists raises if a name is too long for a path
        return path
    if path.suffix in FILES:
        raise InputError(f"{path}: no such file")
    known = ", ".join(available_models())
    if not hub.REPOSITORY.fullmatch(str(name)):
        raise InputError(
            f"there is no model {str(name)!r} here: it is neither one of {known} nor a path, and an id on Hugging "
            f"Face's hub has the form owner/name"
        )
    try:
        return hub.snapshot(str(name), root)
    except InputError as error:
        raise InputError(
            f"{error}; {str(name)!r} was looked up on Hugging Face's hub, because it is neither a path here nor one of "
            f"{known}"
        ) from error


def dtype_name(dtype, backend_ops):
    """The name of a dtype (NumPy's, torch's, or a name); InputError if the backend does not compute in it."""
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
        raise InputError(f"this model has no {tower} tower: load it without tower={tower!r}")
    other = {"visual": "text", "text": "visual"}[tower]
    return dataclasses.replace(config, **{other: None}), {tower: tree[tower]}
