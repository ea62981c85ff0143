"""OpenCLIP's towers that CLIP does not have, for `checkpoints.open_clip`: names and configuration."""

import dataclasses

import numpy as np

from miniclip import params
from miniclip.config import ResNetConfig
from miniclip.errors import InputError
from miniclip.families import names
from miniclip.families.clip import open_clip as clip
from miniclip.families.clip import openai
from miniclip.families.clip.open_clip import preprocessing_to  # noqa: F401  the same
from miniclip.families.open_clip.config import OpenCLIPConfig, OpenCLIPTextConfig, OpenCLIPVisionConfig

# The values of settings that these towers have, and CLIP's do not.
VISION = {"no_ln_pre": (True,), "pool_type": ("avg",), "attentional_pool": (True,)}
TEXT = {"no_causal_mask": (True,), "pool_type": ("first", "last"), "embed_cls": (True,), "proj_bias": (True,)}
TEXT |= {"proj_type": ("none",)}

_POOL = "visual.attn_pool."
_ATTENTION = f"{_POOL}attn."  # torch's MultiheadAttention
# Names besides OpenAI's.
NAMES = {
    **names.modules("visual.attention_pool.", _POOL, {"ln_q": ("ln_q",), "ln_k": ("ln_k",), "out": ("attn.out_proj",)}),
    **{f"visual.attention_pool.{name}.weight": (f"{_ATTENTION}{name}_proj_weight",) for name in "qkv"},
    **{f"visual.attention_pool.{name}.bias": (f"{_ATTENTION}{name}_bias",) for name in "qkv"},  # parts of in_proj_bias
    "visual.attention_pool.query": (f"{_POOL}query",),
    "text.projection.bias": ("text_projection.bias",),
}

# Arrays with three parts -> the names of the parts. Only an attention whose tokens are as wide as its queries has the
# first one; files always have the second.
_PARTS = {"in_proj_weight": "{}_proj_weight", "in_proj_bias": "{}_bias"}
_PARTS = {_ATTENTION + name: _ATTENTION + part for name, part in _PARTS.items()}
_TABLE, _PROJECTION = "token_embedding.weight", "text_projection"


def config_from(source, preprocessing=None):
    """OpenCLIP's model_cfg and preprocess_cfg -> OpenCLIPConfig. Raises InputError for a setting that is not here."""
    clip.expect(source, clip.WHOLE)
    quick = bool(source.get("quick_gelu"))
    visual, vision = _split(source["vision_cfg"], VISION)
    visual = clip.vision(visual, quick)
    if vision:
        visual = _vision(visual, vision, source["vision_cfg"])
    text, more = _split(source["text_cfg"], TEXT)
    text = clip.text(text, quick)
    if more:
        text = _text(text, more, source)
    return clip.whole(OpenCLIPConfig, source, preprocessing, visual, text)


def _split(source, own):
    """(the settings that are CLIP's, those in `own`)."""
    mine = {name: value for name, value in source.items() if value in own.get(name, ()) and type(value) is not int}
    return {name: value for name, value in source.items() if name not in mine}, mine


def _vision(visual, own, source):
    if not hasattr(visual, "patch_size"):
        raise InputError(f"a ResNet cannot have the settings {', '.join(own)}")
    pool, attends = own.get("pool_type", "tok"), "attentional_pool" in own
    return OpenCLIPVisionConfig(
        **_fields(visual),
        pre_norm="no_ln_pre" not in own,
        pool=pool,
        norm_after_pool=pool == "avg" and not attends and bool(source.get("final_ln_after_pool")),
        pool_queries=source.get("attn_pooler_queries", 256) if attends else None,
        pool_heads=source.get("attn_pooler_heads", 8) if attends else 8,
    )


def _text(text, own, source):
    if "embed_cls" in own and not source.get("custom_text"):
        raise InputError("embed_cls is for models with custom_text: true")
    if "proj_type" in own and text.width != source["embed_dim"]:
        raise InputError(f"proj_type is 'none', but width {text.width} is not embed_dim {source['embed_dim']}")
    return OpenCLIPTextConfig(
        **_fields(text),
        causal="no_causal_mask" not in own,
        pool=own.get("pool_type", "argmax"),
        pad_id=source["text_cfg"].get("pad_id", 0) if "embed_cls" in own else None,
        projection="none" if "proj_type" in own else "bias" if "proj_bias" in own else "linear",
    )


def _fields(config):
    return {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}


def config_to(config):
    """OpenCLIPConfig -> OpenCLIP's model_cfg, always of its CustomTextCLIP; the inverse of `config_from`."""
    visual, text = config.visual, config.text
    source = {**clip.config_to(config), "custom_text": True}
    if isinstance(visual, OpenCLIPVisionConfig):
        more = {"pool_type": visual.pool, "no_ln_pre": not visual.pre_norm}
        more["final_ln_after_pool"] = visual.norm_after_pool
        if visual.pool_queries:
            more |= {"attentional_pool": True, "attn_pooler_queries": visual.pool_queries}
            more["attn_pooler_heads"] = visual.pool_heads
        source["vision_cfg"] |= more
    if isinstance(text, OpenCLIPTextConfig):
        more = {"no_causal_mask": not text.causal, "proj_bias": text.projection == "bias"}
        if text.pool != "argmax":
            more["pool_type"] = text.pool
        if text.projection == "none":
            more["proj_type"] = "none"
        if text.class_token:
            more |= {"embed_cls": True, "pad_id": text.pad_id}
        source["text_cfg"] |= more
    return source


def rename(tensors):
    """{OpenCLIP's name: array} -> {our name: array}; empties `tensors`. Raises InputError as `openai.rename` does."""
    custom = openai.CUSTOM if f"{openai.CUSTOM}token_embedding.weight" in tensors else ""
    for name in [name for name in tensors if name.startswith(custom)]:
        tensors[name.removeprefix(custom)] = tensors.pop(name)
    for name, part in _PARTS.items():
        if name in tensors:
            arrays = np.split(tensors.pop(name), 3)
            tensors |= {part.format(letter): x for letter, x in zip("qkv", arrays)}
    if "cls_emb" in tensors:  # one row more in the table
        tensors[_TABLE] = np.concatenate([tensors[_TABLE], tensors.pop("cls_emb")[None]])
    if f"{_PROJECTION}.weight" in tensors:  # with a bias it is (out, in), without (in, out)
        tensors[_PROJECTION] = tensors.pop(f"{_PROJECTION}.weight").T
    return names.rename(openai.rename(tensors), NAMES)


def restore(config, tree):
    """The inverse of `rename`: a parameter tree -> {name in OpenCLIP's CustomTextCLIP: array}."""
    resnet = isinstance(config.visual, ResNetConfig)  # its attention pool has OpenAI's names
    tensors = openai.restore(config, tree)
    tensors |= names.restore(params.flatten({"text": tree["text"]} if resnet else tree), NAMES)
    for name, part in _PARTS.items():
        arrays = [part.format(letter) for letter in "qkv"]
        if arrays[0] in tensors and len({tensors[each].shape for each in arrays}) == 1:
            tensors[name] = np.concatenate([tensors.pop(each) for each in arrays])
    if getattr(config.text, "class_token", False):
        tensors[_TABLE], tensors["cls_emb"] = tensors[_TABLE][:-1], tensors[_TABLE][-1]
    if f"{_PROJECTION}.bias" in tensors:
        tensors[f"{_PROJECTION}.weight"] = tensors.pop(_PROJECTION).T
    own = ("visual.", "logit_")
    return {name if name.startswith(own) else openai.CUSTOM + name: x for name, x in tensors.items()}
