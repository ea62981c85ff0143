"""Other libraries' names for CLIP's parameters: one table a source, from our flat names to theirs.

"{}" stands for a block's number. Where ours packs what theirs keeps apart, the value has several names, joined along
the first axis in that order.
"""

import re

import numpy as np


def _hugging_face_tower(ours, theirs):
    block = {
        "ln_1": ("layer_norm1",),
        "attention.qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        "attention.out": ("self_attn.out_proj",),
        "ln_2": ("layer_norm2",),
        "mlp.fc": ("mlp.fc1",),
        "mlp.proj": ("mlp.fc2",),
    }
    return {
        f"{ours}.blocks.{{}}.{module}.{kind}": tuple(f"{theirs}.encoder.layers.{{}}.{name}.{kind}" for name in names)
        for module, names in block.items()
        for kind in ("weight", "bias")
    }


# transformers, modeling_clip.py. "pre_layrnorm" is their spelling.
HUGGING_FACE = {
    "visual.patch_embed.weight": ("vision_model.embeddings.patch_embedding.weight",),
    "visual.patch_embed.class_token": ("vision_model.embeddings.class_embedding",),
    "visual.patch_embed.position_embedding": ("vision_model.embeddings.position_embedding.weight",),
    "visual.ln_pre.weight": ("vision_model.pre_layrnorm.weight",),
    "visual.ln_pre.bias": ("vision_model.pre_layrnorm.bias",),
    **_hugging_face_tower("visual", "vision_model"),
    "visual.ln_post.weight": ("vision_model.post_layernorm.weight",),
    "visual.ln_post.bias": ("vision_model.post_layernorm.bias",),
    "visual.projection.weight": ("visual_projection.weight",),
    "text.embed.table": ("text_model.embeddings.token_embedding.weight",),
    "text.position_embedding": ("text_model.embeddings.position_embedding.weight",),
    **_hugging_face_tower("text", "text_model"),
    "text.ln_final.weight": ("text_model.final_layer_norm.weight",),
    "text.ln_final.bias": ("text_model.final_layer_norm.bias",),
    "text.projection.weight": ("text_projection.weight",),
    "logit_scale": ("logit_scale",),
}


# Buffers that count 0, 1, 2 ..., which older versions of transformers saved.
BUFFERS = "embeddings.position_ids"


def rename(tensors, table):
    """{their name: array} -> {our name: array}; names that the table does not know stay as they are.

    Arrays are handed on, not copied, but for those that are joined; what cannot be joined stays as it is, too.
    """
    rest = {name: x for name, x in tensors.items() if not name.endswith(BUFFERS)}
    blocks = {number for name in rest for number in re.findall(r"\.(\d+)\.", name)}
    renamed = {}
    for ours, theirs in table.items():
        for block in blocks if "{}" in ours else [""]:
            names = [source.format(block) for source in theirs]
            parts = [rest[name] for name in names if name in rest]
            if len(parts) == len(names) and _can_be_joined(parts):
                for name in names:
                    del rest[name]
                renamed[ours.format(block)] = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return renamed | rest


def _can_be_joined(parts):
    return len(parts) == 1 or (len({x.shape for x in parts}) == 1 and parts[0].ndim > 0)
