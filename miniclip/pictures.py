"""Pictures of all kinds as PIL images: files, arrays, 16 bits a pixel, and the crop of very long ones.

What a reader of CLIP need not know: `image` has the preprocessing.
"""

import math
import os

import numpy as np
from PIL import Image

from miniclip.errors import InputError

Picture = str | os.PathLike | Image.Image | np.ndarray

HUGE = 1 << 28  # pixels; a resized picture larger than this is not worth making for its crop


def open_picture(picture, name="the picture"):
    """A path, PIL image or uint8 array -> a PIL image, decoded. Raises InputError naming the file, or `name`."""
    try:
        if isinstance(picture, (str, os.PathLike)):
            name = os.fspath(picture)
            with Image.open(picture) as image:
                image.load()
                return _to_8_bits(image)
        if isinstance(picture, Image.Image) and 0 not in picture.size:
            picture.load()
            return _to_8_bits(picture)
        array = np.asarray(picture)
    except FileNotFoundError:
        raise InputError(f"{name}: no such file") from None
    except Image.DecompressionBombError as error:
        raise InputError(f"{name}: {error}; if you trust it, raise PIL.Image.MAX_IMAGE_PIXELS") from error
    except (OSError, ValueError, SyntaxError, RuntimeError) as error:  # Pillow's decoders raise all four
        raise InputError(f"{name}: cannot be read as a picture: {error}") from error
    if 0 in array.shape:
        raise InputError(f"{name} has no pixels: {array.shape}")
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or array.shape[2:] not in ((), (1,), (3,), (4,)):
        raise InputError(
            f"{name} is an array of {array.dtype} {array.shape}, expected a path, a PIL image or an array of uint8 "
            f"(height, width) or (height, width, 1, 3 or 4)"
        )
    return Image.fromarray(array[:, :, 0] if array.shape[2:] == (1,) else array)


def _to_8_bits(image):
    """Scale a 16-bit grey picture to 8 bits. (The official pipeline clips it instead, to almost pure white.)

    Pillow's mode "I", 32 bits, counts as 16-bit grey where a value exceeds 255.
    """
    if image.mode.startswith("I;16") or (image.mode == "I" and image.getextrema()[1] > 255):
        return Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8))
    return image


def central_square(image, size, long, corner):
    """`image.resize_and_crop` of a very long picture: resize only the pixels that the crop can see.

    image PIL · the resized picture would have the sides `size` and `long`, the crop start at `corner` of the long one;
    returns the (size, size) crop. An output pixel sees two input pixels to each side, or two output pixels' worth when
    shrinking. Pillow rounds to 8 bits between its two passes, in an order that it chooses by the size: here and there
    a value differs by that from the official one.
    """
    wide = image.width > image.height
    scale = max(image.size) / long  # input pixels in an output pixel, along the long side
    margin = math.ceil(2 / min(scale, 1)) + 1
    start, stop = max(corner - margin, 0), min(corner + size + margin, long)  # of the output, along the long side
    # Pillow keeps a box in float32, which far from 0 is too coarse: move 0 to the first pixel that is seen.
    first, last = int(start * scale), min(math.ceil(stop * scale), max(image.size))
    image = image.crop((first, 0, last, image.height) if wide else (0, first, image.width, last))
    begin, end = start * scale - first, min(stop * scale, last) - first
    box = (begin, 0, end, image.height) if wide else (0, begin, image.width, end)
    sides = (stop - start, size) if wide else (size, stop - start)
    image = image.resize(sides, Image.Resampling.BICUBIC, box=box)
    x, y = (corner - start, 0) if wide else (0, corner - start)
    return image.crop((x, y, x + size, y + size))
