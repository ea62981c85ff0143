"""OpenAI's package by its own names, on torch: what its README does runs with `from miniclip import clip`.

Tensors in, tensors out, as there; miniclip's own `load` and `tokenize`, of which this is made, give arrays on a CPU.
"""

import torch

from miniclip import api

__all__ = ["available_models", "load", "tokenize"]

available_models = api.available_models


def load(name, device=None, jit=False, download_root=None):
    """(model, preprocess) of `miniclip.load`, on torch, or on Triton where `device` is a GPU that it knows.

    device None is "cuda" where there is one, else "cpu" (clip/clip.py, load). `jit` changes nothing. Features are
    float32 on a GPU, too, where OpenAI's are float16.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    return api.load(name, "auto" if torch.device(device).type == "cuda" else "torch", device, None, download_root)


def tokenize(texts, context_length=77, truncate=False):
    """`miniclip.tokenize` as a tensor, (n, context_length) int32."""
    return torch.from_numpy(api.tokenize(texts, context_length, truncate))
