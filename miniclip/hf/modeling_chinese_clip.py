"""transformers' Chinese-CLIP models: CLIP's image tower, and a BERT for texts."""

import copy
from typing import Any, ClassVar

from miniclip.hf.configuration import ChineseCLIPConfig, ChineseCLIPTextConfig, ChineseCLIPVisionConfig
from miniclip.hf.modeling import check_absent
from miniclip.hf.modeling_align import BertArguments, BertFeatures
from miniclip.hf.modeling_clip import ImageFeatures, VisionArguments


class ChineseCLIPVisionModel(VisionArguments):
    """transformers' ChineseCLIPVisionModel: the image tower without its projection."""

    config_class, tower, projected = ChineseCLIPVisionConfig, "visual", False
    base_model_prefix, main_input_name, input_embeddings = "chinese_clip", "pixel_values", "patch_embedding"

    @property
    def vision_model(self) -> Any:
        """This model itself: its name for users of transformers 4."""
        return self


class ChineseCLIPTextModel(BertArguments):
    """transformers' ChineseCLIPTextModel, a BERT; without an `attention_mask` no token is treated as padding.

    `pooler_output` is None if the weights have no pooler: those of a whole model have none. transformers draws one at
    random then.
    """

    config_class, tower, projected = ChineseCLIPTextConfig, "text", False
    base_model_prefix, input_embeddings = "chinese_clip", "word_embeddings"

    def __init__(self, config: Any, model: Any = None, **options: Any):
        super().__init__(config, model, **options)
        if not self.model.config.text.pooler:
            self.config = copy.copy(config)
            self.config.add_pooling_layer = False


class WholeBertArguments(BertFeatures, ImageFeatures):
    """A whole model that is called with CLIP's arguments and a BERT's."""

    def forward(
        self,
        input_ids: Any = None,
        pixel_values: Any = None,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        position_ids: Any = None,
        return_loss: bool | None = None,
        interpolate_pos_encoding: bool = False,
        **outputs: Any,
    ) -> Any:
        """The output for B pictures and N texts: logits_per_image (B, N) and more. `return_loss` needs N = B."""
        check_absent(position_ids=position_ids)
        model = self.model
        encode_image = self._encode_image(model, pixel_values, interpolate_pos_encoding)
        encode_text = self._encode_text(model, input_ids, attention_mask, token_type_ids)
        return self._run(model, encode_image, encode_text, pixel_values, return_loss, outputs)


class ChineseCLIPModel(WholeBertArguments):
    """transformers' ChineseCLIPModel; without an `attention_mask` no token is treated as padding.

    `text_model_output` and `vision_model_output` have the features as `pooler_output`.
    """

    config_class, text_class, vision_class = ChineseCLIPConfig, ChineseCLIPTextModel, ChineseCLIPVisionModel
    base_model_prefix = "chinese_clip"
    pooled: ClassVar[dict[str, str]] = {"text": "features"}
