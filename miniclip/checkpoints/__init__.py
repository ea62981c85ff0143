"""Reads and writes model files: a configuration, a parameter tree under miniclip's names, and a vocabulary.

    `formats` reads {name: array} · names are recognised and renamed · the configuration is read or inferred ·
    the parameters are checked against its shapes

`huggingface`, `openai` and `open_clip` handle those libraries' files, this module miniclip's own. `infer` derives a
configuration from shapes.
"""

import dataclasses
import json
import os
from functools import partial
from pathlib import Path

import numpy as np

from miniclip import families, params
from miniclip.checkpoints import huggingface, open_clip, openai, peft, recognise
from miniclip.checkpoints.infer import check_heads, infer_config
from miniclip.config import ModelConfig
from miniclip.errors import InputError
from miniclip.families import names
from miniclip.families.clip.huggingface import NAMES
from miniclip.formats import read, safetensors
from miniclip.tokenizer import Tokenizer

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
) -> tuple[ModelConfig, dict, Tokenizer | None]:
    """A weights file, or a Hugging Face or OpenCLIP directory -> (ModelConfig, parameter tree, Tokenizer or None).

    dtype       the type of floating arrays; None keeps theirs, except that bfloat16 becomes float32. `logit_scale` and
                `temperature` are always float32
    image_size  another size for the pictures: position embeddings are interpolated
    activation  "quick_gelu" or "gelu", for a file that does not state it: one without a configuration, except OpenAI's
    as_openai   what a file does not state is as in OpenAI's code (clip/model.py, build_model): quick_gelu, heads of 64
    mmap        arrays that need no conversion are memory-mapped: they take no memory until they are touched, but
                change if another program writes to the file, and must not be used after it has become shorter
    adapter     the directory of a LoRA adapter of PEFT, which is added to the weights

    A model without a tokenizer uses the official vocabulary. Raises InputError that names the file and all its faults.
    """
    path, read_file = Path(path), partial(_read, dtype=dtype, mapped=mmap)
    try:
        if path.is_dir():
            config, flat, tokenizer = _load_directory(path, read_file)
        else:
            config, flat, tokenizer = _load_file(path, read_file, activation, as_openai)
    except OSError as error:  # a directory that may not be looked into
        raise InputError(f"{error.filename or path}: cannot be read: {error.strerror}") from error
    if not (config.visual and config.text):
        flat.pop(config.scale, None)  # one tower alone has no use for it
    params.check(flat, config.shapes(), path)
    if activation not in (None, *_activations(config)):
        raise InputError(f"{path}: the file states its activation, and it is not {activation}: leave out activation")
    for name, x in flat.items():
        if x.dtype.kind != "f":
            raise InputError(f"{path}: {name} is {x.dtype}, expected floats: are the weights quantized?")
    if tokenizer and config.text and len(tokenizer) != config.text.vocab_size:
        raise InputError(f"{path}: its vocabulary has {len(tokenizer)} ids, but its model has {config.text.vocab_size}")
    if adapter is not None:
        flat = peft.merge(flat, config, adapter)
    if config.scale in flat:
        flat[config.scale] = flat[config.scale].astype(np.float32)
    tree = params.unflatten(flat)
    if image_size is not None:
        antialias = getattr(config.visual, "antialias", False)
        config, tree = families.with_image_size(config, tree, image_size, antialias=antialias)
    return config, tree, tokenizer


def _read(path, *, dtype, mapped, part=False):
    """The arrays of the model in a file, and the file's metadata; all its arrays if it is only `part` of a model."""
    return read(path, dtype, None if part else partial(recognise.model_in, path), mapped)


def _load_directory(path, read_file):
    if peft.is_adapter(path):
        raise InputError(
            f"{path}: has an adapter of PEFT ({peft.CONFIG}): load the model that it belongs to, with "
            f"adapter='{path}'; to use a model beside it without it, give the path of the weights file"
        )
    weights = open_clip.find(path)
    if weights is not None:
        return *open_clip.load(weights, read_file(weights)[0]), None
    if not (path / "config.json").exists():
        raise InputError(
            f"{path}: has neither transformers' config.json nor OpenCLIP's {open_clip.CONFIG} with "
            f"{' or '.join(open_clip.WEIGHTS)}: give the path of the weights file"
        )
    return huggingface.load(path, read_file)


def _load_file(path, read_file, activation, as_openai):
    tensors, metadata = read_file(path)
    given, official = list(tensors), openai.is_official(tensors)
    if openai.has_openai_names(tensors):
        if not official and (path.parent / open_clip.CONFIG).exists():
            return *open_clip.load(path, tensors), None
        flat = openai.rename(tensors, path)
    elif "config" not in metadata and (path.parent / "config.json").exists():
        return huggingface.load(path.parent, lambda *_, **options: (tensors, metadata), files=[path])
    else:
        flat = names.rename(huggingface.with_tower(tensors, NAMES), NAMES)
    try:
        if "config" in metadata:
            config = families.from_dict(json.loads(metadata["config"]))
        else:
            usual = "quick_gelu" if as_openai else None
            config = _with_activation(_inferred(flat, given), "quick_gelu" if official else activation or usual)
            if not (official or as_openai):
                check_heads(config)
        return config, flat, _tokenizer(metadata)
    except (ValueError, RecursionError) as error:  # InputError and JSON's own are ValueErrors
        raise InputError(f"{path}: {error}") from error


def _inferred(flat, given):
    try:
        return infer_config({name: x.shape for name, x in flat.items()})
    except InputError as error:
        raise InputError(f"{error}; {recognise.what(given)}") from error


def _tokenizer(metadata):
    """The vocabulary in a file's metadata, of any family's kind; None if there is none."""
    kinds = [family.tokenizer for family in families.FAMILIES if family.tokenizer.LINES in metadata]
    return kinds[0].from_lines(metadata[kinds[0].LINES].split("\n")) if kinds else None


def _with_activation(config, activation):
    """The configuration with this activation. There is no default: a wrong one would give wrong features silently."""
    if activation is None:
        raise InputError(
            f"does not state its activation: put the model's config.json (transformers) or {open_clip.CONFIG} beside "
            f"it, or give activation='quick_gelu' (OpenAI's models, and OpenCLIP's with -quickgelu in their names) or "
            f"activation='gelu' (OpenCLIP's others) to miniclip.load"
        )
    towers = {name: dataclasses.replace(tower, activation=activation) for name, tower in _transformers(config).items()}
    return dataclasses.replace(config, **towers)


def _transformers(config):
    return {name: getattr(config, name) for name in ("visual", "text") if hasattr(getattr(config, name), "activation")}


def _activations(config):
    return {tower.activation for tower in _transformers(config).values()}


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
    metadata = {"format": "miniclip", "config": json.dumps(config.to_dict())}
    if tokenizer is not None:
        metadata[tokenizer.LINES] = "\n".join(tokenizer.lines())
    safetensors.write(path, tensors, metadata)


WRITERS = {"miniclip": save, "openai": openai.save, "hf": huggingface.save, "open_clip": open_clip.save}
DIRECTORIES = ("hf", "open_clip")  # the others are files
