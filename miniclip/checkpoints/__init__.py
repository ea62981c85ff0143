"""Reads and writes model files: a configuration, a parameter tree under miniclip's names, and a vocabulary.

    `formats` reads {name: array} · names are recognised and renamed · the configuration is read or inferred ·
    the parameters are checked against its shapes

This module handles miniclip's own files. `others` finds out whose a file is, if not miniclip's; `huggingface`, `openai`
and `open_clip` handle those libraries' files. They are imported when they are needed.
"""

import json
import os
from functools import partial
from pathlib import Path

import numpy as np

from miniclip import families, params
from miniclip.config import ModelConfig
from miniclip.errors import InputError
from miniclip.families import flax_names, tensorflow_names
from miniclip.formats import read, safetensors
from miniclip.tokenizer import Tokenizer

FORMAT = "miniclip"  # what miniclip's own files say of themselves
WRITTEN = ("float16", "float32", "float64")  # NumPy has no bfloat16


def load(
    path: str | os.PathLike,
    *,
    dtype: str | None = None,
    image_size: int | tuple[int, int] | None = None,
    activation: str | None = None,
    as_openai: bool = False,
    mmap: bool = False,
    adapter: str | os.PathLike | None = None,
    open_clip: dict | None = None,
) -> tuple[ModelConfig, dict, Tokenizer | None]:
    """A weights file, or a Hugging Face or OpenCLIP directory -> (ModelConfig, parameter tree, Tokenizer or None).

    dtype       the type of floating arrays; None keeps theirs, except that bfloat16 becomes float32. `logit_scale`,
                `logit_bias` and `temperature` are always float32
    image_size  another size for the pictures: position embeddings are interpolated
    activation  "quick_gelu" or "gelu", for a file that does not state it: one without a configuration, except OpenAI's
    as_openai   what a file does not state is as in OpenAI's code (clip/model.py, build_model): quick_gelu, heads of 64
    mmap        arrays that need no conversion are memory-mapped: they take no memory until they are touched, but
                change if another program writes to the file, and must not be used after it has become shorter
    adapter     the directory of a LoRA adapter of PEFT, which is added to the weights
    open_clip   the contents of an open_clip_config.json, instead of what is beside a file

    A model without a tokenizer uses the official vocabulary. Raises InputError that names the file and all its faults.
    """
    path, read_file = Path(path), partial(_read, dtype=dtype, mapped=mmap)
    try:
        if path.is_dir():
            from miniclip.checkpoints import others

            config, flat, tokenizer = others.load_directory(path, read_file)
        else:
            config, flat, tokenizer = _load_file(path, read_file, activation, as_openai, open_clip)
    except OSError as error:  # a directory that may not be looked into
        raise InputError(f"{error.filename or path}: cannot be read: {error.strerror}") from error
    if not (config.visual and config.text):  # one tower alone has no use for the scalars
        flat = {name: x for name, x in flat.items() if name not in config.scalars}
    params.check(flat, config.shapes(), path)
    if activation is not None and activation not in _activations(config):
        raise InputError(f"{path}: the file states its activation, and it is not {activation}: leave out activation")
    for name, x in flat.items():
        if x.dtype.kind != "f":
            raise InputError(f"{path}: {name} is {x.dtype}, expected floats: are the weights quantized?")
    if tokenizer and config.text and not _fits(tokenizer, config.text.vocab_size):
        raise InputError(f"{path}: its vocabulary has {len(tokenizer)} ids, but its model has {config.text.vocab_size}")
    if adapter is not None:
        from miniclip.checkpoints import peft

        flat = peft.merge(flat, config, adapter)
    flat |= {name: flat[name].astype(np.float32) for name in config.scalars if name in flat}
    tree = params.unflatten(flat)
    if image_size is not None:
        antialias = getattr(config.visual, "antialias", False)
        config, tree = families.with_image_size(config, tree, image_size, antialias=antialias)
    return config, tree, tokenizer


def _fits(tokenizer, vocab_size):
    return len(tokenizer) == vocab_size or (getattr(tokenizer, "MAY_BE_SMALLER", False) and len(tokenizer) < vocab_size)


def _read(path, *, dtype, mapped, part=False):
    """The arrays of the model in a file, and the file's metadata; all its arrays if it is only `part` of a model."""

    def select(names, metadata):
        if tensorflow_names.are_in(names):
            theirs = {tensorflow_names.to_flax(name): name for name in names}
            return {theirs[flax]: new for flax, new in chosen(theirs, metadata).items()}
        return chosen(names, metadata)

    def chosen(names, metadata):
        if part or _is_own(metadata):
            return {name: name for name in names}
        from miniclip.checkpoints import recognise

        return recognise.model_in(path, names)

    tensors, metadata = read(path, dtype, select, mapped)
    return tensors if _is_own(metadata) else flax_names.to_torch(tensors), metadata


def _load_file(path, read_file, activation, as_openai, open_clip):
    tensors, metadata = read_file(path)
    if not _is_own(metadata):
        from miniclip.checkpoints import others

        return others.load_file(path, tensors, activation, as_openai, open_clip)
    if open_clip is not None:
        raise InputError(f"{path}: is miniclip's own file, which says what model it is: load it by its path alone")
    try:
        config = families.from_dict(json.loads(metadata["config"]))
        return config, tensors, _tokenizer(metadata, config)
    except (KeyError, ValueError, RecursionError) as error:  # InputError and JSON's own are ValueErrors
        raise InputError(f"{path}: {error}") from error


def _is_own(metadata):
    return metadata.get("format") == FORMAT


def _tokenizer(metadata, config):
    """The vocabulary in a file's metadata, most often of the family's own kind; None if there is none."""
    kinds = (kind for name in (config.family, *families.FAMILIES) for kind in families.named(name).tokenizers)
    kind = next((kind for kind in kinds if kind.LINES in metadata), None)
    return kind and kind.from_lines(metadata[kind.LINES].split("\n"))


def _activations(config):
    return {tower.activation for tower in (config.visual, config.text) if hasattr(tower, "activation")}


def save(
    path: str | os.PathLike,
    config: ModelConfig,
    tree: dict,
    *,
    tokenizer: Tokenizer | None = None,
    dtype: str | None = None,
) -> None:
    """Write a model to one safetensors file under miniclip's own names, with everything needed to load it again.

    config ModelConfig · tree its parameters, ndarrays · tokenizer is stored if given (a model without one uses the
    official vocabulary) · dtype the name of the floating type to store, None to keep the arrays' own.
    """
    params.check(tree, config.shapes(), "the parameters to save")
    if dtype not in (None, *WRITTEN):
        raise InputError(f"dtype is {dtype!r}, expected one of {', '.join(WRITTEN)}")
    tensors = {name: np.asarray(x, dtype) for name, x in params.flatten(tree).items()}
    metadata = {"format": FORMAT, "config": json.dumps(config.to_dict())}
    if tokenizer is not None:
        metadata[tokenizer.LINES] = "\n".join(tokenizer.lines())
    safetensors.write(path, tensors, metadata)
