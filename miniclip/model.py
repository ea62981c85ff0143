"""CLIP: a configuration, parameters and a backend, joined into a model that encodes pictures and texts.

Builds on the towers (wiring) and an ops module (arithmetic). Files are read in `miniclip.checkpoints`, pictures in
`miniclip.image`, texts in `miniclip.tokenizer`.
"""

from collections.abc import Callable, Iterable
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np

from miniclip import params as parameter_tree
from miniclip import vocabulary
from miniclip.config import CLIPConfig, pair
from miniclip.errors import InputError
from miniclip.ops import Array, numpy_chunks
from miniclip.tokenizer import Tokenizer

Trace = Callable[[str, Array], None]


class CLIP:
    """Learning Transferable Visual Models From Natural Language Supervision (Radford et al., 2021), fig. 3.

    config       CLIPConfig
    params       {"visual": ..., "text": ..., "logit_scale": ()} as `config.shapes()` has it, arrays of any kind
    ops          the backend, a module such as `miniclip.ops.numpy_ops`
    tokenizer    the Tokenizer behind `tokenize`; None: the official vocabulary, found when it is first needed
    device, dtype  where the parameters go and of which floating type they are; None: the backend's choice, as they are
    batch_invariant  whether features without `trace` are the same, to the bit, in any batch; NumPy only, and slower
    """

    def __init__(
        self,
        config: CLIPConfig,
        params: dict,
        ops: ModuleType,
        *,
        tokenizer: Tokenizer | None = None,
        device: Any = None,
        dtype: str | None = None,
        batch_invariant: bool = False,
    ):
        self.config = config
        self.ops = ops
        self.tokenizer, self.dtype, self.batch_invariant = tokenizer, dtype, batch_invariant
        self.params = parameter_tree.tree_map(lambda x: ops.asarray(x, device=device, dtype=dtype), params)
        first = next(iter(parameter_tree.flatten(self.params).values()))
        self.device = getattr(first, "device", None)  # where pictures and texts go too; JAX's tracers have none
        visual, text = config.visual, config.text
        encode = {"visual": visual and visual.tower.encode_image, "text": text and text.tower.encode_text}
        capture = numpy_chunks.batch_invariant(ops) if batch_invariant else ops.capture
        self._encode = {
            name: capture(partial(encode[name], ops, config=getattr(config, name)), self.params[name])
            for name in encode.keys() & self.params.keys()
        }

    def encode_image(self, images: Array, *, trace: Trace | None = None) -> Array:
        """Pictures to features: images (B, C, height, width) float -> (B, E), not normalised.

        Pictures come out of `preprocess`. `trace(name, value)` sees every stage, see `towers/vit.py` or
        `resnet.py`. Raises InputError for another shape and for a model without an image tower.
        """
        config = self._tower("visual")
        expected = (config.channels, *pair(config.image_size))
        images = self.ops.asarray(images, device=self.device)
        if not str(images.dtype).removeprefix("torch.").startswith(("float", "bfloat")):
            raise InputError(f"images are of {images.dtype}, expected floats: pixels must go through preprocess first")
        images = self.ops.asarray(images, dtype=self.dtype)
        if images.ndim != 4 or tuple(images.shape[1:]) != expected:
            expected = ", ".join(map(str, expected))
            raise InputError(f"images are {tuple(images.shape)}, expected (B, C, height, width) = (B, {expected})")
        return self._encode["visual"](images, trace=trace)

    def encode_text(self, tokens: Array, *, lengths: Array | None = None, trace: Trace | None = None) -> Array:
        """Texts to features: tokens (B, T) int -> (B, E), not normalised.

        Tokens come out of `tokenize`; T may be anything up to the context length. `trace(name, value)` sees every
        stage, see `towers/text.py`, and what is behind `lengths`, (B,) int, as padding. Raises InputError for another
        shape, for ids outside the vocabulary and for a model without a text tower.
        """
        config, tokens = self.config.text, self._check_tokens(tokens)
        end = config.tower.end_of_text(tokens, config.eot_token_id)  # (B,)
        if trace is None:
            tokens, lengths = tokens[:, : config.tower.length(end, self.ops.LENGTH_STEP)], None
        tokens, end = (self.ops.asarray(x, device=self.device, dtype="int64") for x in (tokens, end))
        return self._encode["text"](tokens, end, lengths=lengths, trace=trace)

    def _check_tokens(self, tokens):
        """InputError for what is no batch of tokens, else the same as an ndarray."""
        config = self._tower("text")
        # Checked here and not on the device: asking a GPU for a number is waiting for it.
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
        return tokens

    def __call__(self, images: Array, tokens: Array) -> tuple[Array, Array]:
        """(logits_per_image (B, N), logits_per_text (N, B)) of B pictures and N texts; softmax gives probabilities."""
        logits = self.logits(self.encode_image(images), self.encode_text(tokens))
        return logits, logits.T

    def logits(self, image_features: Array, text_features: Array) -> Array:
        """exp(logit_scale) · cosines: features (B, E) and (N, E), normalised or not -> (B, N)."""
        image_features, text_features = (
            self.ops.asarray(x, device=self.device, dtype=self.dtype) for x in (image_features, text_features)
        )
        return self.ops.similarity(image_features, text_features, self.logit_scale)

    @property
    def logit_scale(self) -> Array:
        """The learned scale of the logits, (), as a logarithm, as in the checkpoints."""
        if "logit_scale" not in self.params:
            raise InputError("one tower alone has no logit_scale: load the whole model")
        return self.params["logit_scale"]

    @property
    def backend(self) -> str:
        """The backend's name: "numpy", "torch", ..."""
        return self.ops.NAME

    def tokenize(
        self, texts: str | Iterable[str], context_length: int | None = None, truncate: bool = False
    ) -> np.ndarray:
        """`miniclip.tokenize` with this model's own vocabulary and context length: texts -> (n, T) int32."""
        config = self._tower("text")
        if self.tokenizer is None:
            self.tokenizer = vocabulary.tokenizer_of_size(config.vocab_size)
        if context_length is None:
            context_length = config.context_length
        return self.tokenizer.tokenize(texts, context_length, truncate)

    def _tower(self, name):
        config = getattr(self.config, name)
        if config is None:
            raise InputError(f"this model has no {name} tower; load the whole model to use both")
        return config
