"""transformers' processors: an image processor and a tokenizer in one call.

The image processors are in `image_processing`.
"""

import json
from pathlib import Path
from typing import Any, ClassVar

from miniclip.errors import InputError
from miniclip.families.bert import TEXT_LENGTH
from miniclip.hf.image_processing import (
    CALL_ONLY,
    IDLE,
    AltCLIPImageProcessor,
    ChineseCLIPImageProcessor,
    CLIPImageProcessor,
    EfficientNetImageProcessor,
    SiglipImageProcessor,
)
from miniclip.hf.image_processing_siglip2 import Siglip2ImageProcessor
from miniclip.hf.outputs import BatchEncoding, as_batch, check_options
from miniclip.hf.tokenization import (
    CALL_OPTIONS,
    BertTokenizer,
    CLIPTokenizer,
    SiglipTokenizer,
    XLMRobertaTokenizer,
    siglip_tokenizer,
)


class Processor:
    """The base class of all processors: an image processor and a tokenizer in one call."""

    attributes: ClassVar[list[str]] = ["image_processor", "tokenizer"]
    image_processor_class: ClassVar[Any]
    tokenizer_class: ClassVar[Any]
    text_kwargs: ClassVar[dict[str, Any]] = {}  # the tokenizer's arguments, if neither it nor the call says else
    images_kwargs: ClassVar[dict[str, Any]] = {}  # the image processor's, unless the call says else
    chat_template: ClassVar[None] = None  # these models do not chat

    def __init__(self, image_processor: Any = None, tokenizer: Any = None):
        self.image_processor = image_processor
        self.tokenizer = tokenizer

    def __call__(self, images: Any = None, text: Any = None, **options: Any) -> BatchEncoding:
        """Texts and pictures to a model's inputs: {"input_ids": ..., "attention_mask": ..., "pixel_values": ...}.

        `options` are the tokenizer's (padding, truncation, max_length, ...), the image processor's, and
        `return_tensors`; or apart in `text_kwargs`, `images_kwargs` and, for both, `common_kwargs`. Texts may come
        before pictures, since the order differs between versions of transformers. Raises InputError.
        """
        if _is_text(images) and text is not None and not _is_text(text):
            images, text = text, images
        for_text, for_images = self._options(options)
        if images is None and text is None:
            raise InputError("neither text nor images are given: pass at least one of them")
        for part, given in (("tokenizer", text), ("image_processor", images)):
            if given is not None and getattr(self, part) is None:
                raise InputError(f"this {type(self).__name__} was made without its {part}: pass one to it")
        inputs = as_batch({}, None)
        if text is not None:
            inputs.update(self.tokenizer(text, **for_text))
        if images is not None:
            inputs.update(self.image_processor(images, **for_images))
        return inputs

    def _options(self, options):
        """The options of a call -> (the tokenizer's, the image processor's). Raises InputError for unknown ones."""
        options = dict(options)
        common, *given = (dict(options.pop(f"{name}_kwargs", None) or {}) for name in ("common", "text", "images"))
        own = self.image_processor_class.family.PREPROCESSOR.keys()
        known = ({*CALL_OPTIONS, "return_tensors"}, {*own, *CALL_ONLY, *IDLE, "return_tensors"})
        check_options(type(self), {name: options[name] for name in options.keys() - known[0] - known[1]})
        for name, values in zip(("text", "images"), given):
            twice = sorted(values.keys() & options.keys())
            if twice:
                raise InputError(f"{', '.join(twice)} is given twice, alone and in {name}_kwargs: leave out one")
        of_tokenizer = getattr(self.tokenizer, "init_kwargs", {})
        default = {**self.text_kwargs, **{name: x for name, x in of_tokenizer.items() if name in known[0]}}
        text, images = (
            {**common, **{name: x for name, x in options.items() if name in names}, **values}
            for names, values in zip(known, given)
        )
        return {**default, **text}, {**self.images_kwargs, **images}

    def decode(self, *args: Any, **options: Any) -> Any:
        """The tokenizer's `decode`."""
        return self.tokenizer.decode(*args, **options)

    def batch_decode(self, *args: Any, **options: Any) -> Any:
        """The tokenizer's `batch_decode`."""
        return self.tokenizer.batch_decode(*args, **options)

    @property
    def feature_extractor(self) -> Any:
        """The image processor, under its older name."""
        return self.image_processor

    @property
    def model_input_names(self) -> list[str]:
        """The names of a model's inputs: the tokenizer's and the image processor's."""
        return [*self.tokenizer.model_input_names, *self.image_processor.model_input_names]

    @classmethod
    def get_attributes(cls) -> list[str]:
        """The names of the parts."""
        return list(cls.attributes)

    @classmethod
    def from_pretrained(cls, name: Any, **options: Any) -> Any:
        """The processor of a model; `name` as in `miniclip.load`: a directory, a file or a model's name.

        `options` that are settings of the image processor go to it, where the model is (cache_dir, subfolder, ...) to
        both parts, all others to the tokenizer; a whole part can be given as `image_processor` or `tokenizer`.
        """
        image_processor, tokenizer = (options.pop(part, None) for part in cls.attributes)
        own = cls.image_processor_class.family.PREPROCESSOR.keys()
        settings = {key: options.pop(key) for key in own & options.keys()}
        where = {key: x for key, x in options.items() if key in WHERE}
        return cls(
            image_processor or cls.image_processor_class.from_pretrained(name, **where, **settings),
            tokenizer or cls._tokenizer_from(name, **options),
        )

    @classmethod
    def _tokenizer_from(cls, name, **options):
        return cls.tokenizer_class.from_pretrained(name, **options)

    def to_dict(self) -> dict[str, Any]:
        """The class's name, and the image processor's settings."""
        image_processor = self.image_processor and self.image_processor.to_dict()
        return {"image_processor": image_processor, "processor_class": type(self).__name__}

    def to_json_string(self) -> str:
        """`to_dict` as JSON."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"

    def to_json_file(self, json_file_path: Any) -> None:
        """Write `to_json_string` to a file."""
        Path(json_file_path).write_text(self.to_json_string(), encoding="utf-8")

    def __repr__(self):
        return f"{type(self).__name__}:\n- image_processor: {self.image_processor!r}\n- tokenizer: {self.tokenizer!r}"

    def save_pretrained(self, save_directory: Any, **options: Any) -> list[str]:
        """Write both parts into a directory, which is created if needed; returns the paths of the files."""
        check_options(type(self), options)
        files = self.tokenizer.save_pretrained(save_directory) or ()
        return [*self.image_processor.save_pretrained(save_directory), *map(str, files)]


WHERE = ("cache_dir", "subfolder", "token", "revision", "force_download", "local_files_only")


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
    text_kwargs: ClassVar[dict[str, Any]] = {"padding": "max_length", "max_length": TEXT_LENGTH}


class ChineseCLIPProcessor(Processor):
    """transformers' ChineseCLIPProcessor: its parts are a ChineseCLIPImageProcessor and a BertTokenizer.

    Pass padding=True. The models were trained with texts of 52 tokens.
    """

    image_processor_class, tokenizer_class = ChineseCLIPImageProcessor, BertTokenizer


class AltCLIPProcessor(Processor):
    """transformers' AltCLIPProcessor: its parts are a CLIPImageProcessor and an XLMRobertaTokenizer."""

    image_processor_class, tokenizer_class = AltCLIPImageProcessor, XLMRobertaTokenizer


class SiglipProcessor(Processor):
    """transformers' SiglipProcessor: a SiglipImageProcessor and a SiglipTokenizer, or for SigLIP 2 a GemmaTokenizer.

    Pass padding="max_length": the models were trained with texts of 64 tokens.
    """

    image_processor_class, tokenizer_class = SiglipImageProcessor, SiglipTokenizer

    @classmethod
    def _tokenizer_from(cls, name, **options):
        return siglip_tokenizer(name, **options)


class Siglip2Processor(SiglipProcessor):
    """transformers' Siglip2Processor: a Siglip2ImageProcessor, and mostly a GemmaTokenizer; texts get 64 tokens.

    As in transformers, a call says how pictures are cut, whatever the image processor says: its `patch_size` is 16 and
    its `max_num_patches` 256, unless they are given.
    """

    image_processor_class: ClassVar[Any] = Siglip2ImageProcessor
    text_kwargs: ClassVar[dict[str, Any]] = {"padding": "max_length", "truncation": True, "max_length": 64}
    images_kwargs: ClassVar[dict[str, Any]] = {"max_num_patches": 256, "patch_size": 16}
