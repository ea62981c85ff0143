"""Writes figures to files, for commands: there is no screen, and the file is written whole or not at all."""

import os
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt

from miniclip.errors import InputError
from miniclip.runtime.files import atomic

KINDS = (".png", ".svg", ".pdf", ".jpg", ".webp")


def check(path):
    """Raise InputError if no figure can be written to `path`: a command calls this before hours of work."""
    matplotlib.use("Agg")
    path = Path(path)
    if path.suffix.lower() not in KINDS:
        raise InputError(f"{path}: is of no known format: choose a name that ends in {', '.join(KINDS)}")
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise InputError(f"{path}: cannot be written: choose a file's name in a folder that exists")


def save(figure, path):
    """Write a figure, in the format of the path's ending; an older file is replaced."""
    with atomic(path) as temporary:
        figure.savefig(temporary, format=Path(path).suffix[1:].lower(), bbox_inches="tight")
    plt.close(figure)
