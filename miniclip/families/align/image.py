"""From a picture to the array that ALIGN's image tower reads, exactly as transformers prepares it.

(transformers, image_processing_pil_efficientnet.py, with the settings of kakaobrain/align-base.) Unlike in CLIP,
pictures of any shape are resized to a square, transparency becomes white, and their values are between -1 and 1.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from miniclip.config import PictureSettings, pair
from miniclip.image import Preprocess
from miniclip.runtime import pictures

SCALE = 1 / 127.5  # pixels to 0..2; then 1 is subtracted


@dataclass(frozen=True)
class AlignPreprocess(Preprocess):
    """As `Preprocess`, but pictures are resized to `resized`, and their middle of `image_size` is kept."""

    resized: int | tuple[int, int] = 346

    def _prepare(self, picture, name, out):
        (height, width), sides = pair(self.image_size), pair(self.resized)
        image = pictures.on_white(pictures.open_picture(picture, name, self.exif))
        pixels = np.asarray(image.resize(sides[::-1], Image.Resampling.BILINEAR))  # (346, 346, 3)
        top, left = (sides[0] - height) // 2, (sides[1] - width) // 2
        pixels = pixels[top : top + height, left : left + width].transpose(2, 0, 1)  # (3, height, width)
        np.subtract((pixels * SCALE).astype(np.float32), np.float32(1), out=out)


def own_settings(image_size, resized):
    """PictureSettings that prepare pictures as `AlignPreprocess` does."""
    return PictureSettings("squash", resized, image_size, "bilinear", SCALE, ((1.0, 1.0),))
