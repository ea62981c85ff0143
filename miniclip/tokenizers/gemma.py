"""SigLIP 2's tokenizer, Gemma's: byte pairs over a vocabulary of many languages, in a file tokenizer.json.

Builds on the package tokenizers, which reads the file and encodes by it. SigLIP 2 was trained on texts in lower case;
whether they become so here is written in the files, as in transformers: its Siglip2Tokenizer does it, its
GemmaTokenizer does not.
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

PAD, EOS, BOS, UNK, MASK = "<pad>", "<eos>", "<bos>", "<unk>", "<mask>"


class Gemma:
    """Encodes texts by the content of a tokenizer.json, its text. Safe to share between threads.

    lower_case  whether texts become lower case first, also if the content does not say so
    pad, eos, bos  the names of these tokens · left  whether rows are filled up on the left

    The content says whether a row begins with <bos> and ends with <eos>: `start` and `end`.

    Raises InputError if the content is not of a tokenizer, if it lacks these tokens, and without tokenizers.
    """

    LINES = "tokenizer.json"  # the name of `lines` in miniclip's own files
    MAY_BE_SMALLER = True  # than its model's table of tokens
    MODEL, EXTRA = "SigLIP 2", "siglip"  # for messages: whose it is, and what to install

    def __init__(
        self,
        content: str,
        *,
        lower_case: bool = False,
        pad: str = PAD,
        eos: str = EOS,
        bos: str = BOS,
        left: bool = False,
    ):
        try:
            import tokenizers
        except ImportError as error:
            raise InputError(f"{self.MODEL}'s tokenizer needs tokenizers: {install(self.EXTRA)}") from error
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
        missing = [token for token in (pad, eos) if token not in self.encoder]
        if missing:
            raise InputError(f"not a vocabulary of {self.MODEL}: there is no {', '.join(missing)}")
        self.pad_id, self.end_id, self.start_id = self.encoder[pad], self.encoder[eos], self.encoder.get(bos)
        special = self._library.encode("").ids  # of an empty row
        self.start, self.end = self.start_id in special, self.end_id in special
        self.options: dict[str, Any] = {"pad": pad, "eos": eos, "bos": bos, "left": left}

    def __reduce__(self) -> Any:
        return functools.partial(type(self), **self.options), (self.content,)

    def __len__(self):
        """The size V of the vocabulary."""
        return len(self.decoder)

    def encode(self, text: str) -> list[int]:
        """A text's ids, without <bos> and <eos>. If the text itself has the name of a special token, it gets its id."""
        return self._encoded([text])[0].ids

    def _encoded(self, texts):
        try:
            return self._library.encode_batch(texts, add_special_tokens=False)
        except (UnicodeEncodeError, TypeError) as error:  # tokenizers takes a lone surrogate for another type
            raise InputError(f"a text has a character that is no text: {error}") from error

    def encode_batch(self, texts: str | Iterable[str]) -> list[list[int]]:
        """The ids of each text, as by `encode`."""
        return [found.ids for found in self._encoded(as_texts(texts))]

    def tokenize(self, texts: str | Iterable[str], context_length: int = 64, truncate: bool = False) -> np.ndarray:
        """A batch of ids: a str or a list of n of them -> (n, context_length) int32.

        Each row is the text's ids with <bos> before and <eos> after them, if the model has these, then padding. A text
        that is too long raises InputError naming it; `truncate` drops its last ids instead.
        """
        texts, special = as_texts(texts), self.start + self.end
        encoded, left = self.encode_batch(texts), self.options["left"]
        return batch_of(texts, encoded, self.row, context_length, special, self.pad_id, truncate, left)

    def row(self, ids: list[int]) -> list[int]:
        """The ids with the special tokens of a row."""
        first = [] if self.start_id is None or not self.start else [self.start_id]
        return first + ids + [self.end_id] * self.end

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
    def from_lines(cls, lines: Iterable[str]) -> "Gemma":
        try:
            options, *content = lines
            return cls("\n".join(content), **json.loads(options))
        except (ValueError, TypeError) as error:
            raise InputError(f"not the lines of the tokenizer of a {cls.MODEL}: {error}") from error

    def steps(self) -> "Steps":
        """What `WithAddedTokens` asks of a tokenizer."""
        return Steps(self)


class Steps:
    """The steps of a Gemma for `WithAddedTokens`, which adds no tokens to it."""

    found_as_words = ()
    closed = True  # no tokens can be added

    def __init__(self, tokenizer: Gemma):
        self.own, self.join, self.tokenizer = tuple(tokenizer.added_tokens), tokenizer.join, tokenizer

    def normalize(self, text: str) -> str:
        return text

    def spans(self, text: str) -> list[Span]:
        """The ids, each with its place in the text, and the number of its word."""
        (found,) = self.tokenizer._encoded([text])
        words = zip(found.ids, found.offsets, found.word_ids)
        return [Span(id, start, end, word or 0) for id, (start, end), word in words]
