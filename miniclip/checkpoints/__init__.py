"""Reads and writes model files: a configuration, a parameter tree under miniclip's names, and a vocabulary.

    `formats` reads {name: array} · names are recognised and renamed · the configuration is read or inferred ·
    the parameters are checked against its shapes

`huggingface`, `openai` and `open_clip` handle those libraries' files, this module miniclip's own. `infer` derives a
configuration from shapes.
"""

import dataclasses
import json
import os
from pathlib import Path

import numpy as np

from miniclip import families, params
from miniclip.checkpoints import huggingface, open_clip, openai
from miniclip.checkpoints.infer import infer_config
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
) -> tuple[ModelConfig, dict, Tokenizer | None]:
    """A weights file, or a Hugging Face or OpenCLIP directory -> (ModelConfig, parameter tree, Tokenizer or None).

    dtype       the type of floating arrays; None keeps theirs, except that bfloat16 becomes float32. Arrays that need
                no conversion are memory-mapped, not read
    image_size  another size for the pictures: position embeddings are interpolated
    activation  "quick_gelu" or "gelu", for a file that does not state it: one without a configuration, except OpenAI's

    A model without a tokenizer uses the official vocabulary. Raises InputError that names the file and all its faults.
    """
    path = Path(path)
    config, flat, tokenizer = _load_directory(path, dtype) if path.is_dir() else _load_file(path, dtype, activation)
    params.check(flat, config.shapes(), path)
    if activation not in (None, *_activations(config)):
        raise InputError(f"{path}: the file states its activation, and it is not {activation}: leave out activation")
    for name, x in flat.items():
        if x.dtype.kind != "f":
            raise InputError(f"{path}: {name} is {x.dtype}, expected floats: are the weights quantized?")
    if tokenizer and config.text and len(tokenizer) != config.text.vocab_size:
        raise InputError(f"{path}: its vocabulary has {len(tokenizer)} ids, but its model has {config.text.vocab_size}")
    tree = params.unflatten(flat)
    if image_size is not None:
        config, tree = families.with_image_size(config, tree, image_size)
    return config, tree, tokenizer


def _load_directory(path, dtype):
    weights = open_clip.find(path)
    if weights is not None:
        return *open_clip.load(weights, read(weights, dtype)[0]), None
    if not (path / "config.json").exists():
        raise InputError(
            f"{path}: has neither transformers' config.json nor OpenCLIP's {open_clip.CONFIG} with "
            f"{' or '.join(open_clip.WEIGHTS)}: give the path of the weights file"
        )
    return huggingface.load(path, dtype=dtype)


def _load_file(path, dtype, activation):
    tensors, metadata = read(path, dtype)
    activation_is_known = "config" in metadata
    if openai.has_openai_names(tensors):
        if not openai.is_official(tensors) and (path.parent / open_clip.CONFIG).exists():
            return *open_clip.load(path, tensors), None
        activation_is_known = activation_is_known or openai.is_official(tensors)
        flat = openai.rename(tensors, path)
    elif not activation_is_known and (path.parent / "config.json").exists():
        return huggingface.load(path.parent, tensors)
    else:
        flat = names.rename(tensors, NAMES)
    try:
        if "config" in metadata:
            config = families.from_dict(json.loads(metadata["config"]))
        else:
            config = infer_config({name: x.shape for name, x in flat.items()})
        tokenizer = _tokenizer(metadata)
    except (ValueError, RecursionError) as error:  # InputError and JSON's own are ValueErrors
        raise InputError(f"{path}: {error}") from error
    return config if activation_is_known else _with_activation(config, activation, path), flat, tokenizer


def _tokenizer(metadata):
    """The vocabulary in a file's metadata, of any family's kind; None if there is none."""
    kinds = [family.tokenizer for family in families.FAMILIES if family.tokenizer.LINES in metadata]
    return kinds[0].from_lines(metadata[kinds[0].LINES].split("\n")) if kinds else None


def _with_activation(config, activation, path):
    """The configuration with this activation. There is no default: a wrong one would give wrong features silently."""
    if activation is None:
        raise InputError(
            f"{path}: does not state its activation: give activation='quick_gelu' (OpenAI's models, and OpenCLIP's "
            f"with -quickgelu in their names) or 'gelu' (OpenCLIP's others); on the command line it is --activation"
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
