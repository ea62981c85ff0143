"""CLIP's text tower: tokens, a causal transformer, the feature of the end-of-text token.

(Learning Transferable Visual Models, sec. 2.4; clip/model.py, CLIP.encode_text.)
"""

from miniclip.towers import transformer


def encode_text(ops, tokens, embed, position_embedding, blocks, ln_final, projection=None, *, config, trace=None):
    """tokens (B, T) int -> features (B, E), not normalised; (B, D) where there is no projection.

    Attention is causal, so that nothing behind a text's end can reach its feature: positions behind the last end
    of the batch are not computed, unless `trace` asks to see them. `trace(name, value)` sees "embeddings", each
    block's stages, "ln_final" and "features".
    """
    see = trace or transformer.untraced
    end = end_of_text(tokens, config.eot_token_id)  # (B,)
    T = tokens.shape[1] if trace else 1 + max(end.tolist(), default=0)
    x = ops.embed(tokens[:, :T], **embed) + position_embedding[:T]  # (B, T, D)
    see("embeddings", x)
    x = transformer.transformer(
        ops, x, blocks, heads=config.heads, activation=config.activation, eps=config.eps, causal=True, trace=trace
    )
    x = ops.layer_norm(ops.pool(x, end), **ln_final, eps=config.eps)  # (B, D)
    see("ln_final", x)
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
