"""OpenAI's checkpoints: TorchScript archives and state dicts of clip/model.py."""

import dataclasses

import numpy as np

from miniclip import families, params
from miniclip.checkpoints.infer import check_kept, infer_config
from miniclip.errors import InputError
from miniclip.families.clip import openai
from miniclip.formats import torch_files

# Beside the weights of OpenAI's own archives; clip/model.py, build_model, drops them too. OpenCLIP has none of them.
MARKS = {"input_resolution", "context_length", "vocab_size"}


def is_named_so(tensors):
    """Whether the names are OpenAI's, or OpenCLIP's."""
    return not {"visual.conv1.weight", "token_embedding.weight"}.isdisjoint(tensors)


def is_marked(tensors):
    """Whether it is OpenAI's own, and so was trained with quick_gelu."""
    return tensors.keys() >= MARKS


def rename(tensors, source):
    """{OpenAI's name: array} -> {our name: array}; empties `tensors`. Raises InputError naming the `source`."""
    for name in MARKS & tensors.keys():
        del tensors[name]
    try:
        return openai.rename(tensors)
    except InputError as error:
        raise InputError(f"{source}: {error}") from error


def save(path, config, tree, tokenizer=None):
    """Write a state dict for OpenAI's code: clip.model.build_model(torch.load(path)). It has the official vocabulary.

    Raises InputError for a model that it would take for another.
    """
    check_whole(config, "OpenAI's clip/model.py")
    check_kept(with_highest_id(config), _as_built(config), "OpenAI's clip/model.py")
    marks = {
        "input_resolution": config.visual.image_size,
        "context_length": config.text.context_length,
        "vocab_size": config.text.vocab_size,
    }
    torch_files.write(path, {**openai.restore(config, tree), **{name: np.asarray(n) for name, n in marks.items()}})


def check_whole(config, library):
    """InputError for a family that a library does not have, and for a model without a tower or the projections."""
    family = families.of(config)
    if not family.open_clip:
        raise InputError(f"{library} cannot express {family.name} models: convert to miniclip or hf")
    if not (config.visual and config.text and config.embed_dim):
        raise InputError(
            f"{library} has no models of one tower alone, or without projections: convert to miniclip or hf"
        )


def with_highest_id(config):
    """The same configuration by OpenAI's rule, the highest id ends a text, where that is what it says."""
    text = config.text
    if text and text.eot_token_id == text.vocab_size - 1:
        return dataclasses.replace(config, text=dataclasses.replace(text, eot_token_id=None))
    return config


def _as_built(config):
    """What clip/model.py, build_model, would make of a model: it goes by the shapes alone, and some are fixed."""
    built = infer_config(params.flatten(config.shapes()))
    fixed = {"channels": lambda tower: 3, "mlp_width": lambda tower: 4 * tower.width}
    towers = {
        name: dataclasses.replace(tower, **{key: of(tower) for key, of in fixed.items() if hasattr(tower, key)})
        for name in ("visual", "text")
        if (tower := getattr(built, name))
    }
    return dataclasses.replace(built, **towers)
