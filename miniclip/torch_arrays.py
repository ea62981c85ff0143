"""Tensors of ours made of several tensors: joined ones, convolutions with a folded BatchNorm, weights with an adapter.

For `torch_modules`. Each can be made with gradients, the first two also without a copy.
"""

import torch
from torch import nn

from miniclip.errors import InputError
from miniclip.families import batch_norm


def neighbours(parts):
    """Tensors joined along the first axis without a copy, or None if they are not neighbours in memory."""
    first = parts[0]
    places = [(x.untyped_storage().data_ptr(), x.data_ptr(), x.is_contiguous(), x.dtype) for x in parts]
    storage, start, _, dtype = places[0]
    if not start or places != [(storage, start + i * first.nbytes, True, dtype) for i in range(len(parts))]:
        return None
    return first.detach().as_strided((len(parts) * len(first), *first.shape[1:]), first.stride())


class _Joined(torch.autograd.Function):
    """torch.cat of neighbours in memory without a copy: `joined` is the memory that they share. Gradients are split."""

    generate_vmap_rule = True  # for torch.func

    @staticmethod
    def forward(joined, *parts):
        return joined.view_as(joined)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.rows = [len(x) for x in inputs[1:]]

    @staticmethod
    def backward(ctx, gradient):
        return None, *gradient.split(ctx.rows)


def join_differentiably(parts):
    try:
        joined = neighbours(parts)
    except RuntimeError:  # the tensors of torch.func's transformations have no address
        joined = None
    return torch.cat(parts) if joined is None else _Joined.apply(joined, *parts)


def join(parts):
    """Tensors joined along the first axis, without a copy if they are neighbours in memory.

    If they are not, they become views of the copy, so that nothing is in memory twice; except tensors that share their
    memory with others.
    """
    joined = neighbours(parts)
    if joined is not None:
        return joined
    joined = torch.cat(parts)
    if len(set(map(id, parts))) == len(parts) and all(map(_alone, parts)):
        for x, part in zip(parts, joined.chunk(len(parts))):
            x.data = part
    return joined


def _alone(x):
    return isinstance(x, nn.Parameter) and not x.is_shared() and x.untyped_storage().nbytes() == x.nbytes


# ---------------------------------------------------------------------------------------------------- BatchNorms


def unfold(tensors, norms, eps):
    """As `batch_norm.unfold`, for tensors; the statistics are returned, for they are no parameters."""
    buffers = {}
    for conv, norm in norms:
        bias = tensors.pop(f"{conv}.bias")
        tensors[f"{norm}.weight"], tensors[f"{norm}.bias"] = torch.ones_like(bias), bias
        buffers[f"{norm}.running_mean"] = torch.zeros_like(bias)
        buffers[f"{norm}.running_var"] = torch.full_like(bias, 1 - eps)
        buffers[f"{norm}.{batch_norm.COUNT}"] = torch.zeros((), dtype=torch.int64, device=bias.device)
    return buffers


def fold(tensors, conv, norm, eps):
    """As `batch_norm.fold`, differentiable; without gradients, BatchNorms that only add copy nothing."""
    x = tensors[f"{conv}.weight"]  # (O, C, k, k)
    wide = torch.promote_types(x.dtype, torch.float32)
    factor, addend, mean, variance = (tensors[f"{norm}.{part}"].to(wide) for part in batch_norm.VECTORS)  # (O,)
    scale = factor / (variance + eps).sqrt()
    if not torch.is_grad_enabled() and bool((scale == 1).all() & (mean == 0).all()):
        tensors[f"{conv}.bias"] = tensors[f"{norm}.bias"]
        return
    tensors[f"{conv}.weight"] = (x * scale[:, None, None, None]).to(x.dtype)
    tensors[f"{conv}.bias"] = (addend - scale * mean).to(x.dtype)


# ------------------------------------------------------------------------------------------ what PEFT puts around


def inside(module):
    """(the `_modules`, the name in it) of what PEFT has put `module` around and computes with, or None.

    PEFT puts a layer around a module for LoRA, and another one to keep a copy that is trained (`modules_to_save`).
    """
    parts = getattr(module, "_modules", {})
    if "lora_A" in parts:
        return parts, "base_layer"
    if "modules_to_save" in parts:
        active = [name for name in module.active_adapters if name in module.modules_to_save]
        return (module.modules_to_save._modules, active[0]) if active and not module.disable_adapters else (
            parts, "original_module"
        )  # fmt: skip
    return None


class Adapted:
    """The tensors of a layer that PEFT has put a LoRA layer around: W + scale · B A of the active adapters for W."""

    def __init__(self, layer, path):
        self.layer, self.path = layer, path

    def __getattr__(self, leaf):
        layer = self.layer
        x = getattr(layer.base_layer, leaf)
        if leaf != "weight":
            return x
        if layer.disable_adapters:
            if layer.merged:  # as in its own forward
                layer.unmerge()
            return layer.base_layer.weight
        for name in layer.active_adapters:
            if name not in layer.merged_adapters and (name in layer.lora_A or name in layer.lora_embedding_A):
                self._check(name)
                x = x + layer.get_delta_weight(name).to(x.dtype)
        return x

    def _check(self, name):
        layer = self.layer
        if layer.training and not isinstance(layer.lora_dropout[name], nn.Identity):
            raise InputError(f"{self.path} has dropout in its adapter {name}, which miniclip lacks: set lora_dropout=0")
        if name in layer.lora_variant or layer.lora_bias[name]:
            raise InputError(f"{self.path} has another adapter than plain LoRA ({name}), which miniclip does not have")
