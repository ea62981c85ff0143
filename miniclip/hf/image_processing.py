"""transformers' image processors of CLIP, EfficientNet and SigLIP, around `families.preprocessing`.

Every setting can be changed: in the constructor, as an attribute, or for one call. Pictures are prepared as by
transformers' Pillow backend ("pil"), which it uses if torchvision is not installed, with one exception: a CLIP's own
settings mean OpenAI's preprocessing, bit for bit. If a margin has an odd number of pixels, transformers' crop can be a
pixel further left or up.
"""

import copy
import dataclasses
import json
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from miniclip import checkpoints, families
from miniclip.checkpoints import huggingface
from miniclip.config import PictureSettings, pair
from miniclip.errors import InputError
from miniclip.families import image_settings, preprocessing
from miniclip.families.align import huggingface as align_huggingface
from miniclip.families.clip import huggingface as clip_huggingface
from miniclip.families.clip.image import own_settings
from miniclip.families.siglip import huggingface as siglip_huggingface
from miniclip.formats import read_json
from miniclip.hf.files import find
from miniclip.hf.outputs import BatchEncoding, as_batch, check_options, for_backend, is_tensor
from miniclip.ops import numpy_ops
from miniclip.runtime import pictures
from miniclip.runtime.files import write_json

# Arguments of a call that are no settings of the preprocessing, and those that change nothing on a CPU.
CALL_ONLY = ("data_format", "input_data_format", "default_to_square", "do_convert_rgb", "do_pad")
IDLE = ("device", "disable_grouping", "image_seq_length", "pad_size")
NO_SETTINGS = ("image_processor_type", "feature_extractor_type", "processor_class")


class ImageProcessor:
    """The base class of all image processors: settings under transformers' names, which are its attributes."""

    family: ClassVar[ModuleType]
    model_input_names: ClassVar[list[str]] = ["pixel_values"]
    default_to_square: ClassVar[bool] = True  # what a size of one number means

    def __init__(self, **settings: Any):
        own = {name: value for name, value in self.family.PREPROCESSOR.items() if name not in NO_SETTINGS}
        given = image_settings.given({name: x for name, x in settings.items() if name not in NO_SETTINGS})
        self.__dict__.update(copy.deepcopy({**own, **given}))
        self._write_sizes(self._read({}))  # raises InputError for impossible values
        self.__dict__.update({name: _plain(self.__dict__[name]) for name in ("image_mean", "image_std")})

    def _write_sizes(self, read: PictureSettings) -> None:
        """Make attributes of sizes, as transformers writes them."""
        if self.do_resize:
            side = read.size if isinstance(read.size, int) else None
            self.size = {"shortest_edge": side} if read.resize == "shortest" else image_settings.square(read.size)
        if self.do_center_crop:
            self.crop_size = image_settings.square(read.crop)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"this {type(self).__name__} has no {name}, only {', '.join(self.__dict__)}")

    def _read(self, settings) -> PictureSettings:
        values = {**self.__dict__, **settings}
        try:
            return image_settings.read(values, values.get("default_to_square", self.default_to_square))
        except InputError as error:
            raise InputError(f"{type(self).__name__}: {error}") from error

    def preprocess(self, images: Any, return_tensors: Any = None, **settings: Any) -> BatchEncoding:
        """Pictures to {"pixel_values": (B, C, height, width)}; return_tensors None: a list of B, "np", "pt" or "tf".

        images: one picture or a list: PIL images, files as in `miniclip.load`'s preprocess, or arrays or tensors,
        (height, width, channels) or (channels, height, width): uint8, or floats from 0 to 1. A file's EXIF orientation
        is applied, a PIL image's is not. `settings` are for this call; also `input_data_format` and `data_format`,
        "channels_first" or "channels_last". Raises InputError.
        """
        own = self.family.PREPROCESSOR.keys()
        check_options(type(self), {name: settings[name] for name in settings.keys() - {*own, *CALL_ONLY, *IDLE}})
        values = {**self.__dict__, **settings}
        read, of_clip = self._read(settings), self._openai(settings)
        images = pictures_in(images, values.get("input_data_format"))
        size = read.image_size
        batch = None if size is None else np.empty((len(images), 3, *pair(size)), np.float32)
        rows: Any = [None] * len(images)

        def prepare(picture, i):
            rgb = values.get("do_convert_rgb") is not False
            image = opened(picture, f"picture {i}", rgb, values.get("input_data_format"))
            if isinstance(image, Image.Image):
                out = batch[i] if batch is not None and len(image.getbands()) == 3 else None
                rows[i] = preprocessing.prepare(image, of_clip or read, f"picture {i}", out)
            else:
                rows[i] = _floats(image, read, f"picture {i}")

        pictures.for_each(prepare, images, range(len(images)))
        if not read.normalize and not values["do_rescale"]:
            rows = [x if np.any(x % 1) else x.astype(np.uint8) for x in rows]
        if values.get("data_format") in ("channels_last", "none"):
            rows = [x.transpose(1, 2, 0) for x in rows]
        elif rows and return_tensors and batch is not None and all(x.base is batch for x in rows):
            rows = batch  # without a copy
        return _batch(rows, getattr(return_tensors, "value", return_tensors))

    __call__ = preprocess

    def _openai(self, settings) -> PictureSettings | None:
        """OpenAI's own preprocessing, if the settings mean it."""
        return None

    def to_dict(self) -> dict[str, Any]:
        """All settings, with the name of transformers' class."""
        name = self.family.PREPROCESSOR["image_processor_type"]
        return {**copy.deepcopy(self.__dict__), "image_processor_type": name}

    def to_json_string(self) -> str:
        """The settings as transformers writes them into preprocessor_config.json."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"

    def to_json_file(self, json_file_path: Any) -> None:
        """Write `to_json_string` to a file."""
        Path(json_file_path).write_text(self.to_json_string(), encoding="utf-8")

    def __repr__(self):
        return f"{type(self).__name__} {self.to_json_string()}"

    @classmethod
    def from_dict(cls, image_processor_dict: dict[str, Any], **settings: Any) -> Any:
        """An image processor with these settings; with return_unused_kwargs=True, also the arguments that are none."""
        unused = settings.pop("return_unused_kwargs", False)
        known = {name: settings.pop(name) for name in settings.keys() & {*cls.family.PREPROCESSOR, *CALL_ONLY}}
        processor = cls(**{**image_processor_dict, **known})
        return (processor, settings) if unused else processor

    @classmethod
    def from_json_file(cls, json_file: Any) -> Any:
        """An image processor with the settings in a file. Raises InputError that names a damaged file."""
        return cls(**read_json(Path(json_file)))

    @classmethod
    def get_image_processor_dict(cls, name: Any, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """(the settings of a model's image processor, the `options` that do not say where it is)."""
        path = find(name, options, weights=False)
        if path.suffix == ".json" and path.is_file():
            return read_json(path), options
        _, found = huggingface.settings_in(path)
        if found is None:
            config = checkpoints.load(path)[0]
            found = families.of(config).huggingface.preprocessor(config.visual) if config.visual else {}
            if found.get("image_processor_type") != cls.family.PREPROCESSOR["image_processor_type"]:
                raise InputError(f"{path}: {cls.__name__} cannot prepare pictures for this model")
        return dict(found), options

    @classmethod
    def from_pretrained(cls, name: Any, **options: Any) -> Any:
        """The image processor of a model; `name` as in `miniclip.load`: a directory, a file or a model's name.

        `options` are settings that replace the model's, and cache_dir or subfolder. Raises InputError.
        """
        found, settings = cls.get_image_processor_dict(name, **options)
        try:
            return cls.from_dict(found, **settings)
        except InputError as error:
            raise InputError(f"{name}: {error}") from error

    def save_pretrained(self, save_directory: Any, **options: Any) -> list[str]:
        """Write preprocessor_config.json into a directory, which is created if needed; returns [its path]."""
        check_options(type(self), options)
        path = Path(save_directory) / huggingface.PREPROCESSORS[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, self.to_dict())
        return [str(path)]

    # The four steps, each on an array or tensor of one picture, (C, height, width) unless `input_data_format` is given.

    def resize(self, image: Any, size: Any, resample: Any = 2, **formats: Any) -> np.ndarray:
        """A picture of uint8 resized to `size`, as the settings write it; resample 2 is bilinear."""
        read = ImageProcessor._read(
            self, {"size": size, "resample": resample, "do_resize": True, "do_center_crop": False}
        )
        pixels = np.asarray(preprocessing.resize_and_crop(_pil(_last(image, formats)), read, "the picture"))
        return _in_format(pixels[:, :, None] if pixels.ndim == 2 else pixels, formats)

    def center_crop(self, image: Any, size: Any, **formats: Any) -> np.ndarray:
        """The middle of a picture; zeros around a picture that is smaller than `size`."""
        return _in_format(_cropped(_last(image, formats), image_settings.sides(size, "size")), formats)

    def rescale(self, image: Any, scale: float, **formats: Any) -> np.ndarray:
        """scale · x, in float32."""
        return _in_format((_last(image, formats).astype(np.float64) * scale).astype(np.float32), formats)

    def normalize(self, image: Any, mean: Any, std: Any, **formats: Any) -> np.ndarray:
        """(x - mean) / std, in float32."""
        settings = PictureSettings("none", None, None, "nearest", 1.0, ((_plain(mean), _plain(std)),))
        return _in_format(preprocessing.normalize(_last(image, formats), settings), formats)


class CLIPImageProcessor(ImageProcessor):
    """transformers' CLIPImageProcessor. Without settings it prepares pictures of 224 x 224, as OpenAI does."""

    family: ClassVar[ModuleType] = clip_huggingface
    default_to_square: ClassVar[bool] = False

    def _openai(self, settings):
        read = self._read(settings)
        if read.resize != "shortest" or not read.means_the_same(own_settings(read.size)):
            return None
        return own_settings(read.size, "open_clip")


class AltCLIPImageProcessor(CLIPImageProcessor):
    """transformers' CLIPImageProcessor as AltCLIP has it: crops are transformers', not OpenAI's."""

    def _openai(self, settings):
        return None


class ChineseCLIPImageProcessor(AltCLIPImageProcessor):
    """transformers' ChineseCLIPImageProcessor. The official models' settings resize pictures to squares."""

    def to_dict(self) -> dict[str, Any]:
        """All settings, with the name of transformers' class."""
        return {**super().to_dict(), "image_processor_type": "ChineseCLIPImageProcessor"}


class EfficientNetImageProcessor(ImageProcessor):
    """transformers' EfficientNetImageProcessor; with ALIGN's settings, pictures are resized to `size`, then cropped."""

    family: ClassVar[ModuleType] = align_huggingface

    def rescale(self, image: Any, scale: float, offset: bool = False, **formats: Any) -> np.ndarray:
        """scale · x, minus 1 if `offset`, in float32."""
        return super().rescale(image, scale, **formats) - np.float32(bool(offset))


class SiglipImageProcessor(ImageProcessor):
    """transformers' SiglipImageProcessor: pictures of any shape become squares of `size`, with pixels from -1 to 1."""

    family: ClassVar[ModuleType] = siglip_huggingface
    default_to_square: ClassVar[bool] = False


CLIPFeatureExtractor = CLIPImageProcessor  # the name before transformers 4.27


def _plain(values):
    return tuple(map(float, values)) if isinstance(values, (list, tuple, np.ndarray)) else values


def pictures_in(images, layout):
    """One picture, a list, a list of lists or a batch -> a list of pictures; tensors become arrays."""
    if isinstance(images, (list, tuple)):
        return [picture for x in images for picture in pictures_in(x, layout)]
    x = for_backend(images, numpy_ops) if is_tensor(images) else images
    return [*x] if isinstance(x, np.ndarray) and x.ndim == 4 else [x]


def opened(picture, name, convert_rgb, layout):
    """A picture -> a PIL image, in RGB if `convert_rgb`; or an array of floats, (height, width, C)."""
    if isinstance(picture, np.ndarray):
        if picture.ndim == 2:
            picture = picture[:, :, None]
        pixels = _last(picture, {"input_data_format": layout}, name)
        if convert_rgb:
            pixels = _rgb(pixels)
        return _pil(pixels) if pixels.dtype == np.uint8 else _check_floats(pixels, name)
    image = pictures.open_picture(picture, name, exif=not isinstance(picture, Image.Image))
    if not isinstance(picture, Image.Image):  # transformers' load_image
        return image.convert("RGB")
    if convert_rgb:
        return pictures.on_white(image)
    return image if image.mode in ("L", "RGB", "RGBA") else image.convert("RGB")


def _last(image, formats, name="the picture"):
    """An array or tensor with its channels last; `input_data_format` says where they are, else the shape does."""
    x = np.asarray(for_backend(image, numpy_ops))
    layout = formats.get("input_data_format")
    layout = getattr(layout, "value", layout)
    if x.ndim != 3 or layout not in (None, "channels_first", "channels_last"):
        raise InputError(f"{name} has shape {x.shape} and input_data_format {layout!r}, expected one picture")
    if layout is None:  # as in transformers: where both ends could be channels, they are first
        layout = "channels_first" if x.shape[0] in (1, 3, 4) else "channels_last"
        if layout == "channels_last" and x.shape[2] not in (1, 3, 4):
            raise InputError(f"{name} is an array of {x.dtype} {x.shape}, expected 1, 3 or 4 channels, first or last")
    return x.transpose(1, 2, 0) if layout == "channels_first" else x


def _in_format(pixels, formats):
    """(height, width, C) in the wanted format: that of the input, first by default."""
    wanted = formats.get("data_format") or formats.get("input_data_format") or "channels_first"
    return pixels if getattr(wanted, "value", wanted) == "channels_last" else pixels.transpose(2, 0, 1)


def _pil(pixels):
    return pictures.open_picture(np.ascontiguousarray(pixels))


def _rgb(pixels):
    """transformers' convert_to_rgb of an array: grey three times; white where it is transparent."""
    if pixels.shape[2] == 4:
        white = 255 if pixels.dtype == np.uint8 else 1.0
        alpha = pixels[:, :, 3:] / white
        blend = alpha * pixels[:, :, :3] + (1 - alpha) * white
        return (np.round(blend) if white == 255 else blend).astype(pixels.dtype)
    return pixels.repeat(3, axis=2) if pixels.shape[2] == 1 else pixels


def _check_floats(pixels, name):
    if pixels.dtype.kind != "f":
        raise InputError(f"{name} is an array of {pixels.dtype} {pixels.shape}, expected uint8, or floats from 0 to 1")
    return pixels


def _floats(pixels, read, name):
    """A picture of floats, (height, width, C), prepared: they are rounded to bytes only where they are resized."""
    if read.resize == "none":
        pixels = pixels if read.crop is None else _cropped(pixels, read.crop)
        return preprocessing.normalize(pixels, read, name).transpose(2, 0, 1)
    image, read = as_bytes(pixels, read, name)
    return preprocessing.prepare(image, read, name)


def as_bytes(pixels, read, name):
    """A picture of floats -> (a PIL image, the settings for it)."""
    low, high = pixels.min(), pixels.max()
    whole = 0 <= low <= high <= 255 and np.allclose(pixels, pixels.astype(int))
    if not whole and not 0 <= low <= high <= 1:
        raise InputError(f"{name} has floats from {low:g} to {high:g}, expected 0 to 1 (or whole numbers to 255)")
    if not whole:
        pixels = (pixels.astype(np.float64) * 255).astype(np.float32)
        read = dataclasses.replace(read, scale=read.scale / 255)
    return _pil(pixels.astype(np.uint8)), read


def _cropped(pixels, size):
    """The middle of (height, width, C), with zeros around it if it is smaller."""
    pairs = list(zip(pixels.shape, size if isinstance(size, tuple) else (size, size)))
    before = [max(kept - side + 1, 0) // 2 for side, kept in pairs]
    after = [max(kept - side, 0) - start for (side, kept), start in zip(pairs, before)]
    pixels = np.pad(pixels, [*zip(before, after), (0, 0)])
    top, left = (max(side - kept, 0) // 2 for side, kept in pairs)
    return pixels[top : top + pairs[0][1], left : left + pairs[1][1]]


def _batch(rows, return_tensors):
    """{"pixel_values": rows}, stacked if tensors are wanted."""
    if return_tensors is None:
        return as_batch({"pixel_values": rows}, None)
    sizes = sorted({x.shape for x in rows})
    if len(sizes) > 1:
        raise InputError(
            f"the pictures become {sizes}: one tensor needs one size; crop them, or leave out return_tensors"
        )
    return as_batch({"pixel_values": rows}, return_tensors)
