"""The record of a family of models: its functions, classes and modules."""

from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

from miniclip.config import ModelConfig
from miniclip.model import CLIP


class Family(NamedTuple):
    """One family. Everything that differs between families is here; no other code asks which family a model has."""

    name: str  # in miniclip's own files
    config: type[ModelConfig]  # its configuration; `config.family` is the name
    model: type[CLIP]  # the class that `miniclip.load` returns: model.CLIP, or one that inherits from it
    preprocess: Callable[..., Any]  # (configuration of the image tower, asarray) -> an image.Preprocess
    tokenizer: type  # of the texts, with `encode`, `tokenize`, `lines` and `from_lines`
    with_image_size: Callable[..., Any]  # (config, parameter tree, image size) -> the same two for that size
    huggingface: ModuleType  # transformers' names, read and written
    open_clip: ModuleType | None = None  # OpenCLIP's names, or None if OpenCLIP does not have this family
