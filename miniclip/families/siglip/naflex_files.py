"""transformers' settings of SigLIP 2's NaFlex: of its image tower, and of its Siglip2ImageProcessor."""

import math
from dataclasses import replace

from miniclip.errors import InputError
from miniclip.families import image_settings
from miniclip.families.siglip.config import NaFlexVisionConfig
from miniclip.families.siglip.image import HALF
from miniclip.families.siglip.naflex import PATCHES, own_settings

# Settings that transformers' Siglip2ImageProcessor has if a file does not state them.
PREPROCESSOR = {
    "image_processor_type": "Siglip2ImageProcessor",
    "image_mean": [*HALF],
    "image_std": [*HALF],
    "resample": 2,  # Pillow's number for bilinear
    "rescale_factor": 1 / 255,
    **dict.fromkeys(("do_resize", "do_rescale", "do_normalize"), True),
    "patch_size": 16,
    "max_num_patches": PATCHES,
}
_FIXED = {"size": 1, "crop_size": None, "do_center_crop": False}  # of all families' settings, those that it lacks


def vision(source, settings, transformer):
    """Settings of a Siglip2VisionModel and of pictures -> NaFlexVisionConfig; `transformer`: those of its blocks."""
    positions = source.get("num_patches", 256)
    side = math.isqrt(positions) if type(positions) is int and positions > 0 else 0
    if side == 0 or side**2 != positions:
        raise InputError(f"num_patches is {positions!r}, expected a square number: position embeddings are a grid")
    patch_size = source.get("patch_size", 16)
    pictures = None
    if settings is not None:
        pictures = read_pictures(settings)
        cut = image_settings.given(settings).get("patch_size", PREPROCESSOR["patch_size"])
        if cut != patch_size:
            raise InputError(f"patch_size is {cut!r}, but the model's is {patch_size!r}")
    if pictures and pictures.means_the_same(own_settings()):
        pictures = None
    channels = source.get("num_channels", 3)
    return NaFlexVisionConfig(patch_size=patch_size, side=side, channels=channels, pictures=pictures, **transformer)


def read_pictures(settings):
    """The settings of a Siglip2ImageProcessor -> PictureSettings."""
    values = {**PREPROCESSOR, **image_settings.given(settings), **_FIXED}
    if not values["do_resize"]:
        raise InputError("do_resize is False, but pictures must be resized to whole patches: leave it out")
    if not (type(values["patch_size"]) is int and values["patch_size"] > 0):
        raise InputError(f"patch_size is {values['patch_size']!r}, expected a number of pixels")
    return replace(image_settings.read(values), resize="patches", size=values["max_num_patches"])


def preprocessor(visual):
    """Settings that make transformers' image processor prepare pictures as this image tower's are."""
    pictures = visual.pictures or own_settings()
    found = image_settings.write(replace(pictures, resize="squash", size=1))
    kept = {name: x for name, x in found.items() if name not in _FIXED}
    return {**PREPROCESSOR, **kept, "patch_size": visual.patch_size, "max_num_patches": pictures.size}
