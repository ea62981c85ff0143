"""Reads and writes decoders' files: miniclip's own, and ClipCap's."""

import json

import numpy as np

from miniclip import formats, params
from miniclip.caption import clipcap
from miniclip.caption.decoder import DecoderConfig
from miniclip.errors import InputError
from miniclip.formats import safetensors

FORMAT = "miniclip decoder"


def save(path, config, tree, *, clip, dtype=None):
    """Write a decoder for the features of the CLIP named `clip` to one safetensors file; dtype None keeps the arrays'."""
    params.check(tree, config.shapes(), "the parameters to save")
    tensors = {name: np.asarray(x, dtype) for name, x in params.flatten(tree).items()}
    safetensors.write(path, tensors, {"format": FORMAT, "config": json.dumps(config.to_dict()), "clip": clip})


def load(path, *, dtype="float32", mmap=False):
    """A decoder's file -> (DecoderConfig, parameter tree, whether it is ClipCap's). InputError names the file."""
    flat, metadata = formats.read(path, dtype, clipcap.without_masks, mmap)
    try:
        if metadata.get("format") == FORMAT:
            config = DecoderConfig.from_dict(json.loads(metadata["config"]))
        elif clipcap.has_its_names(flat):
            config, flat = clipcap.read(flat)
        else:
            raise InputError(
                "is no decoder: expected a file of miniclip train --caption, or ClipCap's state dict, whose names "
                "begin with gpt. and clip_project."
            )
        params.check(flat, config.shapes(), "its tensors")
    except (ValueError, KeyError, RecursionError) as error:  # InputError and JSON's own are ValueErrors
        raise InputError(f"{path}: {error}") from error
    return config, params.unflatten(flat), metadata.get("format") != FORMAT
