"""Gradients by hand in torch: a function that returns its value and its gradients becomes differentiable."""

import torch


def with_gradients(function, *inputs):
    """The value of function(*inputs, gradients=True) -> (value (), a gradient of each input), differentiable.

    inputs are tensors or None. A gradient is None if it is zero; gradients=False: if none is wanted. The function runs
    without autograd, outside of torch.autocast, and with float32 for tensors of 16 bit. Its gradients are only
    multiplied by the one that arrives later, and cannot be differentiated again.
    """
    return _WithGradients.apply(function, *inputs)


class _WithGradients(torch.autograd.Function):
    @staticmethod
    def forward(ctx, function, *inputs):
        ctx.dtypes = [None if x is None else x.dtype for x in inputs]
        wide = [None if x is None else x.detach().to(torch.promote_types(x.dtype, torch.float32)) for x in inputs]
        with torch.autocast(inputs[0].device.type, enabled=False):
            value, gradients = function(*wide, gradients=any(ctx.needs_input_grad))
        ctx.save_for_backward(*gradients)
        return value

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, arriving):
        gradients = zip(ctx.saved_tensors, ctx.dtypes)
        return None, *(None if x is None else (arriving * x).to(dtype) for x, dtype in gradients)
