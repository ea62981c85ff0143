"""OpenAI's preprocessing once more: as settings, for comparing files with it, and as a list of steps."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from miniclip.config import PictureSettings, pair
from miniclip.image import MEAN, STD, Preprocess, resize_and_crop


def own_settings(image_size, library="transformers"):
    """PictureSettings that prepare pictures as `image.Preprocess` does (see `families.preprocessing` for libraries)."""
    return PictureSettings("shortest", image_size, image_size, "bicubic", 1 / 255, ((MEAN, STD),), library=library)


class Step(NamedTuple):
    """One step of the preprocessing: a name, and a function."""

    name: str
    function: Callable[[Any], Any]

    def __call__(self, picture: Any) -> Any:
        return self.function(picture)


@dataclass(frozen=True)
class OpenAIPreprocess(Preprocess):
    """As `Preprocess`, with the list of its steps: code for OpenAI's looks into `preprocess.transforms`."""

    @property
    def transforms(self) -> list[Step]:
        """Steps that prepare a PIL image if they are called one after another, as OpenAI's are.

        Resizing and cropping are one step: what the crop cuts off need not be computed.
        """
        mean, std = (self.asarray(np.array(x, np.float32)[:, None, None]) for x in (MEAN, STD))
        return [
            Step("resize_and_crop", lambda image: resize_and_crop(image, pair(self.image_size))),
            Step("convert_image_to_rgb", lambda image: image.convert("RGB")),
            Step("to_array", lambda image: self.asarray(_to_array(image))),
            Step("normalize", lambda x: (x - mean) / std),
        ]


def _to_array(image: Image.Image) -> np.ndarray:
    """(3, height, width) float32, from 0 to 1."""
    return np.asarray(image).transpose(2, 0, 1).astype(np.float32) / np.float32(255)
