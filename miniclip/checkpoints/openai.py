"""Reads and writes OpenAI's checkpoints: TorchScript archives and state dicts of clip/model.py."""

import dataclasses

import numpy as np

from miniclip import families, params
from miniclip.checkpoints.infer import check_kept, infer_config
from miniclip.errors import InputError
from miniclip.families.clip import openai
from miniclip.formats import torch_files

# OpenAI's archives have these beside the weights, OpenCLIP's files do not. clip/model.py, build_model, drops them too.
SIZES = {"input_resolution", "context_length", "vocab_size"}


def has_openai_names(tensors):
    """Whether the names are OpenAI's, which OpenCLIP uses too."""
    return not {"visual.conv1.weight", "token_embedding.weight", "text.token_embedding.weight"}.isdisjoint(tensors)


def is_official(tensors):
    """Whether the file is OpenAI's own, and its activation therefore quick_gelu."""
    return tensors.keys() >= SIZES


def rename(tensors, source):
    """{OpenAI's name: array} -> {our name: array}; empties `tensors`. Raises InputError that names the `source`."""
    for name in SIZES & tensors.keys():
        del tensors[name]
    try:
        return openai.rename(tensors)
    except InputError as error:
        raise InputError(f"{source}: {error}") from error


def save(path, config, tree, tokenizer=None):
    """Write a state dict that OpenAI's code loads: clip.model.build_model(torch.load(path)).

    OpenAI's code has the official vocabulary. Raises InputError if it would build another model.
    """
    check_whole(config, "OpenAI's clip/model.py", families.of(config).openai)
    check_kept(with_highest_id(config), _as_built(config), "OpenAI's clip/model.py")
    sizes = {
        "input_resolution": config.visual.image_size,
        "context_length": config.text.context_length,
        "vocab_size": config.text.vocab_size,
    }
    torch_files.write(path, {**openai.restore(config, tree), **{name: np.asarray(n) for name, n in sizes.items()}})


def check_whole(config, library, names):
    """Raise InputError if `library` has no names for this family, or if the model lacks a tower or the projections."""
    if names is None:
        raise InputError(f"{library} cannot express {config.family} models: convert to miniclip or hf")
    if not (config.visual and config.text and config.embed_dim):
        raise InputError(
            f"{library} cannot express a model with one tower, or without projections: convert to miniclip or hf"
        )


def with_highest_id(config):
    """The configuration with OpenAI's rule (the highest id ends a text), if its `eot_token_id` is the highest."""
    text = config.text
    if text and getattr(text, "eot_token_id", None) == text.vocab_size - 1:
        return dataclasses.replace(config, text=dataclasses.replace(text, eot_token_id=None))
    return config


def _as_built(config):
    """The configuration that clip/model.py, build_model, would use: it reads only the shapes, and fixes some values."""
    built = infer_config(params.flatten(config.shapes()))
    fixed = {"channels": lambda tower: 3, "mlp_width": lambda tower: 4 * tower.width}
    towers = {
        name: dataclasses.replace(tower, **{key: of(tower) for key, of in fixed.items() if hasattr(tower, key)})
        for name in ("visual", "text")
        if (tower := getattr(built, name))
    }
    return dataclasses.replace(built, **towers)
