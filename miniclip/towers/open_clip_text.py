"""OpenCLIP's text transformer where it is not CLIP's: tokens that see each other both ways, or another pooling.

(open_clip/transformer.py, TextTransformer.) The feature is that of the first token, the last one (CLIPA), the end of
the text, or a class token after the text (CoCa). What is as in CLIP is in `text`.
"""

import numpy as np

from miniclip.towers import text, tracing, transformer


def encode_text(
    ops, tokens, end, embed, position_embedding, blocks, ln_final, projection=None,
    *, config, positions=None, seen=None, trace=None,
):  # fmt: skip
    """tokens (B, T) int as `arranged` makes them, end (B,) -> features (B, E); without a projection (B, D).

    Tokens after `end` change no feature, and may be cut off. positions (B, T): each token's place in its text; None:
    0, 1, 2 ... seen (B, T): 1 if a token is seen by others, which at `end` may be 0; None: all are seen.
    `trace(name, value)` sees "embeddings", what `transformer` shows of each block, "ln_final" (B, D) and "features".
    """
    see = trace or tracing.untraced
    T = tokens.shape[1]
    places = position_embedding[:T] if positions is None else ops.embed(positions, position_embedding)
    x = ops.embed(tokens, **embed) + places  # (B, T, D)
    see("embeddings", x)
    lengths = None if seen is None else end + ops.gather(seen, end)  # (B,)
    pooled = _pooled(tokens, end, config)
    # with `keep`, the last block would let the pooled token see itself: not if it is not `seen`
    keep = pooled if trace is None and seen is None else None
    options = {"causal": config.causal, "lengths": lengths, "keep": keep}
    x = transformer.transformer(ops, x, blocks, config=config, **options, trace=trace)  # (B, T, D), with `keep` (B, D)
    x = ops.layer_norm(x if keep is not None else ops.gather(x, pooled), **ln_final, eps=config.eps)  # (B, D)
    see("ln_final", x)
    if projection is not None:
        x = ops.linear(x, **projection)  # (B, E)
    see("features", x)
    return x


def _pooled(tokens, end, config):
    """The place of the token that becomes the feature, (B,)."""
    if config.causal or config.class_token or config.pool == "last":
        return end
    # a compiled tower must depend on all its inputs, also on `end`
    return end * 0 if config.pool == "first" else text.end_of_text(tokens, config.eot_token_id) + end * 0


def arranged(tokens, config):
    """tokens (B, T) of NumPy -> (tokens, end, options): the arguments of `encode_text`, also in NumPy.

    A class token comes after the text, whether that is padded or not. Padding must not be seen, but OpenCLIP's mask is
    late by one: of a text with n tokens, those at 0 ... n are seen, the first padding too, and the class token sees
    itself only after a text without padding (TextTransformer._build_additive_mask, the `correct_cls_mask` of CoCa's
    weights is False). Here the tokens that are seen come first, then the class token, then all others: nobody sees
    them, so that they can be cut off.
    """
    B, T = tokens.shape
    if not config.class_token:
        return tokens, _end(tokens, config), {}
    seen = np.concatenate([np.ones((B, 1), bool), tokens != config.pad_id], axis=1)  # (B, T+1)
    tokens = np.concatenate([tokens, np.full((B, 1), config.vocab_size)], axis=1)  # its row is the table's last
    rank = np.where(seen, 0, 2)
    rank[:, T] = 1
    order = np.argsort(rank, axis=1, kind="stable")  # (B, T+1)
    tokens, seen = (np.take_along_axis(x, order, axis=1) for x in (tokens, seen))
    return tokens, (rank == 0).sum(axis=1), {"positions": order, "seen": seen.astype(np.int64)}


def _end(tokens, config):
    """The last token that the feature depends on, (B,)."""
    if not config.causal or config.pool == "last":
        return np.full(len(tokens), tokens.shape[1] - 1)
    return np.zeros(len(tokens), int) if config.pool == "first" else text.end_of_text(tokens, config.eot_token_id)


def shapes(config, embed_dim):
    """The tower's parameter tree with shapes for leaves: the one statement of its architecture."""
    D, more = config.width, int(config.class_token)
    tree = {
        "embed": {"table": (config.vocab_size + more, D)},
        "position_embedding": (config.context_length + more, D),
        "blocks": transformer.shapes(config),
        "ln_final": {"weight": (D,), "bias": (D,)},
    }
    if embed_dim is None or config.projection == "none":
        return tree
    bias = {"bias": (embed_dim,)} if config.projection == "bias" else {}
    return {**tree, "projection": {"weight": (embed_dim, D), **bias}}
