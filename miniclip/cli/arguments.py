"""Arguments that several commands have."""

import argparse

from miniclip.ops.numpy_ops import ACTIVATIONS

MODEL = "a name, a path, or an id on Hugging Face's hub"


def add_activation(command):
    command.add_argument("--activation", choices=ACTIVATIONS, help="for files of weights that do not say it")


def add_json(command):
    command.add_argument("--json", action="store_true", help="print JSON")


def natural(text):
    """An argument that is a number 0, 1, 2, ..."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number 0, 1, 2, ...")
    return int(text)
