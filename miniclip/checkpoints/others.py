"""Finds out whose files they are, if not miniclip's own, and has them read: Hugging Face's, OpenAI's or OpenCLIP's.

Imported when it is needed, because most of `checkpoints` is about these files.
"""

import dataclasses

from miniclip.checkpoints import huggingface, open_clip, openai, peft, recognise, sentence_transformers
from miniclip.checkpoints.infer import check_heads, infer_config
from miniclip.errors import InputError
from miniclip.families import names
from miniclip.families.clip.huggingface import NAMES


def load_directory(path, read_file):
    """(config, {our name: array}, tokenizer or None) of a directory; read_file(path) -> ({name: array}, metadata)."""
    if peft.is_adapter(path):
        raise InputError(
            f"{path}: has an adapter of PEFT ({peft.CONFIG}): load the model that it belongs to, with "
            f"adapter='{path}'; to use a model beside it without it, give the path of the weights file"
        )
    weights = open_clip.find(path)
    if weights is not None:
        return open_clip.load(weights, read_file(weights)[0])
    if (path / sentence_transformers.MODULES).exists():
        return sentence_transformers.load(path, read_file)
    if not (path / "config.json").exists():
        raise InputError(
            f"{path}: has neither transformers' config.json nor OpenCLIP's {open_clip.CONFIG} with "
            f"{' or '.join(open_clip.WEIGHTS)}: give the path of the weights file"
        )
    return huggingface.load(path, read_file)


TRUNK = "visual.trunk."  # timm's image towers, in OpenCLIP


def load_file(path, tensors, activation, as_openai, source=None):
    """The same of a file, from what is in it; empties `tensors`. `source`: OpenCLIP's configuration for it."""
    if source is not None:
        return open_clip.load(path, tensors, source)
    given, official = list(tensors), openai.is_official(tensors)
    if openai.has_openai_names(tensors):
        if not official and (path.parent / open_clip.CONFIG).exists():
            return open_clip.load(path, tensors)
        if any(name.startswith(TRUNK) for name in tensors):
            raise InputError(
                f"{path}: its image tower is timm's, and only a configuration says which: put the {open_clip.CONFIG} "
                f"beside it, or load OpenCLIP's name of the model with pretrained={str(path)!r}"
            )
        flat = openai.rename(tensors, path)
    elif (path.parent / "config.json").exists():
        return huggingface.load(path.parent, lambda *_, **options: (tensors, {}), files=[path])
    else:
        flat = names.rename(huggingface.with_tower(tensors, NAMES), NAMES)
    try:
        usual = "quick_gelu" if as_openai else None
        config = _with_activation(_inferred(flat, given), "quick_gelu" if official else activation or usual)
        if not (official or as_openai):
            check_heads(config)
        return config, flat, None
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _inferred(flat, given):
    try:
        return infer_config({name: x.shape for name, x in flat.items()})
    except InputError as error:
        raise InputError(f"{error}; {recognise.what(given)}") from error


def _with_activation(config, activation):
    """The configuration with this activation. There is no default: a wrong one would give wrong features silently."""
    if activation is None:
        raise InputError(
            f"does not state its activation: put the model's config.json (transformers) or {open_clip.CONFIG} beside "
            f"it, or give activation='quick_gelu' (OpenAI's models, and OpenCLIP's with -quickgelu in their names) or "
            f"activation='gelu' (OpenCLIP's others) to miniclip.load"
        )
    towers = {name: dataclasses.replace(tower, activation=activation) for name, tower in transformers(config).items()}
    return dataclasses.replace(config, **towers)


def transformers(config):
    """The towers that are transformers, {name: configuration}: those with an activation to choose."""
    return {name: getattr(config, name) for name in ("visual", "text") if hasattr(getattr(config, name), "activation")}
