"""What the two tokenizers share: ids of words that are kept, and texts as a batch of ids."""

from collections.abc import Iterable
from itertools import chain

import numpy as np

from miniclip.errors import InputError


class Cache(dict):
    """{text: function(text)} of short texts, computed when first asked for: words repeat.

    Emptied when it holds `size`, so that memory does not grow. (functools.lru_cache, which keeps account of what was
    used last, takes twice the time.)
    """

    LONGEST = 64  # characters of what is kept

    def __init__(self, function, size=1 << 16):
        super().__init__()
        self.function, self.size = function, size

    def __missing__(self, text):
        ids = self.function(text)
        if len(self) >= self.size:
            self.clear()
        if len(text) <= self.LONGEST:
            self[text] = ids
        return ids


def tokenize(self, texts: str | Iterable[str], context_length: int = 77, truncate: bool = False) -> np.ndarray:
    """Texts to a batch of ids: a str or a list of n of them -> (n, context_length) int32.

    Each row is start, the text's ids, end, then padding. A text with more than context_length - 2 ids raises
    InputError naming it, or is cut with `truncate`, keeping the end (clip/clip.py, tokenize).
    """
    if isinstance(texts, bytes) or not isinstance(texts, Iterable):
        raise InputError(f"texts is of type {type(texts).__name__}, expected str or a list of str: {texts!r}")
    if context_length < 2:
        raise InputError(f"context_length is {context_length}, but start and end alone take 2")
    rows = []
    for i, text in enumerate([texts] if isinstance(texts, str) else texts):
        if not isinstance(text, str):
            raise InputError(f"text {i} is of type {type(text).__name__}, expected str: {text!r}")
        ids = [self.start_id, *self.encode(text), self.end_id]
        if len(ids) > context_length:
            if not truncate:
                raise InputError(
                    f"text {i} has {len(ids)} tokens, start and end included, but the context length is "
                    f"{context_length}; shorten it or pass truncate=True: {text[:200]!r}"
                )
            ids = [*ids[: context_length - 1], self.end_id]
        rows.append(ids)
    batch = np.full((len(rows), context_length), self.pad_id, np.int32)
    lengths = np.array([len(ids) for ids in rows], int)
    batch[np.arange(context_length) < lengths[:, None]] = [*chain.from_iterable(rows)]
    return batch
