"""Pictures of all kinds as PIL images: files, arrays, 16 bits a pixel, and the crop of very long ones.

To understand CLIP, read `image`, which has the preprocessing; this module only opens pictures.
"""

import contextlib
import functools
import math
import os

import numpy as np
from PIL import Image

from miniclip.errors import InputError
from miniclip.runtime import cpu

Picture = str | os.PathLike | Image.Image | np.ndarray

BLOCKS = 4  # of 16 MiB, as Pillow allocates them (Pillow's handbook, "Block allocator"): four million pixels each
MOST = 16  # pictures decoded at a time, however many cores: a container may be allowed fewer than it sees
HUGE = 1 << 28  # pixels; if the resized picture were larger than this, only its crop is computed


def open_picture(picture, name="the picture"):
    """A path, PIL image or uint8 array -> a decoded PIL image. Raises InputError that names the file, or `name`."""
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


def for_each(function, pictures, *others):
    """Call function(picture, ...) for each picture and its `others`; raises the first picture's error.

    Other threads can run while Pillow decodes and resizes: if all pictures are files, each core works on one at a time.
    (Open PIL images are not spread over threads: one may be there twice, and two threads must not load it.)
    """
    files = all(isinstance(picture, (str, os.PathLike)) for picture in pictures)
    cores = min(cpu.cores(), len(pictures), MOST) if files else 1
    with _kept_memory(cores) if files and len(pictures) > 1 else contextlib.nullcontext():
        cpu.on_cores(lambda job: function(*job), zip(pictures, *others), cores)


def _keep_memory(cores):
    before = Image.core.get_blocks_max()
    Image.core.set_blocks_max(max(before, BLOCKS * cores))
    return functools.partial(Image.core.set_blocks_max, before)


# Inside this context, Pillow reuses a large picture's memory for the next: allocating it takes a fifth of the time.
_kept_memory = cpu.Shared(_keep_memory)


def _to_8_bits(image):
    """Scale a 16-bit grey picture to 8 bits. (The official pipeline clips it instead, to almost pure white.)

    Pillow's mode "I", 32 bits, counts as 16-bit grey if a value exceeds 255.
    """
    if image.mode.startswith("I;16") or (image.mode == "I" and image.getextrema()[1] > 255):
        return Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8))
    return image


def resize_part(image, sides, box):
    """`image.resize(sides).crop(box)` for a very large result: only the pixels that the crop depends on are resized.

    image PIL · sides (width, height) and box (left, top, right, bottom) of the result. Pillow resizes in two passes,
    rounds to 8 bits between them, and chooses their order by the size: so a few values differ from the official ones.
    """
    # (from, to) per axis: in the input, in the output, in the input with fractions of a pixel, and of the crop.
    pixels, out, exact, crop = zip(*map(_needed, image.size, sides, box[:2], box[2:]))
    (left, right), (top, bottom) = pixels
    # Pillow keeps a box in float32, which is too coarse far from 0: move 0 to the first pixel that is needed.
    image = image.crop((left, top, right, bottom))
    (left, right), (top, bottom) = exact
    size = [stop - start for start, stop in out]
    image = image.resize(size, Image.Resampling.BICUBIC, box=(left, top, right, bottom))
    (left, right), (top, bottom) = crop
    return image.crop((left, top, right, bottom))


def _needed(pixels, side, start, stop):
    """The ranges that `start` to `stop` of the result depend on, along one axis of `pixels` that is resized to `side`.

    An output pixel depends on two input pixels to each side, or on two output pixels' worth of them when shrinking.
    """
    scale = pixels / side  # input pixels in an output pixel
    margin = math.ceil(2 / min(scale, 1)) + 1
    low, high = max(start - margin, 0), min(stop + margin, side)
    first, last = int(low * scale), min(math.ceil(high * scale), pixels)
    return (first, last), (low, high), (low * scale - first, min(high * scale, last) - first), (start - low, stop - low)
