"""CLIP's other image tower, OpenAI's ModifiedResNet: convolutions, and attention instead of the last pooling.

(Deep Residual Learning, sec. 3; Learning Transferable Visual Models, sec. 2.4; clip/model.py, ModifiedResNet.) Three
things are modified: the stem has three convolutions; a grid is halved by the mean of 2 x 2 cells instead of a stride of
2, which avoids aliasing; and attention pools the last grid, with the grid's mean as the query. In training, a BatchNorm
follows every convolution; here `families.batch_norm` has folded it into weight and bias.

W is `config.width`, the channels after the stem. The last grid has 32·W channels and sides of height/32 and width/32.
"""

import math

from miniclip.towers.tracing import untraced


def encode_image(ops, images, stem, stages, attention_pool, *, config, trace=None):
    """images (B, C, height, width) -> features (B, E), not normalised.

    `trace(name, value)` sees "stem" (B, W, height/4, width/4), the grid after block b of stage s, "stages.s.b", then
    "attention_pool.tokens" (B, T, 32·W), "attention_pool.attention_weights" (B, H, 1, T) and "features".
    """
    see = trace or untraced
    first, *others = stem
    x = ops.conv2d(images, **first, stride=2, padding=1, activation="relu")  # (B, W/2, height/2, width/2)
    for p in others:
        x = ops.conv2d(x, **p, padding=1, activation="relu")  # (B, W/2, ...), then (B, W, ...)
    x = ops.avg_pool2d(x, 2)  # (B, W, height/4, width/4)
    see("stem", x)
    for s, blocks in enumerate(stages):
        for b, p in enumerate(blocks):
            x = bottleneck(ops, x, **p, halve=s > 0 and b == 0)  # (B, 4·2ˢ·W, height/4/2ˢ, width/4/2ˢ)
            see(f"stages.{s}.{b}", x)
    x = pool(ops, x, **attention_pool, heads=config.heads, trace=trace)  # (B, E)
    see("features", x)
    return x


def bottleneck(ops, x, conv1, conv2, conv3, downsample=None, *, halve=False):
    """relu(conv3(mean(relu(conv2(relu(conv1(x)))))) + downsample(mean(x))), both means only with `halve`.

    x (B, C, Gy, Gx) -> (B, 4·N, Gy, Gx), with `halve` (B, 4·N, Gy/2, Gx/2). conv1 has kernel 1 and N output channels,
    conv2 kernel 3, conv3 kernel 1. If C = 4·N, there is no downsample, and x itself is added.
    """
    y = ops.conv2d(x, **conv1, activation="relu")  # (B, N, Gy, Gx)
    y = ops.conv2d(y, **conv2, padding=1, activation="relu")
    if halve:
        x, y = ops.avg_pool2d(x, 2), ops.avg_pool2d(y, 2)  # (B, C or N, Gy/2, Gx/2)
    if downsample is not None:
        x = ops.conv2d(x, **downsample)  # (B, 4·N, ...)
    return ops.conv2d(y, **conv3, residual=x, activation="relu")  # (B, 4·N, ...)


def pool(ops, x, position_embedding, q, k, v, out, *, heads, trace=None):
    """Attention pooling: the query is the mean of the grid, the keys are the mean and all cells.

    x (B, D, Gy, Gx) -> (B, E).
    """
    x = ops.grid_tokens(x, position_embedding)  # (B, T, D)
    B, T, D = x.shape
    q = ops.linear(x[:, :1], **q).reshape(B, 1, heads, D // heads)  # (B, 1, H, K): only the mean
    k, v = (ops.linear(x, **p).reshape(B, T, heads, D // heads) for p in (k, v))  # (B, T, H, K)
    if trace:
        trace("attention_pool.tokens", x)
        trace("attention_pool.attention_weights", ops.attention_weights(q, k))
    x = ops.attention(q, k, v)  # (B, 1, H, K)
    return ops.linear(x.reshape(B, D), **out)


def shapes(config, embed_dim):
    """The tower's parameter tree with shapes as leaves: the only statement of its architecture."""
    W, D = config.width, 32 * config.width
    return {
        "stem": [_conv(config.channels, W // 2, 3), _conv(W // 2, W // 2, 3), _conv(W // 2, W, 3)],
        "stages": list(map(_stage, (W, 4 * W, 8 * W, 16 * W), (W, 2 * W, 4 * W, 8 * W), config.layers)),
        "attention_pool": {
            "position_embedding": (math.prod(config.grid) + 1, D),
            **{name: {"weight": (D, D), "bias": (D,)} for name in ("q", "k", "v")},
            "out": {"weight": (embed_dim or D, D), "bias": (embed_dim or D,)},
        },
    }


def _stage(C, N, blocks):
    """The shapes of one stage: the first block goes from C channels to 4·N, the others keep 4·N."""

    def block(C):
        return {"conv1": _conv(C, N, 1), "conv2": _conv(N, N, 3), "conv3": _conv(N, 4 * N, 1)}

    return [{**block(C), "downsample": _conv(C, 4 * N, 1)}] + [block(4 * N)] * (blocks - 1)


def _conv(C, N, k):
    return {"weight": (N, C, k, k), "bias": (N,)}
