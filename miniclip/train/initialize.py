"""Random parameters at the start of a training, and the configurations that a new model may have."""

import math

import numpy as np

from miniclip import params
from miniclip.config import CLIPConfig, TextConfig, VisionConfig
from miniclip.errors import InputError
from miniclip.families.clip.presets import PRESETS


def shapes_config(vocab_size):
    """The built-in model's configuration: 6 x 6 patches of 8 pixels, 4 blocks for pictures, 2 for texts."""
    vision = VisionConfig(image_size=48, patch_size=8, width=128, layers=4, heads=4, mlp_width=512)
    text = TextConfig(context_length=32, vocab_size=vocab_size, width=128, layers=2, heads=4, mlp_width=512)
    return CLIPConfig(visual=vision, text=text, embed_dim=128)


# name: the configuration of a new model; "small" is of the built-in model's size
CONFIGS = {"small": shapes_config(1024)}
CONFIGS |= {name: config for name, config in PRESETS.items() if isinstance(config.visual, VisionConfig)}


def check_new(config):
    """Raise InputError unless a model with this configuration can start with random parameters.

    Our convolutions have their BatchNorms folded into them, and without these they do not learn from the beginning.
    """
    if type(config.visual) is not VisionConfig or type(config.text) is not TextConfig:  # nor a tower of another family
        raise InputError("only a CLIP with a Vision Transformer and a text tower can start with random parameters")
    if config.visual.width % 4:
        raise InputError(f"the image tower's width is {config.visual.width}, expected a multiple of 4 for a new model")


def init_params(config, rng):
    """Random parameters at the start of training, float32 ndarrays (clip/model.py, initialize_parameters).

    Raises InputError for a model that cannot start so: see `check_new`.
    """
    check_new(config)
    towers = {"visual": config.visual, "text": config.text}
    flat = {}
    for name, shape in params.flatten(config.shapes()).items():
        if name == "logit_scale":
            flat[name] = np.array(math.log(1 / 0.07), np.float32)
        elif name == "visual.patch_embed.position_embedding":
            positions = 0.3 * sine_cosine(config.visual.grid, config.visual.width)  # (G·G, D)
            flat[name] = np.pad(positions, ((1, 0), (0, 0))).astype(np.float32)  # zeros for the class token
        else:
            tower = towers[name.partition(".")[0]]
            flat[name] = init_parameter(rng, name, shape, tower.width, tower.layers)
    return params.unflatten(flat)


def init_parameter(rng, name, shape, width, layers):
    """The random start of a parameter of a tower with this width and so many layers, a float32 ndarray."""
    if name.endswith("bias"):
        return np.zeros(shape, np.float32)
    if len(shape) == 1 and name.endswith("weight"):  # a layer norm's gain
        return np.ones(shape, np.float32)
    std = {
        "table": 0.02,
        "position_embedding": 0.01,
        "out.weight": (2 * layers * width) ** -0.5,  # so that the residual stream does not grow with depth
        "proj.weight": (2 * layers * width) ** -0.5,
        "fc.weight": (2 * width) ** -0.5,
        "patch_embed.weight": math.prod(shape[1:]) ** -0.5,
    }
    scale = next((s for end, s in std.items() if name.endswith(end)), width**-0.5)
    return rng.normal(0, scale, shape).astype(np.float32)


def sine_cosine(grid, width):
    """Positions on a grid (down, across) as sines and cosines of x and y: near positions have similar vectors.

    (Better plain ViT baselines for ImageNet-1k, sec. 2.) Returns (down · across, width); `width` is a multiple of 4.
    """
    down, across = grid
    frequency = 100.0 ** -np.linspace(0, 1, width // 4)  # (width/4,)
    y, x = np.mgrid[:down, :across].reshape(2, -1, 1) * frequency  # (down · across, width/4) each
    return np.concatenate([np.sin(x), np.cos(x), np.sin(y), np.cos(y)], axis=1)
