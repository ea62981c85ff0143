"""A decoder that writes a caption for a picture's CLIP feature: the feature becomes a prefix, GPT-2 continues it.

(ClipCap: CLIP Prefix for Image Captioning, Mokady et al., 2021, sec. 3.) The language model is CLIP's text tower with
another end: causal blocks from `towers.transformer`, and instead of a feature the logits of the next token.

One letter is added to the alphabet: P tokens of the prefix.
"""

import dataclasses
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from miniclip import inputs
from miniclip.config import TextConfig, check_transformer
from miniclip.errors import InputError
from miniclip.ops import Array
from miniclip.params import tree_map
from miniclip.towers import text, transformer


@dataclass(frozen=True)
class MapperConfig:
    """A mapping network with attention: the feature as `tokens` tokens, P learned ones after them, then blocks."""

    tokens: int
    width: int
    layers: int
    heads: int
    mlp_width: int
    activation: str = "relu"
    eps: float = 1e-5

    def __post_init__(self):
        check_transformer(self)


@dataclass(frozen=True)
class DecoderConfig:
    """A decoder for features of width `embed_dim`, E, which become `prefix_length` tokens, P.

    gpt        the language model; its `eot_token_id` ends a caption
    hidden     the width of the layer between feature and prefix; None: one linear map alone
    mapper     a MapperConfig instead; None: without attention
    normalize  whether features get length one first
    """

    embed_dim: int
    prefix_length: int
    gpt: TextConfig
    hidden: int | None = None
    mapper: MapperConfig | None = None
    normalize: bool = True

    def __post_init__(self):
        for name in ("embed_dim", "prefix_length", "hidden"):
            x = getattr(self, name)
            if not (type(x) is int and 0 < x < 1 << 31) and (name, x) != ("hidden", None):
                raise InputError(f"{name} is {x!r}, expected a positive integer")
        if self.prefix_length >= self.gpt.context_length:
            raise InputError(
                f"a prefix of {self.prefix_length} tokens leaves no place for a caption: the language model has "
                f"{self.gpt.context_length} positions"
            )

    def shapes(self) -> dict[str, Any]:
        """The parameter tree with shapes for leaves: the one statement of the architecture."""
        E, P, D = self.embed_dim, self.prefix_length, self.gpt.width
        wide = self.hidden or E
        rows = (self.mapper.tokens if self.mapper else P) * D
        mapper: dict[str, Any] = {"fc": {"weight": (wide, E), "bias": (wide,)}} if self.hidden else {}
        mapper["proj"] = {"weight": (rows, wide), "bias": (rows,)}
        if self.mapper:
            mapper |= {"constant": (P, D), "blocks": transformer.shapes(self.mapper)}
        return {"mapper": mapper, "gpt": text.shapes(self.gpt, None)}

    def to_dict(self) -> dict[str, Any]:
        """All values, in types that JSON has."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "DecoderConfig":
        """The inverse of `to_dict`. Raises InputError for unknown, missing or impossible values."""
        try:
            mapper = values["mapper"] and MapperConfig(**values["mapper"])
            return cls(**values | {"gpt": TextConfig(**values["gpt"]), "mapper": mapper})
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"not a decoder's configuration: {error}") from error


def encode_prefix(ops, features, proj, fc=None, constant=None, blocks=None, *, config):
    """Features (B, E) -> the prefix (B, P, D), which the language model reads as if it were embedded tokens.

    proj(features), with a layer between them proj(tanh(fc(features))); with blocks, what becomes of P learned tokens
    when they look at those of the feature.
    """
    x = features if fc is None else ops.linear(features, **fc, activation="tanh")  # (B, hidden)
    x = ops.linear(x, **proj).reshape(len(x), -1, config.gpt.width)  # (B, P, D)
    if blocks is not None:  # then it is (B, C, D), with C tokens of the feature
        x = transformer.transformer(ops, joined(ops, x, constant), blocks, config=config.mapper)  # (B, C + P, D)
        x = x[:, -config.prefix_length :]  # (B, P, D)
    return x


def logits(ops, prefix, tokens, embed, position_embedding, blocks, ln_final, *, config, last=True):
    """The logits of the token after prefix (B or 1, P, D) and tokens (B, T) int: (B, V).

    Without `last`, those after each place: (B, P + T, V).
    """
    x = joined(ops, prefix, ops.embed(tokens, **embed))  # (B, P + T, D)
    x = x + position_embedding[: x.shape[1]]
    keep = ops.asarray(np.full(len(x), x.shape[1] - 1), device=getattr(x, "device", None)) if last else None  # (B,)
    x = transformer.transformer(ops, x, blocks, config=config, causal=True, keep=keep)  # (B, D) or (B, P + T, D)
    x = ops.layer_norm(x, **ln_final, eps=config.eps)
    # a token is likely if its embedding points where x does (Using the Output Embedding to Improve Language Models)
    return ops.linear(x, embed["table"])  # (B, V) or (B, P + T, V)


def joined(ops, first, second):
    """The tokens of two sequences, one after the other: (B or 1, P, D), (B, T, D) or (T, D) -> (B, P + T, D).

    As a sum of two products with zeros and ones, which all backends have, and which is exact.
    """
    P, T = first.shape[1], second.shape[-2]
    how = {"device": getattr(first, "device", None), "dtype": str(first.dtype).removeprefix("torch.")}
    above, below = (ops.asarray(x, **how) for x in (np.eye(P + T, P), np.eye(P + T, T, k=-P)))
    return above @ first + below @ second


class Decoder:
    """A configuration, parameters and a backend, joined as in `CLIP`: from features to the next token.

    params  {"mapper": ..., "gpt": ...} as `config.shapes()` has it, arrays of any kind
    """

    def __init__(
        self, config: DecoderConfig, params: dict, ops: ModuleType, *, device: Any = None, dtype: str | None = None
    ):
        self.config, self.ops, self.device, self.dtype = config, ops, device, dtype
        self.backend = ops.NAME
        self.params = tree_map(lambda x: ops.asarray(x, device=device, dtype=dtype), params)

    def prefix(self, features: Array) -> Array:
        """Features of pictures (B, E), normalised or not -> (B, P, D). Raises InputError for another width."""
        x = inputs.features(self.ops, features, self.config.embed_dim, device=self.device, dtype=self.dtype)
        x = self.ops.l2_normalize(x) if self.config.normalize else x
        return encode_prefix(self.ops, x, **self.params["mapper"], config=self.config)

    def logits(self, prefix: Array, tokens: Array, *, last: bool = True) -> Array:
        """See the function `logits`: prefix (B or 1, P, D), tokens (B, T) int -> (B, V)."""
        tokens = self.ops.asarray(tokens, device=self.device, dtype="int64")
        return logits(self.ops, prefix, tokens, **self.params["gpt"], config=self.config.gpt, last=last)
