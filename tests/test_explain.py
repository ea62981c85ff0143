"""Relevance and attention maps: against the formulas written once more on OpenAI's and transformers' own models."""

import math

import align_models
import numpy as np
import pytest
import torch
from align_models import small  # noqa: F401
from torch import nn

import miniclip
from miniclip import CLIP, explain
from miniclip.ops import numpy_ops

BACKENDS = ["numpy", "torch"]
# embedding, picture, layers, width, patch, context length, vocabulary, width, heads, layers
VIT, RESNET = (16, 48, 3, 128, 16, 9, 50, 128, 2, 4), (16, 64, (1, 1, 1, 1), 8, None, 9, 50, 64, 1, 2)
ONE_HEAD = (16, 48, 2, 64, 16, 9, 50, 64, 1, 2)


class ExplicitAttention(nn.Module):
    """nn.MultiheadAttention's result, with weights in `self.weights` that autograd knows."""

    def __init__(self, attention):
        super().__init__()
        self.given = attention

    def forward(self, x, key, value, need_weights, attn_mask):
        T, B, D = x.shape
        H = self.given.num_heads
        packed = nn.functional.linear(x, self.given.in_proj_weight, self.given.in_proj_bias)  # (T, B, 3·D)
        q, k, v = (y.reshape(T, B, H, D // H).permute(1, 2, 0, 3) for y in packed.chunk(3, dim=-1))  # (B, H, T, K)
        scores = q @ k.transpose(-1, -2) / math.sqrt(D // H)
        self.weights = (scores if attn_mask is None else scores + attn_mask).softmax(dim=-1)  # (B, H, T, T)
        return self.given.out_proj((self.weights @ v).permute(2, 0, 1, 3).reshape(T, B, D)), None


def notebook(total, blocks, layers):
    """R of one tower, (B, T, T), as CLIP_explainability.ipynb of Transformer-MM-Explainability computes it."""
    first = blocks[0].attn.weights
    R = torch.eye(first.shape[-1]).expand(len(first), -1, -1)
    for block in blocks[-layers:]:
        weights = block.attn.weights
        gradient = torch.autograd.grad(total, [weights], retain_graph=True)[0]
        R = R + torch.bmm((gradient * weights).clamp(min=0).mean(dim=1), R)
    return R.detach().numpy()


@pytest.fixture(scope="module")
def load(official_model, save_torchscript, tmp_path_factory):
    """A function: (OpenAI's model with explicit attention in its transformers, the file with its weights)."""

    def made(sizes):
        path = tmp_path_factory.mktemp("official") / "model.pt"
        official = official_model(*sizes)
        if sizes == RESNET:  # so that Grad-CAM is not 0 everywhere
            official.text_projection.data.neg_()
        save_torchscript(official, path)
        for transformer in (getattr(official.visual, "transformer", None), official.transformer):
            for block in transformer.resblocks if transformer else ():
                block.attn = ExplicitAttention(block.attn)
        return official, path

    return made


def inputs(official, B=3):
    """Pictures (B, 3, height, width) and tokens (B, T) whose texts end in different places."""
    rng, side = np.random.default_rng(2), official.visual.input_resolution
    tokens = rng.integers(1, 40, (B, 9)) * (np.arange(9) < (ends := np.array([4, 7, 2])[:B])[:, None])
    tokens[np.arange(B), ends] = 49
    return rng.standard_normal((B, 3, side, side), np.float32), tokens, ends


def official_score(official, images, tokens):
    """The sum of the logits of each picture with its text, for autograd; and these logits."""
    logits = official(torch.from_numpy(images), torch.from_numpy(tokens))[0].diagonal()  # (B,)
    return logits.sum(), logits.detach().numpy()


@pytest.mark.parametrize("layers", [1, 2, 4])
@pytest.mark.parametrize("backend", BACKENDS)
def test_relevance_is_that_of_the_authors_notebook(backend, layers, load, relative_error):
    official, path = load(VIT)
    images, tokens, ends = inputs(official)
    total, logits = official_score(official, images, tokens)
    R = notebook(total, official.visual.transformer.resblocks, layers)[:, 0, 1:].reshape(3, 3, 3)
    R_text = notebook(total, official.transformer.resblocks, layers)[np.arange(3), ends]  # (B, T)
    R_text[np.arange(3), ends] -= 1  # what I gives

    model, _ = miniclip.load(path, backend=backend)
    found = explain.relevance(model, images, tokens, layers=layers)
    assert relative_error(found.score, logits) < 1e-5
    assert relative_error(found.patches, R) < 1e-5
    assert relative_error(found.tokens, R_text) < 1e-5


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_resnet_has_grad_cam_at_its_last_grid(backend, load, relative_error):
    official, path = load(RESNET)
    images, tokens, ends = inputs(official)
    grids = []
    official.visual.layer4.register_forward_hook(lambda part, read, output: grids.append(output))
    total, _ = official_score(official, images, tokens)
    alpha = torch.autograd.grad(total, grids, retain_graph=True)[0].mean(dim=(2, 3), keepdim=True)
    expected = (alpha * grids[0]).sum(dim=1).clamp(min=0).detach().numpy()  # (B, 2, 2)
    R_text = notebook(total, official.transformer.resblocks, 1)[np.arange(3), ends]
    R_text[np.arange(3), ends] -= 1

    model, _ = miniclip.load(path, backend=backend)
    found = explain.relevance(model, images, tokens)
    assert expected.max() > 0 and relative_error(found.patches, expected) < 1e-5
    assert relative_error(found.tokens, R_text) < 1e-5


@pytest.mark.parametrize("backend", BACKENDS)
def test_align_has_grad_cam_and_the_relevance_of_berts_tokens(backend, small, relative_error):  # noqa: F811
    # in float64, because terms a thousand times as large cancel in this Grad-CAM
    official = align_models.official(align_models.SIZES["small"]).double()
    official.set_attn_implementation("eager")
    images, tokens, lengths = align_models.batch(official.config)
    mask = torch.from_numpy((np.arange(tokens.shape[1]) < lengths[:, None]) * 1)
    out = official(torch.from_numpy(tokens), torch.from_numpy(images).double(), mask, output_attentions=True)
    total, grid = out.logits_per_image.diagonal().sum(), out.vision_model_output.last_hidden_state
    alpha = torch.autograd.grad(total, grid, retain_graph=True)[0].mean(dim=(2, 3), keepdim=True)
    expected = (alpha * grid).sum(dim=1).clamp(min=0).detach().numpy()
    R = torch.eye(tokens.shape[1], dtype=torch.float64).expand(3, -1, -1)
    for weights in out.text_model_output.attentions:
        gradient = torch.autograd.grad(total, weights, retain_graph=True)[0]
        R = R + (gradient * weights).clamp(min=0).mean(dim=1) @ R
    R = R[:, 0].detach().numpy()  # of [CLS]
    R[:, 0] -= 1

    model, _ = miniclip.load(small, backend=backend, dtype="float64")
    found = explain.relevance(model, images.astype(np.float64), tokens, layers=2)
    assert expected.max() > 0 and relative_error(found.patches, expected) < 1e-5
    assert relative_error(found.tokens, R) < 1e-5
    assert not found.tokens[np.arange(tokens.shape[1]) >= lengths[:, None]].any()


def test_relevance_is_what_a_slightly_larger_attention_weight_adds_to_the_score(load):
    """Central differences in float64: with one head, relevance is relu(weight · ∂score/∂weight)."""
    official, path = load(ONE_HEAD)
    images, tokens, _ = inputs(official, B=1)
    model, _ = miniclip.load(path, backend="numpy", dtype="float64")

    class Nudged:
        """NumPy's operations, but the class token's weight for one patch in the last block is (1 + step) as large."""

        def __init__(self, place, step):
            self.place, self.step, self.NAME = place, step, "numpy"

        def __getattr__(self, name):
            return getattr(numpy_ops, name)

        def attention(self, q, k, v, **mask):
            weights = numpy_ops.attention_weights(q, k, **mask)
            if q.shape[1] == 1 and k.shape[1] == 10:  # the last block of the image tower
                weights[0, 0, 0, self.place] *= 1 + self.step
            return (weights @ v.transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3)

    def score(place, step):
        return CLIP(model.config, model.params, Nudged(place, step), dtype="float64")(images, tokens)[0].item()

    slopes = np.array([(score(1 + i, 1e-5) - score(1 + i, -1e-5)) / 2e-5 for i in range(9)])
    assert slopes.min() < 0 < slopes.max()
    found = explain.relevance(model, images, tokens).patches.ravel()
    np.testing.assert_allclose(found, slopes.clip(0), rtol=1e-6, atol=1e-9)


def test_attention_maps_are_the_weights_of_the_official_class_token(load, relative_error):
    official, path = load(VIT)
    images, tokens, _ = inputs(official)
    official_score(official, images, tokens)
    blocks = official.visual.transformer.resblocks
    expected = torch.stack([block.attn.weights[:, :, 0, 1:] for block in blocks], dim=1).detach().numpy()
    for backend in BACKENDS:
        maps = explain.attention_maps(miniclip.load(path, backend=backend)[0], images)
        assert maps.shape == (3, 3, 2, 3, 3) and relative_error(maps.reshape(3, 3, 2, 9), expected) < 1e-5
    one = explain.attention_maps(miniclip.load(path, backend="numpy")[0], images[1])
    np.testing.assert_allclose(one, maps[1], atol=1e-6)


def test_attention_maps_of_a_resnet_are_those_of_its_pool(load):
    official, path = load(RESNET)
    images, *_ = inputs(official)
    maps = explain.attention_maps(miniclip.load(path, backend="numpy")[0], images)
    assert maps.shape == (3, 1, 4, 2, 2) and (maps > 0).all() and (maps.sum(axis=(3, 4)) < 1).all()
