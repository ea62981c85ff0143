"""OpenCLIP's tokenizers from transformers: a text is cleaned, then encoded by a tokenizer.json.

Equal to its HFTokenizer. SigLIP, SigLIP 2, CLIPA and MetaCLIP 2 have one in OpenCLIP; in transformers, MetaCLIP 2 has
one that does not clean. Builds on the package tokenizers, which reads the file.
"""

import functools
import json
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from miniclip.errors import InputError
from miniclip.runtime.installation import install
from miniclip.tokenizers import as_texts, repair
from miniclip.tokenizers.rows import batch_of
from miniclip.tokenizers.sentencepieces import WITHOUT_PUNCTUATION


def whitespace(text):
    """A repaired text with single spaces."""
    return " ".join(repair(text).split())


def lower(text):
    """The same in lower case."""
    return whitespace(text).lower()


def canonicalize(text):
    """A repaired text in lower case, without ASCII's punctuation: "A traffic_light!" -> "a traffic light"."""
    text = repair(text).strip().replace("_", " ").translate(WITHOUT_PUNCTUATION).lower()
    return " ".join(text.split())


# OpenCLIP's names (tokenizer.py), and None.
CLEAN: dict[str | None, Callable[[str], str]]
CLEAN = {"whitespace": whitespace, "lower": lower, "canonicalize": canonicalize, None: str}


class Cleaned:
    """Encodes cleaned texts by the content of a tokenizer.json, its text. Safe to share between threads.

    clean  a name in `CLEAN`, None: texts stay as they are
    pad    the token that fills rows up · left  whether it does so on the left
    zero   a token whose id becomes 0 in rows, as OpenCLIP's `strip_sep_token` does for CLIPA; None: no token

    The content says what a row begins and ends with. Raises InputError if the content is not of a tokenizer, if it
    lacks these tokens, for another `clean`, and without tokenizers.
    """

    LINES = "cleaned_tokenizer"  # the name of `lines` in miniclip's own files
    MAY_BE_SMALLER = True  # than its model's table of tokens

    def __init__(
        self, content: str, *, clean: str | None = "whitespace", pad: str, left: bool = False, zero: str | None = None
    ):
        try:
            import tokenizers
        except ImportError as error:
            raise InputError(f"this model's tokenizer needs tokenizers: {install('siglip')}") from error
        if clean not in CLEAN:
            raise InputError(f"clean is {clean!r}, expected one of {', '.join(map(str, CLEAN))}")
        try:
            self.content = json.dumps({**json.loads(content), "truncation": None, "padding": None}, ensure_ascii=False)
            self._library = tokenizers.Tokenizer.from_str(self.content)
        except Exception as error:  # tokenizers raises Exception itself
            raise InputError(f"not the content of a tokenizer.json: {str(error)[:200]}") from error
        self.encoder = self._library.get_vocab(with_added_tokens=True)
        self.decoder = {id: token for token, id in sorted(self.encoder.items(), key=lambda item: item[1])}
        missing = [token for token in (pad, zero) if token is not None and token not in self.encoder]
        if missing:
            raise InputError(f"the vocabulary has no {', '.join(missing)}")
        self.pad_id, self.zero_id = self.encoder[pad], None if zero is None else self.encoder[zero]
        row = self._library.encode("a")
        first = row.special_tokens_mask.index(0) if 0 in row.special_tokens_mask else 0
        last = first + len(self._library.encode("a", add_special_tokens=False).ids)
        self.start, self.end = row.ids[:first], row.ids[last:]
        self.options: dict[str, Any] = {"clean": clean, "pad": pad, "left": left, "zero": zero}

    def __reduce__(self) -> Any:
        return functools.partial(Cleaned, **self.options), (self.content,)

    def __len__(self):
        """The size V of the vocabulary."""
        return len(self.decoder)

    def encode(self, text: str) -> list[int]:
        """A text's ids, without those that every row has."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: str | Iterable[str]) -> list[list[int]]:
        """The ids of each text, as by `encode`."""
        texts = [*map(CLEAN[self.options["clean"]], as_texts(texts))]
        try:
            return [found.ids for found in self._library.encode_batch(texts, add_special_tokens=False)]
        except (UnicodeEncodeError, TypeError) as error:  # tokenizers takes a lone surrogate for another type
            raise InputError(f"a text has a character that is no text: {error}") from error

    def tokenize(self, texts: str | Iterable[str], context_length: int = 64, truncate: bool = False) -> np.ndarray:
        """A batch of ids: a str or a list of n of them -> (n, context_length) int32.

        Each row is the text's ids with what rows begin and end with, then padding. A text that is too long raises
        InputError naming it; `truncate` drops its last ids instead.
        """
        texts, special = as_texts(texts), len(self.start) + len(self.end)
        encoded, left = self.encode_batch(texts), self.options["left"]
        rows = batch_of(texts, encoded, self.row, context_length, special, self.pad_id, truncate, left)
        return rows if self.zero_id is None else np.where(rows == self.zero_id, np.int32(0), rows)

    def row(self, ids: list[int]) -> list[int]:
        """The ids with the special tokens of a row."""
        return self.start + ids + self.end

    def decode(self, ids: Iterable[int]) -> str:
        """Ids to a clean text. Raises InputError for an unknown id."""
        ids = [int(id) for id in ids]
        unknown = next((id for id in ids if id not in self.decoder), None)
        if unknown is not None:
            raise InputError(f"there is no token id {unknown}: the vocabulary has ids 0 to {max(self.decoder)}")
        return self._library.decode(ids, skip_special_tokens=False)

    def lines(self) -> list[str]:
        """The options and the content as text: what `from_lines` reads."""
        return [json.dumps(self.options), *self.content.split("\n")]

    @classmethod
    def from_lines(cls, lines: Iterable[str]) -> "Cleaned":
        try:
            options, *content = lines
            return cls("\n".join(content), **json.loads(options))
        except (ValueError, TypeError) as error:
            raise InputError(f"not the lines of OpenCLIP's tokenizer: {error}") from error
