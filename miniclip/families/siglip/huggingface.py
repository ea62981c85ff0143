"""transformers' SigLIP for `checkpoints.huggingface`: names, configuration, image settings and vocabulary."""

from miniclip.config import check_image_size, square
from miniclip.errors import InputError
from miniclip.families import activations, image_settings, names
from miniclip.families.clip.huggingface import transformer_to
from miniclip.families.siglip import naflex_files
from miniclip.families.siglip.config import SigLIPConfig, SigLIPTextConfig, SigLIPVisionConfig
from miniclip.families.siglip.image import HALF, own_settings
from miniclip.families.siglip.tokenizer_files import (  # noqa: F401  for the record
    load_tokenizer,
    save_tokenizer,
    tokenizer_json,
)

FLEXIBLE = ("siglip2", "siglip2_vision_model", "siglip2_text_model")  # for pictures of any shape: NaFlex
MODEL_TYPES = ("siglip", "siglip_vision_model", "siglip_text_model", *FLEXIBLE)
# Settings that transformers' SiglipImageProcessor has if a file does not state them.
PREPROCESSOR = {
    "image_processor_type": "SiglipImageProcessor",
    "size": {"height": 224, "width": 224},
    "crop_size": None,
    "image_mean": [*HALF],
    "image_std": [*HALF],
    "resample": 3,  # Pillow's number for bicubic
    "rescale_factor": 1 / 255,
    **dict.fromkeys(("do_convert_rgb", "do_resize", "do_rescale", "do_normalize"), True),
    "do_center_crop": None,
}

_BLOCK = {
    "ln_1": ("layer_norm1",),
    "attention.qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attention.out": ("self_attn.out_proj",),
    "ln_2": ("layer_norm2",),
    "mlp.fc": ("mlp.fc1",),
    "mlp.proj": ("mlp.fc2",),
}
_POOL = {"out": ("attention.out_proj",), "ln_mlp": ("layernorm",), "mlp.fc": ("mlp.fc1",), "mlp.proj": ("mlp.fc2",)}

# Names in transformers, modeling_siglip.py.
NAMES = {
    **names.modules("visual.", "vision_model.embeddings.", {"patch_embed": ("patch_embedding",)}),
    "visual.patch_embed.position_embedding": ("vision_model.embeddings.position_embedding.weight",),
    **names.modules("visual.blocks.{}.", "vision_model.encoder.layers.{}.", _BLOCK),
    **names.modules("visual.", "vision_model.", {"ln_post": ("post_layernorm",)}),
    "visual.attention_pool.probe": ("vision_model.head.probe",),
    "visual.attention_pool.qkv.weight": ("vision_model.head.attention.in_proj_weight",),
    "visual.attention_pool.qkv.bias": ("vision_model.head.attention.in_proj_bias",),
    **names.modules("visual.attention_pool.", "vision_model.head.", _POOL),
    "text.embed.table": ("text_model.embeddings.token_embedding.weight",),
    "text.position_embedding": ("text_model.embeddings.position_embedding.weight",),
    **names.modules("text.blocks.{}.", "text_model.encoder.layers.{}.", _BLOCK),
    **names.modules("text.", "text_model.", {"ln_final": ("final_layer_norm",), "head": ("head",)}),
    "logit_scale": (names.Single("logit_scale"),),
    "logit_bias": (names.Single("logit_bias"),),
}
TABLES = (NAMES,)


def config_from(source, settings=None):
    """The contents of a config.json -> SigLIPConfig; missing values have transformers' defaults (their SiglipConfig).

    The image processor's `settings` say how pictures are prepared; without them, as SigLIP's are.
    """
    kind = source["model_type"]
    vision_of = _flexible if kind in FLEXIBLE else _vision
    if kind.endswith("_vision_model"):
        visual = vision_of(source, settings)
        return SigLIPConfig(visual, None, embed_dim=visual.width)
    if kind.endswith("_text_model"):
        return SigLIPConfig(None, _text(source), embed_dim=_projection(source))
    vision, text = (source.get(f"{tower}_config") or {} for tower in ("vision", "text"))
    return SigLIPConfig(vision_of(vision, settings), _text(text), embed_dim=_projection(text))


def _projection(source):
    """The width of a text's features: `projection_size`, by default that of the tower."""
    size = source.get("projection_size")
    return source.get("hidden_size", 768) if size is None else size


def _check_head(source):
    if source.get("vision_use_head", True) is not True:
        raise InputError(f"vision_use_head is {source['vision_use_head']!r}: without its head the tower has no feature")


def _flexible(source, settings):
    _check_head(source)
    return naflex_files.vision(source, settings, _transformer(source))


def _vision(source, settings):
    _check_head(source)
    size = source.get("image_size", 224)
    size = square(tuple(size) if isinstance(size, list) else size)
    check_image_size(size)
    pictures = read_pictures({"size": image_settings.square(size), **settings}) if settings is not None else None
    if pictures and pictures.means_the_same(own_settings(size)):
        pictures = None
    return SigLIPVisionConfig(
        image_size=size,
        patch_size=source.get("patch_size", 16),
        channels=source.get("num_channels", 3),
        pictures=pictures,
        **_transformer(source),
    )


def read_pictures(settings):
    """The settings of a SiglipImageProcessor -> PictureSettings."""
    given = image_settings.given(settings)
    return image_settings.read({**PREPROCESSOR, **given})


def _text(source):
    return SigLIPTextConfig(
        context_length=source.get("max_position_embeddings", 64),
        vocab_size=source.get("vocab_size", 32000),
        **_transformer(source),
    )


def _transformer(source):
    return {
        "width": source.get("hidden_size", 768),
        "layers": source.get("num_hidden_layers", 12),
        "heads": source.get("num_attention_heads", 12),
        "mlp_width": source.get("intermediate_size", 3072),
        "activation": activations.ours(source.get("hidden_act", "gelu_pytorch_tanh")),
        "eps": source.get("layer_norm_eps", 1e-6),
    }


def config_to(config):
    """SigLIPConfig -> the contents of a config.json; the inverse of `config_from`."""
    if config.visual and type(config.visual.image_size) is tuple:
        raise InputError("transformers' SigLIP has only square pictures")
    return described(config)


def described(config):
    """The same for every SigLIPConfig: also of one whose pictures are not square."""
    visual, text = config.visual, config.text
    flexible = visual is not None and visual.image_size is None
    kind, architecture, towers = "siglip2" if flexible else "siglip", "Siglip2" if flexible else "Siglip", {}
    if visual:
        towers["vision_config"] = {
            "model_type": f"{kind}_vision_model",
            **({"num_patches": visual.side**2} if flexible else {"image_size": visual.image_size}),
            "patch_size": visual.patch_size,
            "num_channels": visual.channels,
            **transformer_to(visual),
        }
    if text:
        towers["text_config"] = {
            "model_type": f"{kind}_text_model",
            "max_position_embeddings": text.context_length,
            "vocab_size": text.vocab_size,
            "projection_size": config.embed_dim,
            # transformers warns of ids outside the vocabulary, and its defaults are CLIP's.
            "bos_token_id": max(0, text.vocab_size - 2),
            "eos_token_id": max(0, text.vocab_size - 1),
            "pad_token_id": min(1, text.vocab_size - 1),
            **transformer_to(text),
        }
    if visual and text:
        return {"model_type": kind, "architectures": [f"{architecture}Model"], **towers}
    (source,) = towers.values()
    return {**source, "architectures": [f"{architecture}{'Vision' if visual else 'Text'}Model"]}


def preprocessor(visual):
    """Settings that make transformers' image processor prepare pictures as this image tower's are."""
    if visual.image_size is None:
        return naflex_files.preprocessor(visual)
    return {**PREPROCESSOR, **image_settings.write(visual.pictures or own_settings(visual.image_size))}


def prepare(tensors, source):
    """The weights, unchanged: SigLIP's need no work before they are renamed."""
    return tensors


def undo(tensors, source):
    if "logit_scale" in tensors:
        return tensors
    return names.without_tower(tensors)


def fit(config, flat, source):
    """The configuration, unchanged: config.json says everything."""
    return config
