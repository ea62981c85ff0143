"""Pairs: what every source of training data becomes. Pictures by number, each with at least one caption.

A reader of a source calls `pair_up`. What it cannot use is logged once, by name and with the reason, and counted.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from miniclip.errors import InputError
from miniclip.runtime.pictures import Picture

logger = logging.getLogger("miniclip.train")

# Names of columns that are common, in any case: OpenCLIP's and img2dataset's files, Hugging Face's ImageFolder.
PICTURES = ("file_name", "filename", "filepath", "file_path", "image_path", "img_path", "path", "file", "image", "img")
CAPTIONS = ("caption", "captions", "text", "texts", "title", "sentence", "sentences", "description", "prompt")


@dataclass
class Pairs:
    """n pictures with captions.

    source    how messages name all of it
    names     of the pictures, n
    captions  of each picture: at least one, none of them empty, n tuples
    picture   a function: number of a picture -> its path or its bytes; may raise
    skipped   {name: reason} of what cannot be used; the training adds pictures that cannot be decoded
    """

    source: str
    names: list[str]
    captions: list[tuple[str, ...]]
    picture: Callable[[int], Picture]
    skipped: dict[str, str]

    def __len__(self):
        return len(self.names)


def skip(skipped, name, reason):
    """Count `name` as skipped; log it the first time."""
    if name not in skipped:
        skipped[name] = reason
        logger.warning("%s: %s; it is skipped", name, reason)


def pair_up(source, found, read, skipped):
    """Pairs of what a reader has found; raises InputError if there are none.

    found  (name, captions, place) of each picture; those without a caption are skipped
    read   place -> a path or bytes
    """
    names, captions, places = [], [], []
    for name, texts, place in found:
        texts = tuple(dict.fromkeys(stripped for text in texts if (stripped := text.strip())))
        if not texts:
            skip(skipped, name, "has no caption")
            continue
        names.append(name)
        captions.append(texts)
        places.append(place)
    if not names:
        why = f"; {first_few(skipped)}" if skipped else ""
        raise InputError(f"{source}: no picture with a caption is there{why}")
    return Pairs(source, names, captions, lambda i: read(places[i]), skipped)


def first_few(skipped, number=3):
    """The first skipped names with their reasons, for a message."""
    few = "; ".join(f"{name}: {reason}" for name, reason in [*skipped.items()][:number])
    return f"{few}; and {len(skipped) - number} more" if len(skipped) > number else few


def texts_of(value):
    """A caption as a file holds it, a text or a list of texts -> list of str. Raises InputError for anything else."""
    texts = value if isinstance(value, list) else [] if value is None else [value]
    for text in texts:
        if not isinstance(text, str):
            raise InputError(f"its caption is {text!r:.80}, expected a text")
    return texts


def choose_columns(source, seen, columns, likely=None):
    """(column of pictures, column of captions): `columns` if given, else the only likely ones.

    seen    names of all columns
    likely  ([columns that may have pictures], [columns that may have captions]); None: those with usual names

    Raises InputError that lists the columns if one is missing, or if none or several are likely.
    """
    listed = ", ".join(map(repr, seen))
    if columns is not None:
        missing = [name for name in columns if name not in seen]
        if missing:
            raise InputError(f"{source}: has no column {missing[0]!r}; its columns are {listed}")
        return tuple(columns)
    if likely is None:
        likely = [[name for name in seen if name.strip().lower() in usual] for usual in (PICTURES, CAPTIONS)]
    for what, names in zip(("pictures", "captions"), likely):
        if len(names) != 1:
            problem = f"{' and '.join(map(repr, names))} may both be the" if names else "no column is clearly that of"
            raise InputError(
                f"{source}: {problem} {what}; its columns are {listed}: name two, columns=(PICTURES, CAPTIONS), or "
                "--columns PICTURES CAPTIONS"
            )
    return likely[0][0], likely[1][0]
