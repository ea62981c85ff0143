"""What distinguishes one CLIP from another: frozen dataclasses, and how to read them off parameter shapes."""

import dataclasses
from dataclasses import dataclass

from miniclip.errors import InputError
from miniclip.ops.numpy_ops import ACTIVATIONS
from miniclip.towers import text, vit


@dataclass(frozen=True)
class VisionConfig:
    """A Vision Transformer. Sizes in pixels: `image_size` of the square picture, `patch_size` of the square patch."""

    image_size: int
    patch_size: int
    width: int
    layers: int
    heads: int
    mlp_width: int
    channels: int = 3
    activation: str = "quick_gelu"
    eps: float = 1e-5

    def __post_init__(self):
        _check(self)
        if self.patch_size > self.image_size:
            raise InputError(f"patches of {self.patch_size} pixels do not fit a picture of {self.image_size}")

    @property
    def grid(self) -> int:
        """Patches along one side; any rest of the picture is not seen (a convolution without padding)."""
        return self.image_size // self.patch_size


@dataclass(frozen=True)
class TextConfig:
    """A causal text transformer. `eot_token_id` None: the end of a text is its highest id, OpenAI's rule."""

    context_length: int
    vocab_size: int
    width: int
    layers: int
    heads: int
    mlp_width: int
    activation: str = "quick_gelu"
    eps: float = 1e-5
    eot_token_id: int | None = None

    def __post_init__(self):
        _check(self)
        end = self.eot_token_id
        if end is not None and not (type(end) is int and 0 <= end < self.vocab_size):
            raise InputError(f"eot_token_id is {end!r}, expected None or an id below {self.vocab_size}")


def _check(config):
    """InputError for values that no transformer can have."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.type is int and not (type(value) is int and 0 < value < 1 << 31):
            raise InputError(f"{field.name} is {value!r}, expected a positive integer")
    if config.layers > 1000:
        raise InputError(f"layers is {config.layers}, expected at most 1000")
    if not (isinstance(config.eps, float) and 0 <= config.eps < 1):
        raise InputError(f"eps is {config.eps!r}, expected a small float")
    if config.width % config.heads:
        raise InputError(f"width {config.width} cannot be shared by {config.heads} heads")
    if config.activation not in ACTIVATIONS:
        raise InputError(f"activation is {config.activation!r}, expected one of {', '.join(ACTIVATIONS)}")


@dataclass(frozen=True)
class CLIPConfig:
    """Two towers and the width of the space they share; a tower alone leaves the other None.

    `embed_dim` None: no projection, features have their tower's own width.
    """

    visual: VisionConfig | None
    text: TextConfig | None
    embed_dim: int | None

    def shapes(self) -> dict:
        """The model's parameter tree with shapes for leaves."""
        tree = {}
        if self.visual:
            tree["visual"] = vit.shapes(self.visual, self.embed_dim)
        if self.text:
            tree["text"] = text.shapes(self.text, self.embed_dim)
        if self.visual and self.text:
            tree["logit_scale"] = ()
        return tree

    def to_dict(self) -> dict:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> "CLIPConfig":
        """The inverse of `to_dict`; InputError for fields that are unknown or missing."""
        try:
            visual, text = values["visual"], values["text"]
            return cls(
                visual=visual and VisionConfig(**visual),
                text=text and TextConfig(**text),
                embed_dim=values["embed_dim"],
            )
        except (KeyError, TypeError) as error:
            raise InputError(f"not a miniclip configuration: {error}") from error


def _openai_vit(patch_size, width, layers, text_width, embed_dim, image_size=224):
    vision = VisionConfig(image_size, patch_size, width, layers, heads=width // 64, mlp_width=4 * width)
    text = TextConfig(77, 49408, text_width, 12, heads=text_width // 64, mlp_width=4 * text_width)
    return CLIPConfig(vision, text, embed_dim)


# What the official checkpoints hold (CLIP, table 20).
PRESETS = {
    "ViT-B/32": _openai_vit(32, 768, 12, text_width=512, embed_dim=512),
    "ViT-B/16": _openai_vit(16, 768, 12, text_width=512, embed_dim=512),
    "ViT-L/14": _openai_vit(14, 1024, 24, text_width=768, embed_dim=768),
    "ViT-L/14@336px": _openai_vit(14, 1024, 24, text_width=768, embed_dim=768, image_size=336),
}


PROJECTIONS = ("visual.projection.weight", "text.projection.weight")


def infer_config(shapes: dict[str, tuple[int, ...]]) -> CLIPConfig:
    """The configuration behind a model's parameters: {flat name: shape} -> CLIPConfig.

    Widths, depths, patch and picture size are read off the shapes; heads are one per 64 of the width, activation,
    eps and the end-of-text rule OpenAI's, which no shape tells (clip/model.py, build_model).
    """
    shapes = {name: tuple(shape) for name, shape in shapes.items()}
    visual = text = None
    try:
        if any(name.startswith("visual.") for name in shapes):
            D, C, P, _ = shapes["visual.patch_embed.weight"]
            T, _ = shapes["visual.patch_embed.position_embedding"]
            visual = VisionConfig(
                image_size=round((T - 1) ** 0.5) * P, patch_size=P, channels=C, **_transformer(shapes, "visual.", D)
            )
        if any(name.startswith("text.") for name in shapes):
            V, D = shapes["text.embed.table"]
            T, _ = shapes["text.position_embedding"]
            text = TextConfig(context_length=T, vocab_size=V, **_transformer(shapes, "text.", D))
        if visual is text is None:
            raise KeyError("visual.patch_embed.weight")
        projections = [shapes[name][0] for name in PROJECTIONS if name in shapes]
    except KeyError as error:
        raise InputError(f"not the parameters of a CLIP: there is no {error}") from error
    except (ValueError, TypeError, IndexError) as error:  # shapes with other sides than a CLIP's
        raise InputError(f"not the parameters of a CLIP: {error}") from error
    return CLIPConfig(visual=visual, text=text, embed_dim=projections[0] if projections else None)


def _transformer(shapes, prefix, width):
    layers = 0
    while f"{prefix}blocks.{layers}.mlp.fc.weight" in shapes:
        layers += 1
    mlp_width = shapes[f"{prefix}blocks.0.mlp.fc.weight"][0]
    return {"width": width, "layers": layers, "heads": max(1, width // 64), "mlp_width": mlp_width}
