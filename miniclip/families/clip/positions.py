"""A model for pictures of another size: its position embeddings are a grid, which is interpolated like a picture."""

import dataclasses
import functools
import math

import numpy as np


def with_image_size(config, tree, image_size, antialias=False):
    """`families.with_image_size` for CLIP and SigLIP: the new tree shares all arrays except the position embeddings."""
    visual = dataclasses.replace(config.visual, image_size=image_size)
    parameters = dict(tree["visual"])
    # One branch has position embeddings: patch_embed in a Vision Transformer, attention_pool in a ResNet.
    branch = next(name for name, x in parameters.items() if isinstance(x, dict) and "position_embedding" in x)
    position_embedding = parameters[branch]["position_embedding"]
    position_embedding = interpolate(position_embedding, config.visual.grid, visual.grid, antialias)
    parameters[branch] = {**parameters[branch], "position_embedding": position_embedding}
    return dataclasses.replace(config, visual=visual), {**tree, "visual": parameters}


def interpolate(position_embedding, old, new, antialias=False):
    """Position embeddings for another grid: (n + Gy·Gx, D), grids (down, across) -> (n + Gy'·Gx', D).

    The first n are not in the grid: that of the class token, or none. The result is that of transformers'
    `interpolate_pos_encoding` (modeling_clip.py), and with `antialias` that of OpenCLIP's `resize_pos_embed`
    (open_clip/model.py): torch's bicubic interpolation without and with antialiasing, computed in float64.
    """
    D, n = position_embedding.shape[1], len(position_embedding) - math.prod(old)
    grid = position_embedding[n:].reshape(*old, D).astype(np.float64)  # (Gy, Gx, D)
    bicubic = functools.partial(_antialiased, curve=functools.partial(_cubic, a=-0.5)) if antialias else _bicubic
    down, across = map(bicubic, old, new)  # (Gy', Gy), (Gx', Gx)
    grid = np.einsum("ay,bx,yxd->abd", down, across, grid, optimize=True)  # (Gy', Gx', D)
    grid = grid.reshape(-1, D).astype(position_embedding.dtype)
    return np.concatenate([position_embedding[:n], grid])  # (n + Gy'·Gx', D)


def bilinear(old, new):
    """The matrix (Gy'·Gx', Gy·Gx) that interpolates a grid (down, across) bilinearly, with antialiasing, to another.

    Times (Gy·Gx, D) it is torch's F.interpolate(mode="bilinear", antialias=True, align_corners=False).
    """
    down, across = (_antialiased(*sides, curve=_linear) for sides in zip(old, new))  # (Gy', Gy), (Gx', Gx)
    return np.kron(down, across)


def _bicubic(old, new):
    """The matrix (new, old) of bicubic interpolation from `old` points to `new`; its rows sum to one.

    Four points have a weight; beyond the edge the last point is repeated.
    """
    centre = (np.arange(new) + 0.5) * old / new - 0.5  # of the new points, among the old
    near = np.floor(centre).astype(int)[:, None] + np.arange(-1, 3)  # (new, 4)
    matrix = np.zeros((new, old))
    np.add.at(matrix, (np.arange(new)[:, None], near.clip(0, old - 1)), _cubic(centre[:, None] - near, a=-0.75))
    return matrix


def _antialiased(old, new, curve):
    """The same with antialiasing; curve(distance) is a point's weight: linear, or cubic with a = -1/2 as in Pillow.

    If there are fewer points than before, the curve is as much wider. Beyond the edge there are no points.
    """
    centre = (np.arange(new) + 0.5) * old / new - 0.5
    weights = curve((centre[:, None] - np.arange(old)) / max(old / new, 1))  # (new, old)
    return weights / weights.sum(axis=1, keepdims=True)


def _linear(d):
    """The weight of a point at distance d: w(d) = 1 - |d| for |d| ≤ 1, else 0."""
    return np.maximum(1 - np.abs(d), 0)


def _cubic(d, a):
    """The weight of a point at distance d (Keys 1981, eq. 15, has a = -1/2):

    w(d) = (a+2) |d|³ - (a+3) |d|² + 1 for |d| ≤ 1,  a |d|³ - 5a |d|² + 8a |d| - 4a for |d| < 2,  else 0
    """
    d = np.abs(d)
    inner = (a + 2) * d**3 - (a + 3) * d**2 + 1
    outer = a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
    return np.where(d <= 1, inner, np.where(d < 2, outer, 0))
