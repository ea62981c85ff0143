"""Folds layer scale into the products before it: a factor for each channel of what a block's half adds to x.

    x + gamma · (W a + b)  =  x + (gamma W) a + gamma b              (Going deeper with Image Transformers, eq. 8)

So a block with layer scale is one without it, and our towers have none.
"""

import numpy as np

# The ending of a factor's name, and of the product's, in OpenCLIP's transformer.py.
FACTORS = {".ls_1.gamma": ".attn.out_proj", ".ls_2.gamma": ".mlp.c_proj"}


def fold(tensors):
    """Remove every layer scale from `tensors`, {OpenCLIP's name: array}; returns `tensors`."""
    for name in [name for name in tensors if name.endswith((*FACTORS,))]:
        ending = next(ending for ending in FACTORS if name.endswith(ending))
        product = name.removesuffix(ending) + FACTORS[ending]
        gamma = tensors.pop(name)  # (D,)
        for part in (f"{product}.weight", f"{product}.bias"):  # (D, in), (D,)
            if part in tensors and len(tensors[part]) == len(gamma):
                x = tensors[part]
                wide = np.result_type(x, np.float32)
                tensors[part] = (x.astype(wide) * gamma.reshape(-1, *[1] * (x.ndim - 1))).astype(x.dtype)
    return tensors
