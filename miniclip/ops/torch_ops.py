"""The operations of `numpy_ops` in PyTorch: same names, same signatures, same results, and differentiable.

Runs on any device that torch supports, in float64, float32, float16 or bfloat16, with torch's own kernels only. It
trains the built-in model, and it is the baseline that hand-written kernels must beat. `numpy_ops` documents the
operations.
"""

import functools
import sys

import numpy as np
import torch
import torch.nn.functional as F

from miniclip.errors import InputError
from miniclip.ops import refuse, torch_cpu
from miniclip.ops.torch_gradients import with_gradients  # noqa: F401

NAME = "torch"
DTYPES = ("float32", "float64", "float16", "bfloat16")
LENGTH_STEP = 1
PACKAGES = ("torch",)
ANY_DEVICE = True

# ------------------------------------------------------------------------------ arrays in, arrays out


def asarray(x, *, device=None, dtype=None):
    """`x` as a tensor on `device`; dtype is a name, None: the dtype of `x`."""
    if isinstance(x, np.ndarray) and (not x.flags.writeable or any(step < 0 for step in x.strides)):
        x = x.copy()  # a tensor cannot be read-only or have negative strides
    return torch.as_tensor(x).to(device, None if dtype is None else getattr(torch, dtype))


def to_numpy(x):
    """`x` as an ndarray; bfloat16, which NumPy does not have, becomes float32. InputError in code that is traced."""
    if torch.jit.is_tracing() or torch.compiler.is_exporting():
        raise InputError(
            "a tensor is read in NumPy, so that a trace would keep its values for ever, those of a text for example: "
            "trace the text tower alone, miniclip.towers.text.encode_text(ops, tokens, end, **parameters, config=...)"
        )
    x = x.detach().cpu()
    return (x.float() if x.dtype == torch.bfloat16 else x).numpy()


def peak(x):
    if x.numel() == 0 or x.device.type != "cpu" or _is_traced():
        return 0.0
    return x.detach().abs().max().item()


def _is_traced():
    return torch.jit.is_tracing() or torch.compiler.is_compiling()


def capture(function, parameters, *, dtype=None, batch_invariant=False, compile=False):
    refuse(NAME, batch_invariant=batch_invariant)
    on_cpu = torch_cpu.fits(function, parameters, sys.modules[__name__])
    if compile:
        if not on_cpu:
            raise InputError("compile=True is for float32 and bfloat16 on a CPU with AVX that torch computes them on")
        from miniclip.ops import torch_compiled  # torch's compiler takes a second to import

        return torch_compiled.OnCPU(function, parameters)
    if on_cpu:
        # without a dtype the parameters are another's, who may change them unseen: they are not copied
        return torch_cpu.OnCPU(function, parameters, copied=dtype is not None)
    return functools.partial(function, **parameters)


# ----------------------------------------------------------------------------------- pixels and tokens


def patch_embed(images, weight, class_token, position_embedding):
    x = cells(F.conv2d(images, weight, stride=weight.shape[-1]))  # (B, Gy·Gx, D)
    x = torch.cat([class_token.expand(len(x), 1, -1), x], dim=1)  # (B, T, D)
    return x + position_embedding


def embed(tokens, table):
    return F.embedding(tokens, table)  # (B, T, D)


def gather(x, index):
    return x[torch.arange(len(x), device=x.device), index]  # (B, D)


# ----------------------------------------------------------------------------------------- activations


def softmax(x):
    return x.softmax(dim=-1)


def log_softmax(x):
    return x.log_softmax(dim=-1)


def quick_gelu(x):
    return F.silu(1.702 * x) / 1.702  # x · σ(1.702x), with one pass less over memory


def gelu(x):
    return F.gelu(x)


def gelu_tanh(x):
    return F.gelu(x, approximate="tanh")


def relu(x):
    return F.relu(x)


def sigmoid(x):
    return x.sigmoid()


def silu(x):
    return F.silu(x)


def tanh(x):
    return x.tanh()


ACTIVATIONS = {"quick_gelu": quick_gelu, "gelu": gelu, "gelu_tanh": gelu_tanh, "relu": relu}
ACTIVATIONS |= {"sigmoid": sigmoid, "silu": silu, "tanh": tanh}


# --------------------------------------------------------------------------------- parts of a transformer


def linear(x, weight, bias=None, *, activation=None):
    x = F.linear(x, weight, bias)  # (..., out)
    return x if activation is None else ACTIVATIONS[activation](x)


def layer_norm(x, weight, bias, *, eps):
    return F.layer_norm(x, x.shape[-1:], weight, bias, eps)  # statistics are float32 inside torch's kernels


def add_layer_norm(x, update, weight, bias, *, eps):
    x = x + update
    return x, layer_norm(x, weight, bias, eps=eps)


def attention_weights(q, k, *, causal=False, lengths=None):
    Tq, Tk, K = q.shape[1], k.shape[1], q.shape[3]
    scores = torch.einsum("bqhk,bthk->bhqt", q, k) / K**0.5  # (B, H, Tq, Tk)
    return scores.masked_fill(~_visible(Tq, Tk, causal, lengths, q.device), float("-inf")).softmax(dim=-1)


def attention(q, k, v, *, causal=False, lengths=None):
    Tq, Tk = q.shape[1], k.shape[1]
    # torch's flash kernels take no mask, so there is one only for padding.
    mask = {"is_causal": causal} if lengths is None else {"attn_mask": _visible(Tq, Tk, causal, lengths, q.device)}
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))  # (B, H, T, K)
    return F.scaled_dot_product_attention(q, k, v, **mask).transpose(1, 2)  # (B, Tq, H, K)


def _visible(Tq, Tk, causal, lengths, device):
    """Which keys each query may see: (B or 1, 1, Tq, Tk) bool."""
    visible = torch.ones(1, 1, Tq, Tk, dtype=torch.bool, device=device)
    if causal:
        visible = visible.tril()
    if lengths is not None:
        present = torch.arange(Tk, device=device) < torch.as_tensor(lengths, device=device)[:, None]  # (B, Tk)
        visible = visible & present[:, None, None, :]
    return visible


# ---------------------------------------------------------------------------- parts of a convolutional tower


def conv2d(x, weight, bias=None, *, stride=1, padding=0, groups=1, residual=None, activation=None):
    if isinstance(padding, tuple):
        x, padding = F.pad(x, 2 * padding), 0
    x = x.contiguous(memory_format=torch.channels_last)  # the faster order in memory, which later operations keep
    x = F.conv2d(x, weight, bias, stride, padding, groups=groups)  # (B, O, Gy, Gx)
    if residual is not None:
        x += residual  # in place: x is new here, and no gradient needs its old value
    return x if activation is None else ACTIVATIONS[activation](x)


def avg_pool2d(x, size):
    return F.avg_pool2d(x, size)  # (B, C, Gy, Gx)


def global_avg_pool2d(x):
    return x.mean(dim=(2, 3), keepdim=True)  # (B, C, 1, 1)


def cells(x):
    return x.flatten(2).transpose(1, 2)  # (B, Gy·Gx, C)


def grid_tokens(x, position_embedding):
    x = cells(x)  # (B, Gy·Gx, C)
    x = torch.cat([x.mean(dim=1, keepdim=True), x], dim=1)  # (B, T, C)
    return x + position_embedding


# ------------------------------------------------------------------------------------- the shared space


def l2_normalize(x):
    largest = x.detach().abs().amax(dim=-1, keepdim=True)  # a constant: the result does not depend on it
    # not ldexp(x, ...): its gradient is 0 for negative exponents (torch 2.13)
    x = x * torch.ldexp(torch.ones_like(largest), -torch.frexp(largest).exponent.clamp(min=-125))
    return x / x.norm(dim=-1, keepdim=True).clamp(min=0.5)


def similarity(image_features, text_features, logit_scale):
    return logit_scale.exp() * (l2_normalize(image_features) @ l2_normalize(text_features).T)
