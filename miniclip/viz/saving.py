"""Writes figures to files, for commands: there is no screen, and the file is written whole or not at all."""

import os
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt

from miniclip.errors import InputError
from miniclip.runtime.files import atomic

KINDS = (".png", ".svg", ".pdf", ".jpg", ".webp")
MARK = "a figure of miniclip"  # in the files, so that no other file is ever replaced


def check(*paths):
    """Raise InputError unless figures can be written to these paths: new files, or those that `save` wrote before.

    A command calls this before hours of work.
    """
    matplotlib.use("Agg")
    for path in map(Path, paths):
        if path.suffix.lower() not in KINDS:
            raise InputError(f"{path}: is of no known format: choose a name that ends in {', '.join(KINDS)}")
        if path.is_dir() or not os.access(path.parent, os.W_OK):
            raise InputError(f"{path}: cannot be written: choose a file's name in a folder that exists")
        if path.is_file() and MARK.encode() not in path.read_bytes():
            raise InputError(f"{path}: exists, and only a figure of miniclip would be replaced: choose another path")
    if len({os.path.realpath(path) for path in paths}) < len(paths):
        raise InputError(f"{paths[0]}: cannot have two figures: choose a path for each")


def save(figure, path):
    """Write a figure, in the format of the path's ending; an older file is replaced."""
    kind = Path(path).suffix[1:].lower()
    kept = {"jpg": {"pil_kwargs": {"comment": MARK}}, "webp": {"pil_kwargs": {"xmp": MARK.encode()}}}
    with atomic(path) as temporary:
        marked = kept.get(kind, {"metadata": {"Title": MARK}})
        figure.savefig(temporary, format=kind, bbox_inches="tight", **marked)
    plt.close(figure)
