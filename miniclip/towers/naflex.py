"""SigLIP 2's image tower for pictures of any shape, NaFlex: as SigLIP's, but each picture has a grid of its own.

(SigLIP 2, sec. 2.4.2; transformers, modeling_siglip2.py.) A picture comes cut into patches. The position embeddings, a
square grid, are interpolated for its grid. Pictures of a batch have the same number of patches: after those of the
picture itself come others that no token sees.
"""

from miniclip.towers import siglip_image, tracing, transformer


def encode_image(
    ops, patches, patch_embed, blocks, ln_post, attention_pool, *, places, lengths=None, config, trace=None
):
    """patches (B, T, P·P·C) -> features (B, D), not normalised.

    places   (B, T, S·S): each patch's position embedding is the mean of the grid's S·S ones with these weights
    lengths  (B,) int: no token sees the patches after so many; None: all are seen

    `trace(name, value)` sees the same stages as in `siglip_image`.
    """
    see = trace or tracing.untraced
    x = embeddings(ops, patches, places, **patch_embed)  # (B, T, D)
    see("embeddings", x)
    x = transformer.transformer(ops, x, blocks, config=config, lengths=lengths, trace=trace)  # (B, T, D)
    x = ops.layer_norm(x, **ln_post, eps=config.eps)
    see("ln_post", x)
    inside = trace and tracing.within("attention_pool", trace)
    x = siglip_image.pool(ops, x, **attention_pool, config=config, lengths=lengths, trace=inside)  # (B, D)
    see("features", x)
    return x


def embeddings(ops, patches, places, weight, bias, position_embedding):
    """patches @ weight.T + bias + places @ position_embedding: (B, T, P·P·C), (B, T, S·S) -> (B, T, D)."""
    return ops.linear(patches, weight, bias) + places @ position_embedding


def shapes(config, embed_dim):
    """The tower's parameter tree with shapes for leaves: SigLIP's, except for the patches, whose channels come last."""
    tree = siglip_image.shapes(config, embed_dim)
    weight = (config.width, config.patch_size**2 * config.channels)
    return {**tree, "patch_embed": {**tree["patch_embed"], "weight": weight}}
