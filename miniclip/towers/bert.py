"""BERT as a text tower, of ALIGN and of CLIPs of many languages: every token sees all others, in both directions.

(BERT: Pre-training of Deep Bidirectional Transformers, sec. 3; transformers, modeling_align.py.) Its blocks normalise
after each residual sum, as in the first transformer; CLIP's normalise before attention and MLP. The feature is that of
the first token, [CLS], or the mean of all. RoBERTa and DistilBERT are BERTs with other tables of embeddings.
"""

from miniclip.towers import tracing, transformer


def encode_text(
    ops, tokens, end, embed, position_embedding, ln_embed, blocks, type_embedding=None, pooler=None,
    ln_pooled=None, hidden=None, projection=None, *, config, positions=None, token_types=None, trace=None,
):  # fmt: skip
    """tokens (B, T) int, the positions of their last tokens, end (B,) int -> features (B, E), unprojected (B, D).

    Tokens after a text's end are padding, which no token sees. `positions` (B, T) int are rows of the table of
    positions; None: those from `first_position` on, one after the other. `token_types` (B, T) int distinguishes two
    texts in one row; None: all 0. `trace(name, value)` sees "embeddings" (B, T, D); for block i
    "blocks.i.attention_weights" (B, H, T, T) and x (B, T, D) after each half, "blocks.i.attention" and "blocks.i.mlp";
    then "pooler", if there is one (features do not depend on it). A head "norm" changes all tokens: they are "tokens"
    (B, T, hidden_width), the first of them "pooler". The last is "features".
    """
    see = trace or tracing.untraced
    if positions is None:
        at = position_embedding[config.first_position :][: tokens.shape[1]]  # (T, D)
    else:
        at = ops.embed(positions, position_embedding)  # (B, T, D)
    x = ops.embed(tokens, **embed) + at  # (B, T, D)
    if type_embedding is not None:
        x = x + (type_embedding[0] if token_types is None else ops.embed(token_types, type_embedding))
    x = ops.layer_norm(x, **ln_embed, eps=config.eps)
    see("embeddings", x)
    only_first = config.pool == "first" and not trace  # then the last block computes no other token
    for i, p in enumerate(blocks):
        keep = 0 if i == len(blocks) - 1 and only_first else None
        within = trace and tracing.within(f"blocks.{i}", trace)
        x = block(ops, x, **p, config=config, lengths=end + 1, keep=keep, trace=within)
    if trace and pooler is not None:
        see("pooler", ops.linear(x[:, 0], **pooler, activation="tanh"))
    if config.head == "norm":
        x = ops.linear(ops.layer_norm(x, **ln_pooled, eps=config.eps), **hidden)  # (B, T, hidden_width)
        see("tokens", x)
        see("pooler", x[:, 0])
    x = mean(ops, x, end + 1, heads=config.heads) if config.pool == "mean" else x[:, 0]  # (B, D)
    if config.head == "mlp":
        x = ops.linear(x, **hidden, activation="gelu")  # (B, hidden_width)
    if projection is not None:
        x = ops.linear(x, **projection)  # (B, E)
    see("features", x)
    return x


def mean(ops, x, lengths, *, heads):
    """The mean of each text's first `lengths` tokens: (B, T, D) -> (B, D).

    Attention with a query of zeros weighs them equally. For one text: x[:length].mean(axis=0).
    """
    B, T, D = x.shape
    x = x.reshape(B, T, heads, D // heads)  # (B, T, H, K)
    return ops.attention(x[:, :1] * 0, x, x, lengths=lengths).reshape(B, D)  # (B, 1, H, K) -> (B, D)


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
    norm = {"weight": (D,), "bias": (D,)}
    types = {"type_embedding": (config.token_types, D)} if config.token_types else {}
    pooler = {"pooler": {"weight": (D, D), "bias": (D,)}} if config.pooler else {}
    return {
        "embed": {"table": (config.vocab_size, D)},
        "position_embedding": (config.first_position + config.context_length, D),
        **types,
        "ln_embed": norm,
        "blocks": transformer.shapes(config),
        **pooler,
        **_head(config, D, embed_dim, norm),
    }


def _head(config, D, E, norm):
    """The parameters of what becomes the feature."""
    W = config.hidden_width
    tree = {} if E is None or config.head == "none" else {"projection": {"weight": (E, W or D)}}
    if config.head == "bias" and tree:
        tree["projection"]["bias"] = (E,)
    if config.head == "mlp":
        return {"hidden": {"weight": (W, D)}, **tree}
    if config.head == "norm":
        return {"ln_pooled": norm, "hidden": {"weight": (W, D), "bias": (W,)}, **tree}
    return tree
