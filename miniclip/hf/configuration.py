"""transformers' configurations: its names for the values of `miniclip.config`, and its defaults.

The families' `huggingface` modules translate the names.
"""

import copy
import json
from pathlib import Path
from typing import ClassVar

from miniclip import checkpoints, families
from miniclip.checkpoints import huggingface
from miniclip.errors import InputError
from miniclip.fetch import hub
from miniclip.formats import read_json
from miniclip.runtime.files import write_json


class PreTrainedConfig:
    """Settings as attributes. Raises InputError for settings that no model can have."""

    model_type: str
    others: ClassVar[dict] = {}  # defaults of settings that do not change the outputs of given weights

    def __init__(self, **settings):
        settings = {name: value for name, value in settings.items() if name != "model_type"}
        plain = {name: _plain(value) for name, value in settings.items()}
        source = families.of(self._ours(plain)).huggingface.config_to(self._ours(plain))
        completed = {name: source[name] for name in source.keys() - {"model_type", "architectures"}}
        settings = {**completed, **self.others, **settings}
        # Lists instead of tuples: JSON has no tuples.
        self.__dict__.update({name: list(x) if isinstance(x, tuple) else x for name, x in settings.items()})

    def ours(self):
        """The same configuration in miniclip's form."""
        return self._ours(self.to_dict())

    def _ours(self, settings):
        try:
            return huggingface.config_from({**settings, "model_type": self.model_type})
        except (KeyError, TypeError, ValueError, AttributeError) as error:  # InputError is a ValueError
            raise InputError(f"{type(self).__name__}: {error}") from error

    def to_dict(self):
        return {"model_type": self.model_type, **{name: _plain(value) for name, value in vars(self).items()}}

    def to_json_string(self):
        return json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"

    def __eq__(self, other):
        return type(self) is type(other) and vars(self) == vars(other)

    def __repr__(self):
        return f"{type(self).__name__} {self.to_json_string()}"

    @classmethod
    def from_dict(cls, settings, **changes):
        return cls(**{**settings, **changes})

    @classmethod
    def from_pretrained(cls, name, *, cache_dir=None, **changes):
        """The configuration of a model; `name` as in `miniclip.load`: a directory, a file or a model's name."""
        path = hub.find(name, cache_dir)
        return cls.from_dict(cls._selected(_source(path), path), **changes)

    @classmethod
    def _selected(cls, source, path):
        if source.get("model_type") != cls.model_type:
            kind = source.get("model_type")
            raise InputError(f"{path}: is a model of type {kind!r}, but {cls.__name__} expects {cls.model_type!r}")
        return source

    def save_pretrained(self, directory):
        """Write config.json into a directory, which is created if needed."""
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        write_json(directory / "config.json", self.to_dict())


def _plain(value):
    return value.to_dict() if isinstance(value, PreTrainedConfig) else copy.deepcopy(value)


def _source(path):
    """The config.json of the model at a path; for models without one, the settings that it would have."""
    if (path / "config.json").exists():
        return read_json(path / "config.json")
    config = checkpoints.load(path)[0]
    return families.of(config).huggingface.config_to(config)


class _TowerConfig(PreTrainedConfig):
    whole: str  # the `model_type` of the model that has this tower
    part: str  # the key of this tower in that model's settings

    @classmethod
    def _selected(cls, source, path):
        if source.get("model_type") == cls.whole:
            shared = {name: source[name] for name in ("projection_dim",) if name in source}
            # As in CLIP's `config_from`: older files have the author's settings in a "_dict".
            tower = source.get(f"{cls.part}_dict") or source.get(cls.part) or {}
            source = {**tower, **shared, "model_type": cls.model_type}
        return super()._selected(source, path)


class _WholeConfig(PreTrainedConfig):
    text_class: type
    vision_class: type

    def __init__(self, text_config=None, vision_config=None, **settings):
        super().__init__(text_config=text_config or {}, vision_config=vision_config or {}, **settings)
        for name, kind in (("text_config", self.text_class), ("vision_config", self.vision_class)):
            older = vars(self).pop(f"{name}_dict", None)  # if a file has both, this one counts
            value = older or getattr(self, name)
            setattr(self, name, value if isinstance(value, kind) else kind(**value))

    @classmethod
    def from_text_vision_configs(cls, text_config, vision_config, **settings):
        """The configuration of a whole model from the configurations of its towers."""
        return cls(text_config=text_config, vision_config=vision_config, **settings)


INITIAL, FACTOR = {"initializer_range": 0.02}, {"initializer_factor": 1.0}


class CLIPTextConfig(_TowerConfig):
    model_type, whole, part = "clip_text_model", "clip", "text_config"
    others: ClassVar = {"bos_token_id": 49406, "pad_token_id": 1, "attention_dropout": 0.0, **INITIAL, **FACTOR}


class CLIPVisionConfig(_TowerConfig):
    model_type, whole, part = "clip_vision_model", "clip", "vision_config"
    others: ClassVar = {"attention_dropout": 0.0, **INITIAL, **FACTOR}


class CLIPConfig(_WholeConfig):
    model_type = "clip"
    text_class, vision_class = CLIPTextConfig, CLIPVisionConfig
    others: ClassVar = {"logit_scale_init_value": 2.6592, **FACTOR}


class AlignTextConfig(_TowerConfig):
    model_type, whole, part = "align_text_model", "align", "text_config"
    others: ClassVar = {
        **{"bos_token_id": None, "eos_token_id": None},
        **{"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, **INITIAL},
    }


class AlignVisionConfig(_TowerConfig):
    model_type, whole, part = "align_vision_model", "align", "vision_config"
    # hidden_dim: the side of the last pooling window; if it is large enough, the window covers the whole grid.
    others: ClassVar = {
        **{"hidden_dim": 2560, "pooling_type": "mean"},
        **{"batch_norm_momentum": 0.99, "drop_connect_rate": 0.2, **INITIAL},
    }


class AlignConfig(_WholeConfig):
    model_type = "align"
    text_class, vision_class = AlignTextConfig, AlignVisionConfig
    others: ClassVar = {"temperature_init_value": 1.0, **INITIAL}
