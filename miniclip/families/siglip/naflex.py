"""Pictures of any shape for SigLIP 2's NaFlex: each becomes as many patches as allowed, and keeps its proportions.

Exactly transformers' preprocessing, on Pillow (image_processing_pil_siglip2.py).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from miniclip.config import INTERPOLATIONS, PictureSettings
from miniclip.families import preprocessing
from miniclip.families.clip.positions import bilinear
from miniclip.families.siglip.image import HALF
from miniclip.ops import Array
from miniclip.runtime import pictures

PATCHES = 256  # at most in a picture, in training
LARGEST, STEP = 100.0, 1e-5  # how much larger a picture may get, and where the search for its scale stops


class Patches(NamedTuple):
    """Pictures of any shape as one batch, which `encode_image` takes: rows of patches, and rows of zeros after them."""

    pixels: Array  # (B, N, P·P·C) float; of one picture alone (N, P·P·C)
    grids: np.ndarray  # (B, 2) int, the patches (down, across); of one picture alone (2,)


def own_settings(patches=PATCHES):
    """PictureSettings of SigLIP 2's NaFlex."""
    return PictureSettings("patches", patches, None, "bilinear", 1 / 255, ((HALF, HALF),))


@dataclass(frozen=True)
class PatchesPreprocess(preprocessing.SettingsPreprocess):
    """As `Preprocess`, but a picture of any shape becomes `Patches`, and so does a list of them."""

    patch_size: int = 16

    def __call__(self, picture: pictures.Picture | Sequence[pictures.Picture]) -> Patches:
        if not isinstance(picture, (list, tuple)):
            pixels, grids = self._batch([picture], ["the picture"])
            return Patches(self.asarray(pixels[0]), grids[0])
        pixels, grids = self._batch(picture, [f"picture {i}" for i in range(len(picture))])
        return Patches(self.asarray(pixels), grids)

    def _batch(self, several, names):
        most: Any = self.settings.size  # N
        P, B = self.patch_size, len(several)
        pixels = np.zeros((B, most, P * P * 3), np.float32)  # (B, N, P·P·C)
        grids = np.zeros((B, 2), np.int64)

        def prepare(picture, name, i):
            image = pictures.on_white(pictures.open_picture(picture, name, self.exif))
            grids[i] = grid = grid_of(image.height, image.width, P, most)
            pixels[i, : math.prod(grid)] = cut(prepared(image, grid, self.settings, P, name), P)

        pictures.for_each(prepare, several, names, range(B))
        return pixels, grids


def grid_of(height: int, width: int, patch_size: int, most: int) -> tuple[int, int]:
    """The patches (down, across) of a picture of this size in pixels, enlarged until there are `most`, or nearly so.

    Found by bisection, because its result is transformers', bit for bit (get_image_size_for_max_num_patches).
    """

    def at(scale):
        return tuple(max(1, math.ceil(side * scale / patch_size)) for side in (height, width))

    low, high = STEP / 10, LARGEST
    while high - low >= STEP:
        middle = (low + high) / 2
        low, high = (middle, high) if math.prod(at(middle)) <= most else (low, middle)
    return at(low)


def prepared(
    image: Image.Image, grid: tuple[int, int], settings: PictureSettings, patch_size: int, name: str = "the picture"
) -> np.ndarray:
    """A picture resized to a grid of patches, with its pixels as `settings` ask for: (C, height, width) float32."""
    sides = grid[1] * patch_size, grid[0] * patch_size  # (width, height), as in Pillow
    if image.size != sides:
        image = image.resize(sides, Image.Resampling(INTERPOLATIONS.index(settings.interpolation)))
    return preprocessing.prepare(image, replace(settings, resize="none", size=None), name)


def cut(pixels: np.ndarray, patch_size: int) -> np.ndarray:
    """A picture (C, height, width) -> its patches, (Gy·Gx, P·P·C): row by row, channels last."""
    C, height, width = pixels.shape
    P = patch_size
    x = pixels.reshape(C, height // P, P, width // P, P)  # (C, Gy, P, Gx, P)
    return x.transpose(1, 3, 2, 4, 0).reshape(-1, P * P * C)


def places(grids: np.ndarray, length: int, side: int) -> np.ndarray:
    """What the tower makes position embeddings with: grids (B, 2) -> (B, N, S·S) float32, for N = `length` patches.

    Patch n of picture b is at the mean of the S·S position embeddings with the weights [b, n]. Patches that fill a
    picture up are where its first one is, as in transformers.
    """
    found = np.empty((len(grids), length, side**2), np.float32)
    for weights, grid in zip(found, grids.tolist()):
        weights[: math.prod(grid)] = bilinear((side, side), grid)  # (Gy·Gx, S·S)
        weights[math.prod(grid) :] = weights[0]
    return found
