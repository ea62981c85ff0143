"""A model from one form to another, by way of miniclip's own names."""

import os

import numpy as np

from miniclip import checkpoints, params, vocabulary
from miniclip.errors import InputError


def convert(
    source: str | os.PathLike,
    destination: str | os.PathLike,
    to: str,
    *,
    dtype: str | None = None,
    image_size: int | tuple[int, int] | None = None,
    activation: str | None = None,
) -> str | None:
    """Read a model and write it in another form: returns why no vocabulary went along, None where nothing is missing.

    to     a key of `checkpoints.WRITERS`: "miniclip" and "openai" write a file, "hf" and "open_clip" a directory, whole
           or not at all
    dtype  the floating type to store, None: as they are; `image_size` and `activation` as in `load`

    Raises InputError for what cannot be read, and for what the form has no way to say.
    """
    if to not in checkpoints.WRITERS:
        raise InputError(f"there is no form {to!r}; choose one of {', '.join(checkpoints.WRITERS)}")
    if dtype not in (None, *checkpoints.WRITTEN):
        raise InputError(f"dtype is {dtype!r}, expected one of {', '.join(checkpoints.WRITTEN)}")
    config, tree, tokenizer = checkpoints.load(source, image_size=image_size, activation=activation)
    lacking = None
    if config.text and tokenizer is None and to == "hf":
        if config.text.vocab_size != vocabulary.SIZE:
            ids = config.text.vocab_size
            lacking = f"this model came without one, and its {ids} ids are not the official {vocabulary.SIZE}"
        elif not vocabulary.find():
            lacking = "there is no official one here; miniclip download vocabulary"
        else:
            tokenizer = vocabulary.official_tokenizer()
    if tokenizer and len(tokenizer) != vocabulary.SIZE and to in ("openai", "open_clip"):
        raise InputError(f"{source}: has a vocabulary of its own, for which a model in the form {to!r} has no place")
    tree = params.tree_map(lambda x: np.asarray(x, dtype), tree)
    checkpoints.WRITERS[to](destination, config, tree, tokenizer=tokenizer)
    return lacking
