"""Reads and writes decoders' files: miniclip's own, and ClipCap's."""

import json

import numpy as np

from miniclip import formats, identity, params
from miniclip.caption import clipcap
from miniclip.caption.decoder import DecoderConfig
from miniclip.errors import InputError
from miniclip.formats import safetensors

FORMAT = "miniclip decoder"


def save(path, config, tree, model, *, dtype=None):
    """Write a decoder for the features of `model`, a CLIP, to one safetensors file; dtype None keeps the arrays'."""
    params.check(tree, config.shapes(), "the parameters to save")
    tensors = {name: np.asarray(x, dtype) for name, x in params.flatten(tree).items()}
    metadata = {"config": config.to_dict(), "trained_with": identity.of(model)}
    safetensors.write(path, tensors, {"format": FORMAT} | {key: json.dumps(x) for key, x in metadata.items()})


def load(path, *, dtype="float32"):
    """A decoder's file -> (DecoderConfig, parameter tree, the `identity` of its CLIP; None in ClipCap's files).

    Raises InputError that names the file if it is neither.
    """
    flat, metadata = formats.read(path, dtype, clipcap.without_masks)
    trained_with = None
    try:
        if metadata.get("format") == FORMAT:
            config = DecoderConfig.from_dict(json.loads(metadata["config"]))
            trained_with = json.loads(metadata["trained_with"])
        elif clipcap.has_its_names(flat):
            config, flat = clipcap.read(flat)
        else:
            raise InputError(
                "is not a decoder: expected a file of miniclip train --caption, or ClipCap's state dict, whose names "
                "begin with gpt. and clip_project."
            )
        params.check(flat, config.shapes(), "its tensors")
    except KeyError as error:
        raise InputError(f"{path}: is not a whole decoder: {error.args[0]} is missing") from error
    except (ValueError, RecursionError) as error:  # InputError and JSON's own are ValueErrors
        raise InputError(f"{path}: {error}") from error
    return config, params.unflatten(flat), trained_with
