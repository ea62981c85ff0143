"""Prepares pictures by `PictureSettings`: for models whose files ask for other pictures than their family's own.

The result is that of the library that wrote the settings, bit for bit. What the settings do not say, libraries do
differently:

                        transformers (image_processing_backends.py)     OpenCLIP (transform.py, on torchvision)
    to RGB              before resizing; transparency becomes white     after resizing; transparency is dropped
    the crop's corner   rounded down                                    rounded half to even
    a smaller picture   is padded with zeros                            is padded with `fill`
    pixels to floats    times `scale`, in float64                       divided by 255, in float32
    not square          (height, width) is squashed                     the other side is rounded, and always bicubic
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from miniclip.config import INTERPOLATIONS, PictureSettings, pair
from miniclip.errors import InputError
from miniclip.image import Preprocess
from miniclip.ops import Array
from miniclip.runtime import pictures


@dataclass(frozen=True)
class SettingsPreprocess(Preprocess):
    """As `Preprocess`, by `settings`. If they leave pictures of different sizes, a list of them raises InputError."""

    image_size: Any  # None if it depends on the picture
    settings: PictureSettings = None  # type: ignore[assignment]  # always given: a field after one with a default

    def __call__(self, picture: pictures.Picture | Sequence[pictures.Picture]) -> Array:
        if self.image_size is not None:
            return super().__call__(picture)
        if not isinstance(picture, (list, tuple)):
            return self.asarray(self._prepared(picture, "the picture"))
        prepared = [self._prepared(x, f"picture {i}") for i, x in enumerate(picture)]
        if len({x.shape for x in prepared}) > 1:
            sizes = sorted({f"{x.shape[1]} x {x.shape[2]}" for x in prepared})
            raise InputError(
                f"these pictures become {', '.join(sizes)} pixels, because this model's settings crop none: prepare "
                f"them one by one"
            )
        return self.asarray(np.stack(prepared) if prepared else np.empty((0, 3, 0, 0), np.float32))

    def _prepare(self, picture, name, out):
        self._prepared(picture, name, out)

    def _prepared(self, picture, name, out=None):
        image = pictures.open_picture(picture, name, self.exif)
        image = pictures.on_white(image) if self.settings.library == "transformers" else image
        return prepare(image, self.settings, name, out)


def prepare(
    image: Image.Image, settings: PictureSettings, name: str = "the picture", out: np.ndarray | None = None
) -> np.ndarray:
    """A PIL image to (C, height, width) float32, in `out` if given. (OpenCLIP's become RGB.) Raises InputError."""
    image = resize_and_crop(image, settings, name)
    if settings.library == "open_clip":
        image = image.convert("RGB")
    pixels = np.asarray(image)
    pixels = pixels[:, :, None] if pixels.ndim == 2 else pixels  # (height, width, C)
    C = pixels.shape[2]
    # plain: return normalize(pixels, settings).transpose(2, 0, 1). Faster: look bytes up
    table = normalize(np.arange(256, dtype=np.uint8)[:, None].repeat(C, axis=1), settings, name)  # (256, C)
    out = np.empty((C, *pixels.shape[:2]), np.float32) if out is None else out
    for c in range(C):
        np.take(table[:, c], pixels[:, :, c], out=out[c], mode="clip")
    return out


def resize_and_crop(image, settings, name):
    """A PIL image, resized, then cropped or padded."""
    sides = _sides(image.size, settings)  # (width, height), as in Pillow
    resample = Image.Resampling(INTERPOLATIONS.index(settings.interpolation))
    if settings.library == "open_clip" and settings.resize == "shortest" and isinstance(settings.size, tuple):
        resample = Image.Resampling.BICUBIC
    crop = settings.size if settings.resize == "longest" else settings.crop
    if crop is None:
        if sides[0] * sides[1] > pictures.HUGE:
            raise InputError(f"{name} would become {sides[0]:,} x {sides[1]:,} pixels, which is too large to compute")
        return image if sides == image.size else image.resize(sides, resample)
    height, width = pair(crop)
    if settings.library == "transformers":
        x, y = ((side - kept) // 2 for side, kept in zip(sides, (width, height)))
    else:
        x, y = (round((side - kept) / 2) for side, kept in zip(sides, (width, height)))
    if settings.library == "open_clip" and (width > sides[0] or height > sides[1]):  # only "longest" is smaller
        left, top = (max(kept - side, 0) // 2 for side, kept in zip(sides, (width, height)))
        right, bottom = width - sides[0] - left, height - sides[1] - top
        return _expanded(image.resize(sides, resample), (left, top, right, bottom), settings.fill)
    return pictures.resize_and_crop(image, sides, (x, y, x + width, y + height), resample)


def _sides(size, settings):
    """(width, height) of a picture to those after resizing."""
    if settings.resize == "none":
        return size
    width, height = size
    rows, columns = pair(settings.size)
    if settings.resize == "squash":
        return columns, rows
    if settings.resize == "shortest" and rows == columns:  # the long side is truncated
        return (rows, int(rows * height / width)) if width <= height else (int(rows * width / height), rows)
    ratios = height / rows, width / columns  # OpenCLIP's ResizeKeepRatio
    ratio = max(ratios) if settings.resize == "longest" else min(ratios)
    return round(width / ratio), round(height / ratio)


def _expanded(image, border, fill):
    """torchvision's F.pad of a PIL image."""
    bands = len(image.getbands())
    expanded = ImageOps.expand(image, border, fill if bands == 1 else (fill,) * bands)
    if image.mode == "P":
        expanded.putpalette(image.getpalette())
    return expanded


def normalize(pixels: np.ndarray, settings: PictureSettings, name: str = "the picture") -> np.ndarray:
    """Pixels (..., C) to (..., C) float32: scale · x, then (x - mean) / std for each pair of `settings.normalize`."""
    if settings.library == "transformers":
        x = (pixels.astype(np.float64) * settings.scale).astype(np.float32)
    else:
        x = pixels.astype(np.float32) / np.float32(255)
    for step in settings.normalize:
        mean, std = (np.array(values, np.float32) for values in step)
        if not {mean.size, std.size} <= {1, x.shape[-1]}:
            raise InputError(f"{name} has {x.shape[-1]} channels, but mean and std have {mean.size} and {std.size}")
        x = (x - mean) / std
    return x
