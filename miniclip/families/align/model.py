"""ALIGN: CLIP's idea with other towers, trained on a billion noisy captions.

Builds on the towers (wiring) and an ops module (arithmetic); everything that is the same in CLIP is inherited.
"""

from typing import Any

import numpy as np

from miniclip.errors import InputError
from miniclip.families.align.config import ALIGNConfig
from miniclip.model import CLIP, Trace
from miniclip.ops import Array
from miniclip.towers import text


class ALIGN(CLIP):
    """Scaling Up Visual and Vision-Language Representation Learning With Noisy Text Supervision (Jia et al., 2021).

    As `CLIP`, with an ALIGNConfig, {"visual": ..., "text": ..., "temperature": ()}, and a WordPiece tokenizer.
    """

    config: ALIGNConfig

    def encode_text(
        self,
        tokens: Array,
        *,
        lengths: Array | None = None,
        token_types: Array | None = None,
        trace: Trace | None = None,
    ) -> Array:
        """Texts to features: tokens (B, T) int -> (B, E), not normalised.

        Tokens after a text's length are padding: `lengths` (B,) int from 1 to T; None: padding ids at the end do not
        count. `token_types` (B, T) int; None: all 0. `trace(name, value)` sees every stage, see `towers/bert.py`.
        Raises InputError for another shape, ids outside the vocabulary, or a model without a text tower.
        """
        config, tokens = self._check_tokens(tokens)
        end = last_token(tokens, config.pad_token_id) if lengths is None else self._end(lengths, tokens)  # (B,)
        if trace is None:
            kept = text.length(end, self.ops.LENGTH_STEP)
            tokens, token_types = tokens[:, :kept], None if token_types is None else token_types[:, :kept]
        tokens, end = (self.ops.asarray(x, device=self.device, dtype="int64") for x in (tokens, end))
        if token_types is not None:
            token_types = self.ops.asarray(token_types, device=self.device, dtype="int64")
        return self._encode["text"](tokens, end, token_types=token_types, trace=trace)

    def _end(self, lengths, tokens):
        lengths = np.asarray(self.ops.to_numpy(lengths) if hasattr(lengths, "cpu") else lengths)
        B, T = tokens.shape
        if lengths.shape != (B,) or (B and not 1 <= lengths.min() <= lengths.max() <= T):
            raise InputError(f"lengths are {lengths.tolist()}, expected a number from 1 to {T} for each of {B} texts")
        return lengths - 1

    def logits(self, image_features: Array, text_features: Array) -> Array:
        """Cosines / temperature: features (B, E) and (N, E), normalised or not -> (B, N)."""
        image_features, text_features = (
            self.ops.l2_normalize(self.ops.asarray(x, device=self.device, dtype=self.dtype))
            for x in (image_features, text_features)
        )
        return self.ops.linear(image_features, text_features) / self.temperature

    @property
    def temperature(self) -> Array:
        """The number that cosines are divided by, (), as stored in the checkpoints."""
        if "temperature" not in self.params:
            raise InputError("one tower alone has no temperature: load the whole model")
        return self.params["temperature"]

    @property
    def logit_scale(self) -> Any:
        """-log(temperature), a number: CLIP's parameter instead of the temperature."""
        return -np.log(self.ops.to_numpy(self.temperature))


def last_token(tokens, pad_token_id):
    """Each text's last position that is not padding: tokens (B, T) -> (B,) int, 0 if all of it is padding."""
    return ((tokens != pad_token_id) * np.arange(tokens.shape[1])).max(axis=1, initial=0)
