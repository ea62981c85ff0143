"""OpenCLIP's CLIP for `checkpoints.open_clip`: names, configuration and preprocessing.

What OpenCLIP has more is read by `families.open_clip.open_clip`, which builds on this.
"""

import dataclasses

from miniclip.config import CLIPConfig, PictureSettings, ResNetConfig, TextConfig, VisionConfig, square
from miniclip.errors import InputError
from miniclip.families.clip.image import own_settings
from miniclip.families.clip.openai import rename, restore  # noqa: F401  OpenCLIP has OpenAI's names
from miniclip.families.clip.presets import VOCABULARY
from miniclip.image import MEAN, STD

# Settings that do not change what the model computes, given its weights (the classes in OpenCLIP's model.py), ...
WHOLE = {"embed_dim", "quick_gelu", "vision_cfg", "text_cfg", "custom_text", "multimodal_cfg"}
VISION = {"layers", "width", "head_width", "mlp_ratio", "image_size", "patch_size", "act_kwargs", "norm_kwargs"}
VISION |= {"ls_init_value", "patch_dropout", "output_tokens", "attn_pooler_queries", "attn_pooler_heads"}
VISION |= {"final_ln_after_pool", "timm_drop", "timm_pool", "timm_proj"}  # timm's count only for timm's models
TEXT = {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio", "act_kwargs", "norm_kwargs", "eos_id"}
TEXT |= {"ls_init_value", "output_tokens", "pad_id", "final_ln_after_pool", "hf_proj_type", "hf_pooler_type"}
TEXT |= {"hf_tokenizer_name", "tokenizer_kwargs", "tokenizer_mode", "hf_model_pretrained"}
# ... and the values of other settings that are CLIP's.
ONLY_VISION = {"pool_type": ("tok",), "pos_embed_type": ("learnable", "sin_cos_2d"), "block_type": ("default",)}
ONLY_TEXT = {"pool_type": ("argmax", "eos"), "proj_type": ("linear",), "block_type": ("default",)}
# How messages name what has no place in CLIP.
OTHERS = {
    "timm_model_name": "its image tower is timm's {}",
    "hf_model_name": "its text tower is transformers' {}",
    "init_logit_bias": "its logits have a bias, init_logit_bias = {}",
}
PREPROCESSING = {
    "mode": "RGB",
    "mean": [*MEAN],
    "std": [*STD],
    "interpolation": "bicubic",
    "resize_mode": "shortest",
    "fill_color": 0,
}


def pictures(source, image_size):
    """As `read_pictures`; None if the settings are OpenAI's."""
    found = read_pictures(source, image_size)
    return None if type(image_size) is int and found.means_the_same(own_settings(image_size)) else found


def read_pictures(source, image_size):
    """OpenCLIP's preprocess_cfg -> PictureSettings. (transform.py, image_transform.)

    Its `size` is always the model's (factory.py, create_model).
    """
    expect(source, PREPROCESSING.keys() | {"size"})
    source = {**PREPROCESSING, **{name: value for name, value in source.items() if value is not None}}
    mode, interpolation, fill = (source[name] for name in ("resize_mode", "interpolation", "fill_color"))
    if source["mode"] != "RGB":
        raise InputError(f"mode is {source['mode']!r}, expected 'RGB'")
    if mode not in ("shortest", "longest", "squash"):
        raise InputError(f"resize_mode is {mode!r}, expected shortest, longest or squash")
    if interpolation not in ("bicubic", "bilinear", "random"):
        raise InputError(f"interpolation is {interpolation!r}, expected bicubic, bilinear or random")
    return PictureSettings(
        resize=mode,
        size=image_size,
        crop=image_size if mode == "shortest" else None,
        interpolation="bilinear" if interpolation == "bilinear" else "bicubic",  # "random" is for training
        scale=1 / 255,
        normalize=((_channels(source["mean"]), _channels(source["std"])),),
        fill=fill,
        library="open_clip",
    )


def _channels(values):
    return tuple(map(float, values)) if isinstance(values, (list, tuple)) else (float(values),) * 3


def preprocessing_to(visual):
    """The inverse of `pictures`. Raises InputError if OpenCLIP cannot prepare this model's pictures."""
    settings = visual.pictures
    if settings is None:
        return PREPROCESSING
    mean, std = settings.normalize[0] if len(settings.normalize) == 1 else (0.0, 1.0)
    return {
        "mode": "RGB",
        "mean": [*_channels(mean)],
        "std": [*_channels(std)],
        "interpolation": settings.interpolation,
        "resize_mode": settings.resize,
        "fill_color": settings.fill,
    }


def config_from(source, preprocessing=None):
    """OpenCLIP's model_cfg and preprocess_cfg -> CLIPConfig; missing values have OpenCLIP's defaults (its model.py)."""
    expect(source, WHOLE)
    quick = bool(source.get("quick_gelu"))
    towers = vision(source["vision_cfg"], quick), text(source["text_cfg"], quick)
    return whole(CLIPConfig, source, preprocessing, *towers)


def whole(kind, source, preprocessing, visual, text):
    """Both towers' configurations -> the model's, of this `kind`, with the settings of its pictures."""
    visual = dataclasses.replace(visual, pictures=pictures(preprocessing or {}, visual.image_size))
    return kind(visual=visual, text=text, embed_dim=source["embed_dim"])


def vision(source, quick_gelu):
    """OpenCLIP's vision_cfg -> VisionConfig or ResNetConfig."""
    expect(source, VISION, ONLY_VISION)
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
        antialias=True,
        **_functions(source, quick_gelu),
    )


def text(source, quick_gelu):
    """OpenCLIP's text_cfg -> TextConfig."""
    expect(source, TEXT, ONLY_TEXT)
    width, vocab_size = source.get("width", 512), source.get("vocab_size", VOCABULARY)
    tokenizer = source.get("hf_tokenizer_name") or source.get("tokenizer_kwargs") or source.get("tokenizer_mode")
    if tokenizer and vocab_size == VOCABULARY:
        raise InputError(f"its texts become tokens in another way, {tokenizer!r}, and miniclip would use OpenAI's")
    return TextConfig(
        context_length=source.get("context_length", 77),
        vocab_size=vocab_size,
        width=width,
        layers=source.get("layers", 12),
        heads=source.get("heads", 8),
        mlp_width=int(width * source.get("mlp_ratio", 4.0)),
        eot_token_id=source.get("eos_id", 2) if source.get("pool_type") == "eos" else None,
        **_functions(source, quick_gelu),
    )


def _functions(source, quick_gelu):
    """The activation and the eps of layer norms: GELU and 1e-5, unless the settings say otherwise."""
    activation, norm = (source.get(name) or {} for name in ("act_kwargs", "norm_kwargs"))
    expect(norm, {"eps"})
    expect(activation, set() if quick_gelu else {"approximate"})
    formula = activation.get("approximate", "none")
    if formula not in ("none", "tanh"):
        raise InputError(f"approximate is {formula!r}, expected none or tanh")
    gelu = "gelu_tanh" if formula == "tanh" else "gelu"
    return {"activation": "quick_gelu" if quick_gelu else gelu, "eps": float(norm.get("eps", 1e-5))}


def expect(source, known, only=None):
    """Raise InputError for a setting that is on, but not `known`, and none of the values that `only` has for it."""
    for name, value in source.items():
        if name not in known and value and value not in (only or {}).get(name, ()):
            what = OTHERS.get(name, f"it has the setting {name} = {{}}").format(repr(value))
            raise InputError(f"{what}, which miniclip does not have")


def config_to(config):
    """CLIPConfig -> OpenCLIP's model_cfg; the inverse of `config_from` if OpenCLIP can express the model."""
    return {
        "embed_dim": config.embed_dim,
        "quick_gelu": config.text.activation == "quick_gelu",
        "vision_cfg": vision_to(config.visual),
        "text_cfg": text_to(config.text),
    }


def vision_to(visual):
    """The inverse of `vision`."""
    source = {"image_size": visual.image_size, "layers": visual.layers, "width": visual.width}
    if isinstance(visual, ResNetConfig):
        return {**source, "head_width": visual.width * 32 // visual.heads}
    more = {"head_width": visual.width // visual.heads, "mlp_ratio": _mlp_ratio(visual)}
    return {**source, **more, "patch_size": visual.patch_size, **_functions_to(visual)}


def text_to(text):
    """The inverse of `text`."""
    end = {} if text.eot_token_id is None else {"pool_type": "eos", "eos_id": text.eot_token_id}
    return {**transformer_to(text), **end}


def transformer_to(text):
    """The sizes and functions of a text tower's transformer."""
    source = {name: getattr(text, name) for name in ("context_length", "vocab_size", "width", "heads", "layers")}
    return {**source, "mlp_ratio": _mlp_ratio(text), **_functions_to(text)}


def _functions_to(tower):
    activation = {"act_kwargs": {"approximate": "tanh"}} if tower.activation == "gelu_tanh" else {}
    return activation if tower.eps == 1e-5 else {**activation, "norm_kwargs": {"eps": tower.eps}}


def _mlp_ratio(tower):
    """A ratio with int(width · ratio) = MLP width: their quotient, or a little more if rounding makes it too small."""
    ratio = tower.mlp_width / tower.width
    return ratio if int(tower.width * ratio) == tower.mlp_width else (tower.mlp_width + 0.5) / tower.width
