"""Flax's forms of transformers' models, made without Flax: names by kinds of modules, files by the msgpack package.

They follow transformers 4 (modeling_flax_pytorch_utils.py) and flax (serialization.py).
"""

import msgpack
import numpy as np
import torch

LARGEST = 2**30  # bytes of an array that Flax writes as one


def flax_tree(model):
    """The nested parameters of transformers' Flax model with the same weights as this model for torch."""
    tree = {}
    for path, module in model.named_modules():
        for name, x in module.named_parameters(recurse=False):
            x = x.detach().numpy()
            if name == "weight" and isinstance(module, torch.nn.Linear):
                name, x = "kernel", x.T
            elif name == "weight" and isinstance(module, torch.nn.Conv2d):
                name, x = "kernel", x.transpose(2, 3, 1, 0)
            elif name == "weight":
                name = {torch.nn.Embedding: "embedding", torch.nn.LayerNorm: "scale"}[type(module)]
            branch = tree
            for key in path.split(".") if path else []:
                branch = branch.setdefault(key, {})
            branch[name] = x
    return tree


def packed(tree, largest=LARGEST):
    """The bytes that flax.serialization.to_bytes makes of maps in maps with arrays."""
    return msgpack.packb(_chunked(tree, largest), default=_extension, strict_types=True)


def _chunked(tree, largest):
    if isinstance(tree, dict):
        return {key: _chunked(branch, largest) for key, branch in tree.items()}
    if not isinstance(tree, np.ndarray) or tree.nbytes <= largest:
        return tree
    flat, step = tree.reshape(-1), max(1, largest // tree.itemsize)
    parts = [flat[i : i + step] for i in range(0, flat.size, step)]
    shape, chunks = ({str(i): x for i, x in enumerate(items)} for items in (tree.shape, parts))
    return {"__msgpack_chunked_array__": True, "shape": shape, "chunks": chunks}


def _extension(x):
    if isinstance(x, complex):
        return msgpack.ExtType(2, msgpack.packb((x.real, x.imag)))
    array = np.asarray(x)
    name = getattr(x, "name", array.dtype.name)
    content = msgpack.packb((array.shape, name, array.tobytes("C")), use_bin_type=True)
    return msgpack.ExtType(3 if isinstance(x, np.generic) else 1, content)
