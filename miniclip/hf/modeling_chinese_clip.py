"""transformers' Chinese-CLIP models: CLIP's image tower, and a BERT for texts."""

import copy
from typing import Any, ClassVar

from miniclip.hf.configuration import ChineseCLIPConfig, ChineseCLIPTextConfig, ChineseCLIPVisionConfig
from miniclip.hf.modeling_bert import BertArguments, WholeBertArguments
from miniclip.hf.modeling_clip import VisionArguments


class ChineseCLIPVisionModel(VisionArguments):
    """transformers' ChineseCLIPVisionModel: the image tower without its projection."""

    config_class, base_model_prefix = ChineseCLIPVisionConfig, "chinese_clip"


class ChineseCLIPTextModel(BertArguments):
    """transformers' ChineseCLIPTextModel, a BERT; without an `attention_mask` no token is treated as padding.

    `pooler_output` is None if the weights have no pooler: those of a whole model have none. transformers draws one at
    random then.
    """

    config_class, base_model_prefix = ChineseCLIPTextConfig, "chinese_clip"

    def __init__(self, config: Any, model: Any = None, **options: Any):
        super().__init__(config, model, **options)
        if not self.model.config.text.pooler:
            self.config = copy.copy(config)
            self.config.add_pooling_layer = False


class ChineseCLIPModel(WholeBertArguments):
    """transformers' ChineseCLIPModel; without an `attention_mask` no token is treated as padding.

    `text_model_output` and `vision_model_output` have the features as `pooler_output`.
    """

    config_class, text_class, vision_class = ChineseCLIPConfig, ChineseCLIPTextModel, ChineseCLIPVisionModel
    base_model_prefix = "chinese_clip"
    pooled: ClassVar[dict[str, str]] = {"text": "features"}
