"""The configurations of OpenCLIP's models that are not CLIP's: CLIPA, CoCa, and others with such towers."""

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import ClassVar

from miniclip.config import ModelConfig, ResNetConfig, TextConfig, VisionConfig, check_choice
from miniclip.errors import InputError
from miniclip.towers import open_clip_text, open_clip_vit

POOLS = ("tok", "avg")  # the class token, the mean of the patches
TEXT_POOLS = ("argmax", "first", "last")  # the end of the text as `eot_token_id` says it, the first, the last token
PROJECTIONS = ("linear", "bias", "none")


@dataclass(frozen=True)
class OpenCLIPVisionConfig(VisionConfig):
    """A Vision Transformer as CLIP's `VisionConfig`, and what OpenCLIP's configurations change.

    `pre_norm`: there is a layer norm before the blocks. `norm_after_pool`: the last layer norm follows the mean of the
    patches, instead of preceding it. `pool_queries` None: there is no attention pool; else so many queries pool the
    tokens with `pool_heads` heads first, and `pool` takes the first of them, or the mean of the others.
    """

    activation: str = "gelu"
    pre_norm: bool = True
    pool: str = "tok"
    norm_after_pool: bool = False
    pool_queries: int | None = None
    pool_heads: int = 8

    tower: ClassVar[ModuleType] = open_clip_vit

    def __post_init__(self):
        super().__post_init__()
        _check_flags(self, "pre_norm", "norm_after_pool")
        check_choice(self, "pool", POOLS)
        least, Q = 2 if self.pool == "avg" else 1, self.pool_queries  # the mean leaves out the first
        if Q is not None and not (type(Q) is int and least <= Q < 1 << 31):
            raise InputError(f"pool_queries is {Q!r}, expected None, or {least} or more with pool {self.pool!r}")


@dataclass(frozen=True)
class OpenCLIPTextConfig(TextConfig):
    """A text transformer as CLIP's `TextConfig`, and what OpenCLIP's configurations change.

    `causal`: a token sees those before it alone. `pool`: which token becomes the feature. `pad_id` None: there is no
    class token; else one follows the text and becomes the feature, and this is the id of padding, which is hidden.
    `projection` is "linear", "bias" or "none".
    """

    activation: str = "gelu"
    causal: bool = True  # type: ignore[misc]  # a constant of CLIP's class
    pool: str = "argmax"
    pad_id: int | None = None
    projection: str = "linear"

    tower: ClassVar[ModuleType] = open_clip_text

    def __post_init__(self):
        super().__post_init__()
        _check_flags(self, "causal")
        check_choice(self, "pool", TEXT_POOLS)
        check_choice(self, "projection", PROJECTIONS)
        if self.pad_id is not None and type(self.pad_id) is not int:
            raise InputError(f"pad_id is {self.pad_id!r}, expected None or an id")

    @property
    def class_token(self) -> bool:
        """Whether a class token follows the text."""
        return self.pad_id is not None


def _check_flags(config, *names):
    for name in names:
        if type(getattr(config, name)) is not bool:
            raise InputError(f"{name} is {getattr(config, name)!r}, expected True or False")


@dataclass(frozen=True)
class OpenCLIPConfig(ModelConfig):
    """The configuration of a model with at least one tower of OpenCLIP's own; the other may be CLIP's."""

    visual: VisionConfig | ResNetConfig | OpenCLIPVisionConfig | None
    text: TextConfig | OpenCLIPTextConfig | None

    family: ClassVar[str] = "open_clip"
    scalars: ClassVar[tuple[str, ...]] = ("logit_scale",)
    towers: ClassVar[dict[str, Sequence[type]]] = {
        "visual": (VisionConfig, ResNetConfig, OpenCLIPVisionConfig),
        "text": (TextConfig, OpenCLIPTextConfig),
    }
    tokenizer: ClassVar[str] = "Tokenizer"
