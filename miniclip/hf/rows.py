"""Rows of tokens, and what each token was in the text: transformers' `Encoding` and `BatchEncoding`.

A row consists of parts: special tokens, a text, special tokens, and so on. Offsets and words are computed when they
are first asked for.
"""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

from miniclip.errors import InputError
from miniclip.hf.outputs import BatchEncoding, as_batch
from miniclip.tokenizers.added import WithAddedTokens


class CharSpan(NamedTuple):
    start: int
    end: int


class TokenSpan(NamedTuple):
    start: int
    end: int


class Text:
    """A text, or a list of words that it was split into, with its ids. Places in a word are counted from its start."""

    def __init__(self, tokenizer: WithAddedTokens, text: str | list[str]):
        self.tokenizer, self.text = tokenizer, text
        words = [text] if isinstance(text, str) else text
        self.ids = [id for word in words for id in tokenizer.encode(word)]

    @functools.cached_property
    def spans(self) -> list[tuple[int, int, int]]:
        """The (start, end, word) of each id."""
        words = [self.text] if isinstance(self.text, str) else self.text
        found = [(i, span) for i, word in enumerate(words) for span in self.tokenizer.spans(word)]
        if [span.id for _, span in found] != self.ids:
            raise InputError("tokens were added to the tokenizer after this text: encode it again")
        return [(span.start, span.end, span.word if words == [self.text] else i) for i, span in found]


class Encoding:
    """One row.

    parts    [ids of special tokens, (start, end) of the first text's ids, ids of special tokens, ...]
    texts    the one or two texts
    """

    def __init__(self, parts, texts: tuple[Text, ...], second_type: int, decoder: dict[int, str]):
        self._texts, self._decoder, self._before, self._after, self._pad_id = texts, decoder, 0, 0, 0
        self._ids: list[int] = []
        self._types: list[int] = []
        self._sources: list[tuple[int, int] | None] = []  # for each id (text, number of the id), None if special
        for i, part in enumerate(parts):
            if i % 2:
                start, end = part
                self._ids += texts[i // 2].ids[start:end]
                self._sources += [(i // 2, k) for k in range(start, end)]
            else:
                self._ids += part
                self._sources += [None] * len(part)
            self._types += [second_type if i > 2 else 0] * (len(self._ids) - len(self._types))  # and what ends it

    def pad(self, before: int, after: int, pad_id: int) -> None:
        self._before, self._after, self._pad_id = before, after, pad_id

    def _padded(self, row, fill):
        return [fill] * self._before + row + [fill] * self._after

    def __len__(self) -> int:
        return self._before + len(self._ids) + self._after

    @property
    def ids(self) -> list[int]:
        return self._padded(self._ids, self._pad_id)

    @property
    def type_ids(self) -> list[int]:
        """For each token the number of the text that it belongs to (CLIP's are all 0)."""
        return self._padded(self._types, 0)

    @property
    def attention_mask(self) -> list[int]:
        return self._padded([1] * len(self._ids), 0)

    @property
    def special_tokens_mask(self) -> list[int]:
        return self._padded([int(source is None) for source in self._sources], 1)

    @property
    def tokens(self) -> list[str]:
        return [self._decoder[id] for id in self.ids]

    @property
    def sequence_ids(self) -> list[int | None]:
        """For each token the number of its text, None for special tokens and padding."""
        return self._padded([source and source[0] for source in self._sources], None)

    @property
    def offsets(self) -> list[tuple[int, int]]:
        """For each token the (start, end) of its characters in its text, (0, 0) for special tokens and padding."""
        return self._padded([self._span(source)[:2] for source in self._sources], (0, 0))

    @property
    def word_ids(self) -> list[int | None]:
        """For each token the number of its word in its text, None for special tokens and padding."""
        return self._padded([self._span(source)[2] for source in self._sources], None)

    def _span(self, source) -> tuple[int, int, Any]:
        return self._texts[source[0]].spans[source[1]] if source else (0, 0, None)

    def token_to_sequence(self, token_index: int) -> int | None:
        return self.sequence_ids[token_index]

    def token_to_word(self, token_index: int) -> int | None:
        return self.word_ids[token_index]

    def token_to_chars(self, token_index: int) -> tuple[int, int] | None:
        return None if self.sequence_ids[token_index] is None else self.offsets[token_index]

    def word_to_tokens(self, word_index: int, sequence_index: int = 0) -> tuple[int, int] | None:
        found = [i for i, x in enumerate(zip(self.sequence_ids, self.word_ids)) if x == (sequence_index, word_index)]
        return (found[0], found[-1] + 1) if found else None

    def word_to_chars(self, word_index: int, sequence_index: int = 0) -> tuple[int, int] | None:
        found = self.word_to_tokens(word_index, sequence_index)
        return found and (self.offsets[found[0]][0], self.offsets[found[1] - 1][1])

    def char_to_token(self, char_index: int, sequence_index: int = 0) -> int | None:
        tokens = enumerate(zip(self.sequence_ids, self.offsets))
        return next((i for i, (text, (a, b)) in tokens if text == sequence_index and a <= char_index < b), None)

    def char_to_word(self, char_index: int, sequence_index: int = 0) -> int | None:
        token = self.char_to_token(char_index, sequence_index)
        return None if token is None else self.token_to_word(token)


class Encodings(BatchEncoding):
    """The output of a tokenizer: a dict of columns, and the rows as `encodings`."""

    def __init__(self, columns: dict[str, Any], encodings: list[Encoding]):
        super().__init__(columns)
        self.__dict__["encodings"] = encodings

    is_fast = True

    def __getitem__(self, key: Any) -> Any:
        """A column by name, the Encoding of a row by number."""
        return super().__getitem__(key) if isinstance(key, str) else self.encodings[key]

    @property
    def data(self) -> dict[str, Any]:
        return dict(self)

    @property
    def n_sequences(self) -> int | None:
        return len(self.encodings[0]._texts) if self.encodings else None

    def convert_to_tensors(self, tensor_type: str | None = None, prepend_batch_axis: bool = False) -> "Encodings":
        """The same object, with arrays ("np") or tensors ("pt", "tf") instead of lists."""
        columns = {name: [x] for name, x in self.items()} if prepend_batch_axis else dict(self)
        self.update(as_batch(columns, tensor_type))
        return self

    def tokens(self, batch_index: int = 0) -> list[str]:
        return self.encodings[batch_index].tokens

    def sequence_ids(self, batch_index: int = 0) -> list[int | None]:
        return self.encodings[batch_index].sequence_ids

    def word_ids(self, batch_index: int = 0) -> list[int | None]:
        return self.encodings[batch_index].word_ids

    # Each of these takes (index) for the only row, or (row, index).

    def _row(self, row, index) -> Iterator[Any]:
        row, index = (0, row) if index is None else (row, index)
        if not -len(self.encodings) <= row < len(self.encodings):
            raise InputError(f"there is no row {row}, the batch has {len(self.encodings)}")
        return iter((self.encodings[row], index))

    def token_to_sequence(self, batch_or_token_index: int, token_index: int | None = None) -> int | None:
        row, index = self._row(batch_or_token_index, token_index)
        return row.token_to_sequence(index)

    def token_to_word(self, batch_or_token_index: int, token_index: int | None = None) -> int | None:
        row, index = self._row(batch_or_token_index, token_index)
        return row.token_to_word(index)

    def token_to_chars(self, batch_or_token_index: int, token_index: int | None = None) -> CharSpan | None:
        row, index = self._row(batch_or_token_index, token_index)
        found = row.token_to_chars(index)
        return found and CharSpan(*found)

    def word_to_tokens(
        self, batch_or_word_index: int, word_index: int | None = None, sequence_index: int = 0
    ) -> TokenSpan | None:
        row, index = self._row(batch_or_word_index, word_index)
        found = row.word_to_tokens(index, sequence_index)
        return found and TokenSpan(*found)

    def word_to_chars(
        self, batch_or_word_index: int, word_index: int | None = None, sequence_index: int = 0
    ) -> CharSpan | None:
        row, index = self._row(batch_or_word_index, word_index)
        found = row.word_to_chars(index, sequence_index)
        return found and CharSpan(*found)

    def char_to_token(
        self, batch_or_char_index: int, char_index: int | None = None, sequence_index: int = 0
    ) -> int | None:
        row, index = self._row(batch_or_char_index, char_index)
        return row.char_to_token(index, sequence_index)

    def char_to_word(
        self, batch_or_char_index: int, char_index: int | None = None, sequence_index: int = 0
    ) -> int | None:
        row, index = self._row(batch_or_char_index, char_index)
        return row.char_to_word(index, sequence_index)
