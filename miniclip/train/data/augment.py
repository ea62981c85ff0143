"""Random crops for training: OpenCLIP's default, a crop of nearly all of the picture, resized to the model's size.

OpenCLIP: transform.py, `image_transform(is_train=True)`: torchvision's RandomResizedCrop, then RGB, then normalise.
"""

import dataclasses
import math
from dataclasses import dataclass

from PIL import Image

from miniclip.config import pair
from miniclip.errors import InputError

TRIES = 10  # random shapes, before the middle of the picture is taken


@dataclass(frozen=True)
class Augment:
    """A random crop, resized; mirrored in half of the cases if `flip`. The defaults are OpenCLIP's.

    scale  share of the picture's area that is kept, (least, most)
    ratio  the crop's width divided by its height, (least, most)
    flip   mirror left and right; off, because captions may speak of left and right, and texts in pictures are read
    """

    scale: tuple[float, float] = (0.9, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: bool = False

    def __post_init__(self):
        for name, most in (("scale", 1), ("ratio", math.inf)):
            limits = getattr(self, name)
            pair_given = isinstance(limits, (tuple, list)) and len(limits) == 2
            if not (pair_given and 0 < limits[0] <= limits[1] <= most and limits[1] < math.inf):
                raise InputError(f"{name} is {limits!r}, expected (least, most) with 0 < least <= most <= {most}")

    def __call__(self, image, size, rng):
        """A PIL image -> one of `size` = (height, width), of the same mode; `rng` decides (numpy.random.Generator).

        As torchvision, it crops first and then resizes: pixels outside the crop do not count. (Pillow's
        resize(box=...) would let those next to the crop shine in.)
        """
        x, y, width, height = self.crop(image.width, image.height, rng)
        image = image.crop((x, y, x + width, y + height)).resize(pair(size)[::-1], Image.Resampling.BICUBIC)
        if self.flip and rng.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return image

    def crop(self, width, height, rng):
        """(x, y, width, height) of a random crop of a picture, in pixels (torchvision, RandomResizedCrop.get_params).

        The area is uniform in `scale`, the logarithm of the ratio uniform in that of `ratio`. If ten such shapes do not
        fit into a picture, which is then very wide or tall, the crop is its middle, as large as `ratio` allows.
        """
        narrow, wide = self.ratio
        for _ in range(TRIES):
            area = width * height * rng.uniform(*self.scale)
            ratio = math.exp(rng.uniform(math.log(narrow), math.log(wide)))
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                y = int(rng.integers(height - h + 1))
                return int(rng.integers(width - w + 1)), y, w, h
        w, h = width, height
        if width / height < narrow:
            h = round(width / narrow)
        elif width / height > wide:
            w = round(height * wide)
        return (width - w) // 2, (height - h) // 2, w, h


def without_resizing(preprocess):
    """The model's preprocessing for pictures that have its size already: only what it does to colours is left.

    `image.Preprocess` does not change the size of such pictures; other families resize further and crop.
    """
    if hasattr(preprocess, "settings"):
        settings = dataclasses.replace(preprocess.settings, resize="none", size=None, crop=None)
        return dataclasses.replace(preprocess, settings=settings)
    if hasattr(preprocess, "resized"):
        return dataclasses.replace(preprocess, resized=preprocess.image_size)
    return preprocess
