"""Rows of ids of one length: what `Tokenizer.tokenize` does, for tokenizers with other special tokens than CLIP's."""

from collections.abc import Callable

import numpy as np

from miniclip.errors import InputError


def batch_of(
    texts: list[str],
    encoded: list[list[int]],
    row: Callable[[list[int]], list[int]],
    context_length: int,
    special: int,
    pad_id: int,
    truncate: bool,
    left: bool = False,
) -> np.ndarray:
    """The ids of n texts -> (n, context_length) int32, padded with `pad_id` on the right, or on the `left`.

    row(ids) adds the `special` tokens to a text's ids, so many at most. Raises InputError for a text that is too long,
    unless `truncate`: then its last ids are dropped.
    """
    if not isinstance(context_length, (int, np.integer)) or context_length < 1 + special:
        raise InputError(f"context_length is {context_length!r}, expected a whole number from {1 + special}")
    batch = np.full((len(texts), context_length), pad_id, np.int32)  # (n, T)
    for i, ids in enumerate(encoded):
        if len(ids) + special > context_length and not truncate:
            raise InputError(
                f"text {i} has {len(ids) + special} tokens, special ones included, but the context length is "
                f"{context_length}; shorten it or pass truncate=True: {texts[i][:200]!r}"
            )
        ids = row(ids[: context_length - special])
        batch[i, slice(context_length - len(ids), None) if left else slice(len(ids))] = ids
    return batch
