"""The least work that a tower's features need: floating-point operations, and numbers moved."""

import math
from dataclasses import replace

from miniclip import params
from miniclip.config import pair
from miniclip.towers import efficientnet, siglip_image


def work(config, tower, batch):
    """(FLOPs, numbers moved) for a tower's features: parameters and inputs move once, intermediate results never.

    In the last block only one token is computed, and the keys and values of all. SigLIP's pooling is such a block, too,
    after all the others.
    """
    c = getattr(config, tower)
    if c.tower is efficientnet:
        return _work_of_convolutions(config, batch)
    D, M, pools = c.width, c.mlp_width, c.tower is siglip_image
    E = 0 if pools else config.embed_dim or 0
    if tower == "visual":
        T, pixels = math.prod(c.grid) + (not pools), c.channels * math.prod(pair(c.image_size))
        first = 2 * math.prod(c.grid) * D * c.channels * c.patch_size**2
    else:
        T, pixels, first = c.text_length, 0, 0
    pairs = T * (T + 1) // 2 if c.causal else T * T  # of tokens that see each other
    block = 2 * T * (4 * D * D + 2 * D * M) + 4 * pairs * D
    last = 2 * T * 2 * D * D + 2 * (2 * D * D + 2 * D * M) + 4 * T * D
    shapes = params.flatten(config.shapes()[tower])
    weights = sum(math.prod(shape) for name, shape in shapes.items() if name != "embed.table")
    rows = 0 if tower == "visual" else batch * T * D  # numbers read from the embedding table
    return batch * (first + (c.layers - (not pools)) * block + last + 2 * D * E), weights + rows + batch * (
        pixels + (E or D)
    )


def work_of_texts(config, lengths):
    """FLOPs for the features of texts with so many tokens each."""
    alone = [replace(config, visual=None, text=replace(config.text, context_length=int(n))) for n in lengths]
    return float(sum(work(one, "text", 1)[0] for one in alone))


def _work_of_convolutions(config, batch):
    """(FLOPs, numbers moved) for an EfficientNet; activations and means are not counted."""
    c = config.visual
    W, cells = efficientnet.scaled(efficientnet.STEM, c), [(n - 2) // 2 + 1 for n in pair(c.image_size)]
    adds = math.prod(cells) * W * c.channels * 9
    for C, N, S, O, k, stride, padding, _ in efficientnet.layout(c):  # noqa: E741
        adds += math.prod(cells) * C * N * (N > C) + 2 * N * S
        cells = [(n + sum(padding) - k) // stride + 1 for n in cells]
        adds += math.prod(cells) * (N * k * k + N * O)
    weights = sum(math.prod(shape) for shape in params.flatten(config.shapes()["visual"]).values())
    return 2 * batch * adds, weights + batch * (c.channels * math.prod(pair(c.image_size)) + c.width)
