"""The arguments of transformers' models whose texts are encoded by a BERT: ALIGN's, Chinese-CLIP's, AltCLIP's."""

from typing import Any

import numpy as np

from miniclip.hf.modeling import TowerModel, WholeModel, check_absent
from miniclip.hf.modeling_clip import ImageFeatures
from miniclip.hf.outputs import for_backend


class BertInputs:
    """A BERT's inputs where they differ from CLIP's: `token_type_ids`; without a mask no token is padding."""

    def _text_options(self, model, tokens, lengths, token_type_ids=None):
        if lengths is None:
            lengths = np.full(len(tokens), tokens.shape[-1])
        types = for_backend(token_type_ids, model.ops)
        if types is not None and not model.config.text.token_types and not (types != 0).any():
            types = None  # as BERT's tokenizer gives them to a DistilBERT, too
        return {"lengths": lengths, "token_types": types}


class BertArguments(BertInputs, TowerModel):
    """A text tower that is called with a BERT's arguments."""

    tower, projected, input_embeddings = "text", False, "word_embeddings"

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
