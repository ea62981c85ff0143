"""The configuration of a SigLIP, or of a SigLIP 2 with a fixed resolution."""

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import ClassVar

from miniclip.config import ModelConfig, PictureSettings, check_image_size, check_transformer, pair
from miniclip.errors import InputError
from miniclip.towers import siglip_image, siglip_text


@dataclass(frozen=True)
class SigLIPVisionConfig:
    """A Vision Transformer without a class token. Sizes are in pixels, as in `config.VisionConfig`.

    `pictures` is how they are prepared, None: as SigLIP's are.
    """

    image_size: int | tuple[int, int]
    patch_size: int
    width: int
    layers: int
    heads: int
    mlp_width: int
    channels: int = 3
    activation: str = "gelu_tanh"
    eps: float = 1e-6
    pictures: PictureSettings | None = None

    tower: ClassVar[ModuleType] = siglip_image
    causal: ClassVar[bool] = False

    def __post_init__(self):
        check_transformer(self)
        check_image_size(self.image_size)
        if 0 in self.grid:
            raise InputError(
                f"patches of {self.patch_size} pixels do not fit a picture of {self.image_size}: patch_size must not "
                f"be larger than image_size"
            )

    @property
    def grid(self) -> tuple[int, int]:
        """Patches (down, across). A remainder at the edge is ignored, as by a convolution without padding."""
        height, width = pair(self.image_size)
        return height // self.patch_size, width // self.patch_size


@dataclass(frozen=True)
class SigLIPTextConfig:
    """A text transformer whose tokens all see each other, padding too; the last token is the text's feature."""

    context_length: int
    vocab_size: int
    width: int
    layers: int
    heads: int
    mlp_width: int
    activation: str = "gelu_tanh"
    eps: float = 1e-6

    tower: ClassVar[ModuleType] = siglip_text
    causal: ClassVar[bool] = False
    padding_counts: ClassVar[bool] = True  # no mask hides it, and the last token is a text's feature

    def __post_init__(self):
        check_transformer(self)

    @property
    def text_length(self) -> int:
        """The length, in tokens, that texts are padded to: the features of texts of another length mean little."""
        return self.context_length


@dataclass(frozen=True)
class SigLIPConfig(ModelConfig):
    """As CLIPConfig, but only texts are projected: `embed_dim` is also the width of the image tower."""

    visual: SigLIPVisionConfig | None
    text: SigLIPTextConfig | None

    family: ClassVar[str] = "siglip"
    scalars: ClassVar[tuple[str, ...]] = ("logit_scale", "logit_bias")
    independent: ClassVar[bool] = True
    towers: ClassVar[dict[str, Sequence[type]]] = {"visual": (SigLIPVisionConfig,), "text": (SigLIPTextConfig,)}
    tokenizer: ClassVar[str] = "SentencePiece"

    def __post_init__(self):
        if type(self.embed_dim) is not int or self.embed_dim < 1:
            raise InputError(f"embed_dim is {self.embed_dim!r}, expected a positive integer")
        if self.visual and self.embed_dim != self.visual.width:
            raise InputError(
                f"embed_dim is {self.embed_dim}, but the image tower's features are {self.visual.width} wide"
            )


# google/siglip-base-patch16-224
SIGLIP_BASE = SigLIPConfig(
    SigLIPVisionConfig(224, patch_size=16, width=768, layers=12, heads=12, mlp_width=3072),
    SigLIPTextConfig(64, vocab_size=32000, width=768, layers=12, heads=12, mlp_width=3072),
    embed_dim=768,
)
