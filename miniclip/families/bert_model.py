"""A CLIP whose texts are encoded by a BERT; everything else is inherited from CLIP."""

import numpy as np

from miniclip import inputs
from miniclip.model import CLIP, Trace
from miniclip.ops import Array
from miniclip.towers import text


class BertCLIP(CLIP):
    """As `CLIP`, with a BERT for texts: padding is found by its id, or given as `lengths`."""

    def encode_text(
        self,
        tokens: Array,
        normalize: bool = False,
        *,
        lengths: Array | None = None,
        token_types: Array | None = None,
        trace: Trace | None = None,
    ) -> Array:
        """Texts to features: tokens (B, T) int -> (B, E), with `normalize` of length one.

        Tokens after a text's length are padding: `lengths` (B,) int from 1 to T; None: padding ids at the end do not
        count. `token_types` (B, T) int; None: all 0. `trace(name, value)` sees every stage, see `towers/bert.py`.
        Raises InputError for another shape, ids outside the vocabulary, types that BERT does not have, or a model
        without a text tower.
        """
        config = self._tower("text")
        tokens = inputs.tokens(self.ops, tokens, config)  # (B, T)
        if lengths is None and not config.inner_padding:
            tokens, token_types = without_padding(tokens, config.pad_token_id), None
        if lengths is None:
            end = last_token(tokens, config.pad_token_id)  # (B,)
        else:
            end = inputs.lengths(self.ops, lengths, tokens) - 1  # (B,)
        if token_types is not None:
            token_types = inputs.token_types(self.ops, token_types, tokens, config)  # (B, T)
        if trace is None:
            kept = text.length(end, self.ops.LENGTH_STEP)
            tokens, token_types = tokens[:, :kept], None if token_types is None else token_types[:, :kept]
        others = {"token_types": token_types, "positions": positions(tokens, config)}
        tokens, end = (self.ops.asarray(x, device=self.device, dtype="int64") for x in (tokens, end))
        others = {
            name: None if x is None else self.ops.asarray(x, device=self.device, dtype="int64")
            for name, x in others.items()
        }
        x = self._encode_text(tokens, end, **others, trace=trace)  # (B, E)
        return self.ops.l2_normalize(x) if normalize else x


def last_token(tokens, pad_token_id):
    """Each text's last position that is not padding: tokens (B, T) -> (B,) int, 0 if all of it is padding."""
    return ((tokens != pad_token_id) * np.arange(tokens.shape[1])).max(axis=1, initial=0)


def positions(tokens, config):
    """RoBERTa's rows of positions: tokens (B, T) -> (B, T) int; None if they are 0, 1, 2 ..., as in BERT.

    Only tokens that are not padding are counted; padding has the row before the first (modeling_xlm_roberta.py,
    create_position_ids_from_input_ids).
    """
    if not config.first_position:
        return None
    counts = tokens != config.pad_token_id
    return (counts.cumsum(axis=1) * counts) + config.first_position - 1


def without_padding(tokens, pad_token_id):
    """Texts with padding only at the end: tokens (B, T) -> (B, T). What no token sees may be anywhere."""
    order = np.argsort(tokens == pad_token_id, axis=1, kind="stable")
    return np.take_along_axis(tokens, order, axis=1)
