"""CLIP: a configuration, parameters and a backend, joined into a model that encodes pictures and texts.

Builds on the towers (wiring) and an ops module (arithmetic). `miniclip.load` reads the files and makes the model;
pictures are prepared in `image`, texts become tokens in `tokenizer`.
"""

from collections.abc import Callable, Iterable
from functools import cached_property, partial
from types import ModuleType
from typing import Any

import numpy as np

from miniclip import params as parameter_tree
from miniclip.config import ModelConfig, pair
from miniclip.errors import InputError
from miniclip.ops import Array
from miniclip.tokenizer import Tokenizer

Trace = Callable[[str, Array], None]


class CLIP:
    """Two towers into one space: a picture is near the texts that fit it (Radford et al., 2021, fig. 3).

    config       a ModelConfig, such as CLIPConfig
    params       {"visual": ..., "text": ..., "logit_scale": a scalar} as `config.shapes()` has it, arrays of any kind
    ops          the backend, a module such as `miniclip.ops.numpy_ops`
    tokenizer    the Tokenizer of the model's vocabulary, or a function that finds it when it is first needed
    device, dtype  where the parameters go (None: the backend's choice), and their floating type (None: as they are)
    batch_invariant  without `trace`, features are the same bit for bit in any batch; NumPy only, and slower
    """

    def __init__(
        self,
        config: ModelConfig,
        params: dict,
        ops: ModuleType,
        *,
        tokenizer: Tokenizer | Callable[[], Tokenizer] | None = None,
        device: Any = None,
        dtype: str | None = None,
        batch_invariant: bool = False,
    ):
        self.config, self.ops, self._tokenizer = config, ops, tokenizer
        self.backend, self.dtype, self.batch_invariant = ops.NAME, dtype, batch_invariant
        self.params = parameter_tree.tree_map(lambda x: ops.asarray(x, device=device, dtype=dtype), params)
        first = next(iter(parameter_tree.flatten(self.params).values()))
        self.device = getattr(first, "device", None)  # pictures and texts go there too; None inside jax.jit
        # each tower is a function of a batch, as fast as the backend can make it; part.tower is a module: vit, text
        self._encode = {}
        for name, part, function in (("visual", config.visual, "encode_image"), ("text", config.text, "encode_text")):
            if name in self.params:
                encode = partial(getattr(part.tower, function), ops, config=part)
                self._encode[name] = ops.capture(encode, self.params[name], batch_invariant=batch_invariant)

    def encode_image(self, images: Array, *, trace: Trace | None = None) -> Array:
        """Pictures to features: images (B, C, height, width) float, as `image.Preprocess` makes them -> (B, E).

        Features are not normalised. `trace(name, value)` sees every stage, see `towers/vit.py` or `resnet.py`. Raises
        InputError for another shape and for a model without an image tower.
        """
        config = self._tower("visual")
        C, (height, width) = config.channels, pair(config.image_size)
        images = self.ops.asarray(images, device=self.device)
        if not str(images.dtype).removeprefix("torch.").startswith(("float", "bfloat")):
            raise InputError(f"images are of {images.dtype}, expected floats: pixels must go through preprocess first")
        images = self.ops.asarray(images, dtype=self.dtype)  # only now: it would make floats of pixels
        if (shape := tuple(images.shape))[1:] != (C, height, width):
            raise InputError(f"images are {shape}, expected (B, C, height, width) = (B, {C}, {height}, {width})")
        return self._encode["visual"](images, trace=trace)  # (B, E)

    def encode_text(self, tokens: Array, *, lengths: Array | None = None, trace: Trace | None = None) -> Array:
        """Texts to features: tokens (B, T) int, as `tokenize` makes them -> (B, E).

        Features are not normalised. T may be anything up to the context length. `trace(name, value)` sees every
        stage, see `towers/text.py`; `lengths` (B,) int masks padding for the trace alone, and changes no feature.
        Raises InputError for another shape, for ids outside the vocabulary and for a model without a text tower.
        """
        config, tokens = self._check_tokens(tokens)
        end = config.tower.end_of_text(tokens, config.eot_token_id)  # (B,)
        if trace is None:  # nothing after the last end is needed, and before it causal attention sees no padding
            tokens, lengths = tokens[:, : config.tower.length(end, self.ops.LENGTH_STEP)], None
        tokens, end = (self.ops.asarray(x, device=self.device, dtype="int64") for x in (tokens, end))
        return self._encode["text"](tokens, end, lengths=lengths, trace=trace)  # (B, E)

    def _check_tokens(self, tokens):
        """(the text tower's configuration, tokens as an ndarray); InputError if they are not a batch of tokens."""
        config = self._tower("text")
        # Checked in NumPy: asking a GPU for a number means waiting for it. (Only torch's tensors have `cpu`.)
        tokens = np.asarray(self.ops.to_numpy(tokens) if hasattr(tokens, "cpu") else tokens)
        if tokens.dtype.kind not in "iu":
            raise InputError(f"tokens are of {tokens.dtype}, expected integers: texts must go through tokenize first")
        if tokens.ndim != 2 or not 1 <= tokens.shape[1] <= config.context_length:
            raise InputError(f"tokens are {tokens.shape}, expected (B, T) with 1 <= T <= {config.context_length}")
        if len(tokens) and not 0 <= tokens.min() <= tokens.max() < config.vocab_size:
            raise InputError(
                f"token ids run from {tokens.min()} to {tokens.max()}, "
                f"but the vocabulary has ids 0 to {config.vocab_size - 1}: was another tokenizer used?"
            )
        return config, tokens

    def __call__(self, images: Array, tokens: Array) -> tuple[Array, Array]:
        """(logits_per_image (B, N), logits_per_text (N, B)) of B pictures and N texts; softmax gives probabilities."""
        logits = self.logits(self.encode_image(images), self.encode_text(tokens))  # (B, N)
        return logits, logits.T

    def logits(self, image_features: Array, text_features: Array) -> Array:
        """exp(logit_scale) · cosines: features (B, E) and (N, E), normalised or not -> (B, N)."""
        image_features, text_features = (
            self.ops.asarray(x, device=self.device, dtype=self.dtype) for x in (image_features, text_features)
        )
        return self.ops.similarity(image_features, text_features, self.logit_scale)

    @property
    def logit_scale(self) -> Array:
        """The learned scale of the logits (1 / temperature; large: a sharp softmax), (), kept as its logarithm."""
        if "logit_scale" not in self.params:
            raise InputError("one tower alone has no logit_scale: load the whole model")
        return self.params["logit_scale"]

    @cached_property
    def tokenizer(self) -> Tokenizer | None:
        """The Tokenizer of this model's vocabulary, or None if it came without one: then set it."""
        given: Any = self._tokenizer
        return given() if callable(given) and not hasattr(given, "tokenize") else given

    def tokenize(
        self, texts: str | Iterable[str], context_length: int | None = None, truncate: bool = False
    ) -> np.ndarray:
        """`miniclip.tokenize` with this model's own vocabulary and length: texts -> (n, T) int32."""
        config = self._tower("text")
        if self.tokenizer is None:
            raise InputError(f"it came without vocabulary: set model.tokenizer = {self.config.tokenizer}.load(path)")
        length = config.text_length if context_length is None else context_length
        return self.tokenizer.tokenize(texts, length, truncate)

    def _tower(self, name):
        config = getattr(self.config, name)
        if config is None:
            raise InputError(f"this model has no {name} tower; load the whole model to use both")
        return config
