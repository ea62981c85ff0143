"""A CLIP whose texts are encoded by a BERT; everything else is inherited from CLIP."""

import numpy as np

from miniclip import inputs
from miniclip.errors import InputError
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
        count, nor do a RoBERTa's before a text. `token_types` (B, T) int; None: all 0. `trace(name, value)` sees every
        stage, see `towers/bert.py`. Raises InputError for another shape, ids outside the vocabulary, types that BERT
        does not have, padding where the feature should be, or a model without a text tower.
        """
        config = self._tower("text")
        tokens = inputs.tokens(self.ops, tokens, config)  # (B, T)
        if token_types is not None:
            token_types = inputs.token_types(self.ops, token_types, tokens, config)  # (B, T)
        others = {"token_types": token_types, "positions": positions(tokens, config)}
        if lengths is None:
            tokens, others = padding_last(tokens, others, config)
            end = last_token(tokens, config.pad_token_id)  # (B,)
        else:
            end = inputs.lengths(self.ops, lengths, tokens) - 1  # (B,)
        if trace is None:
            kept = text.length(end, self.ops.LENGTH_STEP)
            tokens, others = tokens[:, :kept], {name: None if x is None else x[:, :kept] for name, x in others.items()}
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


def padding_last(tokens, others, config):
    """Texts whose padding is at the end: tokens (B, T), and others of their shape, or None -> the same two.

    What no token sees may be anywhere, if its position moves with it: a RoBERTa's padding before a text, and all of it
    without `inner_padding`. Raises InputError for a RoBERTa whose feature would be that of the padding.
    """
    padding = tokens == config.pad_token_id
    if config.inner_padding:
        padding = np.logical_and.accumulate(padding, axis=1) & bool(config.first_position)  # only that before a text
    order = np.argsort(padding, axis=1, kind="stable")  # (B, T)
    if (order == np.arange(tokens.shape[1])).all():
        return tokens, others
    if config.inner_padding and config.pool == "first":
        raise InputError("a text begins with padding, whose feature the text would get: pad texts on the right")
    moved = {name: None if x is None else np.take_along_axis(x, order, axis=1) for name, x in others.items()}
    if moved["positions"] is None:
        moved["positions"] = order
    return np.take_along_axis(tokens, order, axis=1), moved
