"""OpenAI's `clip` module, with its names, on torch: the code in its README runs after `from miniclip import clip`.

Tensors in, tensors out, as in OpenAI's. `miniclip.load` and `miniclip.tokenize`, which this module calls, return arrays
on a CPU.
"""

from collections.abc import Iterable
from typing import Any

import torch

from miniclip import api
from miniclip.image import Preprocess
from miniclip.model import CLIP

__all__ = ["available_models", "load", "tokenize"]

available_models = api.available_models


def load(
    name: str, device: Any = None, jit: bool = False, download_root: str | None = None
) -> tuple[CLIP, Preprocess | None]:
    """(model, preprocess) from `miniclip.load`, on torch, or on Triton if `device` is a GPU that Triton supports.

    device None is "cuda" if available, else "cpu" (clip/clip.py, load). `jit` changes nothing. Features are float32,
    also on a GPU; OpenAI's are float16 there.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    return api.load(name, "auto" if torch.device(device).type == "cuda" else "torch", device, None, download_root)


def tokenize(texts: str | Iterable[str], context_length: int = 77, truncate: bool = False) -> torch.Tensor:
    """`miniclip.tokenize`, but returns a tensor: (n, context_length) int32."""
    return torch.from_numpy(api.tokenize(texts, context_length, truncate))
