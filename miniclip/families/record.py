"""The record of a family of models: its functions, classes and modules."""

import importlib
import importlib.util
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

from miniclip.config import ModelConfig
from miniclip.errors import InputError
from miniclip.model import CLIP


class Family(NamedTuple):
    """One family. Everything that differs between families is here; no other code asks which family a model has."""

    config: type[ModelConfig]  # its configuration, with the family's name
    model: type[CLIP]  # the class that `miniclip.load` returns: model.CLIP, or one that inherits from it
    preprocess: Callable[..., Any]  # (configuration of the image tower, asarray) -> an image.Preprocess
    tokenizer: type  # of the texts, with `encode`, `tokenize`, `lines` and `from_lines`
    with_image_size: Callable[..., Any]  # (config, parameter tree, image size) -> the same two for that size
    official_vocabulary: int | None  # the number of ids of the vocabulary that models without their own have
    other_tokenizers: tuple[type, ...] = ()  # that some of its models have

    @property
    def name(self) -> str:
        """The family's name, in miniclip's own files; its folder has the same."""
        return self.config.family

    @property
    def tokenizers(self) -> tuple[type, ...]:
        """The classes of tokenizers that its models have, the usual one first."""
        return self.tokenizer, *self.other_tokenizers

    @property
    def huggingface(self) -> ModuleType:
        """transformers' names, read and written. This module and the next three are imported when they are needed.

        Raises InputError if transformers does not have this family.
        """
        module = self._module("huggingface")
        if module is None:
            raise InputError(f"transformers has no models of the family {self.name!r}: miniclip.load reads them")
        return module

    @property
    def in_transformers(self) -> bool:
        """Whether transformers has this family."""
        return self._module("huggingface") is not None

    def names_of(self, config: ModelConfig) -> dict[str, Any]:
        """The table of transformers' names for a model with this configuration (see `names`)."""
        module = self.huggingface
        return module.names_of(config) if hasattr(module, "names_of") else module.TABLES[0]

    @property
    def openai(self) -> ModuleType | None:
        """The names of OpenAI's clip/model.py, if it has this family."""
        return self._module("openai")

    @property
    def open_clip(self) -> ModuleType | None:
        """OpenCLIP's names, if it has this family."""
        return self._module("open_clip")

    @property
    def clip_cpp(self) -> ModuleType | None:
        """clip.cpp's names, if it has this family."""
        return self._module("clip_cpp")

    def _module(self, name):
        name = f"miniclip.families.{self.name}.{name}"
        return importlib.import_module(name) if importlib.util.find_spec(name) else None
