"""transformers' CLIP models; what they have in common with ALIGN's stands in `modeling`."""

from miniclip.hf.configuration import CLIPConfig, CLIPTextConfig, CLIPVisionConfig
from miniclip.hf.modeling import TowerModel, WholeModel, check_absent
from miniclip.hf.outputs import given


class CLIPVisionModel(TowerModel):
    """transformers' CLIPVisionModel: the image tower without its projection."""

    config_class, tower, projected = CLIPVisionConfig, "visual", False
    embeds = "image_embeds"

    def forward(self, pixel_values=None, interpolate_pos_encoding=False, **look):
        return self._seen(self._encode_image(pixel_values, interpolate_pos_encoding), pixel_values, **look)


class CLIPVisionModelWithProjection(CLIPVisionModel):
    """transformers' CLIPVisionModelWithProjection: the image tower whose features lie in the shared space."""

    projected = True


class CLIPTextModel(TowerModel):
    """transformers' CLIPTextModel: the text tower without its projection."""

    config_class, tower, projected = CLIPTextConfig, "text", False
    embeds = "text_embeds"

    def forward(self, input_ids=None, attention_mask=None, position_ids=None, **look):
        check_absent(position_ids=position_ids)
        return self._seen(self._encode_text(input_ids, attention_mask), input_ids, **look)


class CLIPTextModelWithProjection(CLIPTextModel):
    """transformers' CLIPTextModelWithProjection: the text tower whose features lie in the shared space."""

    projected = True


class CLIPModel(WholeModel):
    """transformers' CLIPModel."""

    config_class, text_class, vision_class = CLIPConfig, CLIPTextModel, CLIPVisionModel

    def get_image_features(self, pixel_values, interpolate_pos_encoding=False):
        """Pictures (B, 3, height, width) to features (B, E), not normalised: the features themselves."""
        return given(self.model.ops, pixel_values)(self._encode_image(pixel_values, interpolate_pos_encoding)())

    def get_text_features(self, input_ids, attention_mask=None, position_ids=None):
        """Token ids (B, T) to features (B, E), not normalised: the features themselves."""
        check_absent(position_ids=position_ids)
        return given(self.model.ops, input_ids)(self._encode_text(input_ids, attention_mask)())

    def forward(
        self,
        input_ids=None,
        pixel_values=None,
        attention_mask=None,
        position_ids=None,
        return_loss=None,
        interpolate_pos_encoding=False,
        **look,
    ):
        """CLIPOutput of B pictures and N texts, or of as many with `return_loss`: logits_per_image (B, N) and more.

        The `pooler_output` of `text_model_output` and `vision_model_output` is the features, as in transformers 5.
        """
        check_absent(position_ids=position_ids)
        encode_image = self._encode_image(pixel_values, interpolate_pos_encoding)
        encode_text = self._encode_text(input_ids, attention_mask)
        return self._joined(encode_image, encode_text, pixel_values, return_loss, **look)
