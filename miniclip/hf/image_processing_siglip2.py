"""transformers' Siglip2ImageProcessor, around `families.siglip.naflex`, which prepares pictures of any shape."""

from types import ModuleType
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from miniclip.errors import InputError
from miniclip.families.siglip import naflex, naflex_files
from miniclip.hf.image_processing import CALL_ONLY, IDLE, ImageProcessor, as_bytes, opened, pictures_in
from miniclip.hf.outputs import BatchEncoding, as_batch, check_options
from miniclip.runtime import pictures


class Siglip2ImageProcessor(ImageProcessor):
    """transformers' Siglip2ImageProcessor: pictures keep their proportions, and are cut into patches."""

    family: ClassVar[ModuleType] = naflex_files
    model_input_names: ClassVar[list[str]] = ["pixel_values", "pixel_attention_mask", "spatial_shapes"]

    def _read(self, settings):
        try:
            return naflex_files.read_pictures({**self.__dict__, **settings})
        except InputError as error:
            raise InputError(f"{type(self).__name__}: {error}") from error

    def _write_sizes(self, read):
        """There are none: each picture has its own."""

    def preprocess(self, images: Any, return_tensors: Any = None, **settings: Any) -> BatchEncoding:
        """B pictures to {"pixel_values": (B, N, P·P·C), "pixel_attention_mask": (B, N), "spatial_shapes": (B, 2)}.

        N is `max_num_patches`. Otherwise as `ImageProcessor.preprocess`.
        """
        own = self.family.PREPROCESSOR.keys()
        check_options(type(self), {name: settings[name] for name in settings.keys() - {*own, *CALL_ONLY, *IDLE}})
        values, read = {**self.__dict__, **settings}, self._read(settings)
        P, layout = values["patch_size"], values.get("input_data_format")
        images = pictures_in(images, layout)
        rows: Any = [None] * len(images)

        def prepare(picture, i):
            image = opened(picture, f"picture {i}", values.get("do_convert_rgb") is not False, layout)
            image, own = (image, read) if isinstance(image, Image.Image) else as_bytes(image, read, f"picture {i}")
            grid = naflex.grid_of(image.height, image.width, P, read.size)
            patches = naflex.cut(naflex.prepared(image, grid, own, P, f"picture {i}"), P)
            pixels, mask = np.zeros((read.size, patches.shape[1]), np.float32), np.zeros(read.size, np.int32)
            pixels[: len(patches)], mask[: len(patches)] = patches, 1
            rows[i] = pixels, mask, grid

        pictures.for_each(prepare, images, range(len(images)))
        columns = dict(zip(self.model_input_names, zip(*rows))) if rows else dict.fromkeys(self.model_input_names, ())
        found = {name: [*column] for name, column in columns.items()}
        return as_batch(found, getattr(return_tensors, "value", return_tensors))

    __call__ = preprocess
