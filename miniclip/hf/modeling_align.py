"""transformers' ALIGN models; what they have in common with CLIP's stands in `modeling`."""

import numpy as np

from miniclip.hf.configuration import AlignConfig, AlignTextConfig, AlignVisionConfig
from miniclip.hf.modeling import TowerModel, WholeModel, check_absent
from miniclip.hf.outputs import given, taken


class AlignInputs:
    """How ALIGN takes its inputs, unlike CLIP."""

    any_size = True

    def _text_options(self, tokens, lengths, token_type_ids=None):
        if lengths is None:  # nothing is treated as padding (modeling_align.py, AlignTextModel)
            lengths = np.full(len(tokens), tokens.shape[-1])
        return {"lengths": lengths, "token_types": taken(token_type_ids, self.model.ops)}


class AlignVisionModel(AlignInputs, TowerModel):
    """transformers' AlignVisionModel. It has no attention, and so no attention weights to give."""

    config_class, tower, projected = AlignVisionConfig, "visual", False

    def forward(self, pixel_values=None, **look):
        return self._seen(self._encode_image(pixel_values), pixel_values, **look)


class AlignTextModel(AlignInputs, TowerModel):
    """transformers' AlignTextModel, a BERT; without an `attention_mask` no token is taken for padding."""

    config_class, tower, projected = AlignTextConfig, "text", False

    def forward(
        self, input_ids=None, attention_mask=None, token_type_ids=None, position_ids=None, inputs_embeds=None, **look
    ):
        check_absent(position_ids=position_ids, inputs_embeds=inputs_embeds)
        return self._seen(self._encode_text(input_ids, attention_mask, token_type_ids), input_ids, **look)


class AlignModel(AlignInputs, WholeModel):
    """transformers' AlignModel; without an `attention_mask` no token is taken for padding."""

    config_class, text_class, vision_class = AlignConfig, AlignTextModel, AlignVisionModel
    label_smoothing = 0.1

    def get_image_features(self, pixel_values):
        """Pictures (B, 3, height, width) to features (B, E), not normalised: the features themselves."""
        return given(self.model.ops, pixel_values)(self._encode_image(pixel_values)())

    def get_text_features(
        self, input_ids=None, attention_mask=None, token_type_ids=None, position_ids=None, inputs_embeds=None
    ):
        """Token ids (B, T) to features (B, E), not normalised: the features themselves."""
        check_absent(position_ids=position_ids, inputs_embeds=inputs_embeds)
        return given(self.model.ops, input_ids)(self._encode_text(input_ids, attention_mask, token_type_ids)())

    def forward(
        self,
        input_ids=None,
        pixel_values=None,
        attention_mask=None,
        token_type_ids=None,
        position_ids=None,
        inputs_embeds=None,
        return_loss=None,
        **look,
    ):
        """AlignOutput of B pictures and N texts, or of as many with `return_loss`: logits_per_image (B, N) and more."""
        check_absent(position_ids=position_ids, inputs_embeds=inputs_embeds)
        encode_image = self._encode_image(pixel_values)
        encode_text = self._encode_text(input_ids, attention_mask, token_type_ids)
        return self._joined(encode_image, encode_text, pixel_values, return_loss, **look)
