"""transformers' ALIGN models of random weights, saved in directories, and inputs for them."""

import numpy as np
import pytest
import torch
from small_vocabularies import SPECIAL
from transformers import AlignConfig, AlignModel, EfficientNetImageProcessor

from miniclip.tokenizers.wordpiece import WordPiece

TEXT = {
    "vocab_size": 60,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 96,
    "max_position_embeddings": 20,
}
VISION = {
    "image_size": 65,
    "width_coefficient": 0.5,
    "depth_coefficient": 0.6,
    "depth_divisor": 2,
    "in_channels": [32, 8, 12, 20, 24],
    "out_channels": [8, 12, 20, 24, 32],
    "kernel_sizes": [3, 3, 5, 3, 5],
    "strides": [1, 2, 2, 2, 1],
    "num_block_repeats": [1, 2, 2, 3, 3],
    "expand_ratios": [1, 6, 6, 6, 6],
    "depthwise_padding": [2],
}
SIZES = {
    "small": {"projection_dim": 16, "text_config": TEXT, "vision_config": VISION},
    "even": {
        "projection_dim": 40,
        "text_config": {
            **TEXT,
            **{"num_hidden_layers": 1, "num_attention_heads": 4, "type_vocab_size": 3, "pad_token_id": 5},
        },
        "vision_config": {
            **VISION,
            **{"image_size": 64, "width_coefficient": 1.2, "depth_coefficient": 1.1, "depth_divisor": 8},
        },
    },
    "no expansion": {
        "projection_dim": 24,
        "text_config": {**TEXT, "hidden_act": "relu", "layer_norm_eps": 1e-5},
        "vision_config": {
            **VISION,
            **{"in_channels": [32], "out_channels": [24], "kernel_sizes": [7], "strides": [2], "expand_ratios": [1]},
            **{"num_block_repeats": [3], "squeeze_expansion_ratio": 0.01},
            **{"width_coefficient": 1.0, "hidden_act": "relu"},
        },
    },
}  # fmt: skip


def official(sizes):
    """transformers' AlignModel in evaluation mode; no parameter or statistic keeps a special value such as 0 or 1."""
    torch.manual_seed(0)
    model = AlignModel(AlignConfig(**sizes)).eval()
    with torch.no_grad():
        for name, x in [*model.named_parameters(), *model.named_buffers()]:
            if name.endswith("running_var"):
                x.uniform_(0.5, 2)
            elif name == "temperature":
                x.fill_(0.07)
            elif x.is_floating_point() and x.ndim == 1:
                x.add_(0.1 * torch.randn_like(x))
    return model


@pytest.fixture(scope="module", params=SIZES)
def pair(request, tmp_path_factory):
    """(transformers' model, the directory that it was saved in)."""
    model = official(SIZES[request.param])
    directory = tmp_path_factory.mktemp("align") / "m"
    model.save_pretrained(directory)
    return model, directory


FIXED = {  # as in kakaobrain/align-base's preprocessor_config.json
    "do_center_crop": True,
    "do_normalize": False,
    "include_top": False,
    "resample": 2,
    "rescale_factor": 1 / 127.5,
    "rescale_offset": True,
}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The directory of transformers' smallest model, with a vocabulary and the settings of its pictures."""
    directory = tmp_path_factory.mktemp("small") / "m"
    official(SIZES["small"]).save_pretrained(directory)
    pieces = [*SPECIAL, *"abcdefghijklmnopqrstuvwxyz", *(f"##{c}" for c in "abcdefghi")]
    WordPiece([*pieces, *(f"x{i}" for i in range(60 - len(pieces)))]).save(directory / "vocab.txt")
    settings = {"size": {"height": 78, "width": 78}, "crop_size": {"height": 65, "width": 65}, **FIXED}
    EfficientNetImageProcessor(**settings).save_pretrained(directory)
    return directory


def batch(config, count=3, length=11):
    """Pictures, tokens (all texts but one end early), and the lengths of the texts."""
    rng, side = np.random.default_rng(1), config.vision_config.image_size
    images = rng.standard_normal((count, 3, side, side)).astype(np.float32)
    pad = config.text_config.pad_token_id
    tokens = rng.integers(6, 60, (count, length))
    lengths = np.array([length, 1, 6][:count])
    tokens[np.arange(length) >= lengths[:, None]] = pad
    return images, tokens, lengths


def forward(model, images, tokens, lengths, **options):
    mask = torch.from_numpy((np.arange(tokens.shape[1]) < lengths[:, None]) * 1)
    with torch.no_grad():
        inputs = {
            "pixel_values": torch.from_numpy(images),
            "input_ids": torch.from_numpy(tokens),
            "attention_mask": mask,
        }
        return model(**inputs, output_hidden_states=True, output_attentions=True, **options)
