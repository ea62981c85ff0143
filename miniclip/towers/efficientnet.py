"""ALIGN's image tower, EfficientNet: inverted bottlenecks, which are wide inside and narrow at both ends.

(EfficientNet: Rethinking Model Scaling for CNNs, sec. 3 and 4; the block is MobileNetV2's, with squeeze-and-excitation;
transformers, modeling_align.py.) A search found one small network, B0; the larger ones are B0 with more width and depth
(eq. 3). In training, a BatchNorm follows every convolution, except those that squeeze and excite; here
`families.batch_norm` has folded it into the convolution's weight and bias.
"""

import math
from typing import NamedTuple

from miniclip.towers.tracing import untraced


def encode_image(ops, images, stem, blocks, *, config, trace=None):
    """images (B, C, height, width) -> features (B, E), not normalised: the mean of each channel of the last grid.

    `trace(name, value)` sees "stem" (B, W, height/2, width/2), the grid after block i, "blocks.i", and "features".
    """
    see = trace or untraced
    x = ops.conv2d(images, **stem, stride=2, padding=(0, 1), activation=config.activation)  # (B, W, height/2, width/2)
    see("stem", x)
    for i, (p, block) in enumerate(zip(blocks, layout(config))):
        x = bottleneck(ops, x, **p, block=block, activation=config.activation)  # (B, O, Gy, Gx)
        see(f"blocks.{i}", x)
    x = ops.global_avg_pool2d(x).reshape(x.shape[0], -1)  # (B, E)
    see("features", x)
    return x


def bottleneck(ops, x, depthwise, squeeze, excite, project, expand=None, *, block, activation):
    """x + project(excited(depthwise(expand(x)))), without "x +" in a stage's first block: (B, C, ...) -> (B, O, ...).

    `expand` and `project` have kernel 1 and mix channels; `depthwise` mixes neighbouring cells of each channel. Then
    each channel has a weight: excited(y) = y · σ(excite(squeeze(mean(y)))) (Squeeze-and-Excitation Networks, eq. 2-4).
    """
    y = x if expand is None else ops.conv2d(x, **expand, activation=activation)  # (B, N, Gy, Gx), N = expansion · C
    N = y.shape[1]
    y = ops.conv2d(y, **depthwise, stride=block.stride, padding=block.padding, groups=N, activation=activation)
    weights = ops.conv2d(ops.global_avg_pool2d(y), **squeeze, activation=activation)  # (B, S, 1, 1)
    y = y * ops.conv2d(weights, **excite, activation="sigmoid")  # (B, N, Gy, Gx)
    return ops.conv2d(y, **project, residual=x if block.residual else None)  # (B, O, Gy, Gx)


class Block(NamedTuple):
    """The sizes of one block. Channels: C at the input, N inside, S squeezed, O at the output."""

    C: int
    N: int
    S: int
    O: int  # noqa: E741
    kernel: int
    stride: int
    padding: tuple[int, int]  # above and left, below and right
    residual: bool


def depths(config):
    """The number of blocks in each stage of the scaled network."""
    return [math.ceil(config.depth_coefficient * repeats) for repeats, *_ in config.stages]


def layout(config):
    """Every block of the scaled network, in order."""
    blocks, C = [], scaled(STEM, config)
    for depth, (_, channels, kernel, stride, expansion) in zip(depths(config), config.stages):
        for i in range(depth):
            step = stride if i == 0 else 1
            # With stride 2, padding is smaller by one above and left; `square_padding` lists the exceptions.
            square = step == 1 or len(blocks) in config.square_padding
            padding = (kernel // 2 if square else kernel // 2 - 1, kernel // 2)
            S, O = max(1, int(C * config.squeeze_ratio)), scaled(channels, config)  # noqa: E741
            blocks.append(Block(C, expansion * C, S, O, kernel, step, padding, residual=i > 0))
            C = O
    return blocks


STEM = 32  # output channels of the stem in B0


def scaled(channels, config):
    """The scaled number of channels: the nearest multiple of `depth_divisor`, but at least 90 % of the exact number."""
    wanted, step = channels * config.width_coefficient, config.depth_divisor
    nearest = max(step, int(wanted + step / 2) // step * step)
    return nearest + step if nearest < 0.9 * wanted else nearest


def grid(config, size):
    """Cells of the last grid along a side of `size` pixels."""
    size = (size - 2) // 2 + 1
    for block in layout(config):
        size = (size + sum(block.padding) - block.kernel) // block.stride + 1
    return size


def shapes(config, embed_dim):
    """The tower's parameter tree with shapes as leaves: the only statement of its architecture."""
    return {
        "stem": {"weight": (scaled(STEM, config), config.channels, 3, 3), "bias": (scaled(STEM, config),)},
        "blocks": list(map(_block, layout(config))),
    }


def _block(block):
    C, N, S, O, k, *_ = block  # noqa: E741
    return {
        **({"expand": _conv(C, N)} if N > C else {}),
        "depthwise": _conv(1, N, k),
        "squeeze": _conv(N, S),
        "excite": _conv(S, N),
        "project": _conv(N, O),
    }


def _conv(C, O, k=1):  # noqa: E741
    return {"weight": (O, C, k, k), "bias": (O,)}
