"""transformers' CLIP models; `modeling` has the parts that they share with ALIGN's."""

from miniclip.hf.configuration import CLIPConfig, CLIPTextConfig, CLIPVisionConfig
from miniclip.hf.modeling import TowerModel, WholeModel, check_absent
from miniclip.hf.outputs import converter_like


class CLIPVisionModel(TowerModel):
    """transformers' CLIPVisionModel: the image tower without its projection."""

    config_class, tower, projected = CLIPVisionConfig, "visual", False
    embeds = "image_embeds"

    def forward(self, pixel_values=None, interpolate_pos_encoding=False, **outputs):
        return self._run(self._encode_image(pixel_values, interpolate_pos_encoding), pixel_values, **outputs)


class CLIPVisionModelWithProjection(CLIPVisionModel):
    """transformers' CLIPVisionModelWithProjection: the image tower with its projection to the shared space."""

    projected = True


class CLIPTextModel(TowerModel):
    """transformers' CLIPTextModel: the text tower without its projection."""

    config_class, tower, projected = CLIPTextConfig, "text", False
    embeds = "text_embeds"

    def forward(self, input_ids=None, attention_mask=None, position_ids=None, **outputs):
        check_absent(position_ids=position_ids)
        return self._run(self._encode_text(input_ids, attention_mask), input_ids, **outputs)


class CLIPTextModelWithProjection(CLIPTextModel):
    """transformers' CLIPTextModelWithProjection: the text tower with its projection to the shared space."""

    projected = True


class CLIPModel(WholeModel):
    """transformers' CLIPModel."""

    config_class, text_class, vision_class = CLIPConfig, CLIPTextModel, CLIPVisionModel

    def get_image_features(self, pixel_values, interpolate_pos_encoding=False):
        """Pictures (B, 3, height, width) to features (B, E), not normalised."""
        features = self._encode_image(pixel_values, interpolate_pos_encoding)()
        return converter_like(pixel_values, self.model.ops)(features)

    def get_text_features(self, input_ids, attention_mask=None, position_ids=None):
        """Token ids (B, T) to features (B, E), not normalised."""
        check_absent(position_ids=position_ids)
        features = self._encode_text(input_ids, attention_mask)()
        return converter_like(input_ids, self.model.ops)(features)

    def forward(
        self,
        input_ids=None,
        pixel_values=None,
        attention_mask=None,
        position_ids=None,
        return_loss=None,
        interpolate_pos_encoding=False,
        **outputs,
    ):
        """CLIPOutput of B pictures and N texts: logits_per_image (B, N) and more. `return_loss` needs N = B.

        `text_model_output` and `vision_model_output` have the features as `pooler_output`, as in transformers 5.
        """
        check_absent(position_ids=position_ids)
        encode_image = self._encode_image(pixel_values, interpolate_pos_encoding)
        encode_text = self._encode_text(input_ids, attention_mask)
        return self._run(encode_image, encode_text, pixel_values, return_loss, **outputs)
