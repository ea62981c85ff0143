"""The contrastive loss against CLIP's and ALIGN's official ones, on every backend, and its laws."""

import math

import numpy as np
import pytest
import torch
from backends import HERE
from transformers.models.align import modeling_align
from transformers.models.clip import modeling_clip

from miniclip.loss import contrastive_loss, contrastive_loss_gradient
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
