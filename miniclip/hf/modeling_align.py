"""transformers' ALIGN models; `modeling` has the parts that they share with CLIP's."""

from typing import Any

from miniclip.hf.configuration import AlignConfig, AlignTextConfig, AlignVisionConfig
from miniclip.hf.modeling import TowerModel, check_absent
from miniclip.hf.modeling_bert import BertArguments, BertFeatures, BertInputs


class AlignInputs(BertInputs):
    """The inputs of ALIGN where they differ from CLIP's: also pictures of any size."""

    any_size = True


class AlignVisionModel(AlignInputs, TowerModel):
    """transformers' AlignVisionModel. It has no attention, and so no attention weights."""

    config_class, tower, projected = AlignVisionConfig, "visual", False
    base_model_prefix, main_input_name, input_embeddings = "align", "pixel_values", "convolution"

    def forward(self, pixel_values: Any = None, **outputs: Any) -> Any:
        model = self.model
        return self._run(model, self._encode_image(model, pixel_values), pixel_values, outputs)


class AlignTextModel(AlignInputs, BertArguments):
    """transformers' AlignTextModel, a BERT; without an `attention_mask` no token is treated as padding."""

    config_class, base_model_prefix = AlignTextConfig, "align"


class AlignModel(AlignInputs, BertFeatures):
    """transformers' AlignModel; without an `attention_mask` no token is treated as padding."""

    config_class, text_class, vision_class = AlignConfig, AlignTextModel, AlignVisionModel
    base_model_prefix, label_smoothing = "align", 0.1

    def get_image_features(self, pixel_values: Any, return_dict: bool | None = None, **outputs: Any) -> Any:
        """Pictures (B, 3, height, width) to features (B, E), not normalised."""
        model = self.model
        encode = self._encode_image(model, pixel_values)
        return self._features(model, encode, "visual", pixel_values, {"return_dict": return_dict, **outputs})

    def forward(
        self,
        input_ids: Any = None,
        pixel_values: Any = None,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        position_ids: Any = None,
        inputs_embeds: Any = None,
        return_loss: bool | None = None,
        **outputs: Any,
    ) -> Any:
        """AlignOutput of B pictures and N texts: logits_per_image (B, N) and more. `return_loss` needs N = B."""
        check_absent(position_ids=position_ids, inputs_embeds=inputs_embeds)
        model = self.model
        encode_image = self._encode_image(model, pixel_values)
        encode_text = self._encode_text(model, input_ids, attention_mask, token_type_ids)
        return self._run(model, encode_image, encode_text, pixel_values, return_loss, outputs)
