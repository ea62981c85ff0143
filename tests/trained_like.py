"""Random CLIP models whose activations have outliers, as those of trained transformers have.

In trained transformers a few channels are 10 to 60 times as large as the others, in all layers and at nearly the same
places (LLM.int8(), 2022, sec. 4; SmoothQuant, 2022, sec. 3), while the weights that read them are small: the network
knows them. Here, with that range of sizes:

- a few channels of the residual stream are large, most of it a constant and a fifth of it noise;
- in each block a few gains of both layer norms are large, and the others are log-normal;
- in each block a few units of the MLP are always large.

The weights that read such a channel are divided by its size; after gains of a layer norm, by its root.
"""

import numpy as np

from miniclip.bench.measurement import random_parameters

FEW = 6


def trained_like(config, seed=0):
    """The parameter tree of `config`, a CLIPConfig with a Vision Transformer."""
    rng = np.random.default_rng(seed)
    tree = random_parameters(config, rng)
    visual, text = tree["visual"], tree["text"]
    channels, sizes = _outliers(rng, config.visual.width)
    visual["ln_pre"]["weight"][channels] *= 0.2 * sizes
    visual["ln_pre"]["bias"][channels] += sizes
    _blocks(rng, visual["blocks"], channels, sizes)
    visual["ln_post"]["weight"][channels] /= sizes
    channels, sizes = _outliers(rng, config.text.width)
    text["position_embedding"][:, channels] *= 0.2 * sizes
    text["position_embedding"][:, channels] += sizes
    _blocks(rng, text["blocks"], channels, sizes)
    text["ln_final"]["weight"][channels] /= sizes
    return tree


def _outliers(rng, width):
    return rng.choice(width, FEW, replace=False), rng.uniform(10, 60, FEW).astype(np.float32)


def _blocks(rng, blocks, channels, sizes):
    for block in blocks:
        fc, proj = block["mlp"]["fc"], block["mlp"]["proj"]
        for norm, reader in ((block["ln_1"], block["attention"]["qkv"]), (block["ln_2"], fc)):
            gains = rng.lognormal(0, 0.4, len(norm["weight"])).astype(np.float32)
            large, factors = _outliers(rng, len(gains))
            gains[large] *= factors
            norm["weight"] *= gains
            norm["bias"] *= gains
            reader["weight"] /= np.sqrt(gains)
            reader["weight"][:, channels] /= sizes
        units, large = _outliers(rng, len(fc["weight"]))
        fc["bias"][units] += large
        proj["weight"][:, units] /= large
