"""From a picture to the array that the image tower reads: exactly the official preprocessing, on Pillow and NumPy.

Official: clip/clip.py, `_transform`: torchvision's Resize (short side, bicubic), CenterCrop, RGB, ToTensor, Normalize.
Its oddities, kept to the bit: the long side is truncated and not rounded, the crop's corner is rounded half to even,
and the picture becomes RGB only after it was resized. As there, EXIF rotation is not applied.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from miniclip.errors import InputError
from miniclip.ops import Array

Picture = str | os.PathLike | Image.Image | np.ndarray

MEAN = (0.48145466, 0.4578275, 0.40821073)  # of OpenAI's training pictures, RGB in 0..1
STD = (0.26862954, 0.26130258, 0.27577711)

HUGE = 1 << 28  # pixels; a resized picture larger than this is not worth making for its crop


@dataclass(frozen=True)
class Preprocess:
    """A picture to (3, S, S) float32, a list of B pictures to (B, 3, S, S); S = image_size.

    A picture is a path, a PIL image, or an array of uint8: (height, width), (height, width, 1), 3 for RGB or 4 for
    RGBA. `asarray` hands the result to a backend. Raises InputError naming the picture that cannot be used.
    """

    image_size: int
    asarray: Callable[[np.ndarray], Array] = np.asarray

    def __call__(self, picture: Picture | Sequence[Picture]) -> Array:
        if not isinstance(picture, (list, tuple)):
            return self.asarray(self._one(picture, "the picture"))
        batch = np.empty((len(picture), 3, self.image_size, self.image_size), np.float32)
        for i, one in enumerate(picture):
            batch[i] = self._one(one, f"picture {i}")
        return self.asarray(batch)

    def _one(self, picture, name):
        image = to_8_bits(open_picture(picture, name))
        image = resize_and_crop(image, self.image_size)
        return normalize(np.asarray(image.convert("RGB")))  # (3, S, S)


def open_picture(picture, name="the picture"):
    """A path, PIL image or uint8 array -> a PIL image, decoded. Raises InputError naming the file, or `name`."""
    try:
        if isinstance(picture, (str, os.PathLike)):
            name = os.fspath(picture)
            with Image.open(picture) as image:
                image.load()
                return image
        if isinstance(picture, Image.Image) and 0 not in picture.size:
            picture.load()
            return picture
    except FileNotFoundError:
        raise InputError(f"{name}: no such file") from None
    except Image.DecompressionBombError as error:
        raise InputError(f"{name}: {error}; if you trust it, raise PIL.Image.MAX_IMAGE_PIXELS") from error
    except (OSError, ValueError, SyntaxError) as error:  # Pillow's decoders raise all three
        raise InputError(f"{name}: cannot be read as a picture: {error}") from error
    array = np.asarray(picture)
    if 0 in array.shape:
        raise InputError(f"{name} has no pixels: {array.shape}")
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or array.shape[2:] not in ((), (1,), (3,), (4,)):
        raise InputError(
            f"{name} is an array of {array.dtype} {array.shape}, expected a path, a PIL image or an array of uint8 "
            f"(height, width) or (height, width, 1, 3 or 4)"
        )
    return Image.fromarray(array[:, :, 0] if array.shape[2:] == (1,) else array)


def to_8_bits(image):
    """Scale a 16-bit grey picture to 8 bits. (The official pipeline clips it instead, to almost pure white.)"""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.getextrema()[1] > 255):
        return Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8))
    return image


def resize_and_crop(image, size):
    """Resize so that the short side has `size` pixels, and keep the central square: PIL image -> (size, size) image.

    The long side is truncated, the corner rounded half to even (torchvision's `_compute_resized_output_size` and
    `center_crop`).
    """
    short, long = sorted(image.size)
    long = int(size * long / short)
    corner = round((long - size) / 2)
    if size * long > HUGE:
        return _central_square(image, size, long, corner)
    wide = image.width > image.height
    image = image.resize((long, size) if wide else (size, long), Image.Resampling.BICUBIC)
    x, y = (corner, 0) if wide else (0, corner)
    return image.crop((x, y, x + size, y + size))


def _central_square(image, size, long, corner):
    """`resize_and_crop` of a very long picture: resize only the pixels that the crop can see.

    An output pixel sees two input pixels to each side, or two output pixels' worth when shrinking. Pillow rounds to 8
    bits between its two passes, in an order that it chooses by the size: here and there a value differs by that.
    """
    wide = image.width > image.height
    scale = max(image.size) / long  # input pixels in an output pixel, along the long side
    margin = min(int(np.ceil(2 / min(scale, 1))) + 1, corner)
    start, stop = corner - margin, min(corner + size + margin, long)
    box = (start * scale, 0, stop * scale, image.height) if wide else (0, start * scale, image.width, stop * scale)
    shape = (stop - start, size) if wide else (size, stop - start)
    image = image.resize(shape, Image.Resampling.BICUBIC, box=box)
    x, y = (margin, 0) if wide else (0, margin)
    return image.crop((x, y, x + size, y + size))


def normalize(pixels):
    """(x / 255 - mean) / std: pixels (height, width, 3) uint8 -> (3, height, width) float32."""
    x = pixels.astype(np.float32) / np.float32(255)
    x = (x - np.float32(MEAN)) / np.float32(STD)
    return np.ascontiguousarray(x.transpose(2, 0, 1))
