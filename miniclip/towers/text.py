"""CLIP's text tower: tokens, a causal transformer, the feature of the end-of-text token.

(Learning Transferable Visual Models, sec. 2.4; clip/model.py, CLIP.encode_text.)
"""

from miniclip.towers import tracing, transformer


def encode_text(
    ops, tokens, end, embed, position_embedding, blocks, ln_final, projection=None, *, config, lengths=None, trace=None
):
    """tokens (B, T) int, end (B,) int, where each text's end-of-text is -> features (B, E), not normalised.

    Without a projection (B, D). `lengths` (B,) int: tokens after so many are padding, which no feature depends on.
    `trace(name, value)` sees "embeddings", what `transformer` shows of each block, "ln_final" (B, T, D), "features".
    """
    see = trace or tracing.untraced
    # what each token means, and where it is
    x = ops.embed(tokens, **embed) + position_embedding[: tokens.shape[1]]  # (B, T, D)
    see("embeddings", x)
    # each token sees itself and those before it, so end-of-text has seen the whole text: only it is needed
    keep = None if trace else end  # with keep, x becomes (B, D)
    x = transformer.transformer(ops, x, blocks, config=config, causal=True, lengths=lengths, keep=keep, trace=trace)
    x = ops.layer_norm(x, **ln_final, eps=config.eps)  # (B, D), with a trace (B, T, D)
    see("ln_final", x)
    if trace:
        x = ops.gather(x, end)  # (B, D)
    # into the space that pictures and texts share
    if projection is not None:
        x = ops.linear(x, **projection)  # (B, E)
    see("features", x)
    return x


def end_of_text(tokens, eot_token_id=None):
    """Where each text ends: tokens (B, T) -> (B,) int, the first `eot_token_id`; if that is None, the highest id.

    OpenAI's models take the highest id: end-of-text is the last in their vocabulary. Hugging Face's configurations
    name the id, and the end of a text without it is position 0 (modeling_clip.py, CLIPTextTransformer).
    """
    return (tokens if eot_token_id is None else (tokens == eot_token_id) * 1).argmax(-1)  # the first of the highest


def length(end, step=1):
    """To how many tokens a batch may be cut: 1 + the last end, rounded up to a multiple of `step`."""
    return -(-(1 + end.max(initial=0)) // step) * step


def shapes(config, embed_dim):
    """The tower's parameter tree with shapes for leaves: the one statement of its architecture."""
    D = config.width
    tree = {
        "embed": {"table": (config.vocab_size, D)},
        "position_embedding": (config.context_length, D),
        "blocks": transformer.shapes(config),
        "ln_final": {"weight": (D,), "bias": (D,)},
    }
    return tree if embed_dim is None else {**tree, "projection": {"weight": (embed_dim, D)}}
