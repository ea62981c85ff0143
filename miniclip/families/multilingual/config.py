"""The configuration of a CLIP of many languages: CLIP's image tower, and a BERT or an XLM-RoBERTa for texts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from miniclip.config import ModelConfig, ResNetConfig, VisionConfig
from miniclip.errors import InputError
from miniclip.families.bert import BertConfig


@dataclass(frozen=True)
class MultilingualConfig(ModelConfig):
    """As CLIPConfig, with a BERT for texts. An M-CLIP has no image tower of its own: `visual` is None."""

    visual: VisionConfig | ResNetConfig | None
    text: BertConfig | None

    family: ClassVar[str] = "multilingual"
    scalars: ClassVar[tuple[str, ...]] = ("logit_scale",)
    towers: ClassVar[dict[str, Sequence[type]]] = {"visual": (VisionConfig, ResNetConfig), "text": (BertConfig,)}

    @property
    def tokenizer(self) -> str:  # type: ignore[override]  # in other families all models have the same
        """The name of the class of its tokenizer."""
        return "XLMRoberta" if self.text and self.text.first_position else "WordPiece"

    def __post_init__(self):
        if self.text and self.text.head == "none" and self.embed_dim not in (None, self.text.width):
            raise InputError(f"embed_dim is {self.embed_dim}, but the texts' features are {self.text.width} wide")
