"""Families of models: CLIP, ALIGN, OpenCLIP's own, SigLIP, CLIPs of many languages.

A family is a record, and a folder named in `FAMILIES`. A folder is imported when a model of its family is used, so that
a command with one model starts fast.
"""

import dataclasses
import functools
import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from miniclip.config import ModelConfig, square
from miniclip.errors import InputError
from miniclip.families.record import Family
from miniclip.image import Preprocess
from miniclip.ops import Array

FAMILIES = ("clip", "align", "open_clip", "siglip", "multilingual")


@functools.cache
def named(name: str) -> Family:
    """The record of the family with this name. Raises InputError if it is not in `FAMILIES`."""
    if name not in FAMILIES:
        raise InputError(f"the family is {name!r}, expected one of {', '.join(FAMILIES)}")
    return importlib.import_module(f"{__name__}.{name}").FAMILY


def of(config: ModelConfig) -> Family:
    """The family of a configuration. Raises InputError if it is not in `FAMILIES`."""
    return named(config.family)


def every() -> tuple[Family, ...]:
    """The records of all families."""
    return tuple(map(named, FAMILIES))


def from_dict(values: dict[str, Any]) -> ModelConfig:
    """The inverse of `config.to_dict`, for all families. Raises InputError if `values` are not a configuration.

    Files from before miniclip 0.2 do not name their family: it is the first one that has their fields.
    """
    if not isinstance(values, dict):
        raise InputError(f"not a miniclip configuration: {values!r}")
    if "family" in values:
        return named(str(values["family"])).config.from_dict(values)
    errors = []
    for family in map(named, FAMILIES):
        try:
            return family.config.from_dict(values)
        except InputError as error:
            errors.append(error)
    raise errors[0]


def preprocess_of(
    config: ModelConfig, asarray: Callable[[np.ndarray], Array] = np.asarray, exif: bool = False
) -> Preprocess | None:
    """The preprocessing function of a model with this configuration; None if it has no image tower."""
    if config.visual is None:
        return None
    if config.visual.pictures and config.visual.pictures.resize != "patches":  # their size is known to the family
        from miniclip.families.preprocessing import SettingsPreprocess

        pictures = config.visual.pictures
        return SettingsPreprocess(pictures.image_size, asarray, exif, pictures)
    return dataclasses.replace(of(config).preprocess(config.visual, asarray), exif=exif)


def with_image_size(
    config: ModelConfig, tree: dict[str, Any], image_size: int | tuple[int, int], *, antialias: bool = False
):
    """(config, parameter tree) -> the same two for pictures of `image_size`: a side or (height, width), in pixels.

    `antialias`: position embeddings are interpolated as in OpenCLIP, else as in transformers.
    Raises InputError if no picture or no patches can have this size, or if the model has no image tower.
    """
    if config.visual is None:
        raise InputError("image_size is given, but this model has no image tower")
    old, new = config.visual.image_size, square(_plain(image_size))
    config, tree = of(config).with_image_size(config, tree, new, antialias=antialias)
    if config.visual.pictures:
        visual = dataclasses.replace(config.visual, pictures=config.visual.pictures.resized(old, new))
        config = dataclasses.replace(config, visual=visual)
    return config, tree


def _plain(size):
    """The same size as Python integers and tuples, without NumPy's integers and lists."""
    if isinstance(size, (tuple, list)):
        return tuple(map(_plain, size))
    return int(size) if isinstance(size, np.integer) else size
