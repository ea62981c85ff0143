"""The operations of `numpy_ops` on a GPU: same names, same signatures; Triton where it pays, torch elsewhere.

float32, float16 or bfloat16. Matrix products are the library's unless something can be fused into them. All operations
are differentiable (`gradients`). `numpy_ops` says what each operation computes.
"""

import functools

import torch
import torch.nn.functional as F

from miniclip.errors import InputError
from miniclip.kernels import activation as activation_kernels
from miniclip.kernels import float8 as float8_kernels
from miniclip.kernels import gradients, graphs
from miniclip.kernels.contrastive import contrastive_loss, sigmoid_loss  # noqa: F401  for chunked_loss
from miniclip.kernels.device import INTERPRETING, NO_BFLOAT16, emulating, no_autocast, why_not
from miniclip.ops import refuse, torch_ops
from miniclip.params import flatten

NAME = "triton"
DTYPES = ("float32", "float16", "bfloat16")
LENGTH_STEP = 16
PACKAGES = ("torch",)
ANY_DEVICE = False

# ------------------------------------------------------------------------------ arrays in, arrays out


def asarray(x, *, device=None, dtype=None):
    """x as a tensor of this backend: of `dtype` (a name; None: x's own) on `device`.

    device None is the GPU that `x` is on, else the current one. Raises InputError if the kernels cannot run.
    """
    if isinstance(x, float8_kernels.Weight):  # quantised where it is
        return x
    x = torch_ops.asarray(x)
    if x.device.type == "cpu" or (device is not None and torch.device(device) != x.device):
        reason = why_not(device)
        if reason:
            raise InputError(f"the triton backend cannot run: {reason}; pass backend='torch' or 'numpy'")
        if device is None and not INTERPRETING and not emulating():
            device = "cuda"
    x = torch_ops.asarray(x, device=device, dtype=dtype)
    if INTERPRETING and x.dtype == torch.bfloat16:
        raise InputError(NO_BFLOAT16)
    return x


to_numpy, peak = torch_ops.to_numpy, torch_ops.peak


def capture(function, parameters, *, dtype=None, batch_invariant=False, compile=False):
    refuse(NAME, batch_invariant=batch_invariant, compile=compile)
    return graphs.Runner(functools.partial(function, **parameters), parameters=list(flatten(parameters).values()))


# ----------------------------------------------------------------------------------- pixels and tokens


patch_embed = gradients.patch_embed
embed, gather = torch_ops.embed, torch_ops.gather


# ----------------------------------------------------------------------------------------- activations

softmax, log_softmax = torch_ops.softmax, torch_ops.log_softmax


def quick_gelu(x):
    return gradients.bias_activation(x, None, "quick_gelu")


def gelu(x):
    return gradients.bias_activation(x, None, "gelu")


def relu(x):
    return gradients.bias_activation(x, None, "relu")


def sigmoid(x):
    return gradients.bias_activation(x, None, "sigmoid")


def silu(x):
    return gradients.bias_activation(x, None, "silu")


tanh = torch_ops.tanh  # of one row a text: not worth a kernel
gelu_tanh = torch_ops.gelu_tanh  # SigLIP's: one pass more over memory

ACTIVATIONS = {"quick_gelu": quick_gelu, "gelu": gelu, "gelu_tanh": gelu_tanh, "relu": relu}
ACTIVATIONS |= {"sigmoid": sigmoid, "silu": silu, "tanh": tanh}


# -------------------------------------------------------------------------- what a transformer is made of


def linear(x, weight, bias=None, *, activation=None):
    if isinstance(weight, float8_kernels.Weight):
        fused = activation if activation in activation_kernels.NAMES else None
        x = float8_kernels.linear(x, weight, bias, fused)  # (..., out)
        return x if activation == fused else ACTIVATIONS[activation](x)
    if activation not in activation_kernels.NAMES:
        with no_autocast(x):
            x = F.linear(x, weight, bias)  # (..., out); the library adds the bias in its epilogue
        return x if activation is None else ACTIVATIONS[activation](x)
    return gradients.linear_activation(x, weight, bias, activation)


layer_norm, add_layer_norm = gradients.layer_norm, gradients.add_layer_norm
attention_weights = torch_ops.attention_weights  # for looking inside: the kernel never has them all
attention = gradients.attention


# --------------------------------------------------------------------- what a convolutional tower is made of


def conv2d(x, weight, bias=None, *, stride=1, padding=0, groups=1, residual=None, activation=None):
    if isinstance(padding, tuple):
        x, padding = F.pad(x, 2 * padding), 0
    x = _convolve(x, weight, stride, padding, groups)  # (B, O, Gy, Gx)
    rows, residual = (None if t is None else t.permute(0, 2, 3, 1) for t in (x, residual))  # the order in memory
    fused = activation if activation in activation_kernels.NAMES else None
    rows = gradients.bias_activation(rows, bias, fused, residual=residual, in_place=True)
    x = rows.permute(0, 3, 1, 2)  # (B, O, Gy, Gx)
    return x if activation == fused else ACTIVATIONS[activation](x)


def _convolve(x, weight, stride, padding, groups):
    """x convolved by the library, without bias and activation: these are one pass over memory after it."""
    # The order in memory that the matrix units want; all later operations keep it.
    x = x.contiguous(memory_format=torch.channels_last)
    with no_autocast(x):
        if not x.is_cuda or torch.version.hip:
            return F.conv2d(x, weight, stride=stride, padding=padding, groups=groups)
        # F.conv2d calls this too, but with tf32 for float32 unless a setting of the whole process forbids it.
        options = {"dilation": [1, 1], "benchmark": False, "deterministic": False, "allow_tf32": False}
        return torch.cudnn_convolution(x, weight, stride=[stride] * 2, padding=[padding] * 2, groups=groups, **options)


avg_pool2d, global_avg_pool2d = torch_ops.avg_pool2d, torch_ops.global_avg_pool2d
cells, grid_tokens = torch_ops.cells, torch_ops.grid_tokens


# ------------------------------------------------------------------------------------- the shared space

l2_normalize, similarity = torch_ops.l2_normalize, gradients.similarity
