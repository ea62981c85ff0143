"""Pairs of what is in memory: a list of (picture, caption)."""

import os

from miniclip.errors import InputError
from miniclip.train.data.pairs import pair_up, skip, texts_of


def has_pairs(source):
    """Whether a source is a list of pairs; one of texts has the paths of tar shards."""
    return isinstance(source, (list, tuple)) and any(map(_is_pair, source))


def read(rows):
    """Pairs of a list of (picture, caption): any picture that a model's preprocess takes; a text or a list of texts.

    Rows of one picture, the same path or the same object, give it several captions. Raises InputError for a row that is
    not a pair.
    """
    skipped, captions, places = {}, {}, {}
    for i, row in enumerate(rows):
        if not _is_pair(row):
            raise InputError(f"row {i} is {row!r:.80}, expected (picture, caption)")
        picture, caption = row
        key = os.fspath(picture) if isinstance(picture, (str, os.PathLike)) else id(picture)
        name, _ = places.setdefault(key, (key if isinstance(key, str) else f"row {i}", picture))
        try:
            captions.setdefault(key, []).extend(texts_of([*caption] if isinstance(caption, tuple) else caption))
        except InputError as error:
            skip(skipped, name, str(error))
    found = ((name, captions[key], picture) for key, (name, picture) in places.items() if key in captions)
    return pair_up("the list", found, lambda picture: picture, skipped)


def _is_pair(row):
    return isinstance(row, (tuple, list)) and len(row) == 2
