"""clip.cpp for `checkpoints.gguf`: its names, its settings, and which CLIPs it can read (clip.cpp, clip_model_load)."""

import dataclasses

from miniclip.config import VisionConfig
from miniclip.errors import InputError
from miniclip.families import names
from miniclip.families.clip.image import own_settings
from miniclip.families.clip.presets import VOCABULARY

_BLOCK = {
    "ln_1": ("ln1",),
    "attention.qkv": ("attn_q", "attn_k", "attn_v"),
    "attention.out": ("attn_out",),
    "ln_2": ("ln2",),
    "mlp.fc": ("ffn_down",),  # "down" makes a token wider, "up" narrower: the other way round in llama.cpp
    "mlp.proj": ("ffn_up",),
}

# `logit_scale` has no name: clip.cpp computes features, and leaves it out of its probabilities.
NAMES = {
    "visual.patch_embed.weight": ("v.patch_embd.weight",),
    "visual.patch_embed.class_token": ("v.class_embd",),
    "visual.patch_embed.position_embedding": ("v.position_embd.weight",),
    **names.modules("visual.", "v.", {"ln_pre": ("pre_ln",), "ln_post": ("post_ln",)}),
    **names.modules("visual.blocks.{}.", "v.blk.{}.", _BLOCK),
    "visual.projection.weight": ("visual_projection.weight",),
    "text.embed.table": ("t.token_embd.weight",),
    "text.position_embedding": ("t.position_embd.weight",),
    **names.modules("text.blocks.{}.", "t.blk.{}.", _BLOCK),
    **names.modules("text.", "t.", {"ln_final": ("post_ln",)}),
    "text.projection.weight": ("text_projection.weight",),
}

GELU = ("gelu", "gelu_tanh")  # both are its GELU, which is the formula with tanh
# It knows models by the number of their tensors, and refuses others (get_mem_req_by_size). So these are the blocks that
# models may have: {(an image tower, a text tower): both together}.
BLOCKS = {(True, True): (24, 36, 56), (True, False): (12, 24, 32), (False, True): (12, 24)}


def as_read(config):
    """The configuration that clip.cpp would use: some values are fixed, or not in the file.

    Raises InputError for a model that it cannot read at all.
    """
    visual, text = config.visual, config.text
    if visual and type(visual) is not VisionConfig:
        raise InputError("clip.cpp has only Vision Transformers: convert to miniclip")
    if config.embed_dim is None:
        raise InputError("clip.cpp cannot express a model without projections: convert to miniclip or hf")
    layers, known = sum(tower.layers for tower in (visual, text) if tower), BLOCKS[bool(visual), bool(text)]
    if layers not in known:
        raise InputError(
            f"clip.cpp reads models of {', '.join(map(str, known[:-1]))} or {known[-1]} blocks, and this one has "
            f"{layers}: convert to miniclip or hf"
        )
    if visual:
        size = min(visual.image_size) if isinstance(visual.image_size, tuple) else visual.image_size
        visual = dataclasses.replace(
            visual,
            image_size=size,
            channels=3,
            pictures=_pictures(visual, size),
            activation=_activation(config, visual),
        )
    if text:
        text = dataclasses.replace(text, vocab_size=VOCABULARY, eot_token_id=None, activation=_activation(config, text))
    return dataclasses.replace(config, visual=visual, text=text)


def _pictures(visual, size):
    """How it prepares pictures: as OpenAI's, except that mean and std are in the file."""
    if visual.pictures is None:
        return None
    found = own_settings(size)
    if len(visual.pictures.normalize) == 1:
        found = dataclasses.replace(found, normalize=visual.pictures.normalize)
    return visual.pictures if found.means_the_same(visual.pictures) else found


def _activation(config, tower):
    if not _has_gelu(config):
        return "quick_gelu"
    return tower.activation if tower.activation in GELU else GELU[0]


def _has_gelu(config):
    """There is one flag for both towers."""
    return (config.visual or config.text).activation in GELU


def settings(config, tokens):
    """What a file says beside the weights, {key: value}; `tokens` are the vocabulary's, in the order of their ids."""
    visual, text = config.visual, config.text
    found = {
        "clip.has_text_encoder": text is not None,
        "clip.has_vision_encoder": visual is not None,
        "clip.use_gelu": _has_gelu(config),
    }
    for name, tower in (("text", text), ("vision", visual)):
        if tower:
            found |= {
                f"clip.{name}.embedding_length": tower.width,
                f"clip.{name}.feed_forward_length": tower.mlp_width,
                f"clip.{name}.block_count": tower.layers,
                f"clip.{name}.attention.head_count": tower.heads,
                f"clip.{name}.attention.layer_norm_epsilon": tower.eps,
                f"clip.{name}.projection_dim": config.embed_dim,
            }
    if text:
        found |= {"clip.text.context_length": text.context_length, "tokenizer.ggml.tokens": tokens}
    if visual:
        ((mean, std),) = (visual.pictures or own_settings(visual.image_size)).normalize
        found |= {
            "clip.vision.image_size": visual.image_size,
            "clip.vision.patch_size": visual.patch_size,
            "clip.vision.image_mean": _three(mean),
            "clip.vision.image_std": _three(std),
        }
    return found


def _three(values):
    return [float(x) for x in (values if isinstance(values, tuple) else (values,) * 3)]
