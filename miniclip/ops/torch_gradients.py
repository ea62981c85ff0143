"""Gradients by hand in torch: a function that returns its value and its gradients becomes differentiable."""

import torch


def with_gradients(function, *inputs):
    """The value of function(*inputs, gradients=True) -> (value (), a gradient of each input), differentiable.

    inputs are tensors or None; a gradient is None if it is zero; gradients=False: none is wanted. The function gets
    float32 for tensors of 16 bit.
    """

    def in_float32(*inputs, gradients):
        wide = (None if x is None else x.to(torch.promote_types(x.dtype, torch.float32)) for x in inputs)
        return function(*wide, gradients=gradients)

    return differentiable(in_float32, *inputs)


def differentiable(function, *inputs):
    """`with_gradients` for a function that takes any dtypes; each gradient is returned in its input's.

    The function runs without autograd and outside of torch.autocast. Its gradients are only multiplied by the one that
    arrives later, and cannot be differentiated again.
    """
    return _Differentiable.apply(function, *inputs)


class _Differentiable(torch.autograd.Function):
    @staticmethod
    def forward(ctx, function, *inputs):
        ctx.dtypes = [None if x is None else x.dtype for x in inputs]
        inputs = [None if x is None else x.detach() for x in inputs]
        with torch.autocast(inputs[0].device.type, enabled=False):
            value, gradients = function(*inputs, gradients=any(ctx.needs_input_grad))
        ctx.save_for_backward(*gradients)
        return value

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, arriving):
        gradients = zip(ctx.saved_tensors, ctx.dtypes)
        return None, *(None if x is None else (arriving * x).to(dtype) for x, dtype in gradients)
