"""Arguments that several commands share, and what they mean."""

import argparse
import json
import logging
import sys

from miniclip import api, encode
from miniclip.errors import InputError
from miniclip.ops import BACKENDS
from miniclip.ops.numpy_ops import ACTIVATIONS

MODEL = "a model's name, a path, or an id on Hugging Face's hub (owner/name)"
DTYPES = ("float32", "float64", "float16", "bfloat16", "int8")
PICTURES = (
    "picture files, folders, patterns, .txt files with a path on each line, or - for such a list on standard input"
)


def add_model(command, default="shapes", named="shapes, the built-in one"):
    """--model, by default the one that is `named` in the help, and how to load it: see `load`."""
    command.add_argument("--model", default=default, metavar="M", help=f"{MODEL} (default: {named})")
    command.add_argument("--pretrained", metavar="TAG", help="OpenCLIP's tag of the weights, if M is OpenCLIP's name")
    add_activation(command)
    add_adapter(command)
    command.add_argument("--backend", default="auto", choices=["auto", *BACKENDS], help="(default: auto)")
    command.add_argument(
        "--dtype",
        choices=DTYPES,
        help="float64, float16, bfloat16 and int8 need a backend that has them (default: float32)",
    )
    command.add_argument("--exif", action="store_true", help="turn pictures as their EXIF orientation says")


def prefer_numpy(options):
    """Choose NumPy unless the user chose: it has gradients on every machine, and is fast enough for one picture."""
    if options.backend == "auto":
        options.backend = "numpy"


def how_to_load(options):
    """The arguments of `miniclip.load`, except the name, as those of `add_model` say."""
    how = {name: getattr(options, name) for name in ("pretrained", "backend", "dtype", "activation", "adapter", "exif")}
    return how | {"mmap": True}  # this process ends before a file could change


def load(options, texts=False):
    """(model, preprocess) as the arguments of `add_model` say.

    Raises InputError if the model has no image tower, which `texts` alone do not need.
    """
    model, preprocess = api.load(options.model, **how_to_load(options))
    if not texts:
        encode.check_image_tower(preprocess, options.model)
    return model, preprocess


def is_built_in(options):
    """Whether the arguments of `add_model` mean the built-in model, whose pictures and words we know."""
    return options.model == "shapes" and options.adapter is None


def check_texts(model, name):
    """Raise InputError if this model, which a user calls `name`, cannot encode texts."""
    if model.config.text is None:
        raise InputError(f"{name} has no text tower: choose a model that has one")
    if model.tokenizer is None:
        raise InputError(f"{name} has no vocabulary, which texts need: give a directory that has it as well")


def add_activation(command):
    command.add_argument("--activation", choices=ACTIVATIONS, help="for weights files that do not say it")


def add_adapter(command):
    command.add_argument("--adapter", metavar="DIR", help="a LoRA adapter of PEFT, which is added to the weights")


def log(level=logging.NOTSET):
    """What miniclip logs goes to stderr: warnings, or all from this level on."""
    logging.basicConfig(format="miniclip: %(message)s")
    logging.getLogger("miniclip").setLevel(level)


def add_json(command):
    command.add_argument("--json", action="store_true", help="print JSON")


def print_json(value):
    """Print `value` as JSON. What stdout cannot encode is escaped: a "?" instead would be another name."""
    text = json.dumps(value, ensure_ascii=False, indent=2)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value, indent=2)
    print(text)


def add_image_size(command):
    """--image-size, for `image_size`."""
    command.add_argument(
        "--image-size", type=natural, nargs="+", metavar="N",
        help="interpolate positions for this picture size in pixels: one number for a square, or height and width",
    )  # fmt: skip


def image_size(options):
    """The size that --image-size gives: None, one number, or a tuple."""
    size = options.image_size
    return size and (size[0] if len(size) == 1 else tuple(size))


def natural(text):
    """The argument as an integer, 0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer 0, 1, 2, ...")
    return int(text)


def positive(text):
    """The argument as an integer, 1 or more."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer 1, 2, 3, ...")
    return int(text)
