"""Derives a configuration from parameter shapes, for files without one; checks what other libraries can express."""

import itertools

from miniclip import params
from miniclip.config import CLIPConfig, ModelConfig, ResNetConfig, TextConfig, VisionConfig
from miniclip.errors import InputError

PROJECTIONS = ("visual.projection.weight", "visual.attention_pool.out.weight", "text.projection.weight")


WIDEST = 1024  # of OpenAI's Vision Transformers. OpenCLIP's ViT-H, g and bigG are wider, with heads of 80, 88 and 104
# The widths of OpenAI's and OpenCLIP's towers whose heads are all 64 wide (open_clip/model_configs).
IMAGE_TOWERS, RESNETS = (384, 512, 768, 896, 1024), (64, 80, 96, 128)
TEXT_TOWERS = (256, 384, 512, 640, 768, 1024, 1280)

NOT_COMPARED = (".antialias", ".library")  # fields that equal configurations may have different


def check_kept(config: ModelConfig, kept: ModelConfig, library: str):
    """Raise InputError that lists the differences if `kept`, which `library` would make of `config`, is not equal."""
    if kept == config:
        return
    ours, theirs = params.flatten(config.to_dict()), params.flatten(kept.to_dict())
    lost = [name for name in ours | theirs if ours.get(name) != theirs.get(name) and not name.endswith(NOT_COMPARED)]
    lost = [f"{name} {ours.get(name)}, not {theirs.get(name)}" for name in lost]
    raise InputError(f"{library} cannot express that this model has {'; '.join(lost)}")


def infer_config(shapes: dict[str, tuple[int, ...]]) -> CLIPConfig:
    """The configuration of a model from its parameters' shapes: {flat name: shape} -> CLIPConfig.

    Widths, depths, patch size and image size follow from the shapes. The rest is as in OpenAI's models (clip/model.py,
    build_model): one head per 64 channels, activation, eps, the end-of-text rule. Raises InputError if the parameters
    are not a CLIP's, or if the image tower is wider than OpenAI's widest: such towers have heads of other widths.
    """
    shapes = {name: tuple(shape) for name, shape in shapes.items()}
    visual = text = None
    try:
        if any(name.startswith("visual.stem.") for name in shapes):
            visual = _resnet(shapes)
        elif any(name.startswith("visual.") for name in shapes):
            D, C, P, _ = _sides(shapes, "visual.patch_embed.weight", 4)
            T, _ = _sides(shapes, "visual.patch_embed.position_embedding", 2)
            if D > WIDEST:
                raise ValueError(_no_heads("image", D))
            visual = VisionConfig(
                image_size=round((T - 1) ** 0.5) * P, patch_size=P, channels=C, **_transformer(shapes, "visual.", D)
            )
        if any(name.startswith("text.") for name in shapes):
            V, D = _sides(shapes, "text.embed.table", 2)
            T, _ = _sides(shapes, "text.position_embedding", 2)
            text = TextConfig(context_length=T, vocab_size=V, **_transformer(shapes, "text.", D))
        if visual is text is None:
            raise KeyError("visual.patch_embed.weight")
        projections = [_sides(shapes, name, 2)[0] for name in PROJECTIONS if name in shapes]
    except KeyError as error:
        raise InputError(f"not the parameters of a CLIP: there is no {error}") from error
    except (ValueError, TypeError) as error:  # the shapes are not a CLIP's
        raise InputError(f"not the parameters of a CLIP: {error}") from error
    return CLIPConfig(visual=visual, text=text, embed_dim=projections[0] if projections else None)


def check_heads(config: CLIPConfig):
    """Raise InputError if a tower's heads need not be 64 wide: if no tower of OpenAI's or OpenCLIP's has its width."""
    known = {"image": RESNETS if isinstance(config.visual, ResNetConfig) else IMAGE_TOWERS, "text": TEXT_TOWERS}
    for (name, widths), tower in zip(known.items(), (config.visual, config.text)):
        if tower and tower.width not in widths:
            raise InputError(_no_heads(name, tower.width))


def _no_heads(tower, width):
    return (
        f"its {tower} tower is {width} wide, and only a configuration says how many heads it has: put the model's "
        f"config.json (transformers) or open_clip_config.json beside the file"
    )


def _sides(shapes, name, count):
    if len(shapes[name]) != count:
        raise ValueError(f"{name} has shape {shapes[name]}, expected {count} dimensions")
    return shapes[name]


def _resnet(shapes):
    _, C, _, _ = _sides(shapes, "visual.stem.0.weight", 4)
    W, _, _, _ = _sides(shapes, "visual.stages.0.0.conv1.weight", 4)
    T, _ = _sides(shapes, "visual.attention_pool.position_embedding", 2)
    layers = tuple(_count(shapes, f"visual.stages.{s}.{{}}.conv1.weight") for s in range(4))
    return ResNetConfig(round((T - 1) ** 0.5) * 32, W, layers, heads=max(1, 32 * W // 64), channels=C)


def _count(shapes, name):
    """How many names exist if "{}" is replaced by 0, 1, 2 ..."""
    return next(i for i in itertools.count() if name.format(i) not in shapes)


def _transformer(shapes, prefix, width):
    layers = _count(shapes, prefix + "blocks.{}.mlp.fc.weight")
    mlp_width, _ = _sides(shapes, f"{prefix}blocks.0.mlp.fc.weight", 2)
    return {"width": width, "layers": layers, "heads": max(1, width // 64), "mlp_width": mlp_width}
