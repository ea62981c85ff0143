"""OpenCLIP's SigLIP for `checkpoints.open_clip`: timm's image tower, OpenCLIP's text tower, a bias of the logits."""

import dataclasses
from typing import Any

import numpy as np

from miniclip import params
from miniclip.errors import InputError
from miniclip.families import names
from miniclip.families.clip import open_clip as clip
from miniclip.families.clip import openai
from miniclip.families.siglip.config import SigLIPConfig, SigLIPTextConfig, SigLIPVisionConfig
from miniclip.families.siglip.image import own_settings

# timm's SigLIP towers (timm/models/vision_transformer.py): width, layers, heads, MLP width of each size, ...
SIZES = {
    "base": (768, 12, 12, 3072),
    "large": (1024, 24, 16, 4096),
    "so400m": (1152, 27, 16, 4304),
    "giantopt": (1536, 40, 16, 6144),
}
# ... and the sides of their pictures. timm computes GELU where SigLIP had its approximation by tanh, except in those
# that came with SigLIP 2.
PICTURES = {
    ("base", 16, "gelu"): (224, 256, 384, 512),
    ("base", 32, "gelu_tanh"): (256,),
    ("large", 16, "gelu"): (256, 384),
    ("large", 16, "gelu_tanh"): (512,),
    ("so400m", 14, "gelu"): (224, 378, 384),
    ("so400m", 16, "gelu_tanh"): (256, 384, 512),
    ("giantopt", 16, "gelu_tanh"): (256, 384),
}
# {timm's name: (image size, patch size, width, layers, heads, MLP width, activation)}
TOWERS: dict[str, tuple] = {
    f"vit_{size}_patch{P}_siglip_{side}": (side, P, *SIZES[size], activation)
    for (size, P, activation), sides in PICTURES.items()
    for side in sides
}
FIELDS = ("image_size", "patch_size", "width", "layers", "heads", "mlp_width", "activation")

# What OpenCLIP's settings of these models must be, beside sizes.
VISION = {"timm_pool": "map", "timm_proj": "none"}
TEXT = {"no_causal_mask": True, "pool_type": "last"}

_TRUNK = "visual.trunk."
_POOL = f"{_TRUNK}attn_pool."
_POSITIONS, _PACKED = f"{_TRUNK}pos_embed", f"{_POOL}qkv"  # ours, packed as in the blocks: theirs are q and kv
_BLOCK = {
    "ln_1": ("norm1",),
    "attention.qkv": ("attn.qkv",),
    "attention.out": ("attn.proj",),
    "ln_2": ("norm2",),
    "mlp.fc": ("mlp.fc1",),
    "mlp.proj": ("mlp.fc2",),
}
_HEAD = {"qkv": ("qkv",), "out": ("proj",), "ln_mlp": ("norm",), "mlp.fc": ("mlp.fc1",), "mlp.proj": ("mlp.fc2",)}
NAMES = {
    **names.modules("visual.patch_embed", f"{_TRUNK}patch_embed.proj", {"": ("",)}),
    "visual.patch_embed.position_embedding": (_POSITIONS,),
    **names.modules("visual.blocks.{}.", f"{_TRUNK}blocks.{{}}.", _BLOCK),
    **names.modules("visual.", _TRUNK, {"ln_post": ("norm",)}),
    "visual.attention_pool.probe": (f"{_POOL}latent",),
    **names.modules("visual.attention_pool.", _POOL, _HEAD),
    **{ours: theirs for ours, theirs in openai.CUSTOM_TEXT.items() if "projection" not in ours},
    **names.modules("text.", openai.CUSTOM, {"head": ("text_projection",)}),
    "logit_scale": ("logit_scale",),
    "logit_bias": ("logit_bias",),
}


def config_from(source, preprocessing=None):
    """OpenCLIP's model_cfg and preprocess_cfg -> SigLIPConfig. Raises InputError for a setting that is not SigLIP's."""
    clip.expect(source, clip.WHOLE | {"init_logit_bias"})
    vision, text = source["vision_cfg"], source["text_cfg"]
    name = vision["timm_model_name"]
    if name not in TOWERS:
        clip.expect({"timm_model_name": name}, ())
    clip.expect(vision, clip.VISION | {"timm_model_name", "timm_model_pretrained"} | VISION.keys())
    sizes: dict[str, Any] = dict(zip(FIELDS, TOWERS[name]))
    visual = SigLIPVisionConfig(**sizes, antialias=True)
    clip.expect(text, clip.TEXT | {"proj_bias"} | TEXT.keys(), {"proj_type": ("linear", "none")})
    _check_set(vision, VISION)
    _check_set(text, TEXT)
    if vision.get("image_size", 224) != visual.image_size:
        raise InputError(f"image_size is {vision.get('image_size')}, but the pictures of timm's {name} have another")
    projects = text.get("proj_type", "linear") == "linear"
    if projects and not text.get("proj_bias"):
        raise InputError("its texts are projected without a bias, which SigLIP does not do: proj_bias is not true")
    kept = {name: value for name, value in text.items() if name not in (*TEXT, "proj_type", "proj_bias")}
    kept = clip.text(kept, bool(source.get("quick_gelu")))
    own = {field.name for field in dataclasses.fields(SigLIPTextConfig)} - {"projects"}
    pictures = clip.read_pictures(preprocessing or {}, visual.image_size)
    if not pictures.means_the_same(own_settings(visual.image_size)):
        visual = dataclasses.replace(visual, pictures=pictures)
    return SigLIPConfig(
        visual,
        SigLIPTextConfig(**{name: getattr(kept, name) for name in own}, projects=projects),
        embed_dim=source["embed_dim"],
    )


def _check_set(source, only):
    for name, value in only.items():
        if source.get(name) != value:
            raise InputError(f"{name} is {source.get(name)!r}, but SigLIP's is {value!r}")


def config_to(config):
    """SigLIPConfig -> OpenCLIP's model_cfg; the inverse of `config_from`. Raises InputError if timm lacks its tower."""
    visual, text = config.visual, config.text
    sizes = tuple(getattr(visual, name) for name in FIELDS)
    timm = next((name for name, tower in TOWERS.items() if tower == sizes), None)
    if timm is None:
        described = ", ".join(f"{name} {value}" for name, value in zip(FIELDS, sizes))
        raise InputError(f"OpenCLIP has only timm's image towers, and none of SigLIP's there has {described}")
    return {
        "embed_dim": config.embed_dim,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": {
            "image_size": visual.image_size,
            "timm_model_name": timm,
            "timm_model_pretrained": False,
            **VISION,
        },
        "text_cfg": {
            **clip.transformer_to(text),
            **TEXT,
            **({"proj_bias": True} if text.projects else {"proj_type": "none"}),
        },
    }


def preprocessing_to(visual):
    """OpenCLIP's preprocess_cfg for this image tower's pictures."""
    pictures = visual.pictures or own_settings(visual.image_size)
    return clip.preprocessing_to(dataclasses.replace(visual, pictures=pictures))


def rename(tensors):
    """{OpenCLIP's name: array} -> {our name: array}; empties `tensors`."""
    if _POSITIONS in tensors and tensors[_POSITIONS].ndim == 3:
        tensors[_POSITIONS] = tensors[_POSITIONS][0]  # (1, T, D) -> (T, D)
    for kind in ("weight", "bias"):
        parts = [f"{_POOL}{name}.{kind}" for name in ("q", "kv")]
        if all(name in tensors for name in parts) and len({tensors[name].shape[1:] for name in parts}) == 1:
            tensors[f"{_PACKED}.{kind}"] = np.concatenate([tensors.pop(name) for name in parts])  # (3D, D), (3D,)
    return names.rename(tensors, NAMES)


def restore(config, tree):
    """The inverse of `rename`: a parameter tree -> {OpenCLIP's name: array}."""
    tensors, D = names.restore(params.flatten(tree), NAMES), config.visual.width
    tensors[_POSITIONS] = tensors[_POSITIONS][None]
    for kind in ("weight", "bias"):
        packed = tensors.pop(f"{_PACKED}.{kind}")
        tensors |= {f"{_POOL}q.{kind}": packed[:D], f"{_POOL}kv.{kind}": packed[D:]}
    return tensors
