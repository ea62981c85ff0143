"""CLIP: a configuration, parameters and a backend, joined into a model that encodes pictures and texts.

Builds on the towers (wiring) and an ops module (arithmetic). `miniclip.load` reads the files and makes the model;
pictures are prepared in `image`, texts become tokens in `tokenizer`.
"""

import importlib
from collections.abc import Callable, Iterable
from functools import cached_property, partial
from types import ModuleType
from typing import Any

import numpy as np

from miniclip import inputs
from miniclip import params as parameter_tree
from miniclip.config import ModelConfig
from miniclip.errors import InputError
from miniclip.ops import Array
from miniclip.tokenizer import Tokenizer

Trace = Callable[[str, Array], None]
WIDE: dict[str | None, str] = {"float16": "float32", "bfloat16": "float32"}  # the dtype of scales and logits


class CLIP:
    """Two towers into one space: a picture is near the texts that fit it (Radford et al., 2021, fig. 3).

    config       a ModelConfig, such as CLIPConfig
    params       {"visual": ..., "text": ..., "logit_scale": a scalar} as `config.shapes()` has it, arrays of any kind
    ops          the backend, a module such as `miniclip.ops.numpy_ops`
    tokenizer    the Tokenizer of the model's vocabulary, or a function that finds it when it is first needed
    device, dtype  where the parameters go (None: the backend's choice), and their floating type (None: as they are)
    options      of `ops.capture`, which makes the towers fast: batch_invariant, compile; see `miniclip.load`
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
        **options: bool,
    ):
        self.config, self.ops, self._tokenizer = config, ops, tokenizer
        self.backend, self.dtype, self.options = ops.NAME, dtype, options
        # scales, the only scalars, are float32 at least: in bfloat16 ln(100) would be 4.594
        self.params = parameter_tree.tree_map(
            lambda x: ops.asarray(x, device=device, dtype=dtype if len(x.shape) else WIDE.get(dtype, dtype)), params
        )
        first = next(iter(parameter_tree.flatten(self.params).values()))
        self.device = getattr(first, "device", None)  # pictures and texts go there too; None inside jax.jit
        # each tower is a function of a batch, as fast as the backend can make it; config.visual.tower is a module: vit
        capture = partial(ops.capture, dtype=dtype, **options)
        if "visual" in self.params:
            encode_image = partial(config.visual.tower.encode_image, ops, config=config.visual)
            self._encode_image = capture(encode_image, self.params["visual"])
        if "text" in self.params:
            encode_text = partial(config.text.tower.encode_text, ops, config=config.text)
            self._encode_text = capture(encode_text, self.params["text"])

    def __reduce__(self):  # captured functions cannot be pickled: they are made again
        tokenizer = vars(self).get("tokenizer", self._tokenizer)
        options = {"tokenizer": tokenizer, "dtype": self.dtype, **self.options}
        return _again, (type(self), self.config, self.params, self.ops.__name__, options)

    def __repr__(self):
        return f"{type(self).__name__}({self.config}, {self.backend}, {self.dtype} on {self.device or 'cpu'})"

    def encode_image(self, images: Array, normalize: bool = False, *, trace: Trace | None = None) -> Array:
        """Pictures to features: images (B, C, height, width) float, as `image.Preprocess` makes them -> (B, E).

        `normalize`: features of length one. `trace(name, value)` sees every stage, see `towers/vit.py` or `resnet.py`.
        Raises InputError for another shape, for pixels that are infinite or not numbers, and without an image tower.
        """
        config = self._tower("visual")
        images = inputs.pictures(self.ops, images, config, device=self.device, dtype=self.dtype)
        x = self._encode_image(images, trace=trace)  # (B, C, height, width) -> (B, E)
        return self.ops.l2_normalize(x) if normalize else x

    def encode_text(
        self, tokens: Array, normalize: bool = False, *, lengths: Array | None = None, trace: Trace | None = None
    ) -> Array:
        """Texts to features: tokens (B, T) int, as `tokenize` makes them -> (B, E).

        `normalize`: features of length one. T may be anything up to the context length. `trace(name, value)` sees every
        stage, see `towers/text.py`; `lengths` (B,) int masks padding for the trace alone, and changes no feature.
        Raises InputError for another shape, for ids outside the vocabulary and for a model without a text tower.
        """
        config = self._tower("text")
        tokens = inputs.tokens(self.ops, tokens, config)  # (B, T)
        end = config.tower.end_of_text(tokens, config.eot_token_id)  # (B,)
        if trace is None:  # nothing after the last end is needed, and before it causal attention sees no padding
            tokens, lengths = tokens[:, : config.tower.length(end, self.ops.LENGTH_STEP)], None
        tokens, end = (self.ops.asarray(x, device=self.device, dtype="int64") for x in (tokens, end))
        x = self._encode_text(tokens, end, lengths=lengths, trace=trace)  # (B, T), (B,) -> (B, E)
        return self.ops.l2_normalize(x) if normalize else x

    def __call__(self, images: Array, tokens: Array) -> tuple[Array, Array]:
        """(logits_per_image (B, N), logits_per_text (N, B)) of B pictures and N texts; softmax gives probabilities."""
        logits = self.logits(self.encode_image(images), self.encode_text(tokens))  # (B, N)
        return logits, logits.T

    def logits(self, image_features: Array, text_features: Array) -> Array:
        """exp(logit_scale) · cosines: features (B, E) and (N, E), normalised or not -> (B, N), float32 at least.

        Features of lengths from 1e-37 to 1e38 have the right cosines; a feature of zeros has the cosine 0 with all.
        """
        image_features, text_features, scale = self._in_logits_dtype(image_features, text_features, self.logit_scale)
        return self.ops.similarity(image_features, text_features, scale)

    def _in_logits_dtype(self, image_features, text_features, scale):
        """The same three in the dtype of logits; InputError if the features are not (B, E) and (N, E)."""
        options = {"device": self.device, "dtype": WIDE.get(self.dtype, self.dtype)}
        read: Any = partial(inputs.features, self.ops, embed_dim=self.config.embed_dim, **options)
        return read(image_features), read(text_features), self.ops.asarray(scale, **options)

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


def _again(kind, config, params, ops, options):
    return kind(config, params, importlib.import_module(ops), **options)
