"""The configurations of OpenAI's nine models."""

from miniclip.config import CLIPConfig, ResNetConfig, TextConfig, VisionConfig

VOCABULARY = 49408  # ids of the official vocabulary: 256 bytes twice, 48,894 merges, 2 specials


def _openai_vit(patch_size, width, layers, text_width, embed_dim, image_size=224):
    vision = VisionConfig(image_size, patch_size, width, layers, heads=width // 64, mlp_width=4 * width)
    return CLIPConfig(vision, _openai_text(text_width), embed_dim)


def _openai_resnet(layers, width, image_size, text_width, embed_dim):
    vision = ResNetConfig(image_size, width, layers, heads=32 * width // 64)
    return CLIPConfig(vision, _openai_text(text_width), embed_dim)


def _openai_text(width):
    return TextConfig(77, VOCABULARY, width, 12, heads=width // 64, mlp_width=4 * width)


# As in OpenAI's checkpoints (CLIP, tables 19 and 20).
PRESETS = {
    "ViT-B/32": _openai_vit(32, 768, 12, text_width=512, embed_dim=512),
    "ViT-B/16": _openai_vit(16, 768, 12, text_width=512, embed_dim=512),
    "ViT-L/14": _openai_vit(14, 1024, 24, text_width=768, embed_dim=768),
    "ViT-L/14@336px": _openai_vit(14, 1024, 24, text_width=768, embed_dim=768, image_size=336),
    "RN50": _openai_resnet((3, 4, 6, 3), 64, image_size=224, text_width=512, embed_dim=1024),
    "RN101": _openai_resnet((3, 4, 23, 3), 64, image_size=224, text_width=512, embed_dim=512),
    "RN50x4": _openai_resnet((4, 6, 10, 6), 80, image_size=288, text_width=640, embed_dim=640),
    "RN50x16": _openai_resnet((6, 8, 18, 8), 96, image_size=384, text_width=768, embed_dim=768),
    "RN50x64": _openai_resnet((3, 15, 36, 10), 128, image_size=448, text_width=1024, embed_dim=1024),
}
