"""Models in files: read into a configuration, a parameter tree under miniclip's names, and a vocabulary.

    a reader gives name -> array · names are recognised and renamed · the configuration is read or inferred ·
    the parameters are held against its shapes

Formats: `safetensors`, `torch_files` (with `pickles`), told apart in `readers`. Sources: `huggingface`, `openai`,
`open_clip`, with their `names`. `hub` knows which file is meant by a name; `download` and `network` fetch it.
"""

import dataclasses
import json
import os
from pathlib import Path

import numpy as np

from miniclip import params
from miniclip.checkpoints import huggingface, names, open_clip, openai, positions, safetensors
from miniclip.checkpoints.readers import read
from miniclip.config import CLIPConfig, infer_config
from miniclip.errors import InputError
from miniclip.tokenizer import Tokenizer
from miniclip.wordpiece import WordPiece

WRITTEN = ("float16", "float32", "float64")  # NumPy has no bfloat16


def load(
    path: str | os.PathLike,
    *,
    dtype: str | None = None,
    image_size: int | tuple[int, int] | None = None,
    activation: str | None = None,
) -> tuple[CLIPConfig, dict, Tokenizer | None]:
    """A file of weights, or Hugging Face's or OpenCLIP's directory -> (CLIPConfig, parameter tree, Tokenizer or None).

    dtype       of floating arrays, None: as they are, but bfloat16 as float32. What need not be converted is mapped,
                not read
    image_size  for pictures of another size: position embeddings are interpolated
    activation  "quick_gelu" or "gelu" for files that do not tell: without a configuration, and not OpenAI's own

    No tokenizer: the model has the official vocabulary. Raises InputError naming the file and all that is wrong.
    """
    path = Path(path)
    config, flat, tokenizer = _load_directory(path, dtype) if path.is_dir() else _load_file(path, dtype, activation)
    params.check(flat, config.shapes(), path)
    if activation not in (None, *_activations(config)):
        raise InputError(f"{path}: says itself that its activation is not {activation}: leave out activation")
    for name, x in flat.items():
        if x.dtype.kind != "f":
            raise InputError(f"{path}: {name} is of {x.dtype}, expected floats: were its weights quantized?")
    if tokenizer and config.text and len(tokenizer) != config.text.vocab_size:
        raise InputError(f"{path}: its vocabulary has {len(tokenizer)} ids, its model {config.text.vocab_size}")
    tree = params.unflatten(flat)
    if image_size is not None:
        config, tree = positions.with_image_size(config, tree, image_size)
    return config, tree, tokenizer


def _load_directory(path, dtype):
    weights = open_clip.find(path)
    if weights is not None:
        return *open_clip.load(weights, read(weights, dtype)[0]), None
    if not (path / "config.json").exists():
        raise InputError(
            f"{path}: neither a config.json, as transformers writes it beside the weights, nor an {open_clip.CONFIG} "
            f"with {' or '.join(open_clip.WEIGHTS)}: give the path of the weights themselves"
        )
    return huggingface.load(path, dtype=dtype)


def _load_file(path, dtype, activation):
    tensors, metadata = read(path, dtype)
    told = "config" in metadata
    if openai.is_named_so(tensors):
        if not openai.is_marked(tensors) and (path.parent / open_clip.CONFIG).exists():
            return *open_clip.load(path, tensors), None
        told = told or openai.is_marked(tensors)
        flat = openai.rename(tensors, path)
    elif not told and (path.parent / "config.json").exists():
        return huggingface.load(path.parent, tensors)
    else:
        flat = names.rename(tensors, names.HUGGING_FACE)
    try:
        if "config" in metadata:
            config = CLIPConfig.from_dict(json.loads(metadata["config"]))
        else:
            config = infer_config({name: x.shape for name, x in flat.items()})
        tokenizer = _tokenizer(metadata)
    except (ValueError, RecursionError) as error:  # InputError and JSON's own are ValueErrors
        raise InputError(f"{path}: {error}") from error
    return config if told else _with_activation(config, activation, path), flat, tokenizer


def _tokenizer(metadata):
    if "merges" in metadata:
        return Tokenizer(tuple(line.split()) for line in metadata["merges"].splitlines())
    return WordPiece(metadata["pieces"].split("\n")) if "pieces" in metadata else None


def _with_activation(config, activation, path):
    """The configuration of a file that does not tell it: GELU for quick-GELU would be wrong without a sign of it."""
    if activation is None:
        raise InputError(
            f"{path}: does not tell its activation: give activation='quick_gelu' (OpenAI's models, OpenCLIP's with "
            f"-quickgelu in their names) or 'gelu' (OpenCLIP's others), or as an option, --activation"
        )
    towers = {name: dataclasses.replace(tower, activation=activation) for name, tower in _transformers(config).items()}
    return dataclasses.replace(config, **towers)


def _transformers(config):
    return {name: getattr(config, name) for name in ("visual", "text") if hasattr(getattr(config, name), "activation")}


def _activations(config):
    return {tower.activation for tower in _transformers(config).values()}


def save(
    path: str | os.PathLike,
    config: CLIPConfig,
    tree: dict,
    *,
    tokenizer: Tokenizer | None = None,
    dtype: str | None = None,
) -> None:
    """Write a model to one safetensors file under miniclip's own names, with all that is needed to load it again.

    config CLIPConfig · tree its parameters, ndarrays · tokenizer goes along if given (a model without one has the
    official vocabulary) · dtype the name of the floating type to store, None: as they are.
    """
    params.check(tree, config.shapes(), "the parameters to save")
    if dtype not in (None, *WRITTEN):
        raise InputError(f"dtype is {dtype!r}, expected one of {', '.join(WRITTEN)}")
    tensors = {name: np.asarray(x, dtype) for name, x in params.flatten(tree).items()}
    metadata = {"format": "miniclip", "config": json.dumps(config.to_dict())}
    if isinstance(tokenizer, WordPiece):
        metadata["pieces"] = "\n".join(tokenizer.decoder.values())
    elif tokenizer is not None:
        metadata["merges"] = "\n".join(map(" ".join, tokenizer.merges))
    safetensors.write(path, tensors, metadata)


WRITERS = {"miniclip": save, "openai": openai.save, "hf": huggingface.save, "open_clip": open_clip.save}
