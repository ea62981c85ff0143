"""OpenAI's `clip` module, with its names, on torch: code for OpenAI's runs after `from miniclip import clip`.

Tensors in, tensors out, and the model is a torch module with OpenAI's names. `miniclip.load` and `miniclip.tokenize`,
which this module calls, return arrays on a CPU. (clip/clip.py, clip/model.py)
"""

import dataclasses
import functools
from collections.abc import Iterable
from typing import Any

from miniclip import api, families
from miniclip.errors import InputError
from miniclip.image import Preprocess
from miniclip.model import CLIP as Model
from miniclip.runtime.installation import install

try:
    import torch
except ImportError as error:
    raise ImportError(f"miniclip.clip needs PyTorch: {install('train')}; miniclip.load needs none") from error

from miniclip.torch_modules import TorchModel

__all__ = ["available_models", "load", "tokenize"]

available_models = api.available_models


class ClipError(InputError, RuntimeError):
    """An InputError, and a RuntimeError because OpenAI's functions raise that."""


def _raises_as_openai(function):
    @functools.wraps(function)
    def call(*arguments, **options):
        try:
            return function(*arguments, **options)
        except InputError as error:
            raise ClipError(str(error)) from error

    return call


class Visual(TorchModel):
    """`model.visual`, the image tower: pictures (B, 3, height, width) to features (B, E)."""

    def __init__(self, model: Model):
        super().__init__()
        self.input_resolution, self.output_dim = model.config.visual.image_size, model.config.embed_dim
        _adopt(self, model, "visual.")

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.bound().encode_image(image)


class CLIP(TorchModel):
    """OpenAI's model class: a torch module whose parameters have OpenAI's names and train as usual.

    It computes with miniclip's towers. `torch_modules` says what that means for hooks and replaced submodules.
    """

    def __init__(self, model: Model):
        super().__init__()
        self.config = model.config
        if model.config.visual:
            alone = dataclasses.replace(model.config, text=None)
            self.visual = Visual(Model(alone, {"visual": model.params["visual"]}, model.ops, dtype=model.dtype))
        if model.config.text:
            self.context_length, self.vocab_size = model.config.text.context_length, model.config.text.vocab_size
        _adopt(self, model)

    @property
    def dtype(self) -> torch.dtype:
        return next(x for x in self.parameters() if x.ndim).dtype

    def encode_image(self, image: torch.Tensor, normalize: bool = False) -> torch.Tensor:
        """Pictures (B, 3, height, width) to features (B, E), with `normalize` of length one."""
        return self.bound().encode_image(image, normalize)

    def encode_text(self, text: torch.Tensor, normalize: bool = False) -> torch.Tensor:
        """Token ids (N, T) to features (N, E), with `normalize` of length one."""
        return self.bound().encode_text(text, normalize)

    def forward(self, image: torch.Tensor, text: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(logits_per_image (B, N), logits_per_text (N, B))."""
        return self.bound()(image, text)

    def tokenize(self, texts: str | Iterable[str], truncate: bool = False) -> torch.Tensor:
        """Texts to ids (n, T) of this model's own vocabulary; the official one's models can use `clip.tokenize`."""
        return torch.from_numpy(self.bound().tokenize(texts, truncate=truncate))


def _adopt(module, model, prefix=""):
    openai = families.of(model.config).openai
    if openai is None:
        raise InputError(
            f"OpenAI's clip has no models of the family {model.config.family!r}: use miniclip.load or miniclip.hf"
        )
    table = {
        ours: tuple(type(name)(name.removeprefix(prefix)) for name in theirs)
        for ours, theirs in openai.table(model.config).items()
        if theirs[0].startswith(prefix)
    }
    module.adopt(model, table, openai.BATCH_NORMS, openai.EPS)


@_raises_as_openai
def load(
    name: str, device: Any = None, jit: bool = False, download_root: str | None = None
) -> tuple[CLIP, Preprocess | None]:
    """(model, preprocess) from `miniclip.load`, on torch, or on Triton if `device` is a GPU that Triton supports.

    device None is "cuda" if available, else "cpu" (clip/clip.py, load). `jit` changes nothing. Features are float32,
    also on a GPU; OpenAI's are float16 there (`model.half()`).
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    backend = "auto" if torch.device(device).type == "cuda" else "torch"
    model, preprocess = api.load(name, backend, device, None, download_root, as_openai=True)
    return CLIP(model).eval(), preprocess


@_raises_as_openai
def tokenize(texts: str | Iterable[str], context_length: int = 77, truncate: bool = False) -> torch.Tensor:
    """`miniclip.tokenize`, but returns a tensor: (n, context_length) int32."""
    return torch.from_numpy(api.tokenize(texts, context_length, truncate))
