"""A sheet of samples: pictures of a batch as the model gets them, with their captions. Look at it before training."""

import os
import textwrap

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from miniclip.errors import InputError
from miniclip.runtime.files import atomic

SIDE, COLUMNS, LINES = 144, 6, 3  # of a picture in pixels, of the sheet, of a caption
FONT = 11
TITLE = "samples of a training"  # in the file, so that no other picture is ever replaced


def write_sheet(path, images, captions):
    """Write a `sheet` as a PNG file."""
    notes = PngInfo()
    notes.add_text("Title", TITLE)
    with atomic(path) as temporary:
        sheet(images, captions).save(temporary, "PNG", pnginfo=notes)


def check_sheet(path):
    """Raise InputError if there is another file at the sheet's place, such as a picture of the data."""
    if not os.path.lexists(path):
        return
    try:
        with Image.open(path) as picture:
            title = picture.info.get("Title")
    except (OSError, ValueError, Image.DecompressionBombError):
        title = None
    if title != TITLE:
        raise InputError(f"{path}: exists, and the sheet of samples would replace it: write to another path")


def sheet(images, captions, most=24):
    """A PIL image of the first pictures: images (B, C, height, width) float, B captions.

    The normalisation is undone as far as the pictures show it: each channel's range in the batch becomes 0 to 255.
    """
    x = np.asarray(images[:most], np.float32)  # (n, C, height, width)
    low, high = (f(x, axis=(0, 2, 3), keepdims=True) for f in (np.min, np.max))  # (1, C, 1, 1)
    pixels = np.uint8(255 * (x - low) / np.maximum(high - low, 1e-6)).transpose(0, 2, 3, 1)  # (n, height, width, C)
    height = SIDE + (LINES + 1) * (FONT + 2)
    rows = -(-len(pixels) // COLUMNS)
    page = Image.new("RGB", (COLUMNS * (SIDE + 8), rows * height), "white")
    canvas, font = ImageDraw.Draw(page), ImageFont.load_default(FONT)
    for i, (picture, caption) in enumerate(zip(pixels, captions)):
        x, y = i % COLUMNS * (SIDE + 8) + 4, i // COLUMNS * height + 4
        page.paste(Image.fromarray(picture.squeeze()).resize((SIDE, SIDE), Image.Resampling.NEAREST), (x, y))
        lines = textwrap.wrap(caption, 24, max_lines=LINES, placeholder=" …")
        canvas.multiline_text((x, y + SIDE + 2), "\n".join(lines), "black", font)
    return page
