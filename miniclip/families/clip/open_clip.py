"""OpenCLIP's CLIP for `checkpoints.open_clip`: names, configuration and preprocessing."""

import dataclasses

from miniclip.config import CLIPConfig, PictureSettings, ResNetConfig, TextConfig, VisionConfig, square
from miniclip.errors import InputError
from miniclip.families.clip.image import own_settings
from miniclip.families.clip.openai import restore  # noqa: F401  OpenCLIP has OpenAI's names
from miniclip.families.clip.presets import VOCABULARY
from miniclip.image import MEAN, STD

# Settings that do not change what the model computes, and the only values of other settings that miniclip has.
IDLE = {"patch_dropout", "output_tokens", "pad_id", "eos_id", "patch_size", "attn_pooler_queries", "attn_pooler_heads"}
ONLY = {"pos_embed_type": "learnable", "proj_type": "linear"}
PREPROCESSING = {
    "mode": "RGB",
    "mean": [*MEAN],
    "std": [*STD],
    "interpolation": "bicubic",
    "resize_mode": "shortest",
    "fill_color": 0,
}


def _pictures(source, image_size):
    """OpenCLIP's preprocess_cfg -> PictureSettings, None if they are OpenAI's. (transform.py, image_transform.)

    Its `size` is always the model's (factory.py, create_model).
    """
    _expect(source, PREPROCESSING.keys() | {"size"}, {"mode": "RGB"})
    source = {**PREPROCESSING, **{name: value for name, value in source.items() if value is not None}}
    mode, interpolation, fill = (source[name] for name in ("resize_mode", "interpolation", "fill_color"))
    if source["mode"] != "RGB":
        raise InputError(f"mode is {source['mode']!r}, expected 'RGB'")
    if mode not in ("shortest", "longest", "squash"):
        raise InputError(f"resize_mode is {mode!r}, expected shortest, longest or squash")
    if interpolation not in ("bicubic", "bilinear", "random"):
        raise InputError(f"interpolation is {interpolation!r}, expected bicubic, bilinear or random")
    pictures = PictureSettings(
        resize=mode,
        size=image_size,
        crop=image_size if mode == "shortest" else None,
        interpolation="bilinear" if interpolation == "bilinear" else "bicubic",  # "random" is for training
        scale=1 / 255,
        normalize=((_channels(source["mean"]), _channels(source["std"])),),
        fill=fill,
        library="open_clip",
    )
    return None if type(image_size) is int and pictures.means_the_same(own_settings(image_size)) else pictures


def _channels(values):
    return tuple(map(float, values)) if isinstance(values, (list, tuple)) else (float(values),) * 3


def preprocessing_to(visual):
    """The inverse of `_pictures`. Raises InputError if OpenCLIP cannot prepare this model's pictures."""
    pictures = visual.pictures
    if pictures is None:
        return PREPROCESSING
    mean, std = pictures.normalize[0] if len(pictures.normalize) == 1 else (0.0, 1.0)
    return {
        "mode": "RGB",
        "mean": [*_channels(mean)],
        "std": [*_channels(std)],
        "interpolation": pictures.interpolation,
        "resize_mode": pictures.resize,
        "fill_color": pictures.fill,
    }


def config_from(source, preprocessing=None):
    """OpenCLIP's model_cfg and preprocess_cfg -> CLIPConfig; missing values have OpenCLIP's defaults (its model.py)."""
    _expect(source, {"embed_dim", "quick_gelu", "vision_cfg", "text_cfg"})
    activation = "quick_gelu" if source.get("quick_gelu") else "gelu"
    visual = _vision(source["vision_cfg"], activation)
    return CLIPConfig(
        visual=dataclasses.replace(visual, pictures=_pictures(preprocessing or {}, visual.image_size)),
        text=_text(source["text_cfg"], activation),
        embed_dim=source["embed_dim"],
    )


def _vision(source, activation):
    _expect(source, {"layers", "width", "head_width", "mlp_ratio", "image_size"}, {**ONLY, "pool_type": "tok"})
    width, head_width = source.get("width", 768), source.get("head_width", 64)
    layers, image_size = source.get("layers", 12), source.get("image_size", 224)
    image_size = square(tuple(image_size) if isinstance(image_size, list) else image_size)
    if isinstance(layers, list):
        return ResNetConfig(image_size, width, tuple(layers), heads=width * 32 // head_width)
    return VisionConfig(
        image_size=image_size,
        patch_size=source.get("patch_size", 16),
        width=width,
        layers=layers,
        heads=width // head_width,
        mlp_width=int(width * source.get("mlp_ratio", 4.0)),
        activation=activation,
        antialias=True,
    )


def _text(source, activation):
    known = {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"}
    _expect(source, known, {**ONLY, "pool_type": "argmax"})
    width = source.get("width", 512)
    return TextConfig(
        context_length=source.get("context_length", 77),
        vocab_size=source.get("vocab_size", VOCABULARY),
        width=width,
        layers=source.get("layers", 12),
        heads=source.get("heads", 8),
        mlp_width=int(width * source.get("mlp_ratio", 4.0)),
        activation=activation,
    )


def _expect(source, known, only=None):
    """Raise InputError for a setting that is on, but neither `known`, nor idle, nor equal to its value in `only`."""
    for name, value in source.items():
        if name not in known | IDLE and value and value != (only or {}).get(name):
            raise InputError(f"miniclip does not have its setting {name} = {value!r}")


def config_to(config):
    """CLIPConfig -> OpenCLIP's model_cfg; the inverse of `config_from` if OpenCLIP can express the model."""
    visual, text = config.visual, config.text
    source = {"image_size": visual.image_size, "layers": visual.layers, "width": visual.width}
    if isinstance(visual, ResNetConfig):
        source["head_width"] = visual.width * 32 // visual.heads
    else:
        source["head_width"] = visual.width // visual.heads
        source |= {"mlp_ratio": _mlp_ratio(visual), "patch_size": visual.patch_size}
    names = ("context_length", "vocab_size", "width", "heads", "layers")
    return {
        "embed_dim": config.embed_dim,
        "quick_gelu": text.activation == "quick_gelu",
        "vision_cfg": source,
        "text_cfg": {**{name: getattr(text, name) for name in names}, "mlp_ratio": _mlp_ratio(text)},
    }


def _mlp_ratio(tower):
    """A ratio with int(width · ratio) = MLP width: their quotient, or a little more if rounding makes it too small."""
    ratio = tower.mlp_width / tower.width
    return ratio if int(tower.width * ratio) == tower.mlp_width else (tower.mlp_width + 0.5) / tower.width
