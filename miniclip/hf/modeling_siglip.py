"""transformers' SigLIP models; `modeling` has the parts that they share with CLIP's and ALIGN's."""

from typing import Any

from miniclip.hf.configuration import SiglipConfig, SiglipTextConfig, SiglipVisionConfig
from miniclip.hf.modeling import TowerModel, WholeModel, check_absent
from miniclip.loss import sigmoid_loss


class SiglipInputs:
    """The inputs of SigLIP where they differ from CLIP's: without an `attention_mask` all tokens count."""

    def _text_options(self, model, tokens, lengths):
        return {"lengths": lengths}


class SiglipVisionModel(SiglipInputs, TowerModel):
    """transformers' SiglipVisionModel: the image tower. `pooler_output` has the features."""

    config_class, tower, projected = SiglipVisionConfig, "visual", False
    base_model_prefix, main_input_name, input_embeddings = "vision_model", "pixel_values", "patch_embedding"

    @property
    def vision_model(self) -> Any:
        """This model itself: its name for users of transformers 4."""
        return self

    def forward(self, pixel_values: Any = None, interpolate_pos_encoding: bool = False, **outputs: Any) -> Any:
        model = self.model
        encode = self._encode_image(model, pixel_values, interpolate_pos_encoding)
        return self._run(model, encode, pixel_values, outputs)


class SiglipTextModel(SiglipInputs, TowerModel):
    """transformers' SiglipTextModel: the text tower. `pooler_output` has the features."""

    config_class, tower, projected = SiglipTextConfig, "text", False
    base_model_prefix, input_embeddings = "text_model", "token_embedding"

    @property
    def text_model(self) -> Any:
        """This model itself: its name for users of transformers 4."""
        return self

    def forward(
        self, input_ids: Any = None, attention_mask: Any = None, position_ids: Any = None, **outputs: Any
    ) -> Any:
        check_absent(position_ids=position_ids)
        model = self.model
        return self._run(model, self._encode_text(model, input_ids, attention_mask), input_ids, outputs)


class SiglipModel(SiglipInputs, WholeModel):
    """transformers' SiglipModel, also for SigLIP 2 with a fixed resolution. The sigmoid of a logit is a probability."""

    config_class, text_class, vision_class = SiglipConfig, SiglipTextModel, SiglipVisionModel
    base_model_prefix = "siglip"

    def _loss(self, logits, backend):
        return sigmoid_loss(logits, ops=backend)

    def get_image_features(
        self, pixel_values: Any, interpolate_pos_encoding: bool = False, return_dict: bool | None = None, **outputs: Any
    ) -> Any:
        """Pictures (B, 3, height, width) to features (B, E), not normalised."""
        model = self.model
        encode = self._encode_image(model, pixel_values, interpolate_pos_encoding)
        return self._features(model, encode, "visual", pixel_values, {"return_dict": return_dict, **outputs})

    def get_text_features(
        self,
        input_ids: Any,
        attention_mask: Any = None,
        position_ids: Any = None,
        return_dict: bool | None = None,
        **outputs: Any,
    ) -> Any:
        """Token ids (B, T) to features (B, E), not normalised. T should be 64, the length of texts in training."""
        check_absent(position_ids=position_ids)
        model = self.model
        encode = self._encode_text(model, input_ids, attention_mask)
        return self._features(model, encode, "text", input_ids, {"return_dict": return_dict, **outputs})

    def forward(
        self,
        input_ids: Any = None,
        pixel_values: Any = None,
        attention_mask: Any = None,
        position_ids: Any = None,
        return_loss: bool | None = None,
        interpolate_pos_encoding: bool = False,
        **outputs: Any,
    ) -> Any:
        """SiglipOutput of B pictures and N texts: logits_per_image (B, N) and more. `return_loss` needs N = B."""
        check_absent(position_ids=position_ids)
        model = self.model
        encode_image = self._encode_image(model, pixel_values, interpolate_pos_encoding)
        encode_text = self._encode_text(model, input_ids, attention_mask)
        return self._run(model, encode_image, encode_text, pixel_values, return_loss, outputs)
