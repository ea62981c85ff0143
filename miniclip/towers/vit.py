"""CLIP's image tower, a Vision Transformer: pixels become tokens, one of them becomes the feature.

(Learning Transferable Visual Models, sec. 2.4; clip/model.py, VisionTransformer.) Unlike the original ViT it has one
more layer norm, before the first block.
"""

from miniclip.towers import tracing, transformer


def encode_image(ops, images, patch_embed, ln_pre, blocks, ln_post, projection=None, *, config, trace=None):
    """images (B, C, height, width) -> features (B, E), not normalised; (B, D) if there is no projection.

    `trace(name, value)` sees "embeddings", "ln_pre", what `transformer` shows of each block, "ln_post" and "features".
    """
    see = trace or tracing.untraced
    # patches and the class token become tokens, with positions; **patch_embed are that function's parameters
    x = ops.patch_embed(images, **patch_embed)  # (B, T, D)
    see("embeddings", x)
    x = ops.layer_norm(x, **ln_pre, eps=config.eps)
    see("ln_pre", x)
    # all tokens see each other; only the class token is needed: x becomes (B, D), for a trace (B, T, D)
    x = transformer.transformer(ops, x, blocks, config=config, keep=None if trace else 0, trace=trace)
    if trace:
        x = x[:, 0]  # (B, D)
    x = ops.layer_norm(x, **ln_post, eps=config.eps)  # (B, D)
    see("ln_post", x)
    # into the space that pictures and texts share
    if projection is not None:
        x = ops.linear(x, **projection)  # (B, E)
    see("features", x)
    return x


def shapes(config, embed_dim):
    """The tower's parameter tree with shapes for leaves: the one statement of its architecture."""
    C, P, D = config.channels, config.patch_size, config.width
    T = config.grid[0] * config.grid[1] + 1
    norm = {"weight": (D,), "bias": (D,)}
    tree = {
        "patch_embed": {"weight": (D, C, P, P), "class_token": (D,), "position_embedding": (T, D)},
        "ln_pre": norm,
        "blocks": transformer.shapes(config),
        "ln_post": norm,
    }
    return tree if embed_dim is None else {**tree, "projection": {"weight": (embed_dim, D)}}
