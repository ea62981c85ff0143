"""transformers' SigLIP models, SigLIP 2's too; `modeling` has the parts that they share with CLIP's and ALIGN's."""

import functools
from typing import Any

import numpy as np

from miniclip.families.siglip.naflex import Patches
from miniclip.hf.configuration import (
    Siglip2Config,
    Siglip2TextConfig,
    Siglip2VisionConfig,
    SiglipConfig,
    SiglipTextConfig,
    SiglipVisionConfig,
)
from miniclip.hf.modeling import check_absent, check_present
from miniclip.hf.modeling_clip import TextArguments, VisionArguments, WholeArguments
from miniclip.hf.outputs import for_backend
from miniclip.hf.running import lengths_of
from miniclip.loss import sigmoid_loss
from miniclip.ops import numpy_ops


class SiglipInputs:
    """The inputs of SigLIP where they differ from CLIP's: without an `attention_mask` all tokens count."""

    def _text_options(self, model, tokens, lengths):
        return {"lengths": lengths}


class SiglipVisionModel(SiglipInputs, VisionArguments):
    """transformers' SiglipVisionModel: the image tower. `pooler_output` has the features."""

    config_class, base_model_prefix = SiglipVisionConfig, "vision_model"


class SiglipTextModel(SiglipInputs, TextArguments):
    """transformers' SiglipTextModel: the text tower. `pooler_output` has the features."""

    config_class, base_model_prefix = SiglipTextConfig, "text_model"


class WholeSiglip(SiglipInputs, WholeArguments):
    """A whole model that is trained with the sigmoid loss."""

    def _loss(self, logits, backend):
        return sigmoid_loss(logits, ops=backend)


class SiglipModel(WholeSiglip):
    """transformers' SiglipModel, also for SigLIP 2 with a fixed resolution. The sigmoid of a logit is a probability.

    Texts should have 64 tokens, their length in training.
    """

    config_class, text_class, vision_class = SiglipConfig, SiglipTextModel, SiglipVisionModel
    base_model_prefix = "siglip"


class Siglip2Inputs(SiglipInputs):
    """The inputs of NaFlex: pictures of any shape, cut into patches."""

    def _encode_image(self, model, pixel_values, pixel_attention_mask=None, spatial_shapes=None):
        check_present(pixel_values=pixel_values, spatial_shapes=spatial_shapes)
        patches = Patches(for_backend(pixel_values, model.ops), np.asarray(for_backend(spatial_shapes, numpy_ops)))
        B, N = patches.pixels.shape[:2]
        lengths = np.full(B, N)  # without a mask all count
        if pixel_attention_mask is not None:
            mask = np.asarray(for_backend(pixel_attention_mask, numpy_ops))
            lengths = lengths_of(mask, np.empty((B, N)), "pixel_attention_mask", "patches")
        return functools.partial(model.encode_image, patches, lengths=lengths)


class Siglip2VisionModel(Siglip2Inputs, VisionArguments):
    """transformers' Siglip2VisionModel: the image tower for pictures of any shape. `pooler_output` has the features."""

    config_class, base_model_prefix = Siglip2VisionConfig, "vision_model"

    def forward(  # type: ignore[override]
        self, pixel_values: Any = None, pixel_attention_mask: Any = None, spatial_shapes: Any = None, **outputs: Any
    ) -> Any:
        model = self.model
        encode = self._encode_image(model, pixel_values, pixel_attention_mask, spatial_shapes)
        return self._run(model, encode, pixel_values, outputs)


class Siglip2TextModel(SiglipTextModel):
    """transformers' Siglip2TextModel: the same as SiglipTextModel."""

    config_class = Siglip2TextConfig


class Siglip2Model(Siglip2Inputs, WholeSiglip):
    """transformers' Siglip2Model, NaFlex: pictures of any shape. The sigmoid of a logit is a probability.

    Texts should have 64 tokens, their length in training. A SigLIP 2 with a fixed resolution is a SiglipModel.
    """

    config_class, text_class, vision_class = Siglip2Config, Siglip2TextModel, Siglip2VisionModel
    base_model_prefix = "siglip2"

    def get_image_features(  # type: ignore[override]
        self,
        pixel_values: Any = None,
        pixel_attention_mask: Any = None,
        spatial_shapes: Any = None,
        return_dict: bool | None = None,
        **outputs: Any,
    ) -> Any:
        """Patches (B, N, P·P·C), their mask (B, N) and grids (B, 2) to features (B, E), not normalised."""
        model = self.model
        encode = self._encode_image(model, pixel_values, pixel_attention_mask, spatial_shapes)
        return self._features(model, encode, "visual", pixel_values, {"return_dict": return_dict, **outputs})

    def forward(  # type: ignore[override]
        self,
        input_ids: Any = None,
        pixel_values: Any = None,
        pixel_attention_mask: Any = None,
        spatial_shapes: Any = None,
        attention_mask: Any = None,
        position_ids: Any = None,
        return_loss: bool | None = None,
        **outputs: Any,
    ) -> Any:
        """The output for B pictures and N texts: logits_per_image (B, N) and more. `return_loss` needs N = B."""
        check_absent(position_ids=position_ids)
        model = self.model
        encode_image = self._encode_image(model, pixel_values, pixel_attention_mask, spatial_shapes)
        encode_text = self._encode_text(model, input_ids, attention_mask)
        return self._run(model, encode_image, encode_text, pixel_values, return_loss, outputs)
