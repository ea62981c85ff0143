"""ALIGN's text tower, BERT: every token sees all others, and the feature is the first token's, [CLS].

(BERT: Pre-training of Deep Bidirectional Transformers, sec. 3; transformers, modeling_align.py.) Its blocks normalise
after each residual sum, as in the first transformer; CLIP's normalise before attention and MLP.
"""

from miniclip.towers import tracing, transformer


def encode_text(
    ops, tokens, end, embed, position_embedding, type_embedding, ln_embed, blocks, projection=None, pooler=None,
    *, config, token_types=None, trace=None,
):  # fmt: skip
    """tokens (B, T) int, the positions of their last tokens, end (B,) int -> features (B, E), unprojected (B, D).

    Tokens after a text's end are padding, which no token sees. `token_types` (B, T) int distinguishes two texts in one
    row; None: all 0. `trace(name, value)` sees "embeddings" (B, T, D); for block i "blocks.i.attention_weights"
    (B, H, T, T) and x (B, T, D) after each half, "blocks.i.attention" and "blocks.i.mlp"; then "pooler", if there is
    one (features do not depend on it); then "features".
    """
    see = trace or tracing.untraced
    types = type_embedding[0] if token_types is None else ops.embed(token_types, type_embedding)  # (D,) or (B, T, D)
    x = ops.embed(tokens, **embed) + types + position_embedding[: tokens.shape[1]]  # (B, T, D)
    x = ops.layer_norm(x, **ln_embed, eps=config.eps)
    see("embeddings", x)
    for i, p in enumerate(blocks):
        keep = 0 if i == len(blocks) - 1 and not trace else None  # after the last block only position 0 is used
        within = trace and tracing.within(f"blocks.{i}", trace)
        x = block(ops, x, **p, config=config, lengths=end + 1, keep=keep, trace=within)
    x = x[:, 0]  # (B, D)
    if trace and pooler is not None:
        see("pooler", ops.linear(x, **pooler, activation="tanh"))
    if projection is not None:
        x = ops.linear(x, **projection)  # (B, E)
    see("features", x)
    return x


def block(ops, x, ln_1, attention, ln_2, mlp, *, config, lengths, keep, trace):
    """x = ln_1(x + attention(x)), then ln_2(x + mlp(x)): (B, T, D) -> (B, T, D), or (B, 1, D) with `keep`."""
    mask = {"lengths": lengths, "keep": keep}
    update = transformer.self_attention(ops, x, **attention, heads=config.heads, **mask, trace=trace)
    if keep is not None:
        x = ops.gather(x, keep)[:, None]  # (B, 1, D)
    _, x = ops.add_layer_norm(x, update, **ln_1, eps=config.eps)
    if trace:
        trace("attention", x)
    update = transformer.feed_forward(ops, x, **mlp, activation=config.activation)
    _, x = ops.add_layer_norm(x, update, **ln_2, eps=config.eps)
    if trace:
        trace("mlp", x)
    return x


def shapes(config, embed_dim):
    """The tower's parameter tree with shapes as leaves: the only statement of its architecture."""
    D = config.width
    tree = {
        "embed": {"table": (config.vocab_size, D)},
        "position_embedding": (config.context_length, D),
        "type_embedding": (config.token_types, D),
        "ln_embed": {"weight": (D,), "bias": (D,)},
        "blocks": transformer.shapes(config),
    }
    if config.pooler:
        tree["pooler"] = {"weight": (D, D), "bias": (D,)}
    return tree if embed_dim is None else {**tree, "projection": {"weight": (embed_dim, D), "bias": (embed_dim,)}}
