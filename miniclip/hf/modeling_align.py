"""transformers' ALIGN models; `modeling` has the parts that they share with CLIP's."""

import numpy as np

from miniclip.hf.configuration import AlignConfig, AlignTextConfig, AlignVisionConfig
from miniclip.hf.modeling import TowerModel, WholeModel, check_absent
from miniclip.hf.outputs import converter_like, for_backend


class AlignInputs:
    """The inputs of ALIGN where they differ from CLIP's: pictures of any size, `token_type_ids`."""

    any_size = True

    def _text_options(self, tokens, lengths, token_type_ids=None):
        if lengths is None:  # no token is treated as padding (modeling_align.py, AlignTextModel)
            lengths = np.full(len(tokens), tokens.shape[-1])
        return {"lengths": lengths, "token_types": for_backend(token_type_ids, self.model.ops)}


class AlignVisionModel(AlignInputs, TowerModel):
    """transformers' AlignVisionModel. It has no attention, and so no attention weights."""

    config_class, tower, projected = AlignVisionConfig, "visual", False

    def forward(self, pixel_values=None, **outputs):
        return self._run(self._encode_image(pixel_values), pixel_values, **outputs)


class AlignTextModel(AlignInputs, TowerModel):
    """transformers' AlignTextModel, a BERT; without an `attention_mask` no token is treated as padding."""

    config_class, tower, projected = AlignTextConfig, "text", False

    def forward(
        self, input_ids=None, attention_mask=None, token_type_ids=None, position_ids=None, inputs_embeds=None, **outputs
    ):
        check_absent(position_ids=position_ids, inputs_embeds=inputs_embeds)
        return self._run(self._encode_text(input_ids, attention_mask, token_type_ids), input_ids, **outputs)


class AlignModel(AlignInputs, WholeModel):
    """transformers' AlignModel; without an `attention_mask` no token is treated as padding."""

    config_class, text_class, vision_class = AlignConfig, AlignTextModel, AlignVisionModel
    label_smoothing = 0.1

    def get_image_features(self, pixel_values):
        """Pictures (B, 3, height, width) to features (B, E), not normalised."""
        features = self._encode_image(pixel_values)()
        return converter_like(pixel_values, self.model.ops)(features)

    def get_text_features(
        self, input_ids=None, attention_mask=None, token_type_ids=None, position_ids=None, inputs_embeds=None
    ):
        """Token ids (B, T) to features (B, E), not normalised."""
        check_absent(position_ids=position_ids, inputs_embeds=inputs_embeds)
        features = self._encode_text(input_ids, attention_mask, token_type_ids)()
        return converter_like(input_ids, self.model.ops)(features)

    def forward(
        self,
        input_ids=None,
        pixel_values=None,
        attention_mask=None,
        token_type_ids=None,
        position_ids=None,
        inputs_embeds=None,
        return_loss=None,
        **outputs,
    ):
        """AlignOutput of B pictures and N texts: logits_per_image (B, N) and more. `return_loss` needs N = B."""
        check_absent(position_ids=position_ids, inputs_embeds=inputs_embeds)
        encode_image = self._encode_image(pixel_values)
        encode_text = self._encode_text(input_ids, attention_mask, token_type_ids)
        return self._run(encode_image, encode_text, pixel_values, return_loss, **outputs)
