"""ALIGN's text tower, BERT: tokens that all see each other, and the feature of the first of them, [CLS].

(BERT: Pre-training of Deep Bidirectional Transformers, sec. 3; transformers, modeling_align.py.) Its blocks normalise
behind each residual sum, as the first transformer did, where CLIP's normalise before.
"""

from miniclip.towers import tracing, transformer


def encode_text(
    ops, tokens, end, embed, position_embedding, type_embedding, ln_embed, blocks, projection=None, pooler=None,
    *, config, token_types=None, trace=None,
):  # fmt: skip
    """tokens (B, T) int, the last of each text end (B,) int -> features (B, E); (B, D) without a projection.

    What follows a text's end is padding, which no token sees. `token_types` (B, T) int tells two texts in a row apart;
    None: there is one, 0. `trace(name, value)` sees "embeddings", of block i "blocks.i.attention_weights" (B, H, T, T)
    and x (B, T, D) after each half, "blocks.i.attention" and "blocks.i.mlp", then "pooler", where there is one, which
    no feature depends on, and "features".
    """
    see = trace or tracing.untraced
    types = type_embedding[0] if token_types is None else ops.embed(token_types, type_embedding)  # (D,) or (B, T, D)
    x = ops.embed(tokens, **embed) + types + position_embedding[: tokens.shape[1]]  # (B, T, D)
    x = ops.layer_norm(x, **ln_embed, eps=config.eps)
    see("embeddings", x)
    for i, p in enumerate(blocks):
        keep = 0 if i == len(blocks) - 1 and not trace else None  # no other position is looked at
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
    """x ← ln_1(x + attention(x)), then ln_2(x + mlp(x)): (B, T, D) -> (B, T, D), with `keep` (B, 1, D)."""
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
    """The tower's parameter tree with shapes for leaves: the one statement of its architecture."""
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
