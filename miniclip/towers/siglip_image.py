"""SigLIP's image tower: a Vision Transformer without a class token, whose tokens are pooled by attention.

(Sigmoid Loss for Language Image Pre-Training; big_vision, models/vit.py, MAPHead; transformers, modeling_siglip.py.)
Its blocks are those of `transformer`. At the end one learned query, the probe, looks at all tokens: "multihead
attention pooling" (Scaling Vision Transformers, sec. 2.1).
"""

import math

from miniclip.towers import tracing, transformer


def encode_image(ops, images, patch_embed, blocks, ln_post, attention_pool, *, config, trace=None):
    """images (B, C, height, width) -> features (B, D), not normalised.

    `trace(name, value)` sees "embeddings" (B, T, D), what `transformer` shows of each block, "ln_post" (B, T, D),
    "attention_pool.attention_weights" (B, H, 1, T), "attention_pool.attention" and "features", (B, D).
    """
    see = trace or tracing.untraced
    x = patches(ops, images, **patch_embed)  # (B, T, D)
    see("embeddings", x)
    x = transformer.transformer(ops, x, blocks, config=config, trace=trace)  # (B, T, D)
    x = ops.layer_norm(x, **ln_post, eps=config.eps)
    see("ln_post", x)
    x = pool(ops, x, **attention_pool, config=config, trace=trace and tracing.within("attention_pool", trace))  # (B, D)
    see("features", x)
    return x


def patches(ops, images, weight, bias, position_embedding):
    """Each patch times weight, plus bias and its position: images (B, C, height, width) -> (B, T, D), T = Gy·Gx."""
    return ops.cells(ops.conv2d(images, weight, bias, stride=weight.shape[-1])) + position_embedding


def pool(ops, x, probe, qkv, out, ln_mlp, mlp, *, config, lengths=None, trace=None):
    """y = out(attention(probe, x)), then y + mlp(ln_mlp(y)): x (B, T, D), probe (1, 1, D) -> (B, D).

    `lengths` (B,) int: the probe sees none of the tokens after so many.
    """
    B, T, D = x.shape
    heads, K = config.heads, D // config.heads
    packed = ops.linear(x, **qkv).reshape(B, T, 3, heads, K)
    k, v = packed[:, :, 1], packed[:, :, 2]  # (B, T, H, K), views
    probe = x[:, :1] * 0 + probe  # (B, 1, D), the same for each picture
    q = ops.linear(probe, **qkv).reshape(B, 1, 3, heads, K)[:, :, 0]  # (B, 1, H, K)
    if trace and trace.attentions:
        trace("attention_weights", ops.attention_weights(q, k, lengths=lengths))
    y = ops.linear(ops.attention(q, k, v, lengths=lengths).reshape(B, D), **out)  # (B, D)
    if trace:
        trace("attention", y)
    return y + transformer.feed_forward(
        ops, ops.layer_norm(y, **ln_mlp, eps=config.eps), **mlp, activation=config.activation
    )


def shapes(config, embed_dim):
    """The tower's parameter tree with shapes for leaves. Features are as wide as the tower: there is no projection."""
    C, P, D = config.channels, config.patch_size, config.width
    norm, (block, *_) = {"weight": (D,), "bias": (D,)}, transformer.shapes(config)
    return {
        "patch_embed": {
            "weight": (D, C, P, P),
            "bias": (D,),
            "position_embedding": (math.prod(config.grid), D),
        },
        "blocks": transformer.shapes(config),
        "ln_post": norm,
        "attention_pool": {"probe": (1, 1, D), **block["attention"], "ln_mlp": norm, "mlp": block["mlp"]},
    }
