"""Models in files: read into a configuration, a parameter tree under miniclip's names, and a vocabulary.

    a reader gives name -> array · names are recognised and renamed · the configuration is read or inferred ·
    the parameters are held against its shapes

One room for each format: `safetensors` the files, `huggingface` its directories, `names` the tables of names.
"""

import json
import os
from pathlib import Path

import numpy as np

from miniclip import params
from miniclip.checkpoints import huggingface, names, safetensors
from miniclip.config import CLIPConfig, infer_config
from miniclip.errors import InputError
from miniclip.tokenizer import Tokenizer


def load(path: str | os.PathLike) -> tuple[CLIPConfig, dict, Tokenizer | None]:
    """A safetensors file or a Hugging Face directory -> (CLIPConfig, parameter tree, Tokenizer or None).

    The arrays are mapped, not read, where the file has them as we do. No tokenizer: the model has the official
    vocabulary. Raises InputError naming the file and all that is wrong with it.
    """
    path = Path(path)
    config, flat, tokenizer = huggingface.load(path) if path.is_dir() else _load_file(path)
    params.check(flat, config.shapes(), path)
    if tokenizer and config.text and len(tokenizer) != config.text.vocab_size:
        raise InputError(f"{path}: its vocabulary has {len(tokenizer)} ids, its model {config.text.vocab_size}")
    return config, params.unflatten(flat), tokenizer


def _load_file(path):
    tensors, metadata = safetensors.read(path)
    if "config" not in metadata and (path.parent / "config.json").exists():
        return huggingface.load(path.parent, [path])
    flat = names.rename(tensors, names.HUGGING_FACE)
    try:
        if "config" in metadata:
            config = CLIPConfig.from_dict(json.loads(metadata["config"]))
        else:
            config = infer_config({name: x.shape for name, x in flat.items()})
        merges = metadata.get("merges")
        tokenizer = None if merges is None else Tokenizer(tuple(line.split()) for line in merges.splitlines())
    except (ValueError, RecursionError) as error:  # InputError and JSON's own are ValueErrors
        raise InputError(f"{path}: {error}") from error
    return config, flat, tokenizer


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
    if dtype not in (None, "float16", "float32", "float64"):
        raise InputError(f"dtype is {dtype!r}, expected float16, float32 or float64")
    tensors = {name: np.asarray(x, dtype) for name, x in params.flatten(tree).items()}
    metadata = {"format": "miniclip", "config": json.dumps(config.to_dict())}
    if tokenizer is not None:
        metadata["merges"] = "\n".join(map(" ".join, tokenizer.merges))
    safetensors.write(path, tensors, metadata)
