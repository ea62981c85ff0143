"""The configuration of a SigLIP or a SigLIP 2, also of one for pictures of any shape (NaFlex)."""

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import ClassVar

from miniclip.config import ModelConfig, PictureSettings, VisionConfig, check_transformer
from miniclip.errors import InputError
from miniclip.towers import naflex, siglip_image, siglip_text


@dataclass(frozen=True)
class SigLIPVisionConfig(VisionConfig):
    """As CLIP's `VisionConfig`, without a class token. `pictures` None: they are prepared as SigLIP's are.

    That is by OpenCLIP's rules if `antialias`, else by transformers' (see `families.preprocessing`).
    """

    activation: str = "gelu_tanh"
    eps: float = 1e-6

    tower: ClassVar[ModuleType] = siglip_image


@dataclass(frozen=True)
class NaFlexVisionConfig:
    """A tower for pictures of any shape: its position embeddings, a grid of `side` · `side`, are interpolated for each.

    `pictures` None: they are prepared as SigLIP 2's are, in at most 256 patches.
    """

    patch_size: int
    width: int
    layers: int
    heads: int
    mlp_width: int
    side: int = 16
    channels: int = 3
    activation: str = "gelu_tanh"
    eps: float = 1e-6
    pictures: PictureSettings | None = None

    tower: ClassVar[ModuleType] = naflex
    causal: ClassVar[bool] = False
    image_size: ClassVar[None] = None  # each picture has its own

    def __post_init__(self):
        check_transformer(self)
        if self.pictures and self.pictures.resize != "patches":
            raise InputError(f"pictures are resized to {self.pictures.resize!r}, expected 'patches'")

    @property
    def grid(self) -> tuple[int, int]:
        """The position embeddings (down, across), before they are interpolated."""
        return self.side, self.side


@dataclass(frozen=True)
class SigLIPTextConfig:
    """A text transformer whose tokens all see each other, padding too; the last token is the text's feature.

    `projects`: a matrix and a bias are applied to it at the end. One of OpenCLIP's models has none.
    """

    context_length: int
    vocab_size: int
    width: int
    layers: int
    heads: int
    mlp_width: int
    activation: str = "gelu_tanh"
    eps: float = 1e-6
    projects: bool = True

    tower: ClassVar[ModuleType] = siglip_text
    causal: ClassVar[bool] = False
    padding_counts: ClassVar[bool] = True  # no mask hides it, and the last token is a text's feature

    def __post_init__(self):
        check_transformer(self)
        if type(self.projects) is not bool:
            raise InputError(f"projects is {self.projects!r}, expected True or False")

    @property
    def text_length(self) -> int:
        """The length, in tokens, that texts are padded to: the features of texts of another length mean little."""
        return self.context_length


@dataclass(frozen=True)
class SigLIPConfig(ModelConfig):
    """As CLIPConfig, but only texts are projected: `embed_dim` is also the width of the image tower."""

    visual: SigLIPVisionConfig | NaFlexVisionConfig | None
    text: SigLIPTextConfig | None

    family: ClassVar[str] = "siglip"
    scalars: ClassVar[tuple[str, ...]] = ("logit_scale", "logit_bias")
    independent: ClassVar[bool] = True
    towers: ClassVar[dict[str, Sequence[type]]] = {
        "visual": (SigLIPVisionConfig, NaFlexVisionConfig),
        "text": (SigLIPTextConfig,),
    }
    tokenizer: ClassVar[str] = "SentencePiece"

    def __post_init__(self):
        if type(self.embed_dim) is not int or self.embed_dim < 1:
            raise InputError(f"embed_dim is {self.embed_dim!r}, expected a positive integer")
        if self.visual and self.embed_dim != self.visual.width:
            raise InputError(
                f"embed_dim is {self.embed_dim}, but the image tower's features are {self.visual.width} wide"
            )
        if self.text and not self.text.projects and self.embed_dim != self.text.width:
            raise InputError(f"embed_dim is {self.embed_dim}, but the texts' features are {self.text.width} wide")


# google/siglip-base-patch16-224
SIGLIP_BASE = SigLIPConfig(
    SigLIPVisionConfig(224, patch_size=16, width=768, layers=12, heads=12, mlp_width=3072),
    SigLIPTextConfig(64, vocab_size=32000, width=768, layers=12, heads=12, mlp_width=3072),
    embed_dim=768,
)
