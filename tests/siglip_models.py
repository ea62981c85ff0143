"""transformers' SigLIP models of random weights, saved in directories, and inputs for them."""

import functools

import hf_models
import numpy as np
import pytest
import torch

IDS = {"bos_token_id": 1, "eos_token_id": 1}
TEXT = {
    "vocab_size": 60,
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 72,
    "max_position_embeddings": 16,
    "projection_size": 40,
    **IDS,
}
VISION = {
    "image_size": 30,
    "patch_size": 8,
    "hidden_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 5,
    "intermediate_size": 56,
}
SIZES = {
    "small": {"text_config": TEXT, "vision_config": VISION},
    "even": {
        "text_config": {**TEXT, "hidden_size": 64, "num_hidden_layers": 1, "projection_size": None},
        "vision_config": {**VISION, "image_size": 32, "hidden_size": 64, "num_attention_heads": 2},
    },
    "other activations": {
        "text_config": {**TEXT, "hidden_act": "gelu", "layer_norm_eps": 1e-3, "max_position_embeddings": 7},
        "vision_config": {
            **VISION,
            "hidden_act": "quick_gelu",
            "layer_norm_eps": 1e-3,
            "patch_size": 10,
            "num_channels": 1,
        },
    },
}


official = functools.partial(hf_models.official, "Siglip")


@pytest.fixture(scope="module", params=SIZES)
def pair(request, tmp_path_factory):
    """(transformers' model, the directory that it was saved in)."""
    model = official(SIZES[request.param])
    directory = tmp_path_factory.mktemp("siglip") / "m"
    model.save_pretrained(directory)
    return model, directory


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The directory of transformers' smallest model."""
    directory = tmp_path_factory.mktemp("small") / "m"
    official(SIZES["small"]).save_pretrained(directory)
    return directory


def batch(config, count=3):
    """Pictures, tokens, and lengths for an attention mask."""
    rng, vision, text = np.random.default_rng(1), config.vision_config, config.text_config
    images = rng.standard_normal((count, vision.num_channels, *[vision.image_size] * 2)).astype(np.float32)
    tokens = rng.integers(0, text.vocab_size, (count, text.max_position_embeddings))
    return images, tokens, np.array([tokens.shape[1], 1, 4][:count])


def masked(lengths, length):
    return torch.from_numpy((np.arange(length) < lengths[:, None]) * 1)


def forward(model, images, tokens, lengths=None):
    mask = {} if lengths is None else {"attention_mask": masked(lengths, tokens.shape[1])}
    with torch.no_grad():
        return model(
            input_ids=torch.from_numpy(tokens),
            pixel_values=torch.from_numpy(images),
            output_hidden_states=True,
            output_attentions=True,
            **mask,
        )
