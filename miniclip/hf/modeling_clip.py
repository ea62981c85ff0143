"""transformers' CLIP models; what they have in common with ALIGN's stands in `modeling`."""

from miniclip.hf.configuration import CLIPConfig, CLIPTextConfig, CLIPVisionConfig
from miniclip.hf.modeling import TowerModel, WholeModel, check_absent


class CLIPVisionModel(TowerModel):
    """transformers' CLIPVisionModel: the image tower without its projection."""

    config_class, tower, projected = CLIPVisionConfig, "visual", False
    embeds = "image_embeds"

    def forward(self, pixel_values=None, interpolate_pos_encoding=False, **look):
        return self._returned(self._see_image(pixel_values, interpolate_pos_encoding, **look), pixel_values, **look)


class CLIPVisionModelWithProjection(CLIPVisionModel):
    """transformers' CLIPVisionModelWithProjection: the image tower whose features lie in the shared space."""

    projected = True


class CLIPTextModel(TowerModel):
    """transformers' CLIPTextModel: the text tower without its projection."""

    config_class, tower, projected = CLIPTextConfig, "text", False
    embeds = "text_embeds"

    def forward(self, input_ids=None, attention_mask=None, position_ids=None, **look):
        check_absent(position_ids=position_ids)
        return self._returned(self._see_text(input_ids, attention_mask, **look), input_ids, **look)


class CLIPTextModelWithProjection(CLIPTextModel):
    """transformers' CLIPTextModelWithProjection: the text tower whose features lie in the shared space."""

    projected = True


class CLIPModel(WholeModel):
    """transformers' CLIPModel."""

    config_class, text_class, vision_class = CLIPConfig, CLIPTextModel, CLIPVisionModel

    def get_text_features(self, input_ids, attention_mask=None, position_ids=None):
        """Token ids (B, T) to features (B, E), not normalised: the features themselves."""
        check_absent(position_ids=position_ids)
        return self._text_features(input_ids, attention_mask)

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
        image = self._see_image(pixel_values, interpolate_pos_encoding, **look)
        return self._joined(image, self._see_text(input_ids, attention_mask, **look), pixel_values, return_loss)
