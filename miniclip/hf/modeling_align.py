"""transformers' ALIGN models, and the arguments of calls for texts, which all models with a BERT have.

`modeling` has the parts that they share with CLIP's.
"""

from typing import Any

import numpy as np

from miniclip.hf.configuration import AlignConfig, AlignTextConfig, AlignVisionConfig
from miniclip.hf.modeling import TowerModel, WholeModel, check_absent
from miniclip.hf.outputs import for_backend


class BertInputs:
    """A BERT's inputs where they differ from CLIP's: `token_type_ids`; without a mask no token is padding."""

    def _text_options(self, model, tokens, lengths, token_type_ids=None):
        if lengths is None:
            lengths = np.full(len(tokens), tokens.shape[-1])
        return {"lengths": lengths, "token_types": for_backend(token_type_ids, model.ops)}


class AlignInputs(BertInputs):
    """The inputs of ALIGN where they differ from CLIP's: also pictures of any size."""

    any_size = True


class BertArguments(BertInputs, TowerModel):
    """A text tower that is called with a BERT's arguments."""

    def forward(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        position_ids: Any = None,
        inputs_embeds: Any = None,
        **outputs: Any,
    ) -> Any:
        check_absent(position_ids=position_ids, inputs_embeds=inputs_embeds)
        model = self.model
        return self._run(model, self._encode_text(model, input_ids, attention_mask, token_type_ids), input_ids, outputs)


class BertFeatures(BertInputs, WholeModel):
    """A whole model whose `get_text_features` is called with a BERT's arguments."""

    def get_text_features(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        position_ids: Any = None,
        inputs_embeds: Any = None,
        return_dict: bool | None = None,
        **outputs: Any,
    ) -> Any:
        """Token ids (B, T) to features (B, E), not normalised."""
        check_absent(position_ids=position_ids, inputs_embeds=inputs_embeds)
        model = self.model
        encode = self._encode_text(model, input_ids, attention_mask, token_type_ids)
        return self._features(model, encode, "text", input_ids, {"return_dict": return_dict, **outputs})


class AlignVisionModel(AlignInputs, TowerModel):
    """transformers' AlignVisionModel. It has no attention, and so no attention weights."""

    config_class, tower, projected = AlignVisionConfig, "visual", False
    base_model_prefix, main_input_name, input_embeddings = "align", "pixel_values", "convolution"

    def forward(self, pixel_values: Any = None, **outputs: Any) -> Any:
        model = self.model
        return self._run(model, self._encode_image(model, pixel_values), pixel_values, outputs)


class AlignTextModel(AlignInputs, BertArguments):
    """transformers' AlignTextModel, a BERT; without an `attention_mask` no token is treated as padding."""

    config_class, tower, projected = AlignTextConfig, "text", False
    base_model_prefix, input_embeddings = "align", "word_embeddings"


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
