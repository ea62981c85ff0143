"""Packed texts: the attention of each is its own, and whole models give what they give with padding."""

import functools

import numpy as np
import pytest
import torch
from budget import DEVICE, DTYPES, dtypes, few, normal, seeds, within_budget
from hypothesis import given
from hypothesis import strategies as st

import miniclip
from miniclip import params
from miniclip.config import CLIPConfig, TextConfig
from miniclip.kernels import packed, serving, triton_ops
from miniclip.model import CLIP
from miniclip.ops import numpy_ops, torch_ops

lengths_of_texts = st.lists(st.integers(1, 20) | st.sampled_from([63, 64, 65, 77]), min_size=1, max_size=6)


def attend(q, k, v, texts, causal=True):
    """torch's attention, one text after the other."""
    places = [slice(a, b) for a, b in zip(texts.offsets[:-1], texts.offsets[1:])]
    return torch.cat([torch_ops.attention(q[:, s], k[:, s], v[:, s], causal=causal) for s in places], dim=1)


@few
@given(
    seed=seeds,
    lengths=lengths_of_texts,
    H=st.integers(1, 2),
    K=st.sampled_from([3, 16, 64, 80]),
    dtype=dtypes,
    scale=st.sampled_from([0.1, 1, 30]),
    version=st.sampled_from([1, 2]),
)
def test_attention_of_packed_texts(seed, lengths, H, K, dtype, scale, version):
    """Any lengths and widths, in views of the model's packed product."""
    texts = packed.texts(np.array(lengths), DEVICE)
    qkv = normal(seed, 1, sum(lengths), 3, H, K, dtype=dtype, scale=scale).unbind(2)
    exact, torchs = attend(*(x.double() for x in qkv), texts), attend(*qkv, texts)
    largest_score = (qkv[0].double().norm(dim=-1).max() * qkv[1].double().norm(dim=-1).max() / K**0.5).item()
    within_budget(packed.attention(*qkv, texts, version=version), exact, torchs, largest_score)


@few
@given(seed=seeds, lengths=lengths_of_texts, dtype=dtypes)
def test_attention_of_the_last_query_of_each_text(seed, lengths, dtype):
    texts = packed.texts(np.array(lengths), DEVICE)
    q, k, v = normal(seed, 1, sum(lengths), 3, 2, 32, dtype=dtype).unbind(2)
    last = texts.offsets[1:].long() - 1
    exact, torchs = attend(*(x.double() for x in (q, k, v)), texts), attend(q, k, v, texts)
    within_budget(packed.attention(q[0, last][:, None], k, v, texts), *(x[0, last][:, None] for x in (exact, torchs)))


@pytest.mark.parametrize("version", [1, 2])
def test_a_text_does_not_depend_on_its_neighbours(version):
    """Not by one bit, whatever they are."""
    lengths = [5, 3, 30, 40, 2, 64, 1]
    texts = packed.texts(np.array(lengths), DEVICE)
    qkv = normal(0, 3, 1, sum(lengths), 2, 32, dtype=torch.float16)
    before = packed.attention(*qkv, texts, version=version)
    for start, end in zip(texts.offsets[:-1], texts.offsets[1:]):
        other = qkv.clone()
        other[:, :, start:end] = normal(1, 3, 1, end - start, 2, 32, dtype=torch.float16, scale=100)
        after = packed.attention(*other, texts, version=version)
        assert torch.equal(after[:, :start], before[:, :start]) and torch.equal(after[:, end:], before[:, end:])
        assert not torch.equal(after[:, start:end], before[:, start:end])


# --------------------------------------------------------------------------------------------------------- whole models


@pytest.fixture(scope="module")
def models():
    """A function of a backend and a dtype: CLIP's text tower, small, with random weights."""
    config = CLIPConfig(None, TextConfig(77, 100, width=48, layers=2, heads=3, mlp_width=64), embed_dim=24)
    rng = np.random.default_rng(0)
    tree = params.tree_map(lambda shape: rng.normal(size=shape).astype(np.float32) * 0.3, config.shapes())
    return lambda ops, dtype: CLIP(config, tree, ops, dtype=dtype)


def tokens_of(lengths, seed=0):
    """Random texts: the highest id at the end, zeros after it."""
    tokens = np.random.default_rng(seed).integers(1, 99, (len(lengths), 77))
    tokens[np.arange(77) >= np.array(lengths)[:, None]] = 0
    tokens[np.arange(len(lengths)), np.array(lengths) - 1] = 99
    return tokens


@pytest.mark.parametrize("dtype", [str(dtype)[6:] for dtype in DTYPES])
@pytest.mark.parametrize("lengths", [[1, 77, 2, 16, 40, 13], [7], [77]], ids=str)
def test_encode_text_gives_what_it_gives_with_padding(lengths, dtype, models):
    tokens = tokens_of(lengths)
    model, reference = models(triton_ops, dtype), models(numpy_ops, "float64")
    torchs = models(torch_ops, dtype).encode_text(torch.as_tensor(tokens)).to(DEVICE)
    exact = torch.as_tensor(reference.encode_text(tokens)).to(DEVICE)
    within_budget(serving.encode_text(model, tokens), exact, torchs)
    unit = serving.encode_text(model, tokens, normalize=True)
    assert torch.equal(unit, triton_ops.l2_normalize(serving.encode_text(model, tokens)))


def test_only_the_tokens_of_texts_are_computed(models, monkeypatch):
    """And in the last block, only the end of each text has a query and an MLP."""
    model, rows = models(triton_ops, "float32"), []
    linear = triton_ops.linear

    def counted(x, weight, bias=None, **options):
        rows.append(x.numel() // x.shape[-1])
        return linear(x, weight, bias, **options)

    monkeypatch.setattr(triton_ops, "linear", counted)
    serving.encode_text(model, tokens_of([3, 20, 9]))
    assert rows == [32, 32, 32, 32, 32, 3, 3, 3, 3]


def test_no_text_changes_the_features_of_another(models):
    model, lengths = models(triton_ops, "float32"), [9, 4, 30, 12]
    a, b = tokens_of(lengths), tokens_of(lengths)
    b[1] = tokens_of(lengths, seed=1)[1]
    a, b = (serving.encode_text(model, tokens) for tokens in (a, b))
    assert torch.equal(a[[0, 2, 3]], b[[0, 2, 3]]) and not torch.equal(a[1], b[1])


def test_no_texts_at_all(models):
    assert serving.encode_text(models(triton_ops, "float32"), np.zeros((0, 77), int)).shape == (0, 24)


def test_what_cannot_be_packed_is_refused(models):
    tokens = tokens_of([3])
    with pytest.raises(miniclip.InputError, match="on backend='triton', not CLIP"):
        serving.encode_text(models(numpy_ops, "float32"), tokens)
    with pytest.raises(miniclip.InputError, match="ids run from 0 to 100, but the vocabulary has ids 0 to 99"):
        serving.encode_text(models(triton_ops, "float32"), tokens + (tokens == 99))
    x = normal(0, 1, 5, 1, 8)
    texts = packed.texts(np.array([2, 3]), DEVICE)
    for match, call in {
        r"starts is \(5,\), expected \(4,\)": lambda: packed.attention(x[:, 1:], x[:, 1:], x[:, 1:], texts),
        r"q is \(1, 4, 1, 8\), expected \(1, 5, 1, 8\)": lambda: packed.attention(x[:, 1:], x, x, texts),
        "heads are 129 wide": lambda: packed.attention(*[normal(0, 1, 5, 1, 129)] * 3, texts),
    }.items():
        with pytest.raises(miniclip.InputError, match=match):
            call()


def test_versions_agree_on_any_tiles():
    lengths = np.array([1, 77, 2, 16, 40, 13, 64])
    texts = packed.texts(lengths, DEVICE)
    qkv = normal(0, 1, int(lengths.sum()), 3, 1, 32).unbind(2)
    exact, torchs = attend(*(x.double() for x in qkv), texts), attend(*qkv, texts)
    for M, N in ((16, 16), (32, 16), (64, 64), (128, 32)):
        config = {"BLOCK_M": M, "BLOCK_N": N, "num_warps": 4, "num_stages": 1}
        for version in (1, 2):
            within_budget(
                functools.partial(packed.attention, version=version)(*qkv, texts, config=config), exact, torchs
            )
