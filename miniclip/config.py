"""What distinguishes one CLIP or ALIGN from another: frozen dataclasses, and how to read them off parameter shapes."""

import dataclasses
import itertools
from dataclasses import dataclass
from types import ModuleType
from typing import ClassVar

from miniclip import params
from miniclip.errors import InputError
from miniclip.ops.numpy_ops import ACTIVATIONS
from miniclip.towers import bert, efficientnet, resnet, text, vit


def pair(size: int | tuple[int, int]) -> tuple[int, int]:
    """(height, width) of a size that is both, or one number for a square."""
    return size if isinstance(size, tuple) else (size, size)


def square(size: int | tuple[int, int]) -> int | tuple[int, int]:
    """A size as configurations have it: one number where height and width are the same."""
    return size[0] if isinstance(size, tuple) and len(size) == 2 and size[0] == size[1] else size


@dataclass(frozen=True)
class VisionConfig:
    """A Vision Transformer. In pixels: `image_size`, (height, width) or a square's side, and a patch's `patch_size`."""

    image_size: int | tuple[int, int]
    patch_size: int
    width: int
    layers: int
    heads: int
    mlp_width: int
    channels: int = 3
    activation: str = "quick_gelu"
    eps: float = 1e-5

    tower: ClassVar[ModuleType] = vit

    def __post_init__(self):
        _check_transformer(self)
        _check_image_size(self.image_size)
        if 0 in self.grid:
            raise InputError(f"patches of {self.patch_size} pixels do not fit a picture of {self.image_size}")

    @property
    def grid(self) -> tuple[int, int]:
        """Patches (down, across); any rest of the picture is not seen (a convolution without padding)."""
        height, width = pair(self.image_size)
        return height // self.patch_size, width // self.patch_size


@dataclass(frozen=True)
class ResNetConfig:
    """OpenAI's ModifiedResNet: `layers` blocks in each of its 4 stages, `width` channels before the first.

    `image_size` in pixels, (height, width) or a square's side; heads are those of the attention that pools.
    """

    image_size: int | tuple[int, int]
    width: int
    layers: tuple[int, int, int, int]
    heads: int
    channels: int = 3

    tower: ClassVar[ModuleType] = resnet

    def __post_init__(self):
        _check_integers(self)
        _check_image_size(self.image_size)
        if any(n % 32 for n in pair(self.image_size)):
            raise InputError(
                f"image_size is {self.image_size!r}, expected multiples of 32: a ResNet halves a picture five times"
            )
        counts = self.layers if isinstance(self.layers, tuple) else ()
        if len(counts) != 4 or not all(type(n) is int and 0 < n <= 1000 for n in counts):
            raise InputError(f"layers is {self.layers!r}, expected the numbers of blocks in 4 stages")
        if self.width % 2:
            raise InputError(f"width is {self.width}, expected an even number: the stem begins with half of it")
        if 32 * self.width % self.heads:
            raise InputError(f"width {32 * self.width} of the last grid cannot be shared by {self.heads} heads")

    @property
    def grid(self) -> tuple[int, int]:
        """Cells (down, across) of the last grid, the one that attention pools."""
        height, width = pair(self.image_size)
        return height // 32, width // 32


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

    tower: ClassVar[ModuleType] = text

    def __post_init__(self):
        _check_transformer(self)
        end = self.eot_token_id
        if end is not None and not (type(end) is int and 0 <= end < self.vocab_size):
            raise InputError(f"eot_token_id is {end!r}, expected None or an id below {self.vocab_size}")


# Blocks, channels behind them, kernel, stride and expansion of each stage of the smallest EfficientNet (table 1).
EFFICIENTNET_B0 = (
    (1, 16, 3, 1, 1),
    (2, 24, 3, 2, 6),
    (2, 40, 5, 2, 6),
    (3, 80, 3, 2, 6),
    (3, 112, 5, 1, 6),
    (4, 192, 5, 2, 6),
    (1, 320, 3, 1, 6),
)


@dataclass(frozen=True)
class EfficientNetConfig:
    """An EfficientNet: the `stages` of a small one, scaled in width and depth.

    In pixels: `image_size`, (height, width) or a square's side, is the middle of what pictures are resized to,
    `resized`. Channels are rounded to multiples of `depth_divisor`; squeezing leaves `squeeze_ratio` of a block's
    channels. Blocks, counted from 0, whose stride is 2 are padded above and left by one cell less than below and right,
    but for those in `square_padding`.
    """

    image_size: int | tuple[int, int]
    resized: int | tuple[int, int]
    width_coefficient: float
    depth_coefficient: float
    depth_divisor: int = 8
    stages: tuple[tuple[int, int, int, int, int], ...] = EFFICIENTNET_B0
    squeeze_ratio: float = 0.25
    square_padding: tuple[int, ...] = ()
    channels: int = 3
    activation: str = "silu"

    tower: ClassVar[ModuleType] = efficientnet

    def __post_init__(self):
        _check_integers(self)
        _check_activation(self)
        _check_image_size(self.image_size)
        _check_image_size(self.resized)
        if any(inner > outer for inner, outer in zip(pair(self.image_size), pair(self.resized))):
            raise InputError(f"image_size is {self.image_size!r}, more than pictures are resized to, {self.resized!r}")
        for name, most in (("width_coefficient", 100), ("depth_coefficient", 100), ("squeeze_ratio", 1)):
            value = getattr(self, name)
            if not (type(value) in (int, float) and 0 < value <= most):
                raise InputError(f"{name} is {value!r}, expected a number above 0 and up to {most}")
        if not self.stages or not all(_is_stage(stage) for stage in self.stages):
            raise InputError(
                f"stages is {self.stages!r}, expected for each its blocks, channels, kernel (odd), stride (1 or 2) and "
                f"expansion"
            )
        blocks = sum(efficientnet.depths(self))
        if blocks > 1000:
            raise InputError(f"depth_coefficient and stages make {blocks:,} blocks, expected at most 1000")
        if len(self.square_padding) > blocks or not all(type(block) is int for block in self.square_padding):
            raise InputError(f"square_padding is {self.square_padding!r}, expected numbers of blocks")
        if 0 in self.grid:
            raise InputError(f"image_size is {self.image_size!r}, too small for the strides of this network")

    @property
    def grid(self) -> tuple[int, int]:
        """Cells (down, across) of the last grid, of which the feature is the mean."""
        return tuple(efficientnet.grid(self, size) for size in pair(self.image_size))

    @property
    def width(self) -> int:
        """The width of the features."""
        return efficientnet.layout(self)[-1].O


def _is_stage(stage):
    if not (isinstance(stage, tuple) and len(stage) == 5 and all(type(n) is int and 0 < n < 1 << 16 for n in stage)):
        return False
    repeats, _, kernel, stride, expansion = stage
    return repeats <= 100 and kernel % 2 == 1 and stride <= 2 and expansion <= 100


@dataclass(frozen=True)
class BertConfig:
    """BERT: a transformer whose tokens see each other both ways, but not `pad_token_id` behind a text's end.

    Two texts in a row would have different `token_types`. `pooler`: whether there is one, which no feature depends on.
    """

    context_length: int
    vocab_size: int
    width: int
    layers: int
    heads: int
    mlp_width: int
    token_types: int = 2
    pooler: bool = True
    pad_token_id: int = 0
    activation: str = "gelu"
    eps: float = 1e-12

    tower: ClassVar[ModuleType] = bert

    def __post_init__(self):
        _check_transformer(self, but=("pad_token_id",))
        if not (type(self.pad_token_id) is int and 0 <= self.pad_token_id < self.vocab_size):
            raise InputError(f"pad_token_id is {self.pad_token_id!r}, expected an id below {self.vocab_size}")


def _check_integers(config, but=()):
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.type is int and field.name not in but and not (type(value) is int and 0 < value < 1 << 31):
            raise InputError(f"{field.name} is {value!r}, expected a positive integer")


def _check_activation(config):
    if config.activation not in ACTIVATIONS:
        raise InputError(f"activation is {config.activation!r}, expected one of {', '.join(ACTIVATIONS)}")


def _check_transformer(config, but=()):
    """InputError for values that no transformer can have."""
    _check_integers(config, but)
    _check_activation(config)
    if config.layers > 1000:
        raise InputError(f"layers is {config.layers}, expected at most 1000")
    if not (isinstance(config.eps, float) and 0 <= config.eps < 1):
        raise InputError(f"eps is {config.eps!r}, expected a small float")
    if config.width % config.heads:
        raise InputError(f"width {config.width} cannot be shared by {config.heads} heads")


def _check_image_size(size):
    if not ((isinstance(size, tuple) and len(size) == 2) or type(size) is int):
        raise InputError(f"image_size is {size!r}, expected a number of pixels or (height, width)")
    if not all(type(n) is int and 0 < n < 1 << 16 for n in pair(size)):
        raise InputError(f"image_size is {size!r}, expected positive integers")


@dataclass(frozen=True)
class CLIPConfig:
    """Two towers and the width of the space they share; a tower alone leaves the other None.

    `embed_dim` None: no projection, features have their tower's own width.
    """

    visual: VisionConfig | ResNetConfig | None
    text: TextConfig | None
    embed_dim: int | None

    scale: ClassVar[str] = "logit_scale"  # the one parameter beside the towers

    def shapes(self) -> dict:
        """The model's parameter tree with shapes for leaves."""
        tree = {}
        if self.visual:
            tree["visual"] = self.visual.tower.shapes(self.visual, self.embed_dim)
        if self.text:
            tree["text"] = self.text.tower.shapes(self.text, self.embed_dim)
        if self.visual and self.text:
            tree[self.scale] = ()
        return tree

    def to_dict(self) -> dict:
        return dataclasses.asdict(self)

    @staticmethod
    def from_dict(values: dict) -> "CLIPConfig":
        """The inverse of `to_dict`, an ALIGNConfig where its towers are; InputError for unknown or missing fields."""
        try:
            visual, text = values["visual"], values["text"]
            visual = visual and _tower(
                EfficientNetConfig if "stages" in visual
                else ResNetConfig if isinstance(visual["layers"], (list, tuple))
                else VisionConfig,
                visual,
            )  # fmt: skip
            text = text and _tower(BertConfig if "token_types" in text else TextConfig, text)
            kind = ALIGNConfig if isinstance(visual or text, (EfficientNetConfig, BertConfig)) else CLIPConfig
            return kind(visual, text, values["embed_dim"])
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"not a miniclip configuration: {error}") from error


@dataclass(frozen=True)
class ALIGNConfig(CLIPConfig):
    """The same for ALIGN, whose pictures have no projection: `embed_dim` is that of the texts, to the same width."""

    visual: EfficientNetConfig | None
    text: BertConfig | None

    scale: ClassVar[str] = "temperature"

    def __post_init__(self):
        if self.visual and self.embed_dim != self.visual.width:
            raise InputError(
                f"embed_dim is {self.embed_dim!r}, but the image tower's features are {self.visual.width} wide"
            )


def _tower(kind, values):
    """A tower's configuration out of JSON, where tuples have become lists."""
    return kind(**{name: _tuples(value) for name, value in values.items()})


def _tuples(value):
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _openai_vit(patch_size, width, layers, text_width, embed_dim, image_size=224):
    vision = VisionConfig(image_size, patch_size, width, layers, heads=width // 64, mlp_width=4 * width)
    return CLIPConfig(vision, _openai_text(text_width), embed_dim)


def _openai_resnet(layers, width, image_size, text_width, embed_dim):
    vision = ResNetConfig(image_size, width, layers, heads=32 * width // 64)
    return CLIPConfig(vision, _openai_text(text_width), embed_dim)


def _openai_text(width):
    return TextConfig(77, 49408, width, 12, heads=width // 64, mlp_width=4 * width)


# What OpenAI's checkpoints hold (CLIP, tables 19 and 20).
PRESETS = {
    "ViT-B/32": _openai_vit(32, 768, 12, text_width=512, embed_dim=512),
    "ViT-B/16": _openai_vit(16, 768, 12, text_width=512, embed_dim=512),
    "ViT-L/14": _openai_vit(14, 1024, 24, text_width=768, embed_dim=768),
    "ViT-L/14@336px": _openai_vit(14, 1024, 24, text_width=768, embed_dim=768, image_size=336),
    "RN50": _openai_resnet((3, 4, 6, 3), 64, image_size=224, text_width=512, embed_dim=1024),
    "RN101": _openai_resnet((3, 4, 23, 3), 64, image_size=224, text_width=512, embed_dim=512),
    "RN50x4": _openai_resnet((4, 6, 10, 6), 80, image_size=288, text_width=640, embed_dim=640),
    "RN50x16": _openai_resnet((6, 8, 18, 8), 96, image_size=384, text_width=768, embed_dim=768),
    "RN50x64": _openai_resnet((3, 15, 36, 10), 128, image_size=448, text_width=1024, embed_dim=1024),
}


# kakaobrain/align-base, whose image tower is an EfficientNet-B7.
ALIGN_BASE = ALIGNConfig(
    EfficientNetConfig(289, resized=346, width_coefficient=2.0, depth_coefficient=3.1),
    BertConfig(context_length=512, vocab_size=30522, width=768, layers=12, heads=12, mlp_width=3072),
    embed_dim=640,
)


PROJECTIONS = ("visual.projection.weight", "visual.attention_pool.out.weight", "text.projection.weight")


WIDEST = 1024  # of OpenAI's Vision Transformers. OpenCLIP's ViT-H, g and bigG are wider, with heads of 80, 88 and 104


def check_kept(config: CLIPConfig, kept: CLIPConfig, library: str):
    """InputError that lists what `library` would take to be otherwise, where `kept` is what it makes of `config`."""
    if kept == config:
        return
    ours, theirs = params.flatten(config.to_dict()), params.flatten(kept.to_dict())
    lost = [name for name in ours | theirs if ours.get(name) != theirs.get(name)]
    lost = [f"{name} {ours.get(name)}, not {theirs.get(name)}" for name in lost]
    raise InputError(f"{library} has no way to say that this model has {'; '.join(lost)}")


def infer_config(shapes: dict[str, tuple[int, ...]]) -> CLIPConfig:
    """The configuration behind a model's parameters: {flat name: shape} -> CLIPConfig.

    Widths, depths, patch and picture size are read off the shapes; heads are one per 64 channels, activation,
    eps and the end-of-text rule OpenAI's, which no shape tells (clip/model.py, build_model). Raises InputError for
    other parameters than a CLIP's, and for image towers wider than any of OpenAI's: those have other heads.
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
                raise ValueError(f"how many heads an image tower of width {D} has, only a configuration tells")
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
    except (ValueError, TypeError) as error:  # shapes with other sides than a CLIP's
        raise InputError(f"not the parameters of a CLIP: {error}") from error
    return CLIPConfig(visual=visual, text=text, embed_dim=projections[0] if projections else None)


def _sides(shapes, name, count):
    if len(shapes[name]) != count:
        raise ValueError(f"{name} is {shapes[name]}, expected {count} sides")
    return shapes[name]


def _resnet(shapes):
    _, C, _, _ = _sides(shapes, "visual.stem.0.weight", 4)
    W, _, _, _ = _sides(shapes, "visual.stages.0.0.conv1.weight", 4)
    T, _ = _sides(shapes, "visual.attention_pool.position_embedding", 2)
    layers = tuple(_count(shapes, f"visual.stages.{s}.{{}}.conv1.weight") for s in range(4))
    return ResNetConfig(round((T - 1) ** 0.5) * 32, W, layers, heads=max(1, 32 * W // 64), channels=C)


def _count(shapes, name):
    """How many there are of a name with "{}" for 0, 1, 2 ..."""
    return next(i for i in itertools.count() if name.format(i) not in shapes)


def _transformer(shapes, prefix, width):
    layers = _count(shapes, prefix + "blocks.{}.mlp.fc.weight")
    mlp_width, _ = _sides(shapes, f"{prefix}blocks.0.mlp.fc.weight", 2)
    return {"width": width, "layers": layers, "heads": max(1, width // 64), "mlp_width": mlp_width}
