"""Flax's names and layouts of transformers' parameters (transformers 4, modeling_flax_pytorch_utils.py).

    PyTorch                                      Flax
    linear layer     weight (out, in)            kernel (in, out)
    convolution      weight (O, C, k, k)         kernel (k, k, C, O)
    norm             weight                      scale
    embeddings       weight                      embedding

All other names are the same. The functions take arrays of any kind, and return views if these have views.
"""

TABLES = ("token_embedding", "position_embedding")


def name(theirs):
    """PyTorch's name of a parameter -> Flax's."""
    module, _, kind = theirs.rpartition(".")
    if kind != "weight":
        return theirs
    last = module.rpartition(".")[2]
    return f"{module}.{'embedding' if last in TABLES else 'scale' if 'norm' in last else 'kernel'}"


def to_flax(tensors):
    """{PyTorch's name: array} -> {Flax's name: array}."""
    renamed = {name(theirs): x for theirs, x in tensors.items()}
    return {each: _turned(x, (2, 3, 1, 0)) if _is_kernel(each) else x for each, x in renamed.items()}


def to_torch(tensors):
    """The inverse of `to_flax`; a file with a "weight" has PyTorch's names already, and stays as it is.

    A number alone becomes (), as PyTorch has it: in TensorFlow it is (1,).
    """
    if any(each.endswith(".weight") for each in tensors):
        return tensors
    renamed = {}
    for each, x in tensors.items():
        theirs = torch_name(each)
        renamed[theirs] = _turned(x, (3, 2, 0, 1)) if _is_kernel(each) else x.reshape(()) if x.size == 1 else x
    return renamed


def torch_name(each):
    """The inverse of `name`."""
    module, _, kind = each.rpartition(".")
    return f"{module}.weight" if kind in ("kernel", "scale", "embedding") else each


def _is_kernel(each):
    return each.endswith(".kernel")


def _turned(x, axes):
    return x.T if x.ndim == 2 else x.transpose(axes) if x.ndim == 4 else x
