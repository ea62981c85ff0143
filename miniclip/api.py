"""The interface of OpenAI's package: load, tokenize, available_models (clip/clip.py)."""

import dataclasses
import os
from collections.abc import Iterable
from typing import Any

import numpy as np

from miniclip import checkpoints, families, ops
from miniclip.errors import InputError
from miniclip.fetch import hub, vocabulary
from miniclip.image import Preprocess
from miniclip.model import CLIP
from miniclip.weights import manifest


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
    pretrained: str | os.PathLike | None = None,
    adapter: str | os.PathLike | None = None,
    tower: str | None = None,
    image_size: int | tuple[int, int] | None = None,
    activation: str | None = None,
    as_openai: bool = False,
    mmap: bool = False,
    batch_invariant: bool = False,
    compile: bool = False,
    exif: bool = False,
) -> tuple[CLIP, Preprocess | Any]:  # not None: a type checker would ask everyone for a check that few need
    """Load a model: returns (model, preprocess).

    name      one of `available_models()`, the path of a weights file (.safetensors, .bin, .msgpack, OpenAI's .pt or
              another), the path of a directory in Hugging Face's or OpenCLIP's format, or the id of one on Hugging
              Face's hub (also after "hf-hub:"), or that of an adapter of PEFT, which names its model; with
              `pretrained`, one of OpenCLIP's names
    backend   "numpy", "torch", "triton", "jax", "onnxruntime", "openvino", or "auto": "triton" if there is a GPU for
              it, "torch" if `device` is any other device than the CPU, else "numpy"
    device    where the parameters go, in torch's notation ("cuda", "cpu"); None: the GPU for triton, the default
              device for jax, the CPU for the others
    dtype     of parameters and features: "float32" (default); numpy and torch also take "float64"; torch, triton and
              jax "float16" and "bfloat16"; openvino "bfloat16", for the towers alone: features are float32; so are
              those of "int8" on onnxruntime and openvino, which is for the products of transformers
    download_root  the directory for downloaded models; None: miniclip's cache
    pretrained  OpenCLIP's tag of the weights for its model `name`, such as "laion2b_s32b_b79k" for "ViT-H-14", or the
              path of a file of weights for it
    adapter   the directory of a LoRA adapter of PEFT, or its id on the hub: it is added to the weights
    tower     "visual" or "text" to load one tower alone; None: all towers in the file
    image_size  in pixels, one number for a square or (height, width): use the model with pictures of this size instead
              of the size it was trained with; its position embeddings are interpolated
    activation  "quick_gelu" or "gelu", for files that do not say which; None: as the file says
    as_openai  for files without a configuration: they are as OpenAI's code reads them, with quick_gelu and heads of 64
    mmap      map a file whose numbers need no conversion into memory, instead of reading it: it loads at once and
              takes less memory, but must not be overwritten or shortened while the model is used
    batch_invariant  numpy only, slower: the features of a picture or text are the same, bit for bit, whatever else is
              in the batch and on any number of cores (logits and the values that a `trace` sees are not)
    compile   torch on a CPU only: torch.compile makes what is between the matrix products faster. It takes a minute at
              the first pictures and texts, and needs a C++ compiler; it pays in bfloat16, for many small batches
    exif      turn pictures as their EXIF orientation says, as a camera writes it; OpenAI's preprocessing does not

    model is a `CLIP`. preprocess turns a picture (path, bytes, open file, PIL image, uint8 array) into (3, height,
    width), and a list of pictures into a batch (B, 3, height, width): arrays on NumPy, else tensors. For SigLIP 2's
    NaFlex they become `Patches`. It is None if there is no image tower. Raises InputError, which gives the reason and
    the remedy.
    """
    backend_ops = ops.select(backend, device)
    dtype = ops.dtype_name(dtype, backend_ops)
    if pretrained is None:
        source, (path, adapter) = None, hub.find_adapted(name, adapter, download_root)
    else:
        from miniclip.fetch import open_clip_names

        adapter = None if adapter is None else hub.find(adapter, download_root)
        path, source = open_clip_names.find(str(name), pretrained, download_root)
    config, tree, tokenizer = checkpoints.load(
        path,
        dtype=dtype if dtype in ("float32", "float64") else None,  # the backend converts to 16 bits, on its device
        image_size=image_size,
        activation=activation,
        as_openai=as_openai,
        mmap=mmap,
        adapter=adapter,
        open_clip=source,
    )
    if tower is not None:
        config, tree = _one_tower(config, tree, tower)
    family = families.of(config)
    official = config.text and config.text.vocab_size == family.official_vocabulary
    model = family.model(
        config,
        tree,
        backend_ops,
        tokenizer=vocabulary.official_tokenizer if tokenizer is None and official else tokenizer,
        device=device,
        dtype=dtype,
        batch_invariant=batch_invariant,
        compile=compile,
    )
    return model, families.preprocess_of(config, backend_ops.asarray, exif)


def tokenize(texts: str | Iterable[str], context_length: int = 77, truncate: bool = False) -> np.ndarray:
    """Texts to ids of the official vocabulary: a str or a list of n -> (n, context_length) int32.

    A row is the start token, the text's ids, the end token, then zeros. A text that is too long raises InputError,
    which names it; with `truncate` it is cut. The built-in model has its own vocabulary: `model.tokenize` is right for
    every model.
    """
    return vocabulary.official_tokenizer().tokenize(texts, context_length, truncate)


def _one_tower(config, tree, tower):
    if tower not in ("visual", "text"):
        raise InputError(f"there is no tower {tower!r}; choose visual or text")
    if tower not in tree:
        raise InputError(f"this model has no {tower} tower: load it without tower={tower!r}")
    other = {"visual": "text", "text": "visual"}[tower]
    return dataclasses.replace(config, **{other: None}), {tower: tree[tower]}
