"""transformers' processors around `miniclip.image` and ALIGN's `image`: pictures and texts to the inputs of models.

Pictures are prepared only as the models were trained. For CLIP that is OpenAI's own preprocessing: if a margin has an
odd number of pixels, transformers' crop can be a pixel further left or up.
"""

from pathlib import Path

import numpy as np

from miniclip import checkpoints, families
from miniclip.checkpoints import huggingface
from miniclip.config import square
from miniclip.errors import InputError
from miniclip.families.align import huggingface as align_huggingface
from miniclip.families.align.config import TEXT_LENGTH
from miniclip.families.align.image import AlignPreprocess
from miniclip.families.clip import huggingface as clip_huggingface
from miniclip.fetch import hub
from miniclip.formats import read_json
from miniclip.hf.outputs import as_batch, check_options, for_backend, is_tensor
from miniclip.hf.tokenization import CALL_OPTIONS, BertTokenizer, CLIPTokenizer
from miniclip.image import Preprocess
from miniclip.ops import numpy_ops
from miniclip.runtime.files import write_json


class ImageProcessor:
    """The base class of both image processors: settings under transformers' names. Only the sizes can be set."""

    model_input_names = ("pixel_values",)

    def __init__(self, **settings):
        self.prepare = self._prepare(settings)
        self.settings = self.family.preprocessor(self.prepare)
        huggingface.check_settings(type(self).__name__, settings, self.settings)
        self.__dict__.update(self.settings)

    def preprocess(self, images, return_tensors=None, **settings):
        """Pictures to {"pixel_values": (B, 3, height, width)}; return_tensors None: a list of B, "np" or "pt".

        images: one picture or a list: PIL images, paths, or uint8 arrays or tensors, (height, width, channels) or
        (channels, height, width). Raises InputError, also for `settings` that differ from the processor's.
        """
        check_options(type(self), {name: settings[name] for name in settings.keys() - self.settings.keys()})
        huggingface.check_settings(type(self).__name__, settings, self.settings)
        pixels = self.prepare(_pictures(images))  # (B, 3, height, width)
        return as_batch({"pixel_values": list(pixels) if return_tensors is None else pixels}, return_tensors)

    __call__ = preprocess

    def to_dict(self):
        return dict(self.settings)

    @classmethod
    def from_pretrained(cls, name, *, cache_dir=None, **settings):
        """The image processor of a model; `name` as in `miniclip.load`: a directory, a file or a model's name."""
        path = hub.find(name, cache_dir)
        for file in huggingface.PREPROCESSORS:
            if (path / file).exists():
                found = read_json(path / file)
                try:
                    return cls(**{**found.get("image_processor", found), **settings})
                except InputError as error:
                    raise InputError(f"{path / file}: {error}") from error
        config = checkpoints.load(path)[0]
        if config.visual is None or families.of(config).huggingface.preprocessor is not cls.family.preprocessor:
            raise InputError(f"{path}: {cls.__name__} cannot prepare pictures for this model")
        return cls(**{**cls.family.preprocessor(families.preprocess_of(config)), **settings})

    def save_pretrained(self, directory, **options):
        """Write preprocessor_config.json into a directory, which is created if needed."""
        check_options(type(self), options)
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        write_json(directory / huggingface.PREPROCESSORS[0], self.settings)


def _pictures(images):
    """One picture, a list or a batch -> a list of pictures, arrays with channels last."""
    if (is_tensor(images) or isinstance(images, np.ndarray)) and images.ndim == 4:
        images = list(images)
    images = images if isinstance(images, (list, tuple)) else [images]
    images = [for_backend(x, numpy_ops) for x in images]
    return [_channels_last(x) if isinstance(x, np.ndarray) else x for x in images]


def _channels_last(pixels):
    first = pixels.ndim == 3 and pixels.shape[0] in (1, 3) and pixels.shape[2] not in (1, 3, 4)
    return pixels.transpose(1, 2, 0) if first else pixels


def _side(settings, name, default):
    """A size from the settings: one number if it is a square, else (height, width)."""
    size = settings.get(name, default)
    if isinstance(size, dict):
        try:
            size = size["height"], size["width"]
        except KeyError:
            raise InputError(f"{name} is {size!r}, expected a height and a width") from None
    return square(tuple(size) if isinstance(size, list) else size)


class CLIPImageProcessor(ImageProcessor):
    """transformers' CLIPImageProcessor: `crop_size` is the size of the pictures, 224 by default."""

    family = clip_huggingface

    @staticmethod
    def _prepare(settings):
        return Preprocess(_side(settings, "crop_size", 224))


class EfficientNetImageProcessor(ImageProcessor):
    """transformers' EfficientNetImageProcessor with ALIGN's settings: pictures are resized to `size`, then cropped."""

    family = align_huggingface

    @staticmethod
    def _prepare(settings):
        return AlignPreprocess(_side(settings, "crop_size", 289), resized=_side(settings, "size", 346))


CLIPFeatureExtractor = CLIPImageProcessor  # the name before transformers 4.27


class Processor:
    """The base class of both processors: an image processor and a tokenizer in one call."""

    text_length = None  # the length that texts are padded to by default; None: no padding

    def __init__(self, image_processor=None, tokenizer=None):
        self.image_processor = image_processor
        self.tokenizer = tokenizer

    def __call__(self, images=None, text=None, *, return_tensors=None, **options):
        """Texts and pictures to a model's inputs: {"input_ids": ..., "attention_mask": ..., "pixel_values": ...}.

        `options` are the tokenizer's (padding, truncation, max_length, ...) and the image processor's. Texts may come
        before pictures, since the order differs between versions of transformers.
        """
        if _is_text(images) and text is not None and not _is_text(text):
            images, text = text, images
        if images is None and text is None:
            raise InputError("neither text nor images are given: pass at least one of them")
        for part, given in (("tokenizer", text), ("image_processor", images)):
            if given is not None and getattr(self, part) is None:
                raise InputError(f"this {type(self).__name__} was made without its {part}: pass one to it")
        ours = self.image_processor.settings.keys() if self.image_processor else ()
        settings = {name: options.pop(name) for name in ours & options.keys()}
        check_options(type(self), {name: options[name] for name in options.keys() - CALL_OPTIONS})
        options = {name: value for name, value in options.items() if name in CALL_OPTIONS}
        inputs = as_batch({}, return_tensors)
        if text is not None:
            if self.text_length:
                options = {"padding": "max_length", "max_length": self.text_length, **options}
            inputs.update(self.tokenizer(text, return_tensors=return_tensors, **options))
        if images is not None:
            inputs.update(self.image_processor(images, return_tensors=return_tensors, **settings))
        return inputs

    def decode(self, *args, **options):
        return self.tokenizer.decode(*args, **options)

    def batch_decode(self, *args, **options):
        return self.tokenizer.batch_decode(*args, **options)

    @property
    def feature_extractor(self):
        """The image processor, under its older name."""
        return self.image_processor

    @property
    def model_input_names(self):
        return [*self.tokenizer.model_input_names, *self.image_processor.model_input_names]

    @classmethod
    def from_pretrained(cls, name, *, cache_dir=None, **options):
        """The processor of a model; `name` as in `miniclip.load`: a directory, a file or a model's name."""
        parts = (cls.image_processor_class, cls.tokenizer_class)
        check_options(cls, options)
        return cls(*(part.from_pretrained(name, cache_dir=cache_dir) for part in parts))

    def save_pretrained(self, directory, **options):
        """Write both parts into a directory, which is created if needed."""
        check_options(type(self), options)
        self.image_processor.save_pretrained(directory)
        self.tokenizer.save_pretrained(directory)


def _is_text(x):
    """Whether x can be a text: a str or a list of str, which can also be the paths of pictures."""
    first = x[0] if isinstance(x, (list, tuple)) and x else x
    return isinstance(first, str)


class CLIPProcessor(Processor):
    """transformers' CLIPProcessor: its parts are a CLIPImageProcessor and a CLIPTokenizer."""

    image_processor_class, tokenizer_class = CLIPImageProcessor, CLIPTokenizer


class AlignProcessor(Processor):
    """transformers' AlignProcessor: texts are padded to 64 tokens, the length that ALIGN was trained with."""

    image_processor_class, tokenizer_class = EfficientNetImageProcessor, BertTokenizer
    text_length = TEXT_LENGTH
