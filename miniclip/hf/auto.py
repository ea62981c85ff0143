"""Chooses the class by a model's config.json: `from_pretrained`, and transformers' Auto classes."""

from typing import Any, NamedTuple

from miniclip.errors import InputError
from miniclip.hf import (
    configuration,
    image_processing,
    image_processing_siglip2,
    modeling_align,
    modeling_altclip,
    modeling_chinese_clip,
    modeling_clip,
    modeling_flax_clip,
    modeling_siglip,
    modeling_tf_clip,
    processing,
    tokenization,
)
from miniclip.hf.files import WHERE


class Classes(NamedTuple):
    """What belongs to a `model_type`; None: there is no such class."""

    config: type
    model: type
    image_processor: type
    tokenizer: type
    processor: type
    flax: type | None = None
    tensorflow: type | None = None


class _SiglipTokenizer:
    """Its own tokenizer, or Gemma's: the files decide."""

    from_pretrained = staticmethod(tokenization.siglip_tokenizer)


# The modules of models, and what prepares their inputs.
_FAMILIES: dict[str, tuple] = {
    "CLIP": (
        modeling_clip,
        image_processing.CLIPImageProcessor,
        tokenization.CLIPTokenizer,
        processing.CLIPProcessor,
    ),
    "Align": (
        modeling_align,
        image_processing.EfficientNetImageProcessor,
        tokenization.BertTokenizer,
        processing.AlignProcessor,
    ),
    "ChineseCLIP": (
        modeling_chinese_clip,
        image_processing.ChineseCLIPImageProcessor,
        tokenization.BertTokenizer,
        processing.ChineseCLIPProcessor,
    ),
    "AltCLIP": (
        modeling_altclip,
        image_processing.AltCLIPImageProcessor,
        tokenization.XLMRobertaTokenizer,
        processing.AltCLIPProcessor,
    ),
    "Siglip": (
        modeling_siglip,
        image_processing.SiglipImageProcessor,
        _SiglipTokenizer,
        processing.SiglipProcessor,
    ),
    "Siglip2": (
        modeling_siglip,
        image_processing_siglip2.Siglip2ImageProcessor,
        _SiglipTokenizer,
        processing.Siglip2Processor,
    ),
}


def _rows():
    """The classes of each whole model and of each tower."""
    for family, (module, *inputs) in _FAMILIES.items():
        for kind in (family, f"{family}Text", f"{family}Vision"):
            flax = getattr(modeling_flax_clip, f"Flax{kind}Model", None)
            tensorflow = getattr(modeling_tf_clip, f"TF{kind}Model", None)
            config, model = getattr(configuration, f"{kind}Config"), getattr(module, f"{kind}Model")
            yield Classes(*(config, model, *inputs, flax, tensorflow))


CLASSES = {row.config.model_type: row for row in _rows()}
# Classes that no `model_type` names; a file names them under `architectures`.
ARCHITECTURES = (modeling_clip.CLIPTextModelWithProjection, modeling_clip.CLIPVisionModelWithProjection)


def from_pretrained(name: Any, *, processor: bool = False, **options: Any) -> Any:
    """The model in a directory, in a file or on the hub, of the class that its config.json names.

    processor  return (model, its processor); of a tower alone, its tokenizer or its image processor
    options    those of the class's `from_pretrained`

    Raises InputError.
    """
    source = _settings(name, options)
    classes = _classes(name, source)
    kind = next((each for each in ARCHITECTURES if each.__name__ in (source.get("architectures") or ())), classes.model)
    model = kind.from_pretrained(name, **options)
    if not processor:
        return model
    part = {"text": classes.tokenizer, "visual": classes.image_processor, None: classes.processor}[model.tower]
    return model, part.from_pretrained(name, **{key: x for key, x in options.items() if key in WHERE})


def _settings(name, options):
    where = {key: x for key, x in options.items() if key in WHERE}
    return configuration.PreTrainedConfig.get_config_dict(name, **where)[0]


def _classes(name, source):
    kind = source.get("model_type")
    if kind not in CLASSES:
        raise InputError(f"{name}: is a model of type {kind!r}, expected one of {', '.join(map(repr, CLASSES))}")
    return CLASSES[kind]


class _Auto:
    part: str

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **options: Any) -> Any:
        """An object of the class that belongs to the model's type, with its own `from_pretrained`."""
        name = pretrained_model_name_or_path
        chosen = getattr(_classes(name, _settings(name, options)), cls.part)
        if chosen is None:
            raise InputError(f"{name}: {cls.__name__} has no class for this type of model")
        return chosen.from_pretrained(name, *args, **options)


class AutoConfig(_Auto):
    """transformers' AutoConfig."""

    part = "config"


class AutoModel(_Auto):
    """transformers' AutoModel: the plain class of the model's type."""

    part = "model"


class AutoProcessor(_Auto):
    """transformers' AutoProcessor."""

    part = "processor"


class AutoTokenizer(_Auto):
    """transformers' AutoTokenizer."""

    part = "tokenizer"


class AutoImageProcessor(_Auto):
    """transformers' AutoImageProcessor."""

    part = "image_processor"


class FlaxAutoModel(_Auto):
    """transformers 4's FlaxAutoModel."""

    part = "flax"


class TFAutoModel(_Auto):
    """transformers 4's TFAutoModel."""

    part = "tensorflow"
