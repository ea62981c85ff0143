"""transformers' CLIP for `checkpoints.huggingface`: names, configuration, image settings and vocabulary."""

import dataclasses

from miniclip.config import CLIPConfig, TextConfig, VisionConfig
from miniclip.errors import InputError
from miniclip.families import activations, image_settings, names
from miniclip.families.clip.image import own_settings
from miniclip.families.clip.presets import VOCABULARY
from miniclip.families.clip.tokenizer_files import (  # noqa: F401  for the record
    load_tokenizer,
    save_tokenizer,
    tokenizer_json,
)
from miniclip.image import MEAN, STD

METACLIP = (
    "metaclip_2",
    "metaclip_2_vision_model",
    "metaclip_2_text_model",
)  # an eos_token_id of 2 is meant
MODEL_TYPES = ("clip", "clip_vision_model", "clip_text_model", *METACLIP)
TOWERS = ("vision", "text")
# Settings that transformers' CLIPImageProcessor has if a file does not state them.
PREPROCESSOR = {
    "image_processor_type": "CLIPImageProcessor",
    "size": {"shortest_edge": 224},
    "crop_size": {"height": 224, "width": 224},
    "image_mean": [*MEAN],
    "image_std": [*STD],
    "resample": 3,  # Pillow's number for bicubic
    "rescale_factor": 1 / 255,
    **dict.fromkeys(("do_convert_rgb", "do_resize", "do_center_crop", "do_rescale", "do_normalize"), True),
}

_BLOCK = {
    "ln_1": ("layer_norm1",),
    "attention.qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attention.out": ("self_attn.out_proj",),
    "ln_2": ("layer_norm2",),
    "mlp.fc": ("mlp.fc1",),
    "mlp.proj": ("mlp.fc2",),
}

# Names in transformers, modeling_clip.py. "pre_layrnorm" is their spelling.
NAMES = {
    "visual.patch_embed.weight": ("vision_model.embeddings.patch_embedding.weight",),
    "visual.patch_embed.class_token": ("vision_model.embeddings.class_embedding",),
    "visual.patch_embed.position_embedding": ("vision_model.embeddings.position_embedding.weight",),
    **names.modules("visual.", "vision_model.", {"ln_pre": ("pre_layrnorm",), "ln_post": ("post_layernorm",)}),
    **names.modules("visual.blocks.{}.", "vision_model.encoder.layers.{}.", _BLOCK),
    "visual.projection.weight": ("visual_projection.weight",),
    "text.embed.table": ("text_model.embeddings.token_embedding.weight",),
    "text.position_embedding": ("text_model.embeddings.position_embedding.weight",),
    **names.modules("text.blocks.{}.", "text_model.encoder.layers.{}.", _BLOCK),
    **names.modules("text.", "text_model.", {"ln_final": ("final_layer_norm",)}),
    "text.projection.weight": ("text_projection.weight",),
    "logit_scale": ("logit_scale",),
}
TABLES = (NAMES,)


def config_from(source, settings=None):
    """The contents of a config.json -> CLIPConfig; missing values have transformers' defaults (their CLIPConfig).

    The image processor's `settings` say how pictures are prepared; without them, as OpenAI's are.
    """
    kind, exact = source["model_type"], source["model_type"] in METACLIP
    if kind.endswith("_vision_model"):
        return CLIPConfig(visual=vision_from(source, settings), text=None, embed_dim=_projection(source))
    if kind.endswith("_text_model"):
        return CLIPConfig(visual=None, text=_text(source, exact), embed_dim=_projection(source))
    # Older files have the author's settings in a "_dict" beside the configuration, which replaces all of it.
    vision, text = (source.get(f"{tower}_config_dict") or source.get(f"{tower}_config") or {} for tower in TOWERS)
    embed_dim = source.get("projection_dim", 512)
    return CLIPConfig(visual=vision_from(vision, settings), text=_text(text, exact), embed_dim=embed_dim)


BARE = ("CLIPVisionModel", "CLIPTextModel", "MetaClip2VisionModel", "MetaClip2TextModel")


def _projection(source):
    """The towers' bare classes, such as CLIPVisionModel and CLIPTextModel, have no projection."""
    bare = any(name in BARE for name in source.get("architectures") or [])
    return None if bare else source.get("projection_dim", 512)


def vision_from(source, settings=None):
    """The settings of an image tower, and of its image processor -> VisionConfig."""
    visual = VisionConfig(
        image_size=source.get("image_size", 224),
        patch_size=source.get("patch_size", 32),
        channels=source.get("num_channels", 3),
        **_transformer(source, width=768, heads=12, mlp_width=3072),
    )
    if settings is None:
        return visual
    size = visual.image_size
    pictures = read_pictures({"size": {"shortest_edge": size}, "crop_size": size, **settings})
    return visual if pictures.means_the_same(own_settings(size)) else dataclasses.replace(visual, pictures=pictures)


def read_pictures(settings):
    """The settings of a CLIPImageProcessor -> PictureSettings."""
    given = image_settings.given(settings)
    return image_settings.read({**PREPROCESSOR, **given})


def _text(source, exact=False):
    """`exact`: the id that ends a text is what the settings say, also if it is 2."""
    end = source.get("eos_token_id", 49407)
    return TextConfig(
        context_length=source.get("max_position_embeddings", 77),
        vocab_size=source.get("vocab_size", VOCABULARY),
        # OpenAI's models were first converted with a wrong 2: it means that the highest id ends a text
        # (modeling_clip.py).
        eot_token_id=None if end == 2 and not exact else end,
        **_transformer(source, width=512, heads=8, mlp_width=2048),
    )


def _transformer(source, width, heads, mlp_width):
    return {
        "width": source.get("hidden_size", width),
        "layers": source.get("num_hidden_layers", 12),
        "heads": source.get("num_attention_heads", heads),
        "mlp_width": source.get("intermediate_size", mlp_width),
        "activation": activations.ours(source.get("hidden_act", "quick_gelu")),
        "eps": source.get("layer_norm_eps", 1e-5),
    }


def config_to(config):
    """CLIPConfig -> the contents of a config.json; the inverse of `config_from`."""
    visual = config.visual
    if (visual and type(visual) is not VisionConfig) or (visual and type(visual.image_size) is not int):
        raise InputError("transformers' CLIP has only Vision Transformers for square pictures")
    return described(config)


def described(config):
    """The same for every CLIPConfig: of an image tower that transformers does not have, only its pictures' sizes."""
    visual, text = config.visual, config.text
    kind, known_as = ("metaclip_2", "MetaClip2") if text and text.eot_token_id == 2 else ("clip", "CLIP")
    towers = {}
    if visual:
        towers["vision_config"] = {"model_type": f"{kind}_vision_model", **vision_to(visual)}
    if text:
        towers["text_config"] = {
            "model_type": f"{kind}_text_model",
            "max_position_embeddings": text.context_length,
            "vocab_size": text.vocab_size,
            # transformers warns of ids outside the vocabulary, and its defaults are OpenAI's.
            "bos_token_id": max(0, text.vocab_size - 2),
            "pad_token_id": min(1, text.vocab_size - 1),
            # There, 2 means the highest id, except in MetaCLIP 2; see `_text`.
            "eos_token_id": 2 if text.eot_token_id is None else text.eot_token_id,
            **transformer_to(text),
        }
    if visual and text:
        shared = {} if config.embed_dim is None else {"projection_dim": config.embed_dim}
        return {"model_type": kind, "architectures": [f"{known_as}Model"], **shared, **towers}
    (source,) = towers.values()
    architecture = f"{known_as}VisionModel" if visual else f"{known_as}TextModel"
    if config.embed_dim is not None:
        source["projection_dim"] = config.embed_dim
        architecture += "WithProjection"
    return {**source, "architectures": [architecture]}


def vision_to(visual):
    """The inverse of `vision_from`; of an image tower that is not a Vision Transformer only its pictures' sizes."""
    rest = {"patch_size": visual.patch_size, **transformer_to(visual)} if type(visual) is VisionConfig else {}
    return {"image_size": visual.image_size, "num_channels": visual.channels, **rest}


def transformer_to(tower):
    """A Vision Transformer's or a text transformer's settings, which SigLIP's have too."""
    return {
        "hidden_size": tower.width,
        "num_hidden_layers": tower.layers,
        "num_attention_heads": tower.heads,
        "intermediate_size": tower.mlp_width,
        "hidden_act": activations.theirs(tower.activation),
        "layer_norm_eps": tower.eps,
    }


def preprocessor(visual):
    """Settings that make transformers' image processor prepare pictures as this image tower's are."""
    return {**PREPROCESSOR, **image_settings.write(visual.pictures or own_settings(visual.image_size))}


def prepare(tensors, source):
    """The weights, unchanged: CLIP's need no work before they are renamed, nor after (`undo`)."""
    return tensors


undo = prepare


def fit(config, flat, source):
    """The configuration of one tower alone, with a projection if the weights have one; `source` may demand it."""
    demanded = any("WithProjection" in name for name in source.get("architectures") or [])
    if (config.visual and config.text) or demanded:
        return config
    projection = flat.get("visual.projection.weight" if config.visual else "text.projection.weight")
    if projection is None:
        return dataclasses.replace(config, embed_dim=None)
    return config if config.embed_dim else dataclasses.replace(config, embed_dim=projection.shape[0])
