"""transformers' CLIP models, and the arguments of their calls, which SigLIP's have too.

`modeling` has the parts that they share with ALIGN's.
"""

from typing import Any

from miniclip.hf.configuration import CLIPConfig, CLIPTextConfig, CLIPVisionConfig
from miniclip.hf.modeling import TowerModel, WholeModel, check_absent


class VisionArguments(TowerModel):
    """An image tower that is called with CLIP's arguments."""

    tower, projected = "visual", False
    main_input_name, input_embeddings = "pixel_values", "patch_embedding"

    @property
    def vision_model(self) -> Any:
        """This model itself: its name for users of transformers 4."""
        return self

    def forward(self, pixel_values: Any = None, interpolate_pos_encoding: bool = False, **outputs: Any) -> Any:
        model = self.model
        return self._run(
            model, self._encode_image(model, pixel_values, interpolate_pos_encoding), pixel_values, outputs
        )


class TextArguments(TowerModel):
    """A text tower that is called with CLIP's arguments."""

    tower, projected, input_embeddings = "text", False, "token_embedding"

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


class ImageFeatures(WholeModel):
    """A whole model whose `get_image_features` is called with CLIP's arguments."""

    def get_image_features(
        self, pixel_values: Any, interpolate_pos_encoding: bool = False, return_dict: bool | None = None, **outputs: Any
    ) -> Any:
        """Pictures (B, 3, height, width) to features (B, E), not normalised."""
        model = self.model
        encode = self._encode_image(model, pixel_values, interpolate_pos_encoding)
        return self._features(model, encode, "visual", pixel_values, {"return_dict": return_dict, **outputs})


class WholeArguments(ImageFeatures):
    """A whole model that is called with CLIP's arguments."""

    def get_text_features(
        self,
        input_ids: Any,
        attention_mask: Any = None,
        position_ids: Any = None,
        return_dict: bool | None = None,
        **outputs: Any,
    ) -> Any:
        """Token ids (B, T) to features (B, E), not normalised."""
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
        """The output for B pictures and N texts: logits_per_image (B, N) and more. `return_loss` needs N = B.

        `text_model_output` and `vision_model_output` have the features as `pooler_output`, as in transformers 5.
        """
        check_absent(position_ids=position_ids)
        model = self.model
        encode_image = self._encode_image(model, pixel_values, interpolate_pos_encoding)
        encode_text = self._encode_text(model, input_ids, attention_mask)
        return self._run(model, encode_image, encode_text, pixel_values, return_loss, outputs)


class CLIPVisionModel(VisionArguments):
    """transformers' CLIPVisionModel: the image tower without its projection."""

    config_class, embeds = CLIPVisionConfig, "image_embeds"

    @property
    def vision_model(self) -> Any:
        """The tower without projection: another module, or, as for users of transformers 4, this one itself."""
        return self if not self._parts() else self._part("vision_model")


class CLIPVisionModelWithProjection(CLIPVisionModel):
    """transformers' CLIPVisionModelWithProjection: the image tower with its projection to the shared space."""

    projected, base_model_prefix = True, "vision_model"

    def _parts(self):
        return {"vision_model": (CLIPVisionModel, self.config, "visual")}


class CLIPTextModel(TextArguments):
    """transformers' CLIPTextModel: the text tower without its projection."""

    config_class, embeds = CLIPTextConfig, "text_embeds"

    @property
    def text_model(self) -> Any:
        """The tower without projection: another module, or, as for users of transformers 4, this one itself."""
        return self if not self._parts() else self._part("text_model")


class CLIPTextModelWithProjection(CLIPTextModel):
    """transformers' CLIPTextModelWithProjection: the text tower with its projection to the shared space."""

    projected, base_model_prefix = True, "text_model"

    def _parts(self):
        return {"text_model": (CLIPTextModel, self.config, "text")}


class CLIPModel(WholeArguments):
    """transformers' CLIPModel."""

    config_class, text_class, vision_class = CLIPConfig, CLIPTextModel, CLIPVisionModel
    base_model_prefix = "clip"
