"""The losses in chunks: the official ones and their gradients, for any size of chunks, and shared out to processes."""

import functools
import math
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

import miniclip
from miniclip import chunked_loss
from miniclip.ops import select, torch_ops


def unit(seed, *shape, dtype=torch.float64):
    """Unit vectors: (..., E)."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return F.normalize(x, dim=-1).to(dtype)


def inputs_of(kind, B, E, scale=1.0, dtype=torch.float64):
    images, texts = unit(0, B, E, dtype=dtype), unit(1, B, E, dtype=dtype)
    bias = [] if kind == "contrastive" else [torch.tensor(-3.0, dtype=dtype)]
    return [images, texts, torch.tensor(scale, dtype=dtype).log(), *bias]


def plain_contrastive(images, texts, logit_scale, label_smoothing=0.0):
    """open_clip's loss, from whole logits (tests/test_loss.py compares `loss.contrastive_loss` with transformers')."""
    logits, labels = logit_scale.exp() * images @ texts.T, torch.arange(len(images))
    return sum(F.cross_entropy(x, labels, label_smoothing=label_smoothing) for x in (logits, logits.T)) / 2


def plain_sigmoid(images, texts, logit_scale, logit_bias):
    """open_clip's loss, from whole logits (tests/test_loss.py compares `loss.sigmoid_loss` with their class)."""
    logits = logit_scale.exp() * images @ texts.T + logit_bias
    return -F.logsigmoid((2 * torch.eye(len(logits), dtype=logits.dtype) - 1) * logits).sum() / len(logits)


PLAIN = {"contrastive": plain_contrastive, "sigmoid": plain_sigmoid}
OURS = {"contrastive": chunked_loss.contrastive_loss, "sigmoid": chunked_loss.sigmoid_loss}
BY_HAND = {
    "contrastive": chunked_loss.contrastive_loss_and_gradients,
    "sigmoid": chunked_loss.sigmoid_loss_and_gradients,
}
ON_TORCH = {kind: functools.partial(ours, ops=torch_ops) for kind, ours in OURS.items()}
kinds = pytest.mark.parametrize("kind", PLAIN)


def with_gradients(function, inputs, **options):
    """[value, gradient of each input], by autograd."""
    leaves = [x.clone().requires_grad_() for x in inputs]
    value = function(*leaves, **options)
    value.backward()
    return [value.detach(), *(x.grad for x in leaves)]


@given(
    kind=st.sampled_from([*PLAIN]),
    B=st.integers(1, 20),
    E=st.integers(1, 9),
    chunk=st.none() | st.integers(1, 25),
    scale=st.sampled_from([1.0, 14.0, 100.0]),
    label_smoothing=st.sampled_from([0.0, 0.1]),
)
def test_any_chunk_gives_the_official_loss_and_gradients(kind, B, E, chunk, scale, label_smoothing):
    smoothed = {"label_smoothing": label_smoothing} if kind == "contrastive" else {}
    inputs = inputs_of(kind, B, E, scale)
    exact = with_gradients(PLAIN[kind], inputs, **smoothed)
    on_torch = with_gradients(ON_TORCH[kind], inputs, chunk=chunk, **smoothed)
    arrays = [x.numpy() for x in inputs]
    value, gradients = BY_HAND[kind](*arrays, chunk=chunk, **smoothed)
    for theirs, *ours in zip(exact, on_torch, [value, *gradients]):
        for x in ours:
            np.testing.assert_allclose(x, theirs, rtol=1e-12, atol=1e-12 * scale)
    np.testing.assert_allclose(OURS[kind](*arrays, chunk=chunk, **smoothed), value, rtol=1e-13, atol=1e-14)
    with torch.no_grad():
        torch.testing.assert_close(ON_TORCH[kind](*inputs, chunk=chunk, **smoothed), on_torch[0])


@kinds
def test_torch_finds_the_gradients_by_differences(kind):
    leaves = [x.requires_grad_() for x in inputs_of(kind, 7, 5, scale=5.0)]
    assert torch.autograd.gradcheck(functools.partial(ON_TORCH[kind], chunk=3), leaves)


@kinds
@pytest.mark.parametrize("world", [1, 2, 3])
def test_the_mean_over_processes_is_the_loss_of_the_whole_batch(kind, world):
    """As in training: each process has its own features, and those of all processes, gathered with gradients."""
    inputs = inputs_of(kind, 6, 5, scale=20.0)
    whole = with_gradients(PLAIN[kind], inputs)

    def mean(images, texts, *scalars):
        losses = []
        for offset in range(0, 6, 6 // world):
            own = slice(offset, offset + 6 // world)
            gathered = {"all_texts": texts, **({"all_images": images} if kind == "contrastive" else {})}
            options = {**gathered, "offset": offset, "chunk": 2}
            losses.append(ON_TORCH[kind](images[own], texts[own], *scalars, **options))
        return sum(losses) / world

    for ours, theirs in zip(with_gradients(mean, inputs), whole):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("chunk", [1, 4, None])
def test_equal_logits_cost_the_logarithm_of_the_batch(chunk):
    ones = np.ones((9, 1))
    for label_smoothing in (0, 0.1):
        loss = chunked_loss.contrastive_loss(ones, ones, np.log(50), chunk=chunk, label_smoothing=label_smoothing)
        assert loss == pytest.approx(math.log(9), rel=1e-14)
    assert chunked_loss.sigmoid_loss(ones, ones, 0.0, -1.0, chunk=chunk) == pytest.approx(9 * math.log(2), rel=1e-14)


@kinds
def test_large_logits_neither_overflow_nor_warn(kind):
    """Trained features, exp(logit_scale) = 1000: exp of such a logit is no number, not even in float64."""
    images = unit(0, 8, 4, dtype=torch.float32).numpy()
    inputs = [images, images.copy(), math.log(1000), *([] if kind == "contrastive" else [0.0])]
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        value, gradients = BY_HAND[kind](*inputs, chunk=3)
    assert np.isfinite(value) and all(np.isfinite(x).all() for x in gradients if x is not None)
    assert value.dtype == gradients[0].dtype == np.float32


@kinds
def test_in_float32_it_is_as_exact_as_the_plain_loss(kind):
    """The median error over many batches; that of one batch is chance."""
    errors = []
    for seed in range(60):
        images, texts = unit(seed, 2, 60, 32)
        texts = F.normalize(texts + seed // 3 % 2 * images, dim=1)  # every other three as after training
        scale = torch.tensor([1.0, 14.0, 100.0][seed % 3]).log()
        inputs = [images.float(), texts.float(), scale, *([] if kind == "contrastive" else [torch.tensor(-10.0)])]
        exact = with_gradients(PLAIN[kind], [x.double() for x in inputs])
        ours, plain = with_gradients(ON_TORCH[kind], inputs, chunk=7), with_gradients(PLAIN[kind], inputs)
        size = [x.abs().max() for x in exact]
        errors.append([[((x - e).abs().max() / s).item() for x, e, s in zip(r, exact, size)] for r in (ours, plain)])
    ours, plain = np.median(errors, axis=0)
    assert (ours <= 1.2 * plain + 2**-24).all(), (ours, plain)


@kinds
def test_autocast_does_not_round_it(kind):
    """bfloat16 features, as autocast's towers give: float32 products, and gradients in bfloat16."""
    inputs = inputs_of(kind, 6, 5, scale=100.0, dtype=torch.float32)
    inputs = [x.bfloat16() if x.ndim else x for x in inputs]
    leaves = [x.clone().requires_grad_() for x in inputs]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = ON_TORCH[kind](*leaves, chunk=4)
    value.backward()
    exact, *gradients = with_gradients(PLAIN[kind], [x.double() for x in inputs])
    assert value.dtype == torch.float32 and value.item() == pytest.approx(exact.item(), rel=1e-5)
    assert [x.grad.dtype for x in leaves] == [x.dtype for x in inputs]
    for x, theirs in zip(leaves, gradients):
        torch.testing.assert_close(x.grad, theirs.to(x.dtype), rtol=1e-2, atol=1e-3)


@kinds
def test_no_memory_for_the_matrix_is_taken(kind):
    B = 1500
    arrays = [x.float().numpy() for x in inputs_of(kind, B, 4)]
    tracemalloc.start()
    try:
        BY_HAND[kind](*arrays, chunk=20)
        assert tracemalloc.get_traced_memory()[1] < 4 * B * B / 8
    finally:
        tracemalloc.stop()


def test_what_does_not_fit_is_refused():
    x = np.eye(4)
    for match, arguments, options in [
        (r"features are \(4, 4\) and \(3, 4\), expected as many texts", (x, x[:3], 0.0), {}),
        (r"features are \(4, 4\) and \(4, 3\), expected \(b, E\) and \(B, E\)", (x, x[:, :3], 0.0), {}),
        (r"features are \(0, 4\) and \(0, 4\), .* at least one pair", (x[:0], x[:0], 0.0), {}),
        (r"features are \(4, 4\) and None", (x, x, 0.0), {"all_images": x}),
        (r"rows 3 to 5 are not among 4 partners: offset", (x[:2], x[:2], 0.0, x, x), {"offset": 3}),
        (r"chunk is 0, expected at least 1", (x, x, 0.0), {"chunk": 0}),
    ]:
        with pytest.raises(miniclip.InputError, match=match):
            chunked_loss.contrastive_loss_and_gradients(*arguments, **options)
    with pytest.raises(miniclip.InputError, match="expected as many texts"):
        chunked_loss.sigmoid_loss(x, x[:3], 0.0, 0.0)
    with pytest.raises(miniclip.InputError, match=r"take arrays of NumPy or torch, not list: see miniclip.loss"):
        chunked_loss.contrastive_loss([[1.0]], [[1.0]], 0.0)


@kinds
def test_a_backend_without_gradients_gives_the_value(kind):
    arrays = [x.numpy() for x in inputs_of(kind, 5, 3)]
    assert OURS[kind](*arrays, ops=select("numpy")) == pytest.approx(PLAIN[kind](*map(torch.tensor, arrays)).item())


def test_numpy_needs_no_torch():
    code = """
import sys, numpy
from miniclip.chunked_loss import contrastive_loss_and_gradients
contrastive_loss_and_gradients(numpy.eye(3), numpy.eye(3), 0.0)
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
