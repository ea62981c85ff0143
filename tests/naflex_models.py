"""transformers' Siglip2Model, NaFlex, of random weights, saved in directories, and inputs for it."""

import functools
import warnings

import hf_models
import numpy as np
import pytest
import torch
import transformers
from siglip_models import TEXT
from transformers import Siglip2ImageProcessorPil

VISION = {
    "num_patches": 25,
    "patch_size": 8,
    "hidden_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 5,
    "intermediate_size": 56,
}
PATCHES = 30  # at most in a picture
SIZES = {
    "small": {"text_config": TEXT, "vision_config": VISION},
    "other activations": {
        "text_config": {**TEXT, "hidden_act": "gelu", "layer_norm_eps": 1e-3},
        "vision_config": {**VISION, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-3, "patch_size": 4},
    },
}


official = functools.partial(hf_models.official, "Siglip2")


def save(sizes, directory):
    """transformers' model of these sizes, which is saved, with the settings of its pictures, in a directory."""
    model = official(sizes)
    model.save_pretrained(directory)
    image_processor(model.config.vision_config.patch_size).save_pretrained(directory)
    return model


def save_whole(directory, kind, vocabulary):
    """The same with the tokenizer of a directory, of this class of transformers; texts of 64 tokens, patches of 16."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tokenizer = getattr(transformers, kind).from_pretrained(vocabulary)
    text = {**TEXT, "vocab_size": len(tokenizer), "max_position_embeddings": 64}
    save({"text_config": text, "vision_config": {**VISION, "patch_size": 16}}, directory)
    transformers.Siglip2Processor(image_processor(16), tokenizer).save_pretrained(directory)


def image_processor(patch_size=8, **settings):
    return Siglip2ImageProcessorPil(**{"patch_size": patch_size, "max_num_patches": PATCHES, **settings})


@pytest.fixture(scope="module", params=SIZES)
def pair(request, tmp_path_factory):
    """(transformers' model, the directory that it was saved in)."""
    directory = tmp_path_factory.mktemp("naflex") / "m"
    return save(SIZES[request.param], directory), directory


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The directory of transformers' smallest model."""
    directory = tmp_path_factory.mktemp("small") / "m"
    save(SIZES["small"], directory)
    return directory


def pictures(count=4):
    """Pictures (height, width, 3) of uint8 of as many shapes."""
    rng, shapes = np.random.default_rng(1), [(40, 40), (30, 90), (200, 60), (7, 11), (64, 48), (5, 300)]
    return [rng.integers(0, 256, (*shape, 3), np.uint8) for shape in shapes[:count]]


def tokens(config, count=3):
    return np.random.default_rng(2).integers(0, config.text_config.vocab_size, (count, 16))


def forward(model, inputs, tokens):
    """transformers' outputs for an image processor's `inputs`, of arrays."""
    with torch.no_grad():
        return model(
            input_ids=torch.from_numpy(tokens),
            **{name: torch.from_numpy(x) for name, x in inputs.items()},
            output_hidden_states=True,
            output_attentions=True,
        )
