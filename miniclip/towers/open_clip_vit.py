"""OpenCLIP's Vision Transformer where it is not CLIP's: without the first layer norm, or with another pooling.

(open_clip/transformer.py, VisionTransformer and AttentionalPooler.) The pooling is the class token, the mean of the
patches (CLIPA), or an attention with learned queries (CoCa). What is as in CLIP is in `vit`.
"""

from miniclip.towers import tracing, transformer


def encode_image(
    ops, images, patch_embed, blocks, ln_post, projection=None, ln_pre=None, attention_pool=None, *, config, trace=None
):
    """images (B, C, height, width) -> features (B, E), not normalised; without a projection as they are pooled.

    `trace(name, value)` sees "embeddings", "ln_pre" if there is one, what `transformer` shows of each block, with an
    attention pool "attention_pool.attention_weights" (B, H, Q, T), then "ln_post" (B, D or E) and "features".
    """
    see = trace or tracing.untraced
    x = ops.patch_embed(images, **patch_embed)  # (B, T, D)
    see("embeddings", x)
    if ln_pre is not None:
        x = ops.layer_norm(x, **ln_pre, eps=config.eps)
        see("ln_pre", x)
    only = 0 if config.pool == "tok" and attention_pool is None and not trace else None  # the class token alone
    x = transformer.transformer(ops, x, blocks, config=config, keep=only, trace=trace)  # (B, T, D), with `only` (B, D)
    heads = config.heads
    if attention_pool is not None:
        heads = config.pool_heads
        first = slice(1 if config.pool == "tok" else None)  # of the queries, only those are needed that are pooled
        inside = trace and tracing.within("attention_pool", trace)
        x = pool_by_attention(ops, x, **attention_pool, first=first, config=config, trace=inside)  # (B, Q, E)
    if config.pool == "tok":
        x = ops.layer_norm(x if only == 0 else x[:, 0], **ln_post, eps=config.eps)  # (B, D or E)
    elif config.norm_after_pool:
        x = ops.layer_norm(mean(ops, patches(x), heads), **ln_post, eps=config.eps)
    else:
        x = mean(ops, patches(ops.layer_norm(x, **ln_post, eps=config.eps)), heads)
    see("ln_post", x)
    if projection is not None:
        x = ops.linear(x, **projection)  # (B, E)
    see("features", x)
    return x


def pool_by_attention(ops, x, query, ln_q, ln_k, q, k, v, out, *, first, config, trace):
    """Q learned queries, the same for all pictures, look at the tokens: x (B, T, D) -> (B, Q, E).

    Only the slice `first` of query (Q, E) is used; the arguments ln_q ... out are parameters.
    """
    B, T, _ = x.shape
    H, E = config.pool_heads, query.shape[1]
    x = ops.layer_norm(x, **ln_k, eps=config.eps)
    k, v = (ops.linear(x, **p).reshape(B, T, H, E // H) for p in (k, v))  # (B, T, H, K)
    q = ops.linear(ops.layer_norm(query[first], **ln_q, eps=config.eps), **q)  # (Q, E)
    q = k[:, :1] * 0 + q.reshape(1, q.shape[0], H, E // H)  # (B, Q, H, K): the zeros repeat it for each picture
    if trace and trace.attentions:
        trace("attention_weights", ops.attention_weights(q, k))
    return ops.linear(ops.attention(q, k, v).reshape(B, q.shape[1], E), **out)  # (B, Q, E)


def patches(x):
    """The tokens without the first: (B, T, D) -> (B, T - 1, D)."""
    return x[:, 1 : x.shape[1]]


def mean(ops, x, heads):
    """The mean of the tokens, (B, T, D) -> (B, D): the attention of a query of zeros, which looks at all alike."""
    B, T, D = x.shape
    x = x.reshape(B, T, heads, D // heads)  # (B, T, H, K)
    return ops.attention(x[:, :1] * 0, x, x).reshape(B, D)


def shapes(config, embed_dim):
    """The tower's parameter tree with shapes for leaves: the one statement of its architecture."""
    C, P, D, Q = config.channels, config.patch_size, config.width, config.pool_queries
    T, E = config.grid[0] * config.grid[1] + 1, embed_dim or config.width
    tree = {
        "patch_embed": {"weight": (D, C, P, P), "class_token": (D,), "position_embedding": (T, D)},
        "blocks": transformer.shapes(config),
        "ln_post": _norm(E if Q else D),
    }
    if config.pre_norm:
        tree["ln_pre"] = _norm(D)
    if Q:
        widths = {"q": E, "k": D, "v": D, "out": E}
        products = {name: {"weight": (E, width), "bias": (E,)} for name, width in widths.items()}
        tree["attention_pool"] = {"query": (Q, E), "ln_q": _norm(E), "ln_k": _norm(D), **products}
    return tree if embed_dim is None else {**tree, "projection": {"weight": (E, E if Q else D)}}


def _norm(width):
    return {"weight": (width,), "bias": (width,)}
