"""What `torch_ops.capture` does on a CPU without gradients: products of oneDNN, and a chunk of the batch on each core.

oneDNN is a library of matrix products inside torch. It can keep a weight packed, in the order in memory that its
products read, and it applies an activation before a product is written, x · σ(x) for example. Builds on
`runtime.chunks`, which says how a batch is cut and texts are sorted.
"""

import contextlib
import ctypes
import functools
import math
import operator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from threadpoolctl import ThreadpoolController

from miniclip.kernels.operators import differentiating, recording, transforming
from miniclip.runtime import chunks, cpu

# oneDNN's former name is MKL-DNN. Builds of torch for other processors lack these operations, or have others in them.
PRODUCT = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
REORDER = getattr(torch.ops.mkldnn, "_reorder_linear_weight", None)
HAS_ONEDNN = bool(PRODUCT and REORDER) and torch.backends.cpu.get_cpu_capability().startswith("AVX")
# our activations: oneDNN's name, and which formula of it
ACTIVATIONS = {
    None: ("none", ""),
    "gelu": ("gelu", "none"),
    "gelu_tanh": ("gelu", "tanh"),
    "relu": ("relu", ""),
    "sigmoid": ("sigmoid", ""),
    "silu": ("swish", ""),
    "tanh": ("tanh", ""),
}


def multiplies(dtype):
    """Whether oneDNN has products in this dtype that are as fast as they can be on this processor."""
    return HAS_ONEDNN and (
        dtype == torch.float32 or (dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())
    )


# -------------------------------------------------------------------------------------------- weights


class Weight(NamedTuple):
    """A weight for oneDNN's product, (out, in): packed, or as it was."""

    matrix: torch.Tensor
    shape: torch.Size  # that it had before: (D, C, P, P) if it cuts pictures into patches


def _pack(weight):
    return Weight(REORDER(weight.flatten(1).contiguous(), None), weight.shape)


def _lend(weight):
    return Weight(weight.flatten(1), weight.shape)


def prepared(tree, activation, make):
    """A parameter tree with a `Weight` wherever there is a product, made by `make`.

    If activation is "quick_gelu", 1.702 becomes a part of the weights around it: 1.702 · quick_gelu(x) = z · σ(z) with
    z = 1.702 · x. So the product before it gets weight and bias times 1.702, and the one after it weight / 1.702.
    """
    if isinstance(tree, list):
        return [prepared(branch, activation, make) for branch in tree]
    if not isinstance(tree, dict):
        return tree
    if activation == "quick_gelu" and "fc" in tree:  # an MLP
        fc, proj = tree["fc"], tree["proj"]
        fc = {name: _times(x, 1.702) for name, x in fc.items()}
        tree = tree | {"fc": fc, "proj": proj | {"weight": _times(proj["weight"], 1 / 1.702)}}
    return {
        name: make(x) if name == "weight" and (x.ndim == 2 or "class_token" in tree) else prepared(x, activation, make)
        for name, x in tree.items()
    }


def _times(x, factor):
    return (x.float() * factor).to(x.dtype)  # 16 bits are rounded once


# ----------------------------------------------------------------------------------------- operations


class Operations:
    """The operations of `torch_ops`, but those with products take each weight as a `Weight`.

    scaled  whether the weights around quick_gelu have 1.702 in them, see `prepared`
    """

    def __init__(self, ops, scaled):
        self._ops, self._scaled = ops, scaled

    def __getattr__(self, name):
        return getattr(self._ops, name)

    def linear(self, x, weight, bias=None, *, activation=None):
        if activation == "quick_gelu":
            if not self._scaled:
                x = self.linear(x, weight, bias).mul_(1.702)
                return F.silu(x, inplace=True).div_(1.702)
            activation = "silu"
        name, formula = ACTIVATIONS[activation]
        return self.product(x, weight, bias, name, formula)  # (..., out)

    def product(self, x, weight, bias, name, formula):
        return PRODUCT(x, weight.matrix, bias, name, [], formula)

    def patch_embed(self, images, weight, class_token, position_embedding):
        B, C, height, width = images.shape
        P = weight.shape[-1]
        Gy, Gx = height // P, width // P
        x = images[:, :, : Gy * P, : Gx * P].reshape(B, C, Gy, P, Gx, P)
        x = x.permute(0, 2, 4, 1, 3, 5).reshape(B, Gy * Gx, C * P * P)  # one patch a row
        x = self.linear(x, weight)  # (B, Gy·Gx, D)
        return torch.cat([class_token.expand(B, 1, -1), x], dim=1) + position_embedding  # (B, T, D)

    def attention(self, q, k, v, *, causal=False, lengths=None):
        if q.dtype != torch.bfloat16:
            return self._ops.attention(q, k, v, causal=causal, lengths=lengths)
        # torch's fused attention computes in float32: two products of bfloat16 take half its time
        B, Tq, H, K = q.shape
        Tk = k.shape[1]
        mask = q.new_zeros(1, 1, 1, 1)
        if causal or lengths is not None:
            mask = mask.masked_fill(~self._ops._visible(Tq, Tk, causal, lengths, q.device), -math.inf)
        mask = mask.expand(B, H, Tq, Tk).reshape(B * H, Tq, Tk)
        q, k, v = (x.transpose(1, 2).reshape(B * H, x.shape[1], K) for x in (q, k, v))  # (B·H, T, K)
        weights = torch.baddbmm(mask, q, k.transpose(1, 2), alpha=K**-0.5).softmax(dim=-1)  # (B·H, Tq, Tk)
        return torch.bmm(weights, v).view(B, H, Tq, K).transpose(1, 2)  # (B, Tq, H, K)


# ----------------------------------------------------------------------------- when, and on which core


class OnCPU:
    """Calls function(ops, *batches, **parameters) with its parameters filled in, faster if only features are wanted.

    function    a functools.partial of a tower's function: its first argument, the operations, is replaced here
    copied      whether weights are packed, into a copy, at the first call and after a parameter was replaced or changed
                in place. Else oneDNN reads the parameters where they are, so that it sees any change of them

    Calls run as they are, on `ops`, if they have a `trace`, if gradients are wanted, and inside torch.compile,
    torch.func, torch.autocast and what else watches or changes torch's operations.
    """

    def __init__(self, function, parameters, copied):
        self.ordinary = functools.partial(function, **parameters)
        self.function = functools.partial(function.func, Operations(*function.args, scaled=copied), **function.keywords)
        self.activation = getattr(function.keywords["config"], "activation", None) if copied else None
        self.parameters, self.copied = parameters, copied
        self.found = None, None, None  # the parameters, their state, and the tree for `function`

    def __call__(self, *batches, trace=None, **options):
        leaves = [box[name] for box, name in _places(self.parameters)]
        given = [*batches, *(x for x in options.values() if x is not None)]
        if trace is not None or _unusual(given, leaves):
            return self.ordinary(*batches, trace=trace, **options)
        encode = functools.partial(self.function, **self._tree(leaves))
        with torch.no_grad():
            return _in_chunks(encode, *batches, **options)

    def make(self, weight):
        return _pack(weight) if self.copied else _lend(weight)

    def _tree(self, leaves):
        before, state, tree = self.found
        now = [(x.data_ptr(), x._version) for x in leaves]
        if before is None or state != now or not all(map(operator.is_, before, leaves)):
            with torch.inference_mode(False), torch.no_grad():
                tree = prepared(self.parameters, self.activation, self.make)
            self.found = leaves, now, tree
        return tree


def fits(function, parameters, ops):
    """Whether `OnCPU` can call this function, which was made for `ops`."""
    leaves = [box[name] for box, name in _places(parameters)]
    return (
        getattr(function, "args", None) == (ops,)
        and all(isinstance(x, torch.Tensor) and x.device.type == "cpu" for x in leaves)
        and "stem" not in parameters  # of a convolutional tower, which has next to no products
        and len(dtypes := {x.dtype for x in leaves}) == 1
        and all(map(multiplies, dtypes))
    )


def _places(tree):
    """(the dict or list that has it, its key there) of each leaf."""
    for name, x in tree.items() if isinstance(tree, dict) else enumerate(tree):
        if isinstance(x, (dict, list)):
            yield from _places(x)
        else:
            yield tree, name


def _unusual(given, leaves):
    return (
        any(x.requires_grad for x in leaves)
        or differentiating(given)
        or any(x.device.type != "cpu" for x in given)
        or recording([*given, *leaves])
        or transforming()
        or torch.jit.is_tracing()
        or torch.is_autocast_enabled("cpu")
        or torch.autograd.forward_ad._current_level >= 0
        or any(x.is_inference() for x in leaves)  # nobody counts their changes
    )


def _in_chunks(function, batch, *end, **options):
    """As `chunks.in_chunks`, for tensors: function(batch, ...) in chunks, each on one of torch's threads."""
    B, cores = len(batch), torch.get_num_threads()
    if max(2, cores) > B or not _openmp():  # each operation runs on all cores instead
        return function(batch, *end, **options)
    if end:  # NumPy sorts texts
        batch, *end = (x.numpy() for x in (batch, *end))
        options = {name: None if x is None else x.numpy() for name, x in options.items()}
    total = int(chunks.lengths_of(batch, *end).sum())
    most = chunks.share(total, chunks.TOKENS if end else chunks.PICTURES, cores)
    found = chunks.pieces(batch, *end, most=most, **options)

    def work(piece):
        here = {name: None if x is None else torch.as_tensor(x) for name, x in piece.options.items()}
        with _one_thread(), torch.no_grad():  # a new thread has neither setting
            return function(*map(torch.as_tensor, piece.batch), **here)

    parts = cpu.on_cores(work, found, cores)
    whole = parts[0].new_empty(B, *parts[0].shape[1:])  # (B, E)
    for piece, part in zip(found, parts):
        whole[piece.rows] = part
    return whole


@functools.cache
def _openmp():
    """The OpenMP libraries of this process, on which torch runs its threads."""
    return ThreadpoolController().select(user_api="openmp").lib_controllers


@functools.cache
def _mkl():
    """MKL's function in torch that sets the calling thread's own number of threads, and returns the one before."""
    return getattr(ctypes.CDLL(torch._C.__file__), "MKL_Set_Num_Threads_Local", lambda count: 0)  # or there is no MKL


@contextlib.contextmanager
def _one_thread():
    """Inside, torch computes on the calling thread alone; other threads are as before."""
    torch.get_num_threads()  # in a new thread this sets torch's number, which otherwise the first operation would
    before = [library.num_threads for library in _openmp()]
    for library in _openmp():
        library.set_num_threads(1)
    mkl_before = _mkl()(1)  # torch.set_num_threads gives a thread this number, too, and it decides how MKL rounds
    try:
        yield
    finally:
        _mkl()(mkl_before)
        for library, count in zip(_openmp(), before):
            library.set_num_threads(count)
