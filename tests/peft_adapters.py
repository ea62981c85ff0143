"""Adapters with random weights, as PEFT writes them, with the features that PEFT gives, and ours."""

import json
import warnings

import numpy as np
import pytest
import torch
from hf_models import ALIGN, CLIP, TEXT, VISION, batch, official

from miniclip.checkpoints import peft as adapters
from miniclip.formats import safetensors

peft = pytest.importorskip("peft", reason="pip install peft")
transformers = pytest.importorskip("transformers")

SIZES = {"CLIP": CLIP["end of text by id"], "Align": ALIGN["small"]}
AS_OPENAI = {"text_config": {**TEXT, "eos_token_id": 2}, "vision_config": VISION, "projection_dim": 24}


def trained(model, **settings):
    """PEFT's model with an adapter whose every parameter has been trained: none is 0."""
    torch.manual_seed(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fan_in_fan_out, and embeddings
        model = peft.get_peft_model(model, peft.LoraConfig(**{"r": 4, "lora_alpha": 8, **settings}))
    with torch.no_grad():
        for x in model.parameters():
            if x.requires_grad:
                x.add_(0.1 * torch.randn_like(x))
    return model.eval()


def features(model, inputs):
    """[those of pictures, those of texts] of a model of transformers or PEFT."""
    images = {"pixel_values": inputs["pixel_values"]}
    texts = {name: x for name, x in inputs.items() if name != "pixel_values"}
    with torch.no_grad():
        found = model.get_image_features(**images), model.get_text_features(**texts)
    return [x.pooler_output.numpy() for x in found]


def ours(model, inputs):
    padded = {"lengths": inputs["attention_mask"].numpy().sum(1)} if model.config.family == "align" else {}
    texts = model.encode_text(inputs["input_ids"].numpy(), **padded)
    return [model.encode_image(inputs["pixel_values"].numpy()), texts]


def check(found, wanted, tolerance):
    for x, y in zip(found, wanted):
        assert np.abs(x - y).max() <= tolerance * np.abs(y).max()


def made(tmp_path, family="CLIP", sizes=None, **settings):
    """(the base's directory, the adapter's, inputs, features of the adapted model, and of the merged one)."""
    model = official(family, sizes or SIZES[family])
    model.save_pretrained(tmp_path / "base")
    inputs, before = batch(model.config), features(model, batch(model.config))
    model.name_or_path = str(tmp_path / "base")  # what transformers remembers of a model that it has loaded
    model = trained(model, **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # embeddings are saved too
        model.save_pretrained(tmp_path / "adapter")
    apart, merged = features(model, inputs), features(model.merge_and_unload(), inputs)
    assert max(np.abs(x - y).max() for x, y in zip(before, apart)) > 1e-3  # the adapter changes something
    return tmp_path / "base", tmp_path / "adapter", inputs, apart, merged


def changed(adapter, target, change):
    """A copy of an adapter's directory; `change(settings, tensors)` changes what is in its files."""
    settings = json.loads((adapter / adapters.CONFIG).read_text())
    tensors, metadata = safetensors.read(adapter / adapters.WEIGHTS[0])
    change(settings, tensors)
    target.mkdir()
    (target / adapters.CONFIG).write_text(json.dumps(settings))
    safetensors.write(target / adapters.WEIGHTS[0], tensors, metadata)
    return target
