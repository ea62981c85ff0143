"""transformers' SigLIP models; `modeling` has the parts that they share with CLIP's and ALIGN's."""

from typing import Any

from miniclip.hf.configuration import SiglipConfig, SiglipTextConfig, SiglipVisionConfig
from miniclip.hf.modeling_clip import TextArguments, VisionArguments, WholeArguments
from miniclip.loss import sigmoid_loss


class SiglipInputs:
    """The inputs of SigLIP where they differ from CLIP's: without an `attention_mask` all tokens count."""

    def _text_options(self, model, tokens, lengths):
        return {"lengths": lengths}


class SiglipVisionModel(SiglipInputs, VisionArguments):
    """transformers' SiglipVisionModel: the image tower. `pooler_output` has the features."""

    config_class, tower, projected = SiglipVisionConfig, "visual", False
    base_model_prefix, main_input_name, input_embeddings = "vision_model", "pixel_values", "patch_embedding"

    @property
    def vision_model(self) -> Any:
        """This model itself: its name for users of transformers 4."""
        return self


class SiglipTextModel(SiglipInputs, TextArguments):
    """transformers' SiglipTextModel: the text tower. `pooler_output` has the features."""

    config_class, tower, projected = SiglipTextConfig, "text", False
    base_model_prefix, input_embeddings = "text_model", "token_embedding"

    @property
    def text_model(self) -> Any:
        """This model itself: its name for users of transformers 4."""
        return self


class SiglipModel(SiglipInputs, WholeArguments):
    """transformers' SiglipModel, also for SigLIP 2 with a fixed resolution. The sigmoid of a logit is a probability.

    Texts should have 64 tokens, their length in training.
    """

    config_class, text_class, vision_class = SiglipConfig, SiglipTextModel, SiglipVisionModel
    base_model_prefix = "siglip"

    def _loss(self, logits, backend):
        return sigmoid_loss(logits, ops=backend)
