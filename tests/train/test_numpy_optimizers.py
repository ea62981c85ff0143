"""AdamW and Muon in NumPy against torch.optim's, over several steps."""

import numpy as np
import pytest
import torch

import miniclip
from miniclip.train.numpy_optimizers import AdamW, Muon, orthogonal

SHAPES = {"table": (7, 5), "square": (6, 6), "wide": (4, 9), "tall": (9, 4), "gain": (5,), "scale": ()}
MATRICES = {name: shape for name, shape in SHAPES.items() if len(shape) == 2}
GROUPS = [(["table", "wide"], {"weight_decay": 0.2}), (["gain", "scale", "tall"], {"weight_decay": 0.0, "lr": 0.1})]


def draw(shapes, seed, dtype):
    rng = np.random.default_rng(seed)
    return {name: np.asarray(rng.standard_normal(shape), dtype) for name, shape in shapes.items()}


def run(ours, theirs, tensors, params, dtype, steps=8):
    """Several steps of both with the same gradients and a learning rate that changes; some steps lack a gradient."""
    for step in range(steps):
        gradients = draw({name: x.shape for name, x in params.items()}, 100 + step, dtype)
        if step == 2:
            gradients["wide"] = None
        for optimizer in (ours, theirs):
            for group in optimizer.param_groups:
                group["lr"] *= 0.9
        for name, tensor in tensors.items():
            tensor.grad = None if gradients[name] is None else torch.tensor(gradients[name])
        theirs.step()
        ours.step(gradients)


def largest_error(params, tensors):
    return max(np.abs(params[n] - x.detach().numpy()).max() / x.detach().abs().max().item() for n, x in tensors.items())


def pair(names, dtype):
    params = draw({name: SHAPES[name] for name in names}, 0, dtype)
    return params, {name: torch.tensor(x, requires_grad=True) for name, x in params.items()}


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize(("dtype", "error"), [("float32", 1e-6), ("float64", 1e-12)])
def test_adamw_is_torchs(dtype, error, fused):
    params, tensors = pair([name for names, _ in GROUPS for name in names], dtype)
    options = {"lr": 0.05, "betas": (0.9, 0.98), "eps": 1e-6}
    ours = AdamW([{"params": {n: params[n] for n in names}, **own} for names, own in GROUPS], **options)
    theirs = torch.optim.AdamW(
        [{"params": [tensors[n] for n in names], **own} for names, own in GROUPS], **options, fused=fused
    )
    run(ours, theirs, tensors, params, dtype)
    assert largest_error(params, tensors) < error
    for name, tensor in tensors.items():
        state = theirs.state[tensor]
        assert ours.state[name].keys() == state.keys()
        for key, value in ours.state[name].items():
            assert value.shape == state[key].shape and value.dtype == state[key].numpy().dtype
            np.testing.assert_allclose(value, state[key], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("dtype", "error"), [("float32", 1e-6), ("float64", 1e-12)])
def test_muon_is_torchs_where_torch_does_not_round_to_bfloat16(dtype, error, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda x: x.to(getattr(torch, dtype), copy=True))
    params, tensors = pair(MATRICES, dtype)
    ours, theirs = Muon(params, lr=0.02), torch.optim.Muon(tensors.values(), lr=0.02)
    run(ours, theirs, tensors, params, dtype)
    assert largest_error(params, tensors) < error
    for name, tensor in tensors.items():
        np.testing.assert_allclose(ours.state[name]["momentum_buffer"], theirs.state[tensor]["momentum_buffer"], 1e-5)
        assert ours.state[name].keys() == theirs.state[tensor].keys()


def test_muon_is_as_near_to_torchs_as_bfloat16_allows():
    params, tensors = pair(MATRICES, "float32")
    before = {name: x.copy() for name, x in params.items()}
    ours, theirs = Muon(params, lr=0.02), torch.optim.Muon(tensors.values(), lr=0.02)
    run(ours, theirs, tensors, params, "float32")
    for name, x in params.items():
        moved, torchs = x - before[name], tensors[name].detach().numpy() - before[name]
        assert np.linalg.norm(moved - torchs) < 0.02 * np.linalg.norm(torchs)


@pytest.mark.parametrize("shape", [(8, 8), (5, 12), (12, 5)])
def test_an_orthogonal_update_has_the_same_directions_and_nearly_equal_lengths(shape):
    x = np.random.default_rng(0).standard_normal(shape) * 1e-3
    u, s, v = np.linalg.svd(x, full_matrices=False)
    lengths = u.T @ orthogonal(x) @ v.T
    np.testing.assert_allclose(lengths, np.diag(np.diag(lengths)), atol=1e-12)
    large = s > 0.05 * s.max()
    assert (np.diag(lengths)[large] > 0.65).all() and (np.diag(lengths) < 1.25).all()
    assert not orthogonal(0 * x).any()  # and no division by 0


@pytest.mark.parametrize("kind", [AdamW, Muon])
def test_a_saved_state_continues_bit_for_bit(kind):
    def train(optimizer, steps):
        for step in steps:
            optimizer.step(draw(MATRICES, 100 + step, "float32"))

    whole, parts = (draw(MATRICES, 0, "float32") for _ in "ab")
    train(kind(whole), range(6))
    first = kind(parts)
    train(first, range(3))
    second = kind({name: x.copy() for name, x in parts.items()})
    second.state = {name: {key: x.copy() for key, x in state.items()} for name, state in first.state.items()}
    train(second, range(3, 6))
    for name, x in second.param_groups[0]["params"].items():
        np.testing.assert_array_equal(x, whole[name])


def test_muon_refuses_what_is_no_matrix():
    with pytest.raises(miniclip.InputError, match=r"gain has the shape \(5,\): use AdamW"):
        Muon(draw({"gain": (5,)}, 0, "float32"))
