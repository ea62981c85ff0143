"""Other libraries' names for CLIP's and ALIGN's parameters: one table a source, from our flat names to theirs.

"{}" stands for a block's number. Where ours packs what theirs keeps apart, the value has several names, joined along
the first axis in that order.
"""

import re

import numpy as np


def _modules(ours, theirs, modules):
    """Weights and biases of `modules`, {our name: their names}, below the prefixes `ours` and `theirs`."""
    return {
        f"{ours}{module}.{kind}": tuple(f"{theirs}{name}.{kind}" for name in names)
        for module, names in modules.items()
        for kind in ("weight", "bias")
    }


_HUGGING_FACE_BLOCK = {
    "ln_1": ("layer_norm1",),
    "attention.qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attention.out": ("self_attn.out_proj",),
    "ln_2": ("layer_norm2",),
    "mlp.fc": ("mlp.fc1",),
    "mlp.proj": ("mlp.fc2",),
}

# transformers, modeling_clip.py. "pre_layrnorm" is their spelling.
HUGGING_FACE = {
    "visual.patch_embed.weight": ("vision_model.embeddings.patch_embedding.weight",),
    "visual.patch_embed.class_token": ("vision_model.embeddings.class_embedding",),
    "visual.patch_embed.position_embedding": ("vision_model.embeddings.position_embedding.weight",),
    **_modules("visual.", "vision_model.", {"ln_pre": ("pre_layrnorm",), "ln_post": ("post_layernorm",)}),
    **_modules("visual.blocks.{}.", "vision_model.encoder.layers.{}.", _HUGGING_FACE_BLOCK),
    "visual.projection.weight": ("visual_projection.weight",),
    "text.embed.table": ("text_model.embeddings.token_embedding.weight",),
    "text.position_embedding": ("text_model.embeddings.position_embedding.weight",),
    **_modules("text.blocks.{}.", "text_model.encoder.layers.{}.", _HUGGING_FACE_BLOCK),
    **_modules("text.", "text_model.", {"ln_final": ("final_layer_norm",)}),
    "text.projection.weight": ("text_projection.weight",),
    "logit_scale": ("logit_scale",),
}

_OPENAI_BLOCK = {
    "ln_1": ("ln_1",),
    "attention.out": ("attn.out_proj",),
    "ln_2": ("ln_2",),
    "mlp.fc": ("mlp.c_fc",),
    "mlp.proj": ("mlp.c_proj",),
}


def _openai_blocks(ours, theirs):
    return {
        **_modules(ours, theirs, _OPENAI_BLOCK),
        f"{ours}attention.qkv.weight": (f"{theirs}attn.in_proj_weight",),
        f"{ours}attention.qkv.bias": (f"{theirs}attn.in_proj_bias",),
    }


# OpenAI's clip/model.py, and OpenCLIP's model.py after it. BatchNorms have been folded (`batch_norm`).
OPENAI = {
    "visual.patch_embed.weight": ("visual.conv1.weight",),
    "visual.patch_embed.class_token": ("visual.class_embedding",),
    "visual.patch_embed.position_embedding": ("visual.positional_embedding",),
    **_modules("visual.", "visual.", {"ln_pre": ("ln_pre",), "ln_post": ("ln_post",)}),
    **_openai_blocks("visual.blocks.{}.", "visual.transformer.resblocks.{}."),
    "visual.projection.weight": ("visual.proj",),
    "text.embed.table": ("token_embedding.weight",),
    "text.position_embedding": ("positional_embedding",),
    **_openai_blocks("text.blocks.{}.", "transformer.resblocks.{}."),
    **_modules("text.", "", {"ln_final": ("ln_final",)}),
    "text.projection.weight": ("text_projection",),
    "logit_scale": ("logit_scale",),
}

# The same, but for an image tower that is a ModifiedResNet: its stages are numbered from 1.
OPENAI_RESNET = {
    **{ours: theirs for ours, theirs in OPENAI.items() if not ours.startswith("visual.")},
    **_modules("visual.stem.", "visual.conv", {str(i): (f"{i + 1}",) for i in range(3)}),
    **{
        name: theirs
        for stage in range(4)
        for name, theirs in _modules(
            f"visual.stages.{stage}.{{}}.",
            f"visual.layer{stage + 1}.{{}}.",
            {"conv1": ("conv1",), "conv2": ("conv2",), "conv3": ("conv3",), "downsample": ("downsample.0",)},
        ).items()
    },
    **_modules(
        "visual.attention_pool.",
        "visual.attnpool.",
        {"q": ("q_proj",), "k": ("k_proj",), "v": ("v_proj",), "out": ("c_proj",)},
    ),
    "visual.attention_pool.position_embedding": ("visual.attnpool.positional_embedding",),
}

_ALIGN_TEXT_BLOCK = {
    "attention.qkv": ("attention.self.query", "attention.self.key", "attention.self.value"),
    "attention.out": ("attention.output.dense",),
    "ln_1": ("attention.output.LayerNorm",),
    "mlp.fc": ("intermediate.dense",),
    "mlp.proj": ("output.dense",),
    "ln_2": ("output.LayerNorm",),
}
_ALIGN_IMAGE_BLOCK = {
    "expand": ("expansion.expand_conv",),
    "depthwise": ("depthwise_conv.depthwise_conv",),
    "squeeze": ("squeeze_excite.reduce",),
    "excite": ("squeeze_excite.expand",),
    "project": ("projection.project_conv",),
}

# transformers, modeling_align.py. BatchNorms have been folded (`batch_norm`).
ALIGN = {
    **_modules("visual.", "vision_model.embeddings.", {"stem": ("convolution",)}),
    **_modules("visual.blocks.{}.", "vision_model.encoder.blocks.{}.", _ALIGN_IMAGE_BLOCK),
    "text.embed.table": ("text_model.embeddings.word_embeddings.weight",),
    "text.position_embedding": ("text_model.embeddings.position_embeddings.weight",),
    "text.type_embedding": ("text_model.embeddings.token_type_embeddings.weight",),
    **_modules("text.", "text_model.embeddings.", {"ln_embed": ("LayerNorm",)}),
    **_modules("text.blocks.{}.", "text_model.encoder.layer.{}.", _ALIGN_TEXT_BLOCK),
    **_modules("text.", "text_model.", {"pooler": ("pooler.dense",)}),
    **_modules("text.", "", {"projection": ("text_projection",)}),
    "temperature": ("temperature",),
}

# Kept there as (in, out), to be multiplied from the right.
TRANSPOSED = ("visual.proj", "text_projection")

# Stored, but no parameters: numbers 0, 1, 2 ... in older versions of transformers, masks, counters of the training.
BUFFERS = ("embeddings.position_ids", "embeddings.token_type_ids", "attn_mask", "num_batches_tracked")


NUMBERS = re.compile(r"\.(\d+)(?=\.)")  # the second dot may belong to the next number


def rename(tensors, table):
    """{their name: array} -> {our name: array}; names that the table does not know stay as they are.

    What is renamed is taken out of `tensors`. Arrays are handed on, not copied, but for those that are joined; what
    cannot be joined stays as it is, too.
    """
    blocks = {number for name in tensors for number in NUMBERS.findall(name)}
    renamed = {}
    for ours, theirs in table.items():
        for block in blocks if "{}" in ours else [""]:
            names = [source.format(block) for source in theirs]
            parts = [tensors[name] for name in names if name in tensors]
            if len(parts) == len(names) and _can_be_joined(parts):
                x = parts[0] if len(parts) == 1 else np.concatenate(parts)
                renamed[ours.format(block)] = x.T if theirs[0] in TRANSPOSED else x
                for name in names:
                    del tensors[name]
    return renamed | {name: x for name, x in tensors.items() if not name.endswith(BUFFERS)}


def _can_be_joined(parts):
    return len(parts) == 1 or (len({x.shape for x in parts}) == 1 and parts[0].ndim > 0)


def restore(flat, table):
    """The inverse of `rename`: {our name: array} -> {their name: array}, in the table's order."""
    blocks = sorted({int(number) for name in flat for number in NUMBERS.findall(name)})
    restored = {}
    for ours, theirs in table.items():
        for block in blocks if "{}" in ours else [""]:
            x = flat.get(ours.format(block))
            if x is not None:
                parts = np.split(x, len(theirs)) if len(theirs) > 1 else [x.T if theirs[0] in TRANSPOSED else x]
                restored |= {name.format(block): part for name, part in zip(theirs, parts)}
    return restored
