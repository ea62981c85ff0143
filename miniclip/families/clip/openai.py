"""The names of OpenAI's clip/model.py for CLIP's parameters, which OpenCLIP uses too."""

from miniclip import params
from miniclip.config import ResNetConfig
from miniclip.families import batch_norm, names

_OPENAI_BLOCK = {
    "ln_1": ("ln_1",),
    "attention.out": ("attn.out_proj",),
    "ln_2": ("ln_2",),
    "mlp.fc": ("mlp.c_fc",),
    "mlp.proj": ("mlp.c_proj",),
}


def _openai_blocks(ours, theirs):
    return {
        **names.modules(ours, theirs, _OPENAI_BLOCK),
        f"{ours}attention.qkv.weight": (f"{theirs}attn.in_proj_weight",),
        f"{ours}attention.qkv.bias": (f"{theirs}attn.in_proj_bias",),
    }


# Names in OpenAI's clip/model.py, and in OpenCLIP's model.py, which follows it.
OPENAI = {
    "visual.patch_embed.weight": ("visual.conv1.weight",),
    "visual.patch_embed.class_token": ("visual.class_embedding",),
    "visual.patch_embed.position_embedding": ("visual.positional_embedding",),
    **names.modules("visual.", "visual.", {"ln_pre": ("ln_pre",), "ln_post": ("ln_post",)}),
    **_openai_blocks("visual.blocks.{}.", "visual.transformer.resblocks.{}."),
    "visual.projection.weight": (names.Transposed("visual.proj"),),
    "text.embed.table": ("token_embedding.weight",),
    "text.position_embedding": ("positional_embedding",),
    **_openai_blocks("text.blocks.{}.", "transformer.resblocks.{}."),
    **names.modules("text.", "", {"ln_final": ("ln_final",)}),
    "text.projection.weight": (names.Transposed("text_projection"),),
    "logit_scale": ("logit_scale",),
}

# The same with a ModifiedResNet as image tower, after its BatchNorms have been folded (`batch_norm`). Its stages are
# numbered from 1.
OPENAI_RESNET = {
    **{ours: theirs for ours, theirs in OPENAI.items() if not ours.startswith("visual.")},
    **names.modules("visual.stem.", "visual.conv", {str(i): (f"{i + 1}",) for i in range(3)}),
    **{
        name: theirs
        for stage in range(4)
        for name, theirs in names.modules(
            f"visual.stages.{stage}.{{}}.",
            f"visual.layer{stage + 1}.{{}}.",
            {"conv1": ("conv1",), "conv2": ("conv2",), "conv3": ("conv3",), "downsample": ("downsample.0",)},
        ).items()
    },
    **names.modules(
        "visual.attention_pool.",
        "visual.attnpool.",
        {"q": ("q_proj",), "k": ("k_proj",), "v": ("v_proj",), "out": ("c_proj",)},
    ),
    "visual.attention_pool.position_embedding": ("visual.attnpool.positional_embedding",),
}

# OpenCLIP's CustomTextCLIP has the text tower's names after this.
CUSTOM = "text."
CUSTOM_TEXT = {ours: tuple(CUSTOM + name for name in OPENAI[ours]) for ours in OPENAI if ours.startswith("text.")}

TABLES = (OPENAI, OPENAI_RESNET, CUSTOM_TEXT)

# The endings of a convolution's name and of its BatchNorm's name.
BATCH_NORMS = (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3"), ("downsample.0", "downsample.1"))
EPS = 1e-5  # of BatchNorms: torch's default, which OpenAI's models keep


def rename(tensors):
    """{OpenAI's name: array} -> {our name: array}, with BatchNorms folded into their convolutions; empties `tensors`.

    Raises InputError for BatchNorms that cannot be folded.
    """
    if f"{CUSTOM}token_embedding.weight" in tensors:
        for name in [name for name in tensors if name.startswith(CUSTOM)]:
            tensors[name.removeprefix(CUSTOM)] = tensors.pop(name)
    if "visual.layer1.0.conv1.weight" in tensors:
        return names.rename(batch_norm.fold(tensors, BATCH_NORMS, EPS), OPENAI_RESNET)
    return names.rename(tensors, OPENAI)


def table(config):
    """The names of a model with this configuration."""
    return OPENAI_RESNET if isinstance(config.visual, ResNetConfig) else OPENAI


def restore(config, tree):
    """The inverse of `rename`: a parameter tree -> {OpenAI's name: array}; BatchNorms get the convolutions' biases."""
    tensors = names.restore(params.flatten(tree), table(config))
    return batch_norm.unfold(tensors, BATCH_NORMS, EPS) if isinstance(config.visual, ResNetConfig) else tensors
