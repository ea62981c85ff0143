"""Kernels as torch's own operators, `torch.ops.miniclip.attention` and so on.

torch.compile and torch.export record operators, on tensors that have no numbers; they cannot record how a kernel is
launched. As operators, kernels stay in the graphs as they are. An operator has a schema, torch's way to write a
signature, and a function that makes an empty result of the right shape. (PyTorch, "Custom Operators".)
"""

import torch

# An operator stays registered as long as its library lives; a file that is loaded again makes it again.
# torch.library.custom_op does the same with 25 µs more for each call.
LIBRARIES = {}


def register(run, name, schema, empty):
    """The operator miniclip::name, which is computed by `run`. `empty` has its arguments, and gives empty results.

    `empty` reads sizes from `.shape`: in a recording they may be unknown, and len() would take them as fixed.
    """
    LIBRARIES.pop(name, None)
    library = LIBRARIES[name] = torch.library.Library("miniclip", "FRAGMENT")
    library.define(f"{name}{schema}", tags=torch.Tag.pt2_compliant_tag)
    library.impl(name, run, "CompositeExplicitAutograd")
    torch.library.register_fake(f"miniclip::{name}", empty, lib=library)
    return getattr(torch.ops.miniclip, name).default


def recording(arguments):
    """Whether operations are recorded or watched: by torch.compile, torch.export, fake tensors, FlopCounterMode, ..."""
    return (
        torch.compiler.is_compiling()
        or torch._C._len_torch_dispatch_stack() > 0
        or any(isinstance(x, torch.Tensor) and type(x) not in (torch.Tensor, torch.nn.Parameter) for x in arguments)
    )


def differentiating(tensors):
    """Whether gradients are enabled, and wanted for one of these; what is no tensor, such as None, wants none."""
    return torch.is_grad_enabled() and any(isinstance(x, torch.Tensor) and x.requires_grad for x in tensors)


def transforming():
    """Whether torch.func.vmap or another of torch.func's transforms is under way."""
    return torch._C._functorch.peek_interpreter_stack() is not None
