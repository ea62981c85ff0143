"""Converts a model from one form to another, by way of miniclip's own names."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from miniclip import checkpoints, families, params
from miniclip.checkpoints import gguf, huggingface, open_clip, openai
from miniclip.checkpoints.join import join
from miniclip.errors import InputError
from miniclip.formats import ENDINGS
from miniclip.tokenizer import Tokenizer
from miniclip.tokenizers.cleaned import Cleaned

WRITERS = {
    "miniclip": checkpoints.save,
    "openai": openai.save,
    "hf": huggingface.save,
    "open_clip": open_clip.save,
    "gguf": gguf.save,
}
DIRECTORIES = ("hf", "open_clip")  # the others are files
DTYPES = (*checkpoints.WRITTEN, "q8_0")  # of all forms


def convert(
    source: str | os.PathLike,
    destination: str | os.PathLike,
    to: str,
    *,
    dtype: str | None = None,
    image_size: int | tuple[int, int] | None = None,
    activation: str | None = None,
    adapter: str | os.PathLike | None = None,
    text: str | os.PathLike | None = None,
    official: Callable[[], Tokenizer | None] = lambda: None,
    overwrite: bool = False,
) -> str | None:
    """Read a model and write it in another form; returns the reason if a vocabulary is missing there, else None.

    to        a key of `WRITERS`: "miniclip", "openai" and "gguf" write a file, "hf" and "open_clip" a directory,
              completely or not at all
    dtype     the floating type to store, None to keep the arrays' own; in "gguf", of the matrices alone, also "q8_0"
              (see `gguf.save`); `image_size`, `activation` and `adapter` as in `load`
    text      the path of another model: its text tower replaces that of the source (see `join`)
    official  returns the official Tokenizer, or None if it is not on this machine: "hf" and "gguf" have a copy
    overwrite  whether a file at `destination` is replaced. Directories are never replaced

    `logit_scale`, `logit_bias` and `temperature` are stored as float32. Raises InputError if the source cannot be read,
    if the form cannot express the model, or if `destination` exists, or is a file's name and the form a directory.
    """
    check(destination, to, dtype, overwrite)
    model = checkpoints.load(source, image_size=image_size, activation=activation, adapter=adapter)
    if text is not None:
        model = join(model, checkpoints.load(text), (str(source), str(text)))
    return write(destination, to, *model, source=source, dtype=dtype, official=official)


def check(destination, to, dtype=None, overwrite=False):
    """Raise InputError if a model cannot be written to `destination` with these arguments of `convert`."""
    if to not in WRITERS:
        raise InputError(f"the form is {to!r}, expected one of {', '.join(WRITERS)}")
    known = gguf.DTYPES if to == "gguf" else checkpoints.WRITTEN
    if dtype not in (None, *known):
        raise InputError(f"dtype is {dtype!r}, expected one of {', '.join(known)} in the form {to!r}")
    _check_destination(Path(destination), to, overwrite)


def write(destination, to, config, tree, tokenizer, *, source, dtype=None, official=lambda: None):
    """Write a model as `convert` does, and return the same; `source` is the name of the model, for messages."""
    lacking, official_size = None, families.of(config).official_vocabulary
    if config.text and to in ("hf", "gguf"):
        tokenizer, lacking = vocabulary(config, tokenizer, official)
    is_own = tokenizer and (len(tokenizer) != official_size or type(tokenizer) is not families.of(config).tokenizer)
    is_own = is_own and not (to == "open_clip" and isinstance(tokenizer, Cleaned))
    if is_own and to in ("openai", "open_clip", "gguf"):
        raise InputError(
            f"{source}: has a vocabulary of its own, which the form {to!r} cannot express: convert to miniclip or hf"
        )
    if to == "gguf":  # not all of its arrays are of one type
        gguf.save(destination, config, tree, tokenizer=tokenizer, dtype=dtype)
        return None
    tree = {
        name: branch if name in config.scalars else params.tree_map(lambda x: np.asarray(x, dtype), branch)
        for name, branch in tree.items()
    }
    WRITERS[to](destination, config, tree, tokenizer=tokenizer)
    return lacking


def vocabulary(config, tokenizer, official=lambda: None):
    """(a tokenizer for a model with a text tower, None), or (None, the reason why there is none)."""
    official_size = families.of(config).official_vocabulary
    if isinstance(tokenizer, Cleaned):
        return None, "miniclip cannot write this model's tokenizer for transformers: convert to miniclip instead"
    if tokenizer:
        return tokenizer, None
    if official_size is None:
        return None, f"this model came without its own, a {config.tokenizer}"
    if config.text.vocab_size != official_size:
        ids = config.text.vocab_size
        return None, f"this model has none of its own, and its {ids} ids are not the official {official_size}"
    found = official()
    return found, None if found else "the official one is not on this machine: run miniclip download vocabulary"


def _check_destination(path, to, overwrite):
    if to in DIRECTORIES and path.suffix in ENDINGS:
        raise InputError(f"{path}: the form {to!r} is a directory, and this is a file's name: give a directory's")
    if path.exists() and (to in DIRECTORIES or path.is_dir() or not overwrite):
        rather = "or write to another path" if path.is_dir() else "write to another path, or overwrite it (--overwrite)"
        raise InputError(f"{path}: exists already: move it away, {rather}")
