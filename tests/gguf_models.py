"""transformers' CLIP models that clip.cpp can read, by their depths, saved in directories."""

import torch
from transformers import CLIPConfig, CLIPModel

SIZES = {
    "small": {
        "vision_config": {
            "hidden_size": 64,
            "intermediate_size": 160,
            "num_attention_heads": 2,
            "image_size": 48,
            "patch_size": 8,
            "hidden_act": "gelu",
        },
        "text_config": {
            "hidden_size": 96,
            "intermediate_size": 128,
            "num_attention_heads": 3,
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-4,
            "max_position_embeddings": 33,
        },
        "projection_dim": 32,
    },
    "ViT-B/32": {},
}


def save(name, directory):
    """A random model of these sizes, also in `directory`; no parameter keeps a special value such as 0 or 1."""
    torch.manual_seed(0)
    model = CLIPModel(CLIPConfig(**SIZES[name])).eval()
    with torch.no_grad():
        for x in model.parameters():
            if x.ndim < 2:
                x.add_(0.1 * torch.randn_like(x))
            elif name == "small":
                x.add_(0.05 * torch.randn_like(x))
    model.save_pretrained(directory)
    return model
