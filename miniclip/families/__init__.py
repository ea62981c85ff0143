"""Families of models: CLIP, ALIGN. A family is a record; a new one is a folder here and a line in `FAMILIES`."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from miniclip.config import ModelConfig, square
from miniclip.errors import InputError
from miniclip.families import align, clip
from miniclip.families.preprocessing import SettingsPreprocess
from miniclip.families.record import Family
from miniclip.image import Preprocess
from miniclip.ops import Array

FAMILIES: tuple[Family, ...] = (clip.FAMILY, align.FAMILY)


def of(config: ModelConfig) -> Family:
    """The family of a configuration. Raises InputError if it is not in `FAMILIES`."""
    for family in FAMILIES:
        if family.name == config.family:
            return family
    raise InputError(f"the family is {config.family!r}, expected one of {', '.join(f.name for f in FAMILIES)}")


def from_dict(values: dict[str, Any]) -> ModelConfig:
    """The inverse of `config.to_dict`, for all families. Raises InputError if `values` are not a configuration.

    Files from before miniclip 0.2 do not name their family: it is the first one that has their fields.
    """
    if not isinstance(values, dict):
        raise InputError(f"not a miniclip configuration: {values!r}")
    name, errors = values.get("family"), []
    for family in FAMILIES:
        if name in (None, family.name):
            try:
                return family.config.from_dict(values)
            except InputError as error:
                errors.append(error)
    known = ", ".join(family.name for family in FAMILIES)
    raise errors[0] if errors else InputError(f"the family is {name!r}, expected one of {known}")


def preprocess_of(
    config: ModelConfig, asarray: Callable[[np.ndarray], Array] = np.asarray, exif: bool = False
) -> Preprocess | None:
    """The preprocessing function of a model with this configuration; None if it has no image tower."""
    if config.visual is None:
        return None
    if config.visual.pictures:
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
