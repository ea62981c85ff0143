"""torch, JAX and TensorFlow differentiate every operation: torch as by differences, the others as torch."""

import functools

import numpy as np
import pytest
import torch
from arithmetic import close, normal
from backends import HERE

from miniclip.ops import select, torch_ops


def operations():
    x, heads = normal(0, 2, 4, 6), normal(1, 2, 4, 2, 3)
    return {
        "patch_embed": [normal(2, 1, 3, 4, 4), normal(3, 6, 3, 2, 2), normal(4, 6), normal(5, 5, 6)],
        "softmax": [x],
        "log_softmax": [x],
        "quick_gelu": [x],
        "gelu": [x],
        "gelu_tanh": [x],
        "relu": [x],
        "sigmoid": [x],
        "silu": [x],
        "tanh": [x],
        "conv2d": [heads, normal(6, 5, 4, 2, 2), normal(7, 5), normal(12, 2, 5, 2, 2)],
        "depthwise conv2d": [heads, normal(6, 4, 1, 3, 3), normal(7, 4)],
        "avg_pool2d": [heads],
        "global_avg_pool2d": [heads],
        "cells": [heads],
        "grid_tokens": [heads, normal(8, 7, 4)],
        "linear": [x, normal(6, 5, 6), normal(7, 5)],
        "layer_norm": [x, normal(8, 6), normal(9, 6)],
        "attention": [heads, normal(10, 2, 4, 2, 3), normal(11, 2, 4, 2, 3)],
        "attention_weights": [heads, normal(10, 2, 4, 2, 3)],
        "l2_normalize": [x],
        "similarity": [x[0], x[1], np.float32(0.5)],
    }


OPTIONS = {
    "layer_norm": {"eps": 1e-5},
    "linear": {"activation": "quick_gelu"},
    "attention": {"causal": True},
    "conv2d": {"stride": 2, "padding": 1, "activation": "relu"},
    "depthwise conv2d": {"stride": 2, "padding": (0, 1), "groups": 4},
    "avg_pool2d": {"size": 2},
}


def operation(ops, name):
    """The operation of that name, as a function of arrays only."""
    function = functools.partial(getattr(ops, name.split()[-1]), **OPTIONS.get(name, {}))
    return (lambda *args: function(*args[:3], residual=args[3])) if name == "conv2d" else function


@pytest.mark.parametrize("name", operations())
def test_torch_operations_are_differentiable(name):
    inputs = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in operations()[name]]
    assert torch.autograd.gradcheck(operation(torch_ops, name), inputs)


def pulled_back(backend, name, inputs, upstream):
    """The gradients of an operation in JAX or TensorFlow, one for each input."""
    ops = select(backend)
    if backend == "jax":
        _, pull_back = pytest.importorskip("jax").vjp(operation(ops, name), *map(ops.asarray, inputs))
        return pull_back(upstream)
    tf = pytest.importorskip("tensorflow")
    with tf.GradientTape() as tape:
        variables = [tf.Variable(x) for x in inputs]
        result = operation(ops, name)(*map(ops.asarray, variables))
    return tape.gradient(result.tensor, variables, tf.constant(upstream))


@pytest.mark.parametrize("backend", [name for name in HERE if name in ("jax", "tensorflow")])
@pytest.mark.parametrize(("name", "inputs"), operations().items(), ids=operations())
def test_operations_have_torchs_gradients(name, inputs, backend):
    tensors = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in inputs]
    upstream = normal(12, *(expected := operation(torch_ops, name)(*tensors)).shape)
    slopes = torch.autograd.grad(expected, tensors, torch.tensor(upstream))
    for ours, theirs in zip(pulled_back(backend, name, inputs, upstream), slopes):
        close(np.asarray(ours), theirs.numpy())
