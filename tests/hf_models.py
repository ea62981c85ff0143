"""transformers' models of all families, saved in directories; inputs for them; and a comparison of outputs."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch
import transformers

TEXT = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 72,
    "vocab_size": 60,
    "max_position_embeddings": 20,
}
VISION = {
    "hidden_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 5,
    "intermediate_size": 56,
    "image_size": 30,
    "patch_size": 8,
}
EFFICIENT = {
    "image_size": 65,
    "width_coefficient": 0.5,
    "depth_coefficient": 0.6,
    "depth_divisor": 2,
    "in_channels": [32, 8, 12],
    "out_channels": [8, 12, 32],
    "kernel_sizes": [3, 3, 5],
    "strides": [1, 2, 2],
    "num_block_repeats": [1, 3, 2],
    "expand_ratios": [1, 6, 6],
}
CLIP = {
    "end of text by id": {
        "text_config": {**TEXT, "eos_token_id": 50, "hidden_act": "gelu"},
        "vision_config": VISION,
        "projection_dim": 24,
    },
    "by the highest id": {
        "text_config": {**TEXT, "eos_token_id": 2, "num_hidden_layers": 1},
        "vision_config": {**VISION, "image_size": 16, "hidden_act": "gelu", "num_hidden_layers": 1},
        "projection_dim": 8,
    },
}
ALIGN = {
    "small": {"text_config": TEXT, "vision_config": EFFICIENT, "projection_dim": 16},
    "wider": {
        "text_config": {**TEXT, "num_hidden_layers": 1, "pad_token_id": 5},
        "vision_config": {
            **EFFICIENT,
            **{"image_size": 64, "width_coefficient": 1.0, "depthwise_padding": [2], "batch_norm_eps": 0.1},
        },
        "projection_dim": 32,
    },
}
SIGLIP = {
    "small": {
        "text_config": {**TEXT, "projection_size": 40, "eos_token_id": 1, "bos_token_id": 1},
        "vision_config": VISION,
    },
    "wider": {
        "text_config": {**TEXT, "num_hidden_layers": 1, "eos_token_id": 1, "bos_token_id": 1},
        "vision_config": {
            **VISION,
            "hidden_size": 48,
            "num_attention_heads": 2,
            "image_size": 32,
            "hidden_act": "gelu",
        },
    },
}
CHINESE = {
    "small": {"text_config": TEXT, "vision_config": VISION, "projection_dim": 24},
    "wider": {
        "text_config": {**TEXT, "num_hidden_layers": 1, "pad_token_id": 5, "hidden_act": "quick_gelu"},
        "vision_config": {**VISION, "image_size": 32, "hidden_act": "gelu"},
        "projection_dim": 56,
    },
}
ALT = {
    "small": {
        "text_config": {**TEXT, "project_dim": 36, "type_vocab_size": 2},
        "vision_config": VISION,
        "projection_dim": 4,
    },
    "wider": {
        "text_config": {**TEXT, "num_hidden_layers": 1, "pad_token_id": 5, "project_dim": 60, "type_vocab_size": 3},
        "vision_config": {**VISION, "image_size": 32, "hidden_act": "gelu"},
        "projection_dim": 6,
    },
}
SIZES = {("CLIP", name): sizes for name, sizes in CLIP.items()} | {("Align", name): x for name, x in ALIGN.items()}
SIZES |= {("Siglip", name): x for name, x in SIGLIP.items()}
PATCHES = {name: x for name, x in VISION.items() if name != "image_size"}
SIGLIP2 = {"small": {"text_config": SIGLIP["small"]["text_config"], "vision_config": {**PATCHES, "num_patches": 16}}}
SIZES |= {("Siglip2", name): x for name, x in SIGLIP2.items()}
SIZES |= {("ChineseCLIP", name): x for name, x in CHINESE.items()} | {("AltCLIP", name): x for name, x in ALT.items()}


def official(family, sizes):
    """transformers' model, without parameters or statistics of 0 or 1, which would hide mistakes."""
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**sizes)
    model = getattr(transformers, f"{family}Model")._from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for name, x in [*model.named_parameters(), *model.named_buffers()]:
            if name.endswith("running_var"):
                x.uniform_(0.5, 2)
            elif name in ("logit_scale", "logit_bias") and family.startswith("Siglip"):
                x.fill_({"logit_scale": 2.3, "logit_bias": -3.5}[name])
            elif name == "temperature":
                x.fill_(0.01)  # spreads the logits, so that label smoothing changes the loss
            elif x.ndim == 4 and family == "Align":  # so that values neither vanish nor explode through 55 blocks
                torch.nn.init.kaiming_normal_(x, nonlinearity="linear").mul_(1.37)
            elif name.endswith("position_embeddings.weight") and family != "Align":
                x.normal_()  # large enough to matter
            elif name.endswith("transformation.weight"):
                x.normal_(std=0.2)  # so that texts differ
            elif x.is_floating_point() and x.ndim == 1:
                x.add_(0.1 * torch.randn_like(x))
    return model


@pytest.fixture(scope="module", params=SIZES, ids=" ".join)
def saved(request, tmp_path_factory):
    """(family, transformers' model, the directory it is saved in)."""
    family, _ = request.param
    model = official(family, SIZES[request.param])
    directory = tmp_path_factory.mktemp("official") / "m"
    model.save_pretrained(directory)
    return family, model, directory


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    directory = tmp_path_factory.mktemp("clip") / "m"
    official("CLIP", CLIP["end of text by id"]).save_pretrained(directory)
    return directory


def batch(config, kind=torch.from_numpy, masked=True):
    """Three pictures and three texts, two of them padded, as keyword arguments of the whole model."""
    rng, text = np.random.default_rng(1), config.text_config
    end = getattr(text, "eos_token_id", None)
    end = text.vocab_size - 1 if end in (None, 2) else end
    tokens = rng.integers(6, 50, (3, 11))
    lengths = np.array([11, 2, 6])
    tokens[np.arange(3), lengths - 1] = end
    mask = (np.arange(11) < lengths[:, None]) * 1
    is_bert = hasattr(text, "type_vocab_size")
    tokens[mask == 0] = text.pad_token_id if is_bert else end
    if hasattr(text, "project_dim"):
        tokens[0, 4] = text.pad_token_id  # an XLM-RoBERTa's positions do not count it
    inputs = {"input_ids": tokens, **({"attention_mask": mask} if masked else {})}
    if hasattr(config.vision_config, "num_patches"):  # pictures of any shape
        grids = np.array([[3, 4], [2, 3], [1, 12]])
        inputs["pixel_values"] = rng.standard_normal((3, 12, 3 * config.vision_config.patch_size**2), np.float32)
        inputs["spatial_shapes"] = grids
        if masked:
            inputs["pixel_attention_mask"] = (np.arange(12) < grids.prod(1)[:, None]) * 1
    else:
        side = config.vision_config.image_size
        inputs["pixel_values"] = rng.standard_normal((3, 3, side, side)).astype(np.float32)
    return {name: kind(x) for name, x in inputs.items()}


ONE = {"Vision": ["pixel_values", "pixel_attention_mask", "spatial_shapes"], "Text": ["input_ids", "attention_mask"]}


def of_tower(inputs, tower):
    return {name: inputs[name] for name in ONE[tower] if name in inputs}


def logits(model, inputs):
    with torch.no_grad():
        return model(**inputs).logits_per_image


def compare(ours, theirs, error, name="output"):
    """Compare every field, by key, attribute and position."""
    if isinstance(theirs, Mapping):
        assert list(ours) == list(theirs) == list(ours.keys()) and len(ours) == len(theirs)
        for i, key in enumerate(theirs):
            assert ours[key] is getattr(ours, key)
            compare(ours[key], theirs[key], error, f"{name}.{key}")
            compare(ours[i], theirs[i], error, f"{name}[{i}]")
    elif isinstance(theirs, tuple):
        assert isinstance(ours, tuple) and len(ours) == len(theirs)
        for i, (x, y) in enumerate(zip(ours, theirs)):
            compare(x, y, error, f"{name}[{i}]")
    else:
        x, y = np.asarray(getattr(ours, "detach", lambda: ours)()), theirs.detach().numpy()
        assert x.shape == y.shape and np.abs(y).max() > 1e-4, name
        assert error(x, y) < 1e-5, f"{name} is off by {error(x, y):.1e} of its largest value"


LOOK = {"output_hidden_states": True, "output_attentions": True}

TOWERS = {
    "CLIP": ["CLIPVisionModel", "CLIPVisionModelWithProjection", "CLIPTextModel", "CLIPTextModelWithProjection"],
    "Align": ["AlignVisionModel", "AlignTextModel"],
    "Siglip": ["SiglipVisionModel", "SiglipTextModel"],
    "Siglip2": ["Siglip2VisionModel", "Siglip2TextModel"],
    "ChineseCLIP": ["ChineseCLIPVisionModel", "ChineseCLIPTextModel"],
    "AltCLIP": ["AltCLIPVisionModel", "AltCLIPTextModel"],
}
