"""The configuration of an ALIGN: an EfficientNet for pictures, a BERT for texts."""

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import ClassVar

from miniclip.config import (
    ModelConfig,
    PictureSettings,
    check_activation,
    check_image_size,
    check_integers,
    pair,
)
from miniclip.errors import InputError
from miniclip.families.bert import BertConfig
from miniclip.towers import efficientnet

# Each stage of the smallest EfficientNet: blocks, channels after them, kernel, stride and expansion (table 1).
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

    Pictures are resized to `resized`, and their middle of `image_size` is kept: (height, width) or a square's side, in
    pixels. Channels are rounded to multiples of `depth_divisor`; squeezing keeps `squeeze_ratio` of a block's channels.
    Blocks with stride 2 have one cell less padding above and left than below and right, except those whose numbers,
    from 0, are in `square_padding`. `pictures` is how they are prepared, None: as ALIGN's are.
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
    pictures: PictureSettings | None = None

    tower: ClassVar[ModuleType] = efficientnet

    def __post_init__(self):
        check_integers(self)
        check_activation(self)
        check_image_size(self.image_size)
        check_image_size(self.resized)
        if any(inner > outer for inner, outer in zip(pair(self.image_size), pair(self.resized))):
            raise InputError(f"image_size is {self.image_size!r}, expected at most resized, {self.resized!r}")
        for name, most in (("width_coefficient", 100), ("depth_coefficient", 100), ("squeeze_ratio", 1)):
            value = getattr(self, name)
            if not (type(value) in (int, float) and 0 < value <= most):
                raise InputError(f"{name} is {value!r}, expected a number above 0 and up to {most}")
        if not self.stages or not all(_is_stage(stage) for stage in self.stages):
            raise InputError(
                f"stages is {self.stages!r}, expected (blocks, channels, kernel, stride, expansion) for each, with an "
                f"odd kernel and a stride of 1 or 2"
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
        """Cells (down, across) of the last grid; the feature is their mean."""
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
class ALIGNConfig(ModelConfig):
    """As CLIPConfig, but only texts are projected: `embed_dim` is also the width of the image tower's features."""

    visual: EfficientNetConfig | None
    text: BertConfig | None

    family: ClassVar[str] = "align"
    scalars: ClassVar[tuple[str, ...]] = ("temperature",)
    towers: ClassVar[dict[str, Sequence[type]]] = {"visual": (EfficientNetConfig,), "text": (BertConfig,)}
    tokenizer: ClassVar[str] = "WordPiece"

    def __post_init__(self):
        if self.visual and self.embed_dim != self.visual.width:
            raise InputError(
                f"embed_dim is {self.embed_dim!r}, but the image tower's features are {self.visual.width} wide"
            )


# kakaobrain/align-base, whose image tower is an EfficientNet-B7.
ALIGN_BASE = ALIGNConfig(
    EfficientNetConfig(289, resized=346, width_coefficient=2.0, depth_coefficient=3.1),
    BertConfig(context_length=512, vocab_size=30522, width=768, layers=12, heads=12, mlp_width=3072),
    embed_dim=640,
)
