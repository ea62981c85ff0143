"""Arguments that several commands share."""

import argparse

from miniclip.ops.numpy_ops import ACTIVATIONS

MODEL = "a model's name, a path, or an id on Hugging Face's hub (owner/name)"


def add_activation(command):
    command.add_argument("--activation", choices=ACTIVATIONS, help="for weights files that do not say it")


def add_adapter(command):
    command.add_argument("--adapter", metavar="DIR", help="a LoRA adapter of PEFT, which is added to the weights")


def add_json(command):
    command.add_argument("--json", action="store_true", help="print JSON")


def natural(text):
    """The argument as an integer, 0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer 0, 1, 2, ...")
    return int(text)
