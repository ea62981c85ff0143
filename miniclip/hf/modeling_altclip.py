"""transformers' AltCLIP models: CLIP's image tower, and an XLM-RoBERTa for texts."""

from typing import Any, ClassVar

from miniclip.hf.configuration import AltCLIPConfig, AltCLIPTextConfig, AltCLIPVisionConfig
from miniclip.hf.modeling_bert import BertArguments, WholeBertArguments
from miniclip.hf.modeling_clip import VisionArguments


class AltCLIPVisionModel(VisionArguments):
    """transformers' AltCLIPVisionModel: the image tower without its projection."""

    config_class, base_model_prefix = AltCLIPVisionConfig, "altclip"


class AltCLIPTextModel(BertArguments):
    """transformers' AltCLIPTextModel: `last_hidden_state` are all tokens after its first projection.

    Without an `attention_mask` no token is treated as padding. Positions count the tokens that are not padding by their
    ids, with a mask or without.
    """

    config_class, base_model_prefix = AltCLIPTextConfig, "roberta"

    @property
    def embeddings(self) -> Any:
        """Those of its XLM-RoBERTa."""
        return self.roberta.embeddings


class AltCLIPModel(WholeBertArguments):
    """transformers' AltCLIPModel; without an `attention_mask` no token is treated as padding.

    `text_model_output` and `vision_model_output` are those of the towers alone.
    """

    config_class, text_class, vision_class = AltCLIPConfig, AltCLIPTextModel, AltCLIPVisionModel
    base_model_prefix = "altclip"
    pooled: ClassVar[dict[str, str]] = {"visual": "ln_post"}
