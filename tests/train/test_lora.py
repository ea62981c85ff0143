"""LoRA as functions: the pairs at the start, the merged weights and their gradients, on NumPy and on torch."""

import math

import numpy as np
import pytest
import torch

from miniclip import InputError, params
from miniclip.config import CLIPConfig, TextConfig, VisionConfig
from miniclip.model import CLIP
from miniclip.ops import numpy_ops, torch_ops
from miniclip.train import lora

TEXT = TextConfig(context_length=9, vocab_size=60, width=64, layers=1, heads=2, mlp_width=128)
VISION = VisionConfig(image_size=16, patch_size=8, width=64, layers=2, heads=1, mlp_width=128)
CONFIG = CLIPConfig(visual=VISION, text=TEXT, embed_dim=16)


@pytest.fixture
def tree():
    rng = np.random.default_rng(0)
    return params.tree_map(lambda shape: 0.1 * rng.standard_normal(shape).astype(np.float32), CONFIG.shapes())


def test_all_linear_are_the_layers_that_peft_would_take(tree):
    found = lora.targets(tree)
    assert len(found) == 3 * 4 + 2 and "text.projection.weight" in found
    assert not any("embed" in name or name.endswith("bias") for name in found)
    assert lora.targets(tree, ["visual.blocks.1", "text.embed"]) == [
        *(f"visual.blocks.1.{part}.weight" for part in ("attention.qkv", "attention.out", "mlp.fc", "mlp.proj")),
        "text.embed.table",
    ]
    for pattern in ("visual.ln_pre", "*.bias", "layer"):
        with pytest.raises(InputError, match="no parameter is named by"):
            lora.targets(tree, [lora.ALL_LINEAR, pattern])


def test_training_starts_from_the_model_as_it_was(tree):
    names = lora.targets(tree, [lora.ALL_LINEAR, "embeddings"])
    adapter = lora.init(tree, 4, names, np.random.default_rng(0))
    merged = params.flatten(lora.merge(tree, adapter, 2.0))
    assert list(merged) == list(params.flatten(tree))
    for name, x in params.flatten(tree).items():
        assert np.array_equal(merged[name], x) and merged[name].dtype == np.float32
    assert lora.merge(tree, adapter, 2.0)["visual"]["ln_pre"]["bias"] is tree["visual"]["ln_pre"]["bias"]


def test_a_is_drawn_as_peft_draws_it(tree):
    """torch's kaiming_uniform_ with a = √5, for tables of embeddings a normal distribution; B is zeros."""
    names = lora.targets(tree, [lora.ALL_LINEAR, "embeddings"])
    adapter = lora.init(tree, 50, names, np.random.default_rng(0))
    for name, part in (("visual.blocks.0.mlp.proj.weight", 128), ("visual.patch_embed.weight", 3 * 8 * 8)):
        theirs = torch.nn.init.kaiming_uniform_(torch.empty(50, part), a=math.sqrt(5))
        ours, B = adapter[name]
        assert ours.shape == (50, part) and B.shape == (64, 50) and not B.any()
        assert ours.std() == pytest.approx(theirs.std().item(), rel=0.05)
        assert 0.99 < abs(ours).max() * part**0.5 <= 1
    A, B = adapter["text.embed.table"]
    assert A.shape == (50, 64) and B.shape == (60, 50) and A.std() == pytest.approx(1, rel=0.05)
    A, B = adapter["visual.blocks.1.attention.qkv.weight"]
    assert A.shape == (3, 50, 64) and B.shape == (3, 64, 50)


def test_the_update_of_a_packed_weight_is_that_of_its_three_parts(tree):
    rng = np.random.default_rng(1)
    name = "visual.blocks.1.attention.qkv.weight"
    adapter = {name: (rng.standard_normal((3, 4, 64)), rng.standard_normal((3, 64, 4)))}
    merged = params.flatten(lora.merge(tree, adapter, 0.5))[name]
    before = params.flatten(tree)[name]
    for i, (A, B) in enumerate(zip(*adapter[name])):
        rows = slice(64 * i, 64 * (i + 1))
        assert merged[rows] == pytest.approx(before[rows] + 0.5 * B @ A, abs=1e-6)
    assert lora.trained_parameters(adapter) == 2 * 3 * 4 * 64


def test_gradients_reach_the_pairs_and_nothing_else(tree):
    tokens, images = np.array([[58, 3, 59], [58, 59, 0]]), np.ones((2, 3, 16, 16), np.float32)
    adapter = lora.init(tree, 2, lora.targets(tree), np.random.default_rng(0))
    tensors = {name: [torch.tensor(x, requires_grad=True) for x in pair] for name, pair in adapter.items()}
    frozen = params.tree_map(torch.as_tensor, tree)
    for _ in range(2):  # while B is zeros, A has no gradient
        model = CLIP(CONFIG, lora.merge(frozen, tensors, 2.0), torch_ops)
        loss = (model.encode_image(torch.from_numpy(images)) * model.encode_text(tokens)).sum()
        loss.backward()
        with torch.no_grad():
            for pair in tensors.values():
                for x in pair:
                    x -= 0.1 * x.grad
    assert all(x.grad.abs().max() > 0 for pair in tensors.values() for x in pair)
    assert not any(x.requires_grad for x in params.flatten(frozen).values())
    theirs = CLIP(CONFIG, lora.merge(frozen, tensors, 2.0), torch_ops).encode_image(torch.from_numpy(images))
    arrays = {name: [x.detach().numpy() for x in pair] for name, pair in tensors.items()}
    ours = CLIP(CONFIG, lora.merge(tree, arrays, 2.0), numpy_ops).encode_image(images)
    assert ours == pytest.approx(theirs.detach().numpy(), rel=1e-5, abs=1e-5)


def test_what_cannot_have_a_pair_is_refused(tree):
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match="the rank is 0, expected 1 or more"):
        lora.init(tree, 0, lora.targets(tree), rng)
    for name in ("visual.ln_pre.weight", "visual.blocks.9.mlp.fc.weight", "logit_scale"):
        with pytest.raises(InputError, match=f"{name} is not a weight of this model"):
            lora.init(tree, 2, [name], rng)
    with pytest.raises(InputError, match="no weight is named for LoRA"):
        lora.init(tree, 2, [], rng)
