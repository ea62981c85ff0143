"""OpenCLIP's directories: open_clip_config.json beside weights under OpenAI's names (open_clip/factory.py)."""

import json

from miniclip.checkpoints import openai, safetensors
from miniclip.checkpoints.readers import read_json
from miniclip.config import CLIPConfig, ResNetConfig, TextConfig, VisionConfig, check_kept, square
from miniclip.errors import InputError
from miniclip.files import atomic_directory, write_atomically
from miniclip.image import MEAN, STD

CONFIG = "open_clip_config.json"
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
# Settings that leave what the model computes as it is, and what others must be if they are there and say anything.
IDLE = {"patch_dropout", "output_tokens", "pad_id", "eos_id", "patch_size", "attn_pooler_queries", "attn_pooler_heads"}
ONLY = {"pos_embed_type": "learnable", "proj_type": "linear"}
PREPROCESSING = {"mode": "RGB", "mean": [*MEAN], "std": [*STD], "interpolation": "bicubic", "resize_mode": "shortest"}


def find(directory):
    """The file of weights in an OpenCLIP directory, or None where there is none or no configuration."""
    files = [directory / name for name in WEIGHTS if (directory / name).exists()]
    return files[0] if files and (directory / CONFIG).exists() else None


def load(file, tensors):
    """{name: array} of a file beside its open_clip_config.json -> (config, {our flat name: array}); empties `tensors`.

    Raises InputError naming the file that is damaged, or what of it is not CLIP's.
    """
    path = file.parent / CONFIG
    source = read_json(path)
    try:
        config = config_from(source["model_cfg"])
        _expect(source.get("preprocess_cfg", {}), set(), {**PREPROCESSING, "fill_color": 0, "size": None})
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:  # InputError is a ValueError
        raise InputError(f"{path}: not the configuration of a CLIP model: {error}") from error
    return config, openai.rename(tensors, file)


def config_from(source):
    """OpenCLIP's model_cfg -> CLIPConfig; what it leaves out has OpenCLIP's default (open_clip/model.py)."""
    _expect(source, {"embed_dim", "quick_gelu", "vision_cfg", "text_cfg"})
    activation = "quick_gelu" if source.get("quick_gelu") else "gelu"
    return CLIPConfig(
        visual=_vision(source["vision_cfg"], activation),
        text=_text(source["text_cfg"], activation),
        embed_dim=source["embed_dim"],
    )


def _vision(source, activation):
    _expect(source, {"layers", "width", "head_width", "mlp_ratio", "image_size"}, {**ONLY, "pool_type": "tok"})
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
        activation=activation,
    )


def _text(source, activation):
    known = {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"}
    _expect(source, known, {**ONLY, "pool_type": "argmax"})
    width = source.get("width", 512)
    return TextConfig(
        context_length=source.get("context_length", 77),
        vocab_size=source.get("vocab_size", 49408),
        width=width,
        layers=source.get("layers", 12),
        heads=source.get("heads", 8),
        mlp_width=int(width * source.get("mlp_ratio", 4.0)),
        activation=activation,
    )


def _expect(source, known, only=None):
    """InputError for settings that are neither `known`, nor idle, nor what `only` says they must be, nor off."""
    for name, value in source.items():
        if name not in known | IDLE and value and value != (only or {}).get(name):
            raise InputError(f"miniclip does not know its setting {name} = {value!r}")


def save(directory, config, tree, tokenizer=None):
    """Write what OpenCLIP loads by the name local-dir:DIRECTORY; the inverse of `load`. It has the official vocabulary.

    Raises InputError for what it has no setting for, and where the directory exists.
    """
    source = config_to(config)
    check_kept(openai.with_highest_id(config), config_from(json.loads(json.dumps(source))), "OpenCLIP")
    with atomic_directory(directory) as temporary:
        safetensors.write(temporary / WEIGHTS[0], openai.restore(config, tree), {"format": "pt"})
        content = {"model_cfg": source, "preprocess_cfg": PREPROCESSING}
        write_atomically(temporary / CONFIG, json.dumps(content, indent=2).encode())


def config_to(config):
    """CLIPConfig -> OpenCLIP's model_cfg; the inverse of `config_from` where it has one."""
    visual, text = config.visual, config.text
    openai.check_whole(config, "OpenCLIP")
    source = {"image_size": visual.image_size, "layers": visual.layers, "width": visual.width}
    if isinstance(visual, ResNetConfig):
        source["head_width"] = visual.width * 32 // visual.heads
    else:
        source["head_width"] = visual.width // visual.heads
        source |= {"mlp_ratio": _mlp_ratio(visual), "patch_size": visual.patch_size}
    names = ("context_length", "vocab_size", "width", "heads", "layers")
    return {
        "embed_dim": config.embed_dim,
        "quick_gelu": text.activation == "quick_gelu",
        "vision_cfg": source,
        "text_cfg": {**{name: getattr(text, name) for name in names}, "mlp_ratio": _mlp_ratio(text)},
    }


def _mlp_ratio(tower):
    """What times the width, truncated, is the MLP's width: their quotient, but where that falls short by rounding."""
    ratio = tower.mlp_width / tower.width
    return ratio if int(tower.width * ratio) == tower.mlp_width else (tower.mlp_width + 0.5) / tower.width
