"""The differentiable operations of the triton backend: kernels forward, kernels backward, joined for torch's autograd.

`triton_ops` calls these. Where no gradient is wanted they are the forward kernels and nothing else. Otherwise:

- attention, layer_norm, add_layer_norm and bias_activation are functions whose backward pass is a kernel, too;
- linear is the library's product, which torch differentiates, and then bias_activation. (The product with an activation
  in its epilogue is not: the gradient needs what the activation is applied to, and writing that is the pass that it
  saves.)
- patch_embed and similarity are torch's operations, forward and backward: they have no backward kernels. They are
  called once in a model, so that a fused kernel of each would save little of a step.

Gradients have the dtype of what they are of, and are summed in float32. They are differentiated no further: autograd
refuses a gradient of a gradient. In torch.compile, kernels backward are operators, as kernels forward are.
"""

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

from miniclip.kernels import activation, layer_norm_backward
from miniclip.kernels import attention as attention_kernels
from miniclip.kernels import layer_norm as layer_norm_kernels
from miniclip.kernels import linear as linear_kernels
from miniclip.kernels import patch_embed as patch_embed_kernels
from miniclip.kernels import similarity as similarity_kernels
from miniclip.kernels.activation_backward import bias_activation_backward
from miniclip.kernels.attention_backward import attention_backward, attention_forward
from miniclip.kernels.device import no_autocast
from miniclip.kernels.operators import differentiating
from miniclip.ops import torch_ops

# ------------------------------------------------------------------------------------------------ attention


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v, causal, lengths):
        out, lse = attention_forward(q, k, v, causal=causal, lengths=lengths)
        ctx.save_for_backward(q, k, v, out, lse, lengths)
        ctx.causal = causal
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, dout):
        *tensors, lengths = ctx.saved_tensors
        return *attention_backward(dout, *tensors, causal=ctx.causal, lengths=lengths), None, None


class _PackedAttention(torch.autograd.Function):
    """Attention of q, k and v that are one product's parts, side by side: its gradient is written as one tensor.

    Else torch would make a tensor of zeros for each part, copy the part into it, and add up the three: that moves five
    times as many bytes as the kernel.
    """

    @staticmethod
    def forward(ctx, packed, shape, causal, lengths):
        q, k, v = _parts(packed, shape)
        out, lse = attention_forward(q, k, v, causal=causal, lengths=lengths)
        ctx.save_for_backward(packed, out, lse, lengths)
        ctx.shape, ctx.causal = shape, causal
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, dout):
        packed, out, lse, lengths = ctx.saved_tensors
        dpacked = torch.empty_like(packed)
        into = _parts(dpacked, ctx.shape)
        attention_backward(
            dout, *_parts(packed, ctx.shape), out, lse, causal=ctx.causal, lengths=lengths, into=into
        )  # fmt: skip
        return dpacked, None, None, None


def _parts(packed, shape):
    """q, k and v (B, T, H, K) of a contiguous tensor of B·T·3·H·K numbers."""
    B, T, H, K = shape
    return packed.view(B, T, 3, H, K).unbind(2)


def _packed(q, k, v):
    """The tensor that q, k and v are the parts of, and are differentiated as, or None."""
    _, T, H, K = q.shape
    base = q._base
    together = (
        base is not None
        and k._base is base
        and v._base is base
        and base.is_contiguous()
        and base.numel() == 3 * q.numel()
        and all(x.grad_fn is not None and x.shape == q.shape for x in (q, k, v))
        and all(x.stride() == (3 * T * H * K, 3 * H * K, K, 1) for x in (q, k, v))
        and [x.storage_offset() - base.storage_offset() for x in (q, k, v)] == [0, H * K, 2 * H * K]
    )
    return base if together else None


def attention(q, k, v, *, causal=False, lengths=None):
    """`numpy_ops.attention`: q (B, Tq, H, K), k and v (B, Tk, H, K) -> (B, Tq, H, K)."""
    if not differentiating((q, k, v)):
        return attention_kernels.attention(q, k, v, causal=causal, lengths=lengths)
    if lengths is not None:
        lengths = torch.as_tensor(lengths, device=q.device)
    packed = None if torch.compiler.is_compiling() else _packed(q, k, v)
    if packed is not None:
        return _PackedAttention.apply(packed, q.shape, causal, lengths)
    return _Attention.apply(q, k, v, causal, lengths)


# ----------------------------------------------------------------------------------------------- layer norm


class _LayerNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, eps):
        ctx.save_for_backward(x, weight)
        ctx.eps = eps
        return layer_norm_kernels.layer_norm(x, weight, bias, eps=eps)

    @staticmethod
    @once_differentiable
    def backward(ctx, dout):
        return *layer_norm_backward.layer_norm_backward(dout, *ctx.saved_tensors, eps=ctx.eps), None


class _AddLayerNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, update, weight, bias, eps):
        total, out = layer_norm_kernels.add_layer_norm(x, update, weight, bias, eps=eps)
        ctx.save_for_backward(total, weight)
        ctx.eps = eps
        return total, out

    @staticmethod
    @once_differentiable
    def backward(ctx, dsum, dout):
        dx, *others = layer_norm_backward.add_layer_norm_backward(dsum, dout, *ctx.saved_tensors, eps=ctx.eps)
        return dx, dx, *others, None


def layer_norm(x, weight, bias, *, eps):
    """`numpy_ops.layer_norm`: x (..., D), weight and bias (D,) -> (..., D)."""
    if not differentiating((x, weight, bias)):
        return layer_norm_kernels.layer_norm(x, weight, bias, eps=eps)
    return _LayerNorm.apply(x, weight, bias, eps)


def add_layer_norm(x, update, weight, bias, *, eps):
    """`numpy_ops.add_layer_norm`: (x + update, its layer norm), x and update (..., D), weight and bias (D,)."""
    if not differentiating((x, update, weight, bias)):
        return layer_norm_kernels.add_layer_norm(x, update, weight, bias, eps=eps)
    return _AddLayerNorm.apply(x, update, weight, bias, eps)


# ------------------------------------------------------------------------------------ activations and products


class _BiasActivation(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, bias, residual, name):
        ctx.save_for_backward(x, bias, residual)
        ctx.name = name
        return activation.bias_activation(x, bias, name, residual=residual)

    @staticmethod
    @once_differentiable
    def backward(ctx, dout):
        x, bias, residual = ctx.saved_tensors
        dx, dbias = bias_activation_backward(dout, x, bias, ctx.name, residual=residual)
        return dx, None if bias is None else dbias, None if residual is None else dx, None


def bias_activation(x, bias, name, *, residual=None, in_place=False):
    """activation(x + bias + residual): x (..., N), bias (N,) or None, residual (..., N) or None -> (..., N).

    `in_place` writes the result over x, unless a gradient is wanted: that needs x.
    """
    if not differentiating((x, bias, residual)):
        return activation.bias_activation(x, bias, name, residual=residual, in_place=in_place)
    return _BiasActivation.apply(x, bias, residual, name)


def linear_activation(x, weight, bias, name):
    """activation(x @ weight.T + bias): x (..., in), weight (out, in), bias (out,) or None -> (..., out)."""
    if not differentiating((x, weight, bias)):
        return linear_kernels.linear_activation(x, weight, bias, name)
    with no_autocast(x):
        return bias_activation(F.linear(x, weight), bias, name)


# ------------------------------------------------------------------------------------------ the ends of the model


def patch_embed(images, weight, class_token, position_embedding):
    """`numpy_ops.patch_embed`: images (B, C, height, width), weight (D, C, P, P), ... -> (B, T, D).

    If a gradient is wanted, as a product of patches in rows: a convolution of the library may round float32 to tf32.
    """
    if not differentiating((images, weight, class_token, position_embedding)):
        return patch_embed_kernels.patch_embed(images, weight, class_token, position_embedding)
    D, C, P, _ = weight.shape
    B, Gy, Gx = len(images), images.shape[2] // P, images.shape[3] // P
    x = images[:, :, : Gy * P, : Gx * P].reshape(B, C, Gy, P, Gx, P).permute(0, 2, 4, 1, 3, 5)  # (B, Gy, Gx, C, P, P)
    with no_autocast(images):
        x = F.linear(x.reshape(B, Gy * Gx, C * P * P), weight.reshape(D, -1))  # (B, Gy·Gx, D)
    return torch.cat([class_token.expand(B, 1, D), x], dim=1) + position_embedding  # (B, T, D)


def similarity(image_features, text_features, logit_scale):
    """`numpy_ops.similarity`: image_features (B, E), text_features (N, E), logit_scale () -> (B, N)."""
    tensors = (image_features, text_features, logit_scale)
    if not differentiating(tensors):
        return similarity_kernels.similarity(*tensors)
    with no_autocast(image_features):
        return torch_ops.similarity(*tensors)
