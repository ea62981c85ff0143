"""The operations of `numpy_ops` on a tape: same names, same signatures, same results, and differentiable without torch.

    params = tree_map(Variable, params)  # what is to be learned; ndarrays in the tree stay as they are
    model = CLIP(config, params, numpy_grad)
    with one_blas_thread():
        loss = contrastive_loss(model(images, tokens)[0], ops=numpy_grad)
        loss.backward()  # now every Variable in params has its gradient

Builds on `tape`. Each function here computes y with the reference, and notes a function of `numpy_gradients`, where the
formulas are, to send dy back with; this file only joins the two. Towers are written once, so all of them, with
transformers or convolutions, are differentiable by being called with this module as `ops`.

Arrays are Variables, to be differentiated, or ndarrays, which are constants: tokens, pictures, frozen parameters. What
is made of constants alone is an ndarray. `numpy_ops` documents the operations. This is no backend that `load` knows.

A captured tower runs in chunks, one on each core (`tape_chunks`). A step is up to a fifth faster in the context
`runtime.cpu.one_blas_thread`: after a product on all cores, such as the small one for the logits, BLAS' threads are
busy waiting for the next one, on cores that the chunks need.
"""

import numpy as np

from miniclip.ops import numpy_gradients as by_hand
from miniclip.ops import numpy_ops, refuse
from miniclip.ops.numpy_grad_activations import ACTIVATIONS, gelu, gelu_tanh, quick_gelu, relu, sigmoid, silu, tanh  # noqa: F401
from miniclip.ops.numpy_grad_conv import avg_pool2d, cells, conv2d, global_avg_pool2d, grid_tokens  # noqa: F401
from miniclip.ops.tape import Variable, record, value, values
from miniclip.ops.tape_chunks import in_chunks

NAME = "numpy_grad"
DTYPES = ("float32", "float64")
LENGTH_STEP = 1
PACKAGES = ("numpy",)
ANY_DEVICE = False

# ------------------------------------------------------------------------------ arrays in, arrays out


def asarray(x, *, device=None, dtype=None):
    """`x` if it is a Variable, else as a constant, an ndarray; both of `dtype` (a name; None: as it is)."""
    if not isinstance(x, Variable):
        return np.asarray(x, dtype)
    if dtype is None or x.dtype == dtype:
        return x
    return Variable(x.value.astype(dtype), (x,), lambda dy: (dy.astype(x.dtype),))


def to_numpy(x):
    return value(x)


def peak(x):
    return numpy_ops.peak(value(x))


def capture(function, parameters, *, dtype=None, batch_invariant=False, compile=False):
    refuse(NAME, batch_invariant=batch_invariant, compile=compile)
    return in_chunks(function, parameters)


# ----------------------------------------------------------------------------------- pixels and tokens


def patch_embed(images, weight, class_token, position_embedding):
    sources = images, weight, class_token, position_embedding
    y = numpy_ops.patch_embed(*values(*sources))  # (B, T, D)
    return record(y, sources, lambda dy: by_hand.patch_embed_gradient(dy, *values(images, weight)))


def embed(tokens, table):
    y = numpy_ops.embed(tokens, value(table))  # (B, T, D)
    return record(y, (table,), lambda dy: (by_hand.embed_gradient(dy, tokens, value(table)),))


def gather(x, index):
    place = np.arange(len(x)), index  # no place twice: as with slices, the rest of x gets no gradient
    return record(value(x)[place], (x,), lambda dy: (dy,), place)


# ----------------------------------------------------------------------------------------- softmax


def softmax(x):
    y = numpy_ops.softmax(value(x))
    return record(y, (x,), lambda dy: (by_hand.softmax_gradient(dy, y),))


def log_softmax(x):
    y = numpy_ops.log_softmax(value(x))
    return record(y, (x,), lambda dy: (by_hand.log_softmax_gradient(dy, y),))


# ---------------------------------------------------------------------------- parts of a transformer


def linear(x, weight, bias=None, *, activation=None):
    y = numpy_ops.linear(*values(x, weight, bias))  # (..., out)
    y = record(y, (x, weight, bias), lambda dy: by_hand.linear_gradient(dy, *values(x, weight)))
    return y if activation is None else ACTIVATIONS[activation](y)


def layer_norm(x, weight, bias, *, eps):
    y = numpy_ops.layer_norm(*values(x, weight, bias), eps=eps)  # (..., D)
    return record(y, (x, weight, bias), lambda dy: by_hand.layer_norm_gradient(dy, *values(x, weight), eps=eps))


def add_layer_norm(x, update, weight, bias, *, eps):
    x = x + update
    return x, layer_norm(x, weight, bias, eps=eps)


def attention_weights(q, k, *, causal=False, lengths=None):
    y = numpy_ops.attention_weights(*values(q, k), causal=causal, lengths=lengths)  # (B, H, Tq, Tk)
    return record(y, (q, k), lambda dy: by_hand.attention_weights_gradient(dy, *values(q, k), y))


def attention(q, k, v, *, causal=False, lengths=None):
    weights = numpy_ops.attention_weights(*values(q, k), causal=causal, lengths=lengths)  # (B, H, Tq, Tk), kept
    y = (weights @ value(v).transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3)  # (B, Tq, H, K)
    return record(y, (q, k, v), lambda dy: by_hand.attention_gradient(dy, *values(q, k, v), weights=weights))


# ------------------------------------------------------------------------------------- the shared space


def l2_normalize(x):
    return record(numpy_ops.l2_normalize(value(x)), (x,), lambda dy: (by_hand.l2_normalize_gradient(dy, value(x)),))


def similarity(image_features, text_features, logit_scale):
    sources = image_features, text_features, logit_scale
    y = numpy_ops.similarity(*values(*sources))  # (B, N)
    return record(y, sources, lambda dy: by_hand.similarity_gradient(dy, *values(*sources)))


def with_gradients(function, *inputs):
    """The value of function(*inputs, gradients=True) -> (value (), a gradient of each input), on the tape."""
    y, gradients = function(*values(*inputs), gradients=any(isinstance(x, Variable) for x in inputs))
    return record(y, inputs, lambda dy: [None if x is None else dy * x for x in gradients])
