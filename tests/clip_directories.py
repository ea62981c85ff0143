"""transformers' CLIP models, and the directories that they are saved in."""

import json

import pytest
import torch
from transformers import CLIPConfig, CLIPModel


def official_model():
    sizes = {"hidden_size": 64, "intermediate_size": 48, "num_attention_heads": 1}
    torch.manual_seed(0)
    return CLIPModel(
        CLIPConfig(
            vision_config={**sizes, "num_hidden_layers": 2, "image_size": 32, "patch_size": 8},
            text_config={**sizes, "num_hidden_layers": 12, "vocab_size": 99, "eos_token_id": 98, "bos_token_id": 97},
            projection_dim=16,
        )
    ).eval()


def save_perturbed(model, directory):
    """Move all parameters of a model away from 0 and 1, which would hide mistakes; save it, and return it."""
    with torch.no_grad():
        for parameter in model.eval().parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(directory)
    return model


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    path = tmp_path_factory.mktemp("hf") / "model"
    official_model().save_pretrained(path)
    return path


def change_config(directory, target, change):
    """A copy of a Hugging Face directory with its config.json changed."""
    target.mkdir(exist_ok=True)
    for file in directory.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    config = json.loads((directory / "config.json").read_text())
    change(config)
    (target / "config.json").write_text(json.dumps(config))
    return target
