"""The losses against the official ones of CLIP, ALIGN and SigLIP, on every backend, and their laws."""

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from backends import HERE
from transformers.models.align import modeling_align
from transformers.models.clip import modeling_clip
from transformers.models.siglip import SiglipConfig, SiglipModel

from miniclip.loss import contrastive_loss, contrastive_loss_gradient, sigmoid_loss, sigmoid_loss_gradient
from miniclip.ops import select

OFFICIAL = {
    "CLIP": (getattr(modeling_clip, "image_text_contrastive_loss", None) or modeling_clip.clip_loss, {}),
    "ALIGN": (modeling_align.align_loss, {"label_smoothing": 0.1}),
}


@pytest.mark.parametrize("backend", HERE)
@pytest.mark.parametrize("model", OFFICIAL)
def test_the_loss_is_the_official_one(backend, model):
    official, options = OFFICIAL[model]
    ops = select(backend)
    for scale in (1, 100):
        logits = scale * np.random.default_rng(0).standard_normal((7, 7)).astype(np.float32)
        ours = contrastive_loss(ops.asarray(logits), ops=ops, **options)
        assert float(ours) == pytest.approx(official(torch.from_numpy(logits)).item(), rel=1e-6)


def test_equal_logits_cost_the_logarithm_of_the_batch():
    assert contrastive_loss(np.full((9, 9), 3.0)) == pytest.approx(math.log(9))
    assert contrastive_loss(np.full((9, 9), 3.0), label_smoothing=0.1) == pytest.approx(math.log(9))


def test_its_gradient_is_what_torch_says_of_the_official_one():
    for official, options in OFFICIAL.values():
        ours, theirs = (torch.randn(5, 5, generator=torch.Generator().manual_seed(0), requires_grad=True) for _ in "ab")
        contrastive_loss(ours, ops=select("torch"), **options).backward()
        official(theirs).backward()
        torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize("model", OFFICIAL)
def test_the_gradient_by_hand_is_torchs_of_the_official_loss(model):
    official, options = OFFICIAL[model]
    logits = torch.randn(6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64, requires_grad=True)
    official(logits).backward()
    by_hand = contrastive_loss_gradient(logits.detach().numpy(), **options)
    np.testing.assert_allclose(by_hand, logits.grad.numpy(), rtol=0, atol=1e-15)


# ------------------------------------------------------------------------------------------- the sigmoid loss


@pytest.fixture(scope="module")
def siglip_output():
    """Logits and loss of transformers' SigLIP, of random weights."""
    torch.manual_seed(0)
    tower = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision, text = (
        {**tower, "image_size": 8, "patch_size": 4},
        {**tower, "vocab_size": 50, "max_position_embeddings": 6},
    )
    model = SiglipModel(SiglipConfig(text_config=text, vision_config=vision)).eval()
    with torch.no_grad():
        model.logit_scale.fill_(math.log(10))
        model.logit_bias.fill_(-2)
        return model(torch.randint(50, (5, 6)), torch.randn(5, 3, 8, 8), return_loss=True)


@pytest.fixture(scope="module")
def open_clip_loss():
    """open_clip's SigLipLoss, from its file: the package imports torchvision."""
    package = importlib.util.find_spec("open_clip")
    if package is None:
        pytest.skip("pip install --no-deps open_clip_torch")
    spec = importlib.util.spec_from_file_location("open_clip_loss", Path(package.origin).with_name("loss.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.SigLipLoss()


@pytest.mark.parametrize("backend", HERE)
def test_the_sigmoid_loss_is_the_official_one(backend, siglip_output, open_clip_loss):
    ops = select(backend)
    logits = siglip_output.logits_per_image.numpy()
    assert float(sigmoid_loss(ops.asarray(logits), ops=ops)) == pytest.approx(siglip_output.loss.item(), rel=1e-6)
    for scale, bias in ((1, -10.0), (100, 0.0)):  # the start of training, and large logits
        cosines = np.random.default_rng(0).uniform(-1, 1, (7, 7)).astype(np.float32)
        theirs = open_clip_loss(torch.from_numpy(cosines), torch.eye(7), scale, bias).item()
        ours = sigmoid_loss(ops.asarray(scale * cosines + np.float32(bias)), ops=ops)
        assert float(ours) == pytest.approx(theirs, rel=1e-6)


def test_the_gradient_of_the_sigmoid_loss_by_hand_is_torchs_of_the_official_loss(open_clip_loss):
    logits = 5 * torch.randn(6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    open_clip_loss(theirs, torch.eye(6, dtype=torch.float64), 1.0, 0.0).backward()
    sigmoid_loss(ours, ops=select("torch")).backward()
    np.testing.assert_allclose(sigmoid_loss_gradient(logits.numpy()), theirs.grad.numpy(), rtol=0, atol=1e-15)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=1e-15)


def test_undecided_pairs_cost_the_logarithm_of_two_for_each_text():
    assert sigmoid_loss(np.zeros((9, 9))) == pytest.approx(9 * math.log(2))
