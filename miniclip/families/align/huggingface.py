"""transformers' ALIGN for `checkpoints.huggingface`: names, configuration, image settings and vocabulary."""

import dataclasses

from miniclip.config import pair, square
from miniclip.errors import InputError
from miniclip.families import activations, batch_norm, image_settings, names
from miniclip.families.align.config import ALIGNConfig, EfficientNetConfig
from miniclip.families.align.image import own_settings
from miniclip.families.align.tokenizer_files import (  # noqa: F401  for the record
    load_tokenizer,
    save_tokenizer,
    tokenizer_json,
)
from miniclip.families.bert import BertConfig
from miniclip.families.bert_names import BERT, bert, bert_to, table
from miniclip.towers.efficientnet import STEM

MODEL_TYPES = ("align", "align_vision_model", "align_text_model")
EPS = 1e-3  # of BatchNorms, if no file states it
RESIZED = 346 / 289  # the ratio of `resized` to `image_size`, if no file states it
# Settings that transformers' EfficientNetImageProcessor has if a file does not state them.
PREPROCESSOR = {
    "image_processor_type": "EfficientNetImageProcessor",
    "size": {"height": 346, "width": 346},
    "crop_size": {"height": 289, "width": 289},
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "resample": 3,  # Pillow's number for bicubic
    "rescale_factor": 1 / 255,
    **dict.fromkeys(("do_resize", "do_rescale", "do_normalize", "include_top"), True),
    **dict.fromkeys(("do_center_crop", "rescale_offset"), False),
}

_IMAGE_BLOCK = {
    "expand": ("expansion.expand_conv",),
    "depthwise": ("depthwise_conv.depthwise_conv",),
    "squeeze": ("squeeze_excite.reduce",),
    "excite": ("squeeze_excite.expand",),
    "project": ("projection.project_conv",),
}

# Names in transformers, modeling_align.py, after BatchNorms have been folded (`batch_norm`).
NAMES = {
    **names.modules("visual.", "vision_model.embeddings.", {"stem": ("convolution",)}),
    **names.modules("visual.blocks.{}.", "vision_model.encoder.blocks.{}.", _IMAGE_BLOCK),
    **table("text_model."),
    **names.modules("text.", "", {"projection": ("text_projection",)}),
    "temperature": ("temperature",),
}
TABLES = (NAMES,)

# The endings of a convolution's name and of its BatchNorm's name.
BATCH_NORMS = (
    ("convolution", "batchnorm"),
    ("expand_conv", "expand_bn"),
    ("depthwise_conv.depthwise_conv", "depthwise_conv.depthwise_norm"),
    ("project_conv", "project_bn"),
)


def config_from(source, settings=None):
    """The contents of a config.json -> ALIGNConfig; missing values have transformers' defaults (AlignConfig).

    `settings` are the image processor's; they have the sizes of pictures.
    """
    kind, settings = source["model_type"], settings or {}
    if kind == "align_vision_model":
        visual = _vision(source, settings)
        return ALIGNConfig(visual, text=None, embed_dim=visual.width)
    if kind == "align_text_model":
        return ALIGNConfig(visual=None, text=_text(source), embed_dim=None)
    visual, text = (source.get(f"{tower}_config") or {} for tower in ("vision", "text"))
    return ALIGNConfig(_vision(visual, settings), _text(text), source.get("projection_dim", 640))


def _vision(source, settings):
    pictures = read_pictures(settings) if settings else None
    size = pictures.image_size if pictures else square(_sides(source.get("image_size", 600)))
    size = source.get("image_size", 600) if size is None else size
    height, width = pair(size)
    resized = square((round(height * RESIZED), round(width * RESIZED)))
    if pictures and pictures.resize == "squash" and _fits(size, pictures.size):
        resized = pictures.size
    if pictures and pictures.means_the_same(own_settings(size, resized)):
        pictures = None
    out = source.get("out_channels", (16, 24, 40, 80, 112, 192, 320))
    incoming = source.get("in_channels", (32, 16, 24, 40, 80, 112, 192))
    if [*incoming] != [STEM, *out[:-1]]:
        raise InputError(f"in_channels is {incoming}, expected {STEM} and out_channels {out} without the last")
    eps = source.get("batch_norm_eps", EPS)
    if not (isinstance(eps, float) and 0 <= eps <= 1):
        raise InputError(f"batch_norm_eps is {eps!r}, expected a small float")
    if source.get("pooling_type", "mean") != "mean":
        raise InputError(f"pooling_type is {source['pooling_type']!r}, expected mean")
    table = zip(
        source.get("num_block_repeats", (1, 2, 2, 3, 3, 4, 1)),
        out,
        source.get("kernel_sizes", (3, 3, 5, 3, 5, 5, 3)),
        source.get("strides", (1, 2, 2, 2, 1, 2, 1)),
        source.get("expand_ratios", (1, 6, 6, 6, 6, 6, 6)),
        strict=True,
    )
    return EfficientNetConfig(
        image_size=size,
        resized=resized,
        width_coefficient=source.get("width_coefficient", 2.0),
        depth_coefficient=source.get("depth_coefficient", 3.1),
        depth_divisor=source.get("depth_divisor", 8),
        stages=tuple(table),
        squeeze_ratio=source.get("squeeze_expansion_ratio", 0.25),
        square_padding=tuple(source.get("depthwise_padding", ())),
        channels=source.get("num_channels", 3),
        activation=activations.ours(source.get("hidden_act", "swish")),
        pictures=pictures,
    )


def _sides(size):
    return tuple(size) if isinstance(size, list) else size


def _fits(inner, outer):
    return all(a <= b for a, b in zip(pair(inner), pair(outer)))


def read_pictures(settings):
    """The settings of an EfficientNetImageProcessor -> PictureSettings."""
    given = image_settings.given(settings)
    return image_settings.read({**PREPROCESSOR, **given}, default_to_square=True)


def _text(source):
    return BertConfig(**bert({**BERT, **source}))


def config_to(config):
    """ALIGNConfig -> the contents of a config.json; `config_from` is the inverse, with `preprocessor`'s settings."""
    towers = {}
    if config.visual:
        towers["vision_config"] = _vision_to(config.visual)
    if config.text:
        towers["text_config"] = {"model_type": "align_text_model", **bert_to(config.text)}
    if len(towers) == 2:
        return {"model_type": "align", "architectures": ["AlignModel"], "projection_dim": config.embed_dim, **towers}
    (source,) = towers.values()
    return {**source, "architectures": ["AlignVisionModel" if config.visual else "AlignTextModel"]}


described = config_to  # transformers has all towers of this family


def _vision_to(visual):
    repeats, out, kernels, strides, expansions = zip(*visual.stages)
    return {
        "model_type": "align_vision_model",
        "image_size": visual.image_size,
        "num_channels": visual.channels,
        "width_coefficient": visual.width_coefficient,
        "depth_coefficient": visual.depth_coefficient,
        "depth_divisor": visual.depth_divisor,
        "in_channels": [STEM, *out[:-1]],
        "out_channels": out,
        "kernel_sizes": kernels,
        "strides": strides,
        "num_block_repeats": repeats,
        "expand_ratios": expansions,
        "squeeze_expansion_ratio": visual.squeeze_ratio,
        "depthwise_padding": visual.square_padding,
        "hidden_act": activations.theirs(visual.activation),
        "hidden_dim": max(visual.width, *visual.grid),  # in transformers, the side of a pool over the whole grid
        "batch_norm_eps": EPS,
    }


def preprocessor(visual):
    """Settings that make transformers' image processor prepare pictures as this image tower's are."""
    pictures = visual.pictures or own_settings(visual.image_size, visual.resized)
    own = ("rescale_offset", "include_top")
    return {"image_processor_type": PREPROCESSOR["image_processor_type"], **image_settings.write(pictures, own)}


def prepare(tensors, source):
    return batch_norm.fold(tensors, BATCH_NORMS, _eps(source))


def _eps(source):
    return (source.get("vision_config") or source).get("batch_norm_eps", EPS)


def undo(tensors, source):
    tensors = batch_norm.unfold(tensors, BATCH_NORMS, _eps(source))
    if "temperature" in tensors:
        return tensors
    return names.without_tower(tensors)


def fit(config, flat, source):
    """The configuration with `pooler` set by the weights, and the projection of texts alone: config.json may not fit.

    A picture's features need no projection.
    """
    if config.text is None:
        return config
    text = dataclasses.replace(config.text, pooler="text.pooler.weight" in flat)
    projected = config.visual or "text.projection.weight" in flat
    return dataclasses.replace(config, text=text, embed_dim=config.embed_dim if projected else None)
