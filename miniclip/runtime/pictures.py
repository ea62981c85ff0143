"""Pictures of all kinds as PIL images: files, arrays, 16 bits a pixel, and the crop of very long ones.

To understand CLIP, read `image`, which has the preprocessing; this module only opens pictures.
"""

import base64
import binascii
import contextlib
import functools
import io
import math
import os
import threading
from typing import IO

import numpy as np
from PIL import ExifTags, Image, ImageOps

from miniclip.errors import InputError
from miniclip.runtime import cpu

Picture = str | os.PathLike | bytes | IO[bytes] | Image.Image | np.ndarray

BLOCKS = 4  # of 16 MiB, as Pillow allocates them (Pillow's handbook, "Block allocator"): four million pixels each
MOST = 16  # pictures decoded at a time, however many cores: a container may be allowed fewer than it sees
LARGE = 1 << 24  # pixels; pictures that are resized to more than this are resized one at a time, to bound the memory
HUGE = 1 << 28  # pixels; if the resized picture were larger than this, only its crop is computed
EXPECTED = (
    "expected a path, a file's bytes, an open file, base64 text, a PIL image or an array of uint8 (height, width) or "
    "(height, width, 1, 3 or 4)"
)


def open_picture(picture, name="the picture", exif=False):
    """A `Picture` -> a decoded PIL image. Raises InputError that names the file, or `name`.

    exif: turn the picture as its EXIF orientation says. Text is a path, or base64, with or without "data:image/...,".
    """
    try:
        if isinstance(picture, (str, os.PathLike)):
            name = _shortened(os.fspath(picture))
            picture = picture if os.path.exists(picture) else _from_base64(os.fspath(picture))
        if isinstance(picture, bytes):
            picture = io.BytesIO(picture)
        if isinstance(picture, (str, os.PathLike)) or hasattr(picture, "read"):
            with Image.open(picture) as image:
                image.load()
                return _to_8_bits(ImageOps.exif_transpose(image) if exif else image)
        if isinstance(picture, Image.Image) and 0 not in picture.size:
            picture.load()
            return _to_8_bits(ImageOps.exif_transpose(picture) if exif else picture)
        if isinstance(picture, Image.Image):
            raise InputError(f"{name} has no pixels: {picture.size}")
        if not hasattr(picture, "__array__"):
            raise InputError(f"{name} is an object of type {type(picture).__name__}, {EXPECTED}")
        array = np.asarray(picture)
    except IsADirectoryError:
        raise InputError(f"{name}: is a folder, not a picture") from None
    except FileNotFoundError:
        raise InputError(f"{name}: no such file{_advice(name)}") from None
    except Image.DecompressionBombError as error:
        most = 2 * Image.MAX_IMAGE_PIXELS
        remedy = "make it smaller, or in Python raise PIL.Image.MAX_IMAGE_PIXELS"
        raise InputError(f"{name}: has more than {most:,} pixels: {remedy}") from error
    except InputError:
        raise
    except Exception as error:  # damaged files lead Pillow's decoders to errors of any kind
        reason = str(error).partition(" <_io.")[0]  # an open file's place in memory says nothing
        raise InputError(f"{name}: cannot be read as a picture: {reason}") from error
    if 0 in array.shape:
        raise InputError(f"{name} has no pixels: {array.shape}")
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or array.shape[2:] not in ((), (1,), (3,), (4,)):
        raise InputError(f"{name} is an array of {array.dtype} {array.shape}, {EXPECTED}")
    return Image.fromarray(array[:, :, 0] if array.shape[2:] == (1,) else array)


def _from_base64(text):
    """The bytes of a picture in base64; raises FileNotFoundError for any other text."""
    head, comma, body = text.partition(",")
    try:
        content = base64.b64decode(body if comma and head.startswith("data:image/") else text, validate=True)
        Image.open(io.BytesIO(content)).close()
        return content
    except (binascii.Error, ValueError, OSError, SyntaxError):
        raise FileNotFoundError from None


def _advice(name):
    return ", and miniclip fetches no pictures: pass its bytes" if name.startswith(("http://", "https://")) else ""


def _shortened(text):
    return text if len(text) <= 255 else f"{text[:60]} … ({len(text):,} characters)"


def is_turned(picture):
    """Whether the EXIF orientation of a picture says that it is to be turned or mirrored; False for arrays."""
    if isinstance(picture, Image.Image):
        return picture.getexif().get(ExifTags.Base.Orientation, 1) != 1
    try:
        with Image.open(io.BytesIO(picture) if isinstance(picture, bytes) else picture) as image:
            return is_turned(image)
    except Exception:
        return False  # an array, or a file that `open_picture` will name


def on_white(image):
    """A PIL image in RGB, with white instead of transparency, as transformers' `convert_to_rgb` makes it."""
    if "A" in image.getbands() or image.info.get("transparency") is not None:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (255, 255, 255, 255)), image)
    return image if image.mode == "RGB" else image.convert("RGB")


def for_each(function, pictures, *others):
    """Call function(picture, ...) for each picture and its `others`; raises the first picture's error.

    Other threads can run while Pillow decodes and resizes: if all pictures are files, each core works on one at a time.
    (Open PIL images are not spread over threads: one may be there twice, and two threads must not load it.)
    """
    files = all(isinstance(picture, (str, os.PathLike, bytes)) for picture in pictures)
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


_one_at_a_time = threading.Lock()


def resize_and_crop(image, sides, box, resample=Image.Resampling.BICUBIC):
    """`image.resize(sides).crop(box)`, with little memory for a very long picture: see `LARGE` and `HUGE`."""
    pixels = sides[0] * sides[1]
    if pixels > HUGE:
        return resize_part(image, sides, box, resample)
    with _one_at_a_time if pixels > LARGE else contextlib.nullcontext():
        return image.resize(sides, resample).crop(box)


def resize_part(image, sides, box, resample=Image.Resampling.BICUBIC):
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
    image = image.resize(size, resample, box=(left, top, right, bottom))
    (left, right), (top, bottom) = crop
    return image.crop((left, top, right, bottom))


def _needed(pixels, side, start, stop):
    """The ranges that `start` to `stop` of the result depend on, along one axis of `pixels` that is resized to `side`.

    An output pixel depends on at most three input pixels to each side (Lanczos; bicubic two), or on three output
    pixels' worth of them when shrinking.
    """
    scale = pixels / side  # input pixels in an output pixel
    margin = math.ceil(3 / min(scale, 1)) + 1
    low, high = max(start - margin, 0), min(stop + margin, side)
    first, last = int(low * scale), min(math.ceil(high * scale), pixels)
    return (first, last), (low, high), (low * scale - first, min(high * scale, last) - first), (start - low, stop - low)
