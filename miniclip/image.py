"""From a picture to the array that the image tower reads: exactly the official preprocessing, on Pillow and NumPy.

Official: clip/clip.py, `_transform`: torchvision's Resize (short side, bicubic), CenterCrop, RGB, ToTensor, Normalize.
Three things nobody would guess, kept bit for bit: the long side is truncated and not rounded; the crop's corner is
rounded half to even; the picture becomes RGB only after it was resized, and what is transparent is shown. EXIF rotation
is not applied, as in the official code, unless you ask. `runtime.pictures` makes PIL images from files and arrays.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from miniclip.config import pair
from miniclip.ops import Array
from miniclip.runtime import pictures

MEAN = (0.48145466, 0.4578275, 0.40821073)  # of OpenAI's training pictures, RGB in 0..1
STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class Preprocess:
    """A picture to (3, height, width) float32, a list of B pictures to (B, 3, height, width).

    `image_size` is (height, width) in pixels, or one number for a square. A picture is a path, a file's bytes, an open
    file, a PIL image, or an array of uint8: (height, width) or (height, width, c), c = 1 grey, 3 RGB, 4 RGBA. `asarray`
    makes a backend's array of it. Raises InputError naming the picture that cannot be used.
    """

    image_size: int | tuple[int, int]
    asarray: Callable[[np.ndarray], Array] = np.asarray
    exif: bool = False  # turn pictures as their EXIF orientation says

    def __call__(self, picture: pictures.Picture | Sequence[pictures.Picture]) -> Array:
        several = [*picture] if isinstance(picture, (list, tuple)) else None
        names = ["the picture"] if several is None else [f"picture {i}" for i in range(len(several))]
        batch = np.empty((len(names), 3, *pair(self.image_size)), np.float32)  # (B, 3, height, width)
        pictures.for_each(self._prepare, [picture] if several is None else several, names, batch)  # files on all cores
        return self.asarray(batch[0] if several is None else batch)

    def _prepare(self, picture, name, out):
        image = pictures.open_picture(picture, name, self.exif)
        image = resize_and_crop(image, pair(self.image_size))
        pixels = np.asarray(image.convert("RGB"))  # (height, width, 3)
        # plain: out[:] = normalize(pixels).transpose(2, 0, 1). Faster: look bytes up ("clip": take fills `out`)
        for c in range(3):
            np.take(NORMALIZED[c], pixels[:, :, c], out=out[c], mode="clip")


def resize_and_crop(image, size):
    """Resize a PIL image so that it just covers `size` = (height, width), and keep its middle.

    (torchvision's `_compute_resized_output_size` and `center_crop`.)
    """
    height, width = size
    # a wider picture than `size` gets its height, a taller one its width; the other length is rounded down
    if height * image.width >= width * image.height:
        sides = int(height * image.width / image.height), height  # (width, height), as in Pillow
    else:
        sides = width, int(width * image.height / image.width)
    x, y = (round((side - kept) / 2) for side, kept in zip(sides, (width, height)))  # the middle, half to even
    box = (x, y, x + width, y + height)
    # plain: return image.resize(sides, Image.Resampling.BICUBIC).crop(box). With less memory for a very long picture:
    return pictures.resize_and_crop(image, sides, box, Image.Resampling.BICUBIC)


def normalize(pixels):
    """(x / 255 - mean) / std: pixels (..., 3) uint8 -> (..., 3) float32."""
    x = pixels.astype(np.float32) / np.float32(255)
    return (x - np.array(MEAN, np.float32)) / np.array(STD, np.float32)


# `normalize` of each of the 256 values in each channel, (3, 256)
NORMALIZED = normalize(np.arange(256, dtype=np.uint8)[:, None].repeat(3, axis=1)).T.copy()
