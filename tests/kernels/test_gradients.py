"""Gradients by Triton kernels: of every operation and of a whole model, as close to float64 as torch's own."""

import functools

import pytest
import torch
import torch.nn.functional as F
from budget import DEVICE, DTYPES, LENGTHS, dtypes, examples, few, normal, seeds, within_budget
from functorch.compile import make_boxed_func
from hypothesis import given
from hypothesis import strategies as st
from torch._dynamo.backends.common import aot_autograd

import miniclip
from miniclip import params
from miniclip.kernels import (
    activation,
    activation_backward,
    attention,
    attention_backward,
    attention_backward_heads,
    device,
    graphs,
    layer_norm_backward,
    oracle,
    triton_ops,
)
from miniclip.loss import contrastive_loss
from miniclip.ops import torch_ops
from miniclip.towers import vit


def doubled(inputs):
    return {
        name: x.double() if isinstance(x, torch.Tensor) and x.is_floating_point() else x for name, x in inputs.items()
    }


def check_step(ours, plain, inputs, exponent=0.0):
    """Check results and gradients of a step: `plain` by torch's autograd, in float64 and in the inputs' dtype."""
    for x, exact, torchs in zip(ours(**inputs), plain(**doubled(inputs)), plain(**inputs), strict=True):
        within_budget(x, exact, torchs, exponent)


# ------------------------------------------------------------------------------------------------ attention

LAYOUTS = {
    "packed": lambda x: x.unbind(2),
    "heads first": lambda x: x.permute(2, 0, 3, 1, 4).contiguous().permute(1, 3, 0, 2, 4).unbind(2),
    "every other": lambda x: x.repeat_interleave(2, dim=1)[:, ::2].unbind(2),
    "off by one": lambda x: F.pad(x, (1, 2))[..., 1:-2].unbind(2),
    "width apart": lambda x: x.transpose(3, 4).contiguous().transpose(3, 4).unbind(2),
}


@examples(30, 10, 4)  # of three versions
@given(
    seed=seeds,
    B=st.integers(1, 2),
    Tq=st.sampled_from([None, None, *LENGTHS]),
    Tk=st.sampled_from([*LENGTHS, 129]),
    H=st.integers(1, 2),
    K=st.sampled_from([3, 16, 32, 64, 80, 128]),
    dtype=dtypes,
    layouts=st.tuples(st.sampled_from(sorted(LAYOUTS)), st.sampled_from(sorted(LAYOUTS))),
    causal=st.booleans(),
    padded=st.booleans(),
    scale=st.sampled_from([0.1, 1, 5]),
    version=st.sampled_from([1, 2, 3]),
)
def test_attention(seed, B, Tq, Tk, H, K, dtype, layouts, causal, padded, scale, version):
    """Any lengths, widths, layouts and masks; Tq None: as many queries as keys."""
    q, k, v = LAYOUTS[layouts[0]](normal(seed, B, Tk, 3, H, K, dtype=dtype, scale=scale))
    q = q if Tq is None else normal(seed + 1, B, Tq, H, K, dtype=dtype, scale=scale)
    (dout,) = LAYOUTS[layouts[1]](normal(seed + 2, B, q.shape[1], 1, H, K, dtype=dtype))
    lengths = torch.randint(1, Tk + 1, (B,), generator=torch.Generator().manual_seed(seed % 2**63)).to(DEVICE)
    inputs = {"dout": dout, "q": q, "k": k, "v": v, "causal": causal, "lengths": lengths if padded else None}
    largest_score = (torch.einsum("bqhk,bthk->bhqt", q.double(), k.double()).abs().max() / K**0.5).item()
    ours = functools.partial(attention_backward.attention_gradients, version=version)
    check_step(ours, attention_backward._plain, inputs, largest_score)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("T", "causal"), [(197, False), (257, True)])
def test_attention_at_the_lengths_of_large_pictures(T, causal, dtype):
    q, k, v = normal(T, 1, T, 3, 1, 64, dtype=dtype).unbind(2)
    inputs = {"dout": normal(1, 1, T, 1, 64, dtype=dtype), "q": q, "k": k, "v": v, "causal": causal}
    check_step(attention_backward.attention_gradients, attention_backward._plain, inputs)


def test_which_sequences_fit_into_one_program():
    def fits(T, K=64, dtype=torch.float16, lengths=None, Tq=None):
        q, k = (torch.empty(2, n, 3, K, dtype=dtype) for n in (Tq or T, T))
        return attention_backward_heads.find_config(q, k, k, lengths) is not None

    assert fits(1) and fits(50) and fits(64, K=33)
    assert fits(80) is (device.capability() == 90)
    assert not (fits(129) or fits(50, K=80) or fits(50, dtype=torch.float32) or fits(50, Tq=1))
    assert not fits(50, lengths=torch.tensor([1, 50]))


def test_a_head_adds_nothing_to_its_neighbours():
    """Tiles are larger than heads: what is beyond a head is read as zeros, and not another sequence or head."""
    dout, q, k, v = normal(0, 3, 77, 4, 3, 32, dtype=torch.float16).unbind(2)
    before = attention_backward.attention_gradients(dout, q, k, v, causal=True)
    for x in (dout, q, k, v):
        x[:, :, 1] = x[1] = 1e4
    after = attention_backward.attention_gradients(dout, q, k, v, causal=True)
    for x, y in zip(before, after):
        assert torch.equal(x[::2, :, ::2], y[::2, :, ::2])


# ----------------------------------------------------------------------------------------------- layer norm


@examples(12, 6, 3)
@given(
    seed=seeds,
    rows=st.integers(1, 20),
    D=st.integers(1, 70) | st.sampled_from([768, 1000, 1024, 2049]),
    dtype=dtypes,
    mean=st.sampled_from([0, 10]),
    version=st.sampled_from([1, 2]),
)
def test_layer_norm(seed, rows, D, dtype, mean, version):
    x, dout, dsum, update = (normal(seed + i, 2, rows, D, dtype=dtype) for i in range(4))
    weight, bias = normal(seed + 4, D, dtype=dtype), normal(seed + 5, D, dtype=dtype)
    norm = {"weight": weight, "bias": bias, "eps": 1e-5}
    x = x + mean
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device, "processors", lambda x: 2)  # so that a program has several rows
        ours = functools.partial(layer_norm_backward.layer_norm_gradients, version=version)
        check_step(ours, layer_norm_backward._plain, {"dout": dout, "x": x, **norm})
        check_step(ours, layer_norm_backward._plain, {"dout": dout[:, 0], "x": x[:, 0], **norm})  # rows that lie apart
        # the norm of a sum is that of the sum as it is stored
        total, y, *ours = layer_norm_backward.add_layer_norm_gradients(dsum, dout, x, update, **norm)
        assert torch.equal(total, x + update)
        inputs = {"dsum": dsum, "dout": dout, "x": total, "update": torch.zeros_like(x), **norm}
        exact = layer_norm_backward._plain_sum(**doubled(inputs))[1:]
        for x, e, t in zip((y, *ours), exact, layer_norm_backward._plain_sum(**inputs)[1:], strict=True):
            within_budget(x, e, t)


# --------------------------------------------------------------------------------------------- activations


@few
@given(
    seed=seeds,
    M=st.integers(1, 40),
    N=st.integers(1, 70) | st.sampled_from([511, 513, 1200]),
    dtype=dtypes,
    name=st.sampled_from(activation.NAMES),
    scale=st.sampled_from([1e-3, 1, 100]),
    version=st.sampled_from([1, 2, 3]),
)
def test_bias_and_activation(seed, M, N, dtype, name, scale, version):
    inputs = {
        "dout": normal(seed, M, N, dtype=dtype),
        "x": normal(seed + 1, M, N, dtype=dtype, scale=scale),
        "bias": normal(seed + 2, N, dtype=dtype),
        "activation": name,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device, "processors", lambda x: 1)  # so that a program has several tiles
        ours = functools.partial(activation_backward.bias_activation_gradients, version=version)
        check_step(ours, activation_backward._plain, inputs)


@pytest.mark.parametrize("name", activation.NAMES)
def test_derivatives_at_the_ends(name):
    """No NaN comes from 0 · inf; at zero relu's derivative is 0, as torch's is."""
    x = torch.tensor([-3e38, -1e4, -89.0, -0.0, 0.0, 89.0, 1e4, 3e38], device=DEVICE)
    for version in (1, 2, 3):
        dx, none = activation_backward.bias_activation_backward(torch.ones_like(x), x, None, name, version=version)
        exact = activation_backward._plain(torch.ones_like(x).double(), x.double(), x.double() * 0, name)[1]
        assert none.numel() == 0
        torch.testing.assert_close(dx.double(), exact, rtol=0, atol=1e-6)


# --------------------------------------------------------------------------------- operations, by autograd


def calls():
    """{what: (name of the operation, tensors, options)}; each tensor's gradient is checked."""
    x, D, weight = normal(0, 2, 5, 24), normal(1, 24), normal(2, 40, 24)
    q, k, v = normal(3, 2, 7, 3, 2, 16).unbind(2)
    picture, pixels = normal(4, 2, 6, 5, 4), normal(5, 2, 3, 9, 12)
    norm = {"eps": 1e-5}
    return {
        "attention": ("attention", (q, k, v), {"causal": True}),
        "attention, one query": ("attention", (q[:, :1], k, v), {"lengths": torch.tensor([7, 3], device=DEVICE)}),
        "layer_norm": ("layer_norm", (x, D, D), norm),
        "layer_norm, no rows": ("layer_norm", (x[:0], D, D), norm),
        "add_layer_norm": ("add_layer_norm", (x, x.flip(0), D, D), norm),
        **{name: (name, (x,), {}) for name in (*activation.NAMES, "tanh", "gelu_tanh", "softmax", "log_softmax")},
        "linear": ("linear", (x, weight, normal(6, 40)), {}),
        **{f"linear, {n}": ("linear", (x, weight, normal(6, 40)), {"activation": n}) for n in triton_ops.ACTIVATIONS},
        "linear, no bias": ("linear", (x, weight), {"activation": "quick_gelu"}),
        "conv2d": ("conv2d", (picture, normal(7, 8, 6, 3, 3), normal(8, 8)), {"padding": 1, "activation": "relu"}),
        "conv2d, residual": ("conv2d", (picture, normal(7, 6, 6, 1, 1), D[:6], picture.flip(0)), {}),
        "patch_embed": ("patch_embed", (pixels, normal(9, 24, 3, 4, 4), D, normal(10, 7, 24)), {}),
        "cells": ("cells", (picture,), {}),
        "grid_tokens": ("grid_tokens", (picture, normal(11, 21, 6)), {}),
        "l2_normalize": ("l2_normalize", (x,), {}),
        "similarity": ("similarity", (x[0], x[1], D[0]), {}),
    }


def differentiated(ops, name, tensors, options, dtype=torch.float32):
    """All results and gradients of a call, of a sum of results with weights."""
    tensors = [x.to(dtype).detach().requires_grad_() for x in tensors]
    if name == "conv2d" and len(tensors) == 4:
        options = {**options, "residual": tensors[3], "activation": "relu"}
        results = ops.conv2d(*tensors[:3], **options)
    else:
        results = getattr(ops, name)(*tensors, **options)
    results = results if isinstance(results, tuple) else (results,)
    weights = [normal(100 + i, *x.shape, dtype=dtype) for i, x in enumerate(results)]
    return [*(x.detach() for x in results), *torch.autograd.grad(results, tensors, weights)]


@pytest.mark.parametrize("what", calls())
def test_every_operation_is_differentiable(what):
    call = calls()[what]
    ours, torchs = differentiated(triton_ops, *call), differentiated(torch_ops, *call)
    exact = differentiated(torch_ops, *call, dtype=torch.float64)
    for x, e, t in zip(ours, exact, torchs, strict=True):
        within_budget(x, e, t) if e.numel() else None
        assert x.shape == e.shape


def packed_gradients(change, T=7, dtype=torch.float16):
    """(the gradient of a product that q, k and v are parts of, the same by float64, the name of what computed it)."""
    x, weights = normal(0, 2, T, 3 * 2 * 16, dtype=dtype), normal(1, 2, T, 2, 16, dtype=dtype)
    results = []
    for ops, kind in ((triton_ops, dtype), (torch_ops, torch.float64)):
        leaf = x.to(kind).requires_grad_()
        packed = (leaf * 1).reshape(2, T, 3, 2, 16)
        out = ops.attention(*change(packed[:, :, 0], packed[:, :, 1], packed[:, :, 2]), causal=True)
        results.append(torch.autograd.grad(out, leaf, weights[:, : out.shape[1]].to(kind))[0])
        results.append(out.grad_fn.name())
    return results[0], results[2], results[1]


@pytest.mark.parametrize(("T", "dtype"), [(7, torch.float16), (7, torch.float32), (130, torch.float16)])
def test_the_gradient_of_a_packed_product_is_written_at_once(T, dtype):
    ours, exact, name = packed_gradients(lambda *qkv: qkv, T, dtype)
    assert "_PackedAttention" in name
    within_budget(ours, exact, exact.to(dtype))


def constant(x):
    with torch.no_grad():
        return x[:]


@pytest.mark.parametrize(
    "change",
    [
        lambda q, k, v: (k, q, v),
        lambda q, k, v: (q.detach(), k, v),
        lambda q, k, v: (constant(q), k, v),
        lambda q, k, v: (q.detach().requires_grad_(), k, v),
        lambda q, k, v: (q[:, :1], k, v),
        lambda q, k, v: (q.flip(1), k, v),
        lambda q, k, v: (q, k, k),
    ],
)
def test_what_is_not_packed_has_the_same_gradients(change):
    ours, exact, name = packed_gradients(change)
    assert "_PackedAttention" not in name
    within_budget(ours, exact, exact.half())


def test_only_what_is_asked_for():
    """A parameter alone, and an input alone."""
    x, weight, bias = normal(0, 3, 8), normal(1, 8), normal(2, 8)
    (dbias,) = torch.autograd.grad(triton_ops.layer_norm(x, weight, bias.requires_grad_(), eps=1e-5).sum(), bias)
    assert torch.equal(dbias, torch.full_like(bias, 3))
    (dx,) = torch.autograd.grad(triton_ops.relu(x.requires_grad_()).sum(), x)
    assert torch.equal(dx, (x > 0).float())


def test_a_gradient_of_a_gradient_is_refused():
    x = normal(0, 3, 8).requires_grad_()
    (dx,) = torch.autograd.grad(triton_ops.silu(x).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match=r"once_differentiable|does not require grad"):
        dx.sum().backward()


def test_without_gradients_nothing_is_kept():
    x = normal(0, 2, 5, 8)
    assert triton_ops.layer_norm(x, x[0, 0], x[0, 0], eps=1e-5).grad_fn is None
    with torch.no_grad():
        assert not triton_ops.silu(x.requires_grad_()).requires_grad


def test_gradients_are_the_same_in_every_call():
    x, dout, D = normal(0, 300, 48), normal(1, 300, 48), normal(2, 48)
    dout4, q, k, v = normal(3, 2, 150, 4, 2, 16).unbind(2)
    for call in (
        lambda: layer_norm_backward.layer_norm_backward(dout, x, D, eps=1e-5),
        lambda: activation_backward.bias_activation_backward(dout, x, D, "gelu"),
        lambda: attention_backward.attention_gradients(dout4, q, k, v),
    ):
        assert all(map(torch.equal, call(), call()))


def test_kernels_that_are_called_by_themselves_refuse_to_lose_gradients():
    qkv = normal(0, 1, 5, 3, 1, 8).requires_grad_().unbind(2)
    with pytest.raises(miniclip.InputError, match=r"attention computes no gradients: take miniclip.kernels.gradients"):
        attention.attention(*qkv)


# --------------------------------------------------------------------------------------------- whole models


def step(model, ops, dtype=torch.float32):
    """{name: gradient} of the contrastive loss of three pictures and texts."""
    tree = params.tree_map(lambda x: x.detach().to(dtype).requires_grad_(), model.params)
    model = miniclip.CLIP(model.config, tree, ops, tokenizer=model.tokenizer)
    images = normal(0, 3, 3, 48, 48, dtype=dtype)
    tokens = model.tokenize(["a red heart", "a blue circle above a green star", "x"])
    contrastive_loss(model(images, tokens)[0], ops=ops).backward()
    return {name: x.grad for name, x in params.flatten(model.params).items()}


def test_a_whole_model_trains(model):
    ours, torchs, exact = step(model, triton_ops), step(model, torch_ops), step(model, torch_ops, torch.float64)
    assert ours.keys() == exact.keys()
    for name, gradient in exact.items():
        error, usual = ((x[name].double() - gradient).norm() for x in (ours, torchs))
        # which of two roundings is better is chance after so many layers
        assert error <= oracle.allowed(usual / gradient.norm(), torch.float32, slack=4) * gradient.norm(), name


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # torch's own, of itself
def test_a_loss_is_compiled_with_its_gradient(model):
    """torch.compile records kernels backward as operators."""
    tree = params.tree_map(lambda x: x.detach().clone().requires_grad_(), model.params["visual"])
    encode_image = functools.partial(vit.encode_image, triton_ops, config=model.config.visual, **tree)
    leaves, images = list(params.flatten(tree).values()), normal(0, 2, 3, 48, 48)
    graphs_seen = []

    def loss(images):
        return encode_image(images).square().sum()

    def compiler(module, inputs):
        graphs_seen.append([str(node.target) for node in module.graph.nodes])
        return make_boxed_func(module.forward)

    torch._dynamo.reset()
    backend = aot_autograd(fw_compiler=compiler, bw_compiler=compiler)
    compiled = torch.compile(loss, backend=backend, fullgraph=True)
    for ours, eager in zip(torch.autograd.grad(compiled(images), leaves), torch.autograd.grad(loss(images), leaves)):
        torch.testing.assert_close(ours, eager, rtol=1e-4, atol=1e-5)
    forward, backward = (" ".join(graph) for graph in graphs_seen)
    assert "miniclip.attention_forward" in forward and "miniclip.attention_backward" in backward
    assert "miniclip.layer_norm_backward" in backward and "miniclip.bias_activation_backward" in backward


class Tape:
    """A recorder that records nothing, and says so."""

    def can_record(self, batches):
        raise AssertionError("recorded")


def test_where_a_gradient_is_wanted_nothing_is_recorded_as_a_graph(monkeypatch):
    weight = normal(0, 4).requires_grad_()
    monkeypatch.setattr(graphs, "CudaRecorder", Tape)
    runner = triton_ops.capture(lambda x, weight: x * weight, {"weight": weight})
    assert runner(normal(1, 3, 4)).requires_grad
    with torch.no_grad(), pytest.raises(AssertionError, match="recorded"):
        runner(normal(1, 3, 4))
