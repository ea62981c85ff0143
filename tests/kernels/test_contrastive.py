"""The losses as kernels: any sizes, chunks and processes; as autograd's functions; the same numbers in every call."""

import functools
import math

import pytest
import torch
import torch.nn.functional as F
from budget import DEVICE, DTYPES, dtypes, few, normal, seeds, within_budget
from hypothesis import given
from hypothesis import strategies as st

import miniclip
from miniclip import chunked_loss
from miniclip.kernels import contrastive, triton_ops

OURS = {"contrastive": contrastive.contrastive_loss, "sigmoid": contrastive.sigmoid_loss}
kinds = pytest.mark.parametrize("kind", OURS)


def plain(images, texts, logit_scale, logit_bias=None, label_smoothing=0.0):
    """The losses from whole logits, which are float32 or more."""
    logits = logit_scale.exp().to(images.dtype) * images @ texts.T
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if logit_bias is None:
        right = torch.arange(len(logits), device=logits.device)
        return sum(F.cross_entropy(x, right, label_smoothing=label_smoothing) for x in (logits, logits.T)) / 2
    signs = 2 * torch.eye(len(logits), device=logits.device) - 1
    return -F.logsigmoid(signs * (logits + logit_bias)).sum() / len(logits)


def inputs_of(kind, seed, B, E, dtype, scale=10.0):
    """Features in `dtype`, and scale and bias in float32."""
    features = [F.normalize(normal(seed + i, B, E), dim=1).to(dtype) for i in range(2)]
    numbers = [math.log(scale), *([] if kind == "contrastive" else [-3.0])]
    return [*features, *(torch.tensor(x, device=DEVICE) for x in numbers)]


def step(function, inputs, **options):
    """[gradient of each input, the loss], none of them a single number."""
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    loss = function(*leaves, **options)
    loss.backward()
    return [*(x.grad if x.ndim else x.grad[None] for x in leaves), loss.detach()[None]]


def same_budget(function, inputs, **options):
    """Check a step against float64 and torch's own step; the largest logit is about exp(logit_scale)."""
    exact, torchs = (step(plain, x, **options) for x in ([x.double() for x in inputs], inputs))
    for ours, e, t in zip(step(function, inputs), exact, torchs):
        within_budget(ours, e, t, exponent=inputs[2].exp().item())


@few
@given(
    kind=st.sampled_from([*OURS]),
    seed=seeds,
    B=st.integers(2, 150),
    E=st.integers(2, 70),
    dtype=dtypes,
    chunk=st.none() | st.integers(30, 200),
    label_smoothing=st.sampled_from([0.0, 0.1]),
)
def test_a_step_forward_and_one_back(kind, seed, B, E, dtype, chunk, label_smoothing):
    smoothed = {"label_smoothing": label_smoothing} if kind == "contrastive" else {}
    ours = functools.partial(OURS[kind], chunk=chunk, **smoothed)
    same_budget(ours, inputs_of(kind, seed, B, E, dtype), **smoothed)


@kinds
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_mean_over_processes_is_the_loss_of_the_whole_batch(kind, dtype):
    def mean(images, texts, *scalars):
        everything = {"all_texts": texts, **({"all_images": images} if kind == "contrastive" else {})}
        losses = [
            OURS[kind](images[own : own + 35], texts[own : own + 35], *scalars, **everything, offset=own)
            for own in (0, 35)
        ]
        return sum(losses) / 2

    same_budget(mean, inputs_of(kind, 1, 70, 24, dtype))


@kinds
def test_large_logits_and_equal_ones(kind):
    """exp(logit_scale) = 100 and features after training; and logits that are all alike, whose loss is known."""
    images, texts, _, *bias = inputs_of(kind, 2, 40, 16, torch.float32)
    scale = torch.tensor(100.0, device=DEVICE).log()
    found = step(OURS[kind], [images, F.normalize(texts + images, dim=1), scale, *bias])
    assert all(x.isfinite().all() for x in found)
    same, zeros = torch.ones(9, 1, device=DEVICE), [torch.zeros((), device=DEVICE), -torch.ones((), device=DEVICE)]
    loss = OURS[kind](same, same, *zeros[: 1 + len(bias)])
    assert loss.item() == pytest.approx(math.log(9) if kind == "contrastive" else 9 * math.log(2), rel=1e-6)


@kinds
def test_every_call_gives_the_same_numbers_and_without_gradients_the_same_loss(kind):
    inputs = inputs_of(kind, 3, 130, 20, DTYPES[-1])
    once, again = (step(OURS[kind], inputs, chunk=60) for _ in range(2))
    assert all(map(torch.equal, once, again))
    with torch.no_grad():
        assert OURS[kind](*inputs, chunk=60) == once[-1]


@kinds
def test_the_triton_backend_has_them_for_chunked_loss(kind):
    inputs = inputs_of(kind, 5, 6, 8, torch.float32)
    ours = functools.partial(getattr(chunked_loss, f"{kind}_loss"), ops=triton_ops)
    assert all(map(torch.equal, step(ours, inputs), step(OURS[kind], inputs)))
    own = [x[2:4] if x.ndim else x for x in inputs]
    options = {"all_texts": inputs[1], "offset": 2, "chunk": 1}
    options |= {"all_images": inputs[0]} if kind == "contrastive" else {}
    assert ours(*own, **options) == OURS[kind](*own, **options)


@kinds
def test_autocast_changes_nothing(kind):
    inputs = inputs_of(kind, 4, 20, 20, torch.float32)
    with torch.autocast(DEVICE, dtype=torch.bfloat16):
        inside = step(OURS[kind], inputs)
    assert all(map(torch.equal, inside, step(OURS[kind], inputs)))


def test_what_does_not_fit_is_refused():
    x, scale = torch.eye(4, device=DEVICE), torch.zeros((), device=DEVICE)
    for match, call in {
        "expected as many texts": lambda: contrastive.contrastive_loss(x, x[:3], scale),
        "rows 3 to 5 are not among 4": lambda: contrastive.sigmoid_loss(
            x[:2], x[:2], scale, scale, all_texts=x, offset=3
        ),
        r"logit_scale is \(4,\), expected \(\)": lambda: contrastive.contrastive_loss(x, x, x[0]),
        r"logit_bias is \(4,\), expected \(\)": lambda: contrastive.sigmoid_loss(x, x, scale, x[0]),
        r"logit_scale is on meta, expected (cpu|cuda)": lambda: contrastive.contrastive_loss(x, x, scale.to("meta")),
        "all tensors alike, not float16, float32": lambda: contrastive.contrastive_loss(x, x.half(), scale),
    }.items():
        with pytest.raises(miniclip.InputError, match=match):
            call()
