"""The base class of tokenizers in a file tokenizer.json: Gemma's, XLM-RoBERTa's, and those of OpenCLIP.

Builds on the package tokenizers, which reads the content of the file and encodes by it.
"""

import functools
import json
from collections.abc import Iterable
from typing import Any

import numpy as np

from miniclip.errors import InputError
from miniclip.runtime.installation import install
from miniclip.tokenizers import as_texts
from miniclip.tokenizers.added import Span
from miniclip.tokenizers.rows import batch_of


class TokenizerJson:
    """Encodes texts by the content of a tokenizer.json, its text. Safe to share between threads.

    pad, eos, bos  the names of these tokens; None: it has no such token
    left           whether rows are padded on the left
    lower_case     whether texts become lower case first, also if the content does not say so

    The content says which ids a row begins and ends with: `start` and `end`.

    Raises InputError if the content is not of a tokenizer, if it lacks `pad` or `eos`, or if the package tokenizers is
    not installed.
    """

    LINES: str  # the name of `lines` in miniclip's own files
    MAY_BE_SMALLER = True  # than its model's table of tokens
    EXTRA = "siglip"  # what to install

    def __init__(
        self,
        content: str,
        *,
        pad: str,
        eos: str | None = None,
        bos: str | None = None,
        left: bool = False,
        lower_case: bool = False,
    ):
        try:
            import tokenizers
        except ImportError as error:
            raise InputError(f"this model's tokenizer needs tokenizers: {install(self.EXTRA)}") from error
        try:
            parsed = json.loads(content)
            self.added_tokens = [token["content"] for token in parsed.get("added_tokens") or ()]
            if lower_case and '"Lowercase"' not in json.dumps(parsed.get("normalizer")):
                before = [parsed["normalizer"]] if parsed.get("normalizer") else []
                parsed["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "Lowercase"}, *before]}
            parsed |= {"truncation": None, "padding": None}
            self.content = json.dumps(parsed, ensure_ascii=False)
            self._library = tokenizers.Tokenizer.from_str(self.content)
        except Exception as error:  # tokenizers raises Exception itself
            raise InputError(f"not the content of a tokenizer.json: {str(error)[:200]}") from error
        self.encoder = self._library.get_vocab(with_added_tokens=True)
        self.decoder = {id: token for token, id in sorted(self.encoder.items(), key=lambda item: item[1])}
        self.pad_id, self.end_id = self._id(pad), self._id(eos)
        self.start_id = None if bos is None else self.encoder.get(bos)
        text, row = (self._library.encode("a", add_special_tokens=special) for special in (False, True))
        first = row.special_tokens_mask.index(0) if 0 in row.special_tokens_mask else 0
        self.start, self.end = row.ids[:first], row.ids[first + len(text.ids) :]
        self.options: dict[str, Any] = {"pad": pad, "eos": eos, "bos": bos, "left": left}

    def _id(self, token):
        if token is not None and token not in self.encoder:
            raise InputError(f"the vocabulary has no {token}")
        return self.encoder.get(token)

    def __reduce__(self) -> Any:
        return functools.partial(type(self), **self.options), (self.content,)

    def __len__(self):
        """The size V of the vocabulary."""
        return len(self.decoder)

    def encode(self, text: str) -> list[int]:
        """A text's ids, without `start` and `end`. If the text has the name of a special token, that gets its id."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: str | Iterable[str]) -> list[list[int]]:
        """The ids of each text, as by `encode`."""
        return [found.ids for found in self._encoded(as_texts(texts))]

    def _encoded(self, texts):
        try:
            return self._library.encode_batch(texts, add_special_tokens=False)
        except (UnicodeEncodeError, TypeError) as error:  # tokenizers treats a lone surrogate as another type
            raise InputError(f"a text has a character that is no text: {error}") from error

    def tokenize(self, texts: str | Iterable[str], context_length: int = 64, truncate: bool = False) -> np.ndarray:
        """A batch of ids: a str or a list of n of them -> (n, context_length) int32.

        Each row is `start`, the text's ids, `end`, then padding. A text that is too long raises InputError naming it;
        `truncate` drops its last ids instead.
        """
        texts, special = as_texts(texts), len(self.start) + len(self.end)
        encoded, left = self.encode_batch(texts), self.options["left"]
        return batch_of(texts, encoded, self.row, context_length, special, self.pad_id, truncate, left)

    def row(self, ids: list[int]) -> list[int]:
        """The ids with the special tokens of a row."""
        return self.start + ids + self.end

    def decode(self, ids: Iterable[int]) -> str:
        """Ids to text. Raises InputError for an unknown id."""
        ids = [int(id) for id in ids]
        unknown = next((id for id in ids if id not in self.decoder), None)
        if unknown is not None:
            raise InputError(f"there is no token id {unknown}: the vocabulary has ids 0 to {max(self.decoder)}")
        return self._library.decode(ids, skip_special_tokens=False)

    def join(self, tokens: list[str]) -> str:
        """Tokens to text."""
        decoder = self._library.decoder
        return " ".join(tokens) if decoder is None else decoder.decode(tokens)

    def lines(self) -> list[str]:
        """The options and the content as text: what `from_lines` reads."""
        return [json.dumps(self.options), *self.content.split("\n")]

    @classmethod
    def from_lines(cls, lines: Iterable[str]) -> "TokenizerJson":
        try:
            options, *content = lines
            return cls("\n".join(content), **json.loads(options))
        except (ValueError, TypeError) as error:
            raise InputError(f"not the options and the content of a tokenizer.json: {error}") from error

    def steps(self) -> "Steps":
        """What `WithAddedTokens` asks of a tokenizer."""
        return Steps(self)


class Steps:
    """The steps of a TokenizerJson for `WithAddedTokens`, which adds no tokens to it."""

    found_as_words = ()
    closed = True  # no tokens can be added

    def __init__(self, tokenizer: TokenizerJson):
        self.own, self.join, self.tokenizer = tuple(tokenizer.added_tokens), tokenizer.join, tokenizer

    def normalize(self, text: str) -> str:
        return text

    def spans(self, text: str) -> list[Span]:
        """The ids, each with its place in the text, and the number of its word."""
        (found,) = self.tokenizer._encoded([text])
        words = zip(found.ids, found.offsets, found.word_ids)
        return [Span(id, start, end, word or 0) for id, (start, end), word in words]
