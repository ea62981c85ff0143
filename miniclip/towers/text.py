"""CLIP's text tower: tokens, a causal transformer, the feature of the end-of-text token.

(Learning Transferable Visual Models, sec. 2.4; clip/model.py, CLIP.encode_text.)
"""

from miniclip.towers import transformer


def encode_text(
    ops, tokens, end, embed, position_embedding, blocks, ln_final, projection=None, *, config, lengths=None, trace=None
):
    """tokens (B, T) int, each text's end (B,) int -> features (B, E), not normalised; (B, D) without a projection.

    `trace(name, value)` sees "embeddings", each block's stages, "ln_final" (B, T, D) and "features"; only what it sees
    behind a text's end depends on `lengths`, (B,) int, behind which there is padding.
    """
    see = trace or transformer.untraced
    x = ops.embed(tokens, **embed) + position_embedding[: tokens.shape[1]]  # (B, T, D)
    see("embeddings", x)
    keep = None if trace else end  # no other position is looked at
    x = transformer.transformer(ops, x, blocks, config=config, causal=True, lengths=lengths, keep=keep, trace=trace)
    x = ops.layer_norm(x, **ln_final, eps=config.eps)  # (B, T, D) for those who look inside, else (B, D)
    see("ln_final", x)
    if trace:
        x = ops.pool(x, end)  # (B, D)
    if projection is not None:
        x = ops.linear(x, **projection)  # (B, E)
    see("features", x)
    return x


def end_of_text(tokens, eot_token_id=None):
    """Where each text ends: tokens (B, T) -> (B,) int, the first `eot_token_id`, or without one the highest id.

    OpenAI's models take the highest id, which end-of-text has in their vocabulary. Hugging Face's configurations
    name the id (modeling_clip.py, CLIPTextTransformer), and a text without it is pooled at position 0.
    """
    return (tokens if eot_token_id is None else (tokens == eot_token_id) * 1).argmax(-1)


def length(end, step=1):
    """How many positions a batch needs: attention is causal, nothing behind a text's end reaches its feature.

    end (B,) -> the last one's, and it too, rounded up to a multiple of `step`.
    """
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
