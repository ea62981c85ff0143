"""transformers' configurations: its names for the values of `miniclip.config`, and its defaults.

The families' `huggingface` modules translate the names.
"""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from miniclip import checkpoints, families
from miniclip.checkpoints import huggingface
from miniclip.config import ModelConfig
from miniclip.errors import InputError
from miniclip.formats import read_json
from miniclip.hf.files import find
from miniclip.hf.outputs import IDLE_VALUES, IGNORED_OPTIONS, check_options
from miniclip.runtime.files import write_json


class PreTrainedConfig:
    """Settings as attributes. Raises InputError for settings that no model can have."""

    model_type: str
    others: ClassVar[dict] = {}  # defaults of settings that do not change the outputs of given weights
    sub_configs: ClassVar[dict] = {}
    attribute_map: ClassVar[dict] = {}
    is_composition = False
    # Settings of every configuration in transformers. They are written to a file only if they are set.
    output_hidden_states = output_attentions = is_encoder_decoder = is_decoder = tie_word_embeddings = False
    return_dict, chunk_size_feed_forward, name_or_path = True, 0, ""
    dtype = torch_dtype = problem_type = architectures = transformers_version = None
    _attn_implementation = base_model_tp_plan = base_model_pp_plan = None

    def __init__(self, **settings: Any):
        settings = {name: value for name, value in settings.items() if name != "model_type"}
        plain = {name: _plain(value) for name, value in settings.items()}
        source = families.of(self._ours(plain)).huggingface.config_to(self._ours(plain))
        completed = {name: source[name] for name in source.keys() - {"model_type", "architectures"}}
        settings = {**completed, **self.others, **settings}
        # Lists instead of tuples: JSON has no tuples.
        self.__dict__.update({name: list(x) if isinstance(x, tuple) else x for name, x in settings.items()})

    def ours(self) -> ModelConfig:
        """The same configuration in miniclip's form."""
        return self._ours(self.to_dict())

    def _ours(self, settings):
        try:
            return huggingface.config_from({**settings, "model_type": self.model_type})
        except (KeyError, TypeError, ValueError, AttributeError) as error:  # InputError is a ValueError
            raise InputError(f"{type(self).__name__}: {error}") from error

    def to_dict(self) -> dict[str, Any]:
        """All settings, in types that JSON has."""
        return {"model_type": self.model_type, **{name: _plain(value) for name, value in vars(self).items()}}

    def to_diff_dict(self) -> dict[str, Any]:
        """The settings that are not the defaults of this class."""
        default = type(self)().to_dict()
        return {k: x for k, x in self.to_dict().items() if k == "model_type" or k not in default or x != default[k]}

    def to_json_string(self, use_diff: bool = False) -> str:
        """The settings as JSON; `use_diff`: only those of `to_diff_dict`."""
        return json.dumps(self.to_diff_dict() if use_diff else self.to_dict(), indent=2, sort_keys=True) + "\n"

    def to_json_file(self, path: Any, use_diff: bool = False) -> None:
        Path(path).write_text(self.to_json_string(use_diff), encoding="utf-8")

    def update(self, settings: dict[str, Any]) -> None:
        """Set several settings."""
        for name, value in settings.items():
            setattr(self, name, value)

    def get_text_config(self, *args: Any, **options: Any) -> "PreTrainedConfig":
        """The configuration of the text tower, or of this tower if it is alone."""
        return getattr(self, "text_config", self)

    @property
    def use_return_dict(self) -> bool:
        return self.return_dict

    def __iter__(self) -> Iterator[str]:
        return iter(vars(self))

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __repr__(self) -> str:
        return f"{type(self).__name__} {self.to_json_string()}"

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], return_unused_kwargs: bool = False, **changes: Any) -> Any:
        """A configuration from its settings, some of them changed."""
        config = cls(**{**config_dict, **changes})
        return (config, {}) if return_unused_kwargs else config

    @classmethod
    def from_json_file(cls, path: Any) -> Any:
        return cls.from_dict(read_json(Path(path)))

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **changes: Any) -> Any:
        """The configuration of a model; its name as in `miniclip.load`: a directory, a file or a model's name.

        Arguments that say where files are (`cache_dir`, `subfolder`, `local_files_only`) are as in the models'
        `from_pretrained`, others change settings.
        """
        path = find(pretrained_model_name_or_path, changes, weights=False)
        options = {name: changes.pop(name) for name in changes.keys() & (IGNORED_OPTIONS | IDLE_VALUES.keys())}
        check_options(cls, options)
        return cls.from_dict(cls._selected(_source(path), path), **changes)

    @classmethod
    def get_config_dict(cls, pretrained_model_name_or_path: Any, **options: Any) -> tuple[dict[str, Any], dict]:
        """(the settings in a model's config.json, {})."""
        return _source(find(pretrained_model_name_or_path, options, weights=False)), {}

    @classmethod
    def _selected(cls, source, path):
        if source.get("model_type") != cls.model_type:
            kind = source.get("model_type")
            raise InputError(f"{path}: is a model of type {kind!r}, but {cls.__name__} expects {cls.model_type!r}")
        return source

    def save_pretrained(self, save_directory: Any, **options: Any) -> None:
        """Write config.json into a directory, which is created if needed."""
        check_options(type(self), options)
        directory = Path(save_directory)
        directory.mkdir(parents=True, exist_ok=True)
        write_json(directory / "config.json", self.to_dict())


def _plain(value):
    return value.to_dict() if isinstance(value, PreTrainedConfig) else copy.deepcopy(value)


def _source(path):
    """The config.json of the model at a path; for models without one, the settings that it would have."""
    if path.name == "config.json":
        return read_json(path)
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
            # As in CLIP's `config_from`: older files have the author's settings in a "_dict".
            tower = source.get(f"{cls.part}_dict") or source.get(cls.part) or {}
            source = {**tower, "model_type": cls.model_type}
        return super()._selected(source, path)


class _WholeConfig(PreTrainedConfig):
    text_class: type
    vision_class: type

    def __init__(self, text_config: Any = None, vision_config: Any = None, **settings: Any):
        super().__init__(text_config=text_config or {}, vision_config=vision_config or {}, **settings)
        for name, kind in (("text_config", self.text_class), ("vision_config", self.vision_class)):
            older = vars(self).pop(f"{name}_dict", None)  # if a file has both, this one counts
            value = older or getattr(self, name)
            setattr(self, name, value if isinstance(value, kind) else kind(**value))

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.sub_configs = {"text_config": cls.text_class, "vision_config": cls.vision_class}

    @classmethod
    def from_text_vision_configs(cls, text_config: Any, vision_config: Any, **settings: Any) -> Any:
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


_TEXT = {"bos_token_id": 0, "hidden_dropout_prob": 0.1, **INITIAL}
_VISION = {"projection_dim": 512, "attention_dropout": 0.0, **INITIAL, **FACTOR}


class ChineseCLIPTextConfig(_TowerConfig):
    model_type, whole, part = "chinese_clip_text_model", "chinese_clip", "text_config"
    others: ClassVar = {**_TEXT, "eos_token_id": None, "attention_probs_dropout_prob": 0.1, **FACTOR}


class ChineseCLIPVisionConfig(_TowerConfig):
    model_type, whole, part = "chinese_clip_vision_model", "chinese_clip", "vision_config"
    others: ClassVar = _VISION


class ChineseCLIPConfig(_WholeConfig):
    model_type = "chinese_clip"
    text_class, vision_class = ChineseCLIPTextConfig, ChineseCLIPVisionConfig
    others: ClassVar = {"logit_scale_init_value": 2.6592, **INITIAL, **FACTOR}


class AltCLIPTextConfig(_TowerConfig):
    model_type, whole, part = "altclip_text_model", "altclip", "text_config"
    others: ClassVar = {**_TEXT, "eos_token_id": 2, "attention_probs_dropout_prob": 0, "initializer_factor": 0.02}


class AltCLIPVisionConfig(_TowerConfig):
    model_type, whole, part = "altclip_vision_model", "altclip", "vision_config"
    others: ClassVar = _VISION


class AltCLIPConfig(_WholeConfig):
    model_type = "altclip"
    text_class, vision_class = AltCLIPTextConfig, AltCLIPVisionConfig
    others: ClassVar = {"logit_scale_init_value": 2.6592, **FACTOR}


class SiglipTextConfig(_TowerConfig):
    model_type, whole, part = "siglip_text_model", "siglip", "text_config"
    others: ClassVar = {"bos_token_id": 49406, "eos_token_id": 49407, "pad_token_id": 1, "attention_dropout": 0.0}


class SiglipVisionConfig(_TowerConfig):
    model_type, whole, part = "siglip_vision_model", "siglip", "vision_config"
    others: ClassVar = {"attention_dropout": 0.0, "vision_use_head": True}


class SiglipConfig(_WholeConfig):
    model_type = "siglip"
    text_class, vision_class = SiglipTextConfig, SiglipVisionConfig
    others: ClassVar = {**FACTOR}


class Siglip2TextConfig(SiglipTextConfig):
    model_type, whole = "siglip2_text_model", "siglip2"


class Siglip2VisionConfig(SiglipVisionConfig):
    model_type, whole = "siglip2_vision_model", "siglip2"


class Siglip2Config(_WholeConfig):
    model_type = "siglip2"
    text_class, vision_class = Siglip2TextConfig, Siglip2VisionConfig
    others: ClassVar = {**FACTOR}
