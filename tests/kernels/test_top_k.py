"""The most probable labels: softmax and top-k of the reference, for any sizes, and ties by the lowest index."""

import functools
import math

import numpy as np
import pytest
import torch
from budget import DEVICE, dtypes, normal, seeds, within_budget
from hypothesis import given, settings
from hypothesis import strategies as st

import miniclip
from miniclip.kernels import serving
from miniclip.kernels.top_k import top_k
from miniclip.ops import torch_ops

# Small tiles, so that few labels fill many and are split, and the interpreter is done soon.
SMALL = {"BLOCK_M": 16, "BLOCK_N": 16, "BLOCK_K": 16, "num_warps": 4, "num_stages": 1}


@settings(max_examples=10)
@given(
    seed=seeds,
    B=st.integers(1, 20),
    N=st.integers(1, 9) | st.sampled_from([64, 65, 150]),
    E=st.integers(1, 70),
    k=st.integers(1, 9),
    dtype=dtypes,
    scale=st.sampled_from([0.01, 1, 100]),
    version=st.sampled_from([1, 2, 3]),
)
def test_probabilities(seed, B, N, E, k, dtype, scale, version):
    images, texts = normal(seed, B, E, dtype=dtype, scale=scale), normal(seed + 1, N, E, dtype=dtype)
    logit_scale, k = torch.tensor(2.5, device=DEVICE), min(k, N)

    def probabilities(images, texts, dtype):
        return torch_ops.similarity(images, texts, logit_scale.to(images.dtype)).to(dtype).softmax(dim=-1)

    ours, indices = top_k(images, texts, logit_scale, k, version=version, config=SMALL)
    exact = probabilities(images.double(), texts.double(), torch.float64)
    torchs = probabilities(images, texts, torch.float32)
    within_budget(ours, exact.topk(k).values, torchs.topk(k).values, math.exp(2.5))
    within_budget(ours, exact.gather(1, indices), torchs.gather(1, indices), math.exp(2.5))
    assert indices.dtype == torch.int64 and all(len(set(row)) == k for row in indices.tolist())


def ties():
    """Features of whole numbers, which every version multiplies exactly, and labels that appear again and again."""
    rng = np.random.default_rng(0)
    images, texts = rng.choice([-1, 1], (3, 16)), rng.choice([-1, 1], (40, 16))
    return images, texts[rng.integers(0, 40, 150)]


@pytest.mark.parametrize(("version", "k"), [(1, 5), (2, 5), (3, 1), (3, 5)])
def test_of_equal_labels_the_lowest_index_comes_first(version, k):
    images, texts = ties()
    features = (torch.tensor(x).float().to(DEVICE) for x in (images, texts, 2.5))
    _, indices = top_k(*features, k, version=version, config=SMALL)
    assert np.array_equal(indices.cpu(), np.argsort(-(images @ texts.T), axis=1, kind="stable")[:, :k])


@pytest.mark.parametrize("version", [1, 2, 3])
def test_zero_and_minus_zero_are_equal(version):
    """Both are what is left of a cosine times exp(-103), the least number that float32 has."""
    images, texts = torch.tensor([[1.0, 0.0]]), torch.tensor([[-0.25, 1.0], [0.25, 1.0], [-0.25, 1.0], [0.0, 1.0]])
    features = (x.to(DEVICE) for x in (images, texts, torch.tensor(-103.0)))
    assert top_k(*features, 4, version=version)[1].tolist() == [[0, 1, 2, 3]]


def test_the_top_labels_of_a_model():
    model, preprocess = miniclip.load("shapes", backend="triton")
    labels = ["a red heart", "a blue circle", "a green star", "a red circle", "a blue heart"]
    images = preprocess(["weights/example.png"])
    classes = miniclip.zero_shot.class_embeddings(model, labels)
    all_of_them = miniclip.zero_shot.probabilities(model, images, classes)
    values, indices = serving.top_labels(model, images, classes, 3)
    assert torch.equal(indices, all_of_them.topk(3).indices)
    assert torch.allclose(values, all_of_them.topk(3).values, rtol=1e-4)
    assert serving.top_labels(model, images[:0], classes, 3)[0].shape == (0, 3)


def test_what_cannot_be_found_is_refused():
    x, scale = normal(0, 5, 8), torch.tensor(0.0, device=DEVICE)
    find = functools.partial(top_k, x, logit_scale=scale)
    for match, call in {
        "k is 6, expected a whole number from 1 to 5, for 5 labels": lambda: find(x, k=6),
        "k is 0, expected a whole number from 1 to 5": lambda: find(x, k=0),
        "k is 2.5, expected a whole number": lambda: find(x, k=2.5),
        "k is None, expected a whole number": lambda: find(x, k=None),
        "k is True, expected a whole number": lambda: find(x, k=True),
        "k is 65, expected a whole number from 1 to 64, for 100 labels": lambda: find(normal(0, 100, 8), k=65),
        r"text_features is \(5, 7\), expected \(5, 8\)": lambda: find(x[:, 1:], k=1),
        r"logit_scale is on meta, expected (cpu|cuda)": lambda: top_k(x, x, scale.to("meta"), 1),
    }.items():
        with pytest.raises(miniclip.InputError, match=match):
            call()


def test_k_may_be_an_integer_of_numpy():
    x = normal(0, 5, 8)
    assert torch.equal(top_k(x, x, torch.tensor(0.0, device=DEVICE), np.int64(2))[1][:, 0].cpu(), torch.arange(5))


def test_what_is_wrong_with_labels_is_said_before_pictures_are_computed(monkeypatch):
    model, _ = miniclip.load("shapes", backend="triton")
    monkeypatch.setattr(type(model), "encode_image", None)
    for classes, k in ((torch.ones(3, 7), 1), (torch.ones(3, 128), 4), (torch.ones(3, 128), 1.5)):
        with pytest.raises(miniclip.InputError, match=r"features are|k is"):
            serving.top_labels(model, np.zeros((1, 3, 48, 48), np.float32), classes, k)
