"""Tokens that are added to a vocabulary after it was learned: found in a text before it is cut into words.

They have the ids after the vocabulary's, or make one of its tokens special. The rules are those of Hugging Face's
tokenizers (tokenizer/added_vocabulary.rs), because its files are the ones that have such tokens.
"""

import dataclasses
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from miniclip.errors import InputError
from miniclip.tokenizer import Tokenizer
from miniclip.tokenizers import as_texts
from miniclip.tokenizers.steps import BytePairs, WordPieces
from miniclip.tokenizers.wordpiece import WordPiece


@dataclasses.dataclass(frozen=True)
class AddedToken:
    """A token and how it is found in a text.

    single_word     only between characters that are not part of a word
    lstrip, rstrip  with the spaces on this side
    normalized      in the cleaned text, instead of in the text as it was given
    special         it is left out when ids are decoded with `skip_special_tokens`
    """

    content: str
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = True
    special: bool = False

    def __str__(self) -> str:
        return self.content

    @classmethod
    def of(cls, given: Any, special: bool = False) -> "AddedToken":
        """A str, a dict with these fields or an object with them (tokenizers' AddedToken); InputError for others."""
        names = [field.name for field in dataclasses.fields(cls)]
        fields: dict[str, Any]
        if isinstance(given, str):
            fields = {"content": given}
        elif isinstance(given, dict):
            fields = {name: given[name] for name in names if name in given}
        else:
            fields = {name: getattr(given, name) for name in names if hasattr(given, name)}
        if special and not fields.get("special"):
            fields |= {"special": True, "normalized": False}
        fields.setdefault("normalized", not fields.get("special", False))
        content = fields.get("content")
        if not isinstance(content, str) or not all(
            fields[name] in (True, False) for name in fields.keys() - {"content"}
        ):
            raise InputError(f"{given!r} is not a token, expected a str or an AddedToken")
        return cls(**fields)


class Span(NamedTuple):
    """An id, and the characters of the text that it is for; `word` is the number of the word."""

    id: int
    start: int
    end: int
    word: int


class WithAddedTokens:
    """A Tokenizer, a Renumbered one or a WordPiece, with added tokens; it has the same methods.

    Texts without one of the `added` tokens {id: AddedToken} get the same ids as from the tokenizer itself.
    """

    tokenize = Tokenizer.tokenize  # it uses only encode_batch, start_id, end_id and pad_id

    def __init__(self, tokenizer: Any, tokens: Iterable[AddedToken] = ()):
        self.tokenizer = tokenizer
        if hasattr(tokenizer, "steps"):
            self.steps = tokenizer.steps()
        else:
            self.steps = WordPieces(tokenizer) if isinstance(tokenizer, WordPiece) else BytePairs(tokenizer)
        self.encoder, self.decoder = dict(tokenizer.encoder), dict(tokenizer.decoder)
        self.start_id, self.end_id = getattr(tokenizer, "start_id", None), tokenizer.end_id
        self.pad_id = tokenizer.pad_id
        self.added: dict[int, AddedToken] = {}
        self.special: set[str] = set()  # the tokens that were special once
        self.add(tokens)

    def __len__(self) -> int:
        """The size V of the vocabulary, with added tokens."""
        return len(self.decoder)

    def add(self, tokens: Iterable[AddedToken]) -> int:
        """Add tokens; returns how many are new or change. One of the vocabulary keeps its id, others get the next."""
        count, tokens = 0, [*tokens]
        new = [token.content for token in tokens if token.content not in self.steps.own]
        if new and getattr(self.steps, "closed", False):
            raise InputError(
                f"{new[0]!r} is not in the vocabulary: a {type(self.tokenizer).__name__} takes no new tokens"
            )
        for token in tokens:
            id = self.encoder.get(token.content)
            if not token.content or (id is not None and self.added.get(id) == token):
                continue
            if id is None:
                # Hugging Face's tokenizers would use the number of tokens, which another token can have already.
                id = max(self.decoder, default=-1) + 1
            self.added[id], self.encoder[token.content] = token, id
            self.decoder[id] = self._cleaned(token.content) if token.normalized else token.content
            self.special |= {token.content} if token.special else set()
            count += 1
        # Tokens that are words are found as such, unless others could cut them.
        others = any(str(token) not in self.steps.found_as_words for token in self.added.values())
        wanted = dict(self.added) if others else {}
        self._raw = _Finder({str(token): id for id, token in wanted.items() if not token.normalized}, wanted)
        clean = {self._cleaned(str(token)): id for id, token in wanted.items() if token.normalized}
        self._clean = _Finder(clean, wanted)
        return count

    def _cleaned(self, content):
        """A token as it is in cleaned texts, with the spaces at its ends."""
        clean = self.steps.normalize(content)
        before = " " if content[:1].isspace() and not clean[:1].isspace() else ""
        return before + clean + (" " if content[-1:].isspace() and not clean[-1:].isspace() else "")

    @property
    def changes_ids(self) -> bool:
        """Whether there are texts that get other ids than from the tokenizer itself."""
        return any(str(token) not in self.steps.own for token in self.added.values())

    def encode(self, text: str) -> list[int]:
        """A text's ids, without start and end. The texts between added tokens are encoded each by itself."""
        if not self.changes_ids:
            return self.tokenizer.encode(text)
        ids: list[int] = []
        for start, end, id in self._raw.parts(text):
            ids += self._encode(text[start:end]) if id is None else [id]
        return ids

    def encode_batch(self, texts: str | Iterable[str]) -> list[list[int]]:
        """The ids of each text, as by `encode`."""
        return [*map(self.encode, as_texts(texts))] if self.changes_ids else self.tokenizer.encode_batch(texts)

    def _encode(self, text):
        clean = self.steps.normalize(text)
        parts = self._clean.parts(clean)
        return [x for start, end, id in parts for x in (self.steps.encode(clean[start:end]) if id is None else [id])]

    def spans(self, text: str) -> list[Span]:
        """The ids of `encode`, each with its place in the text."""
        if hasattr(self.steps, "spans"):
            return self.steps.spans(text)
        found: list[tuple[int, int, int, int]] = []
        word = 0
        for start, end, id in self._raw.parts(text):
            words = [[(id, start, end)]] if id is not None else self._words(text[start:end], start)
            for pieces in words:
                found += [(*piece, word) for piece in pieces]
                word += 1
        return [Span(*span) for span in found]

    def _words(self, text, offset):
        """The (id, start, end) of each word of a text that has no token to be found in the text as given."""
        clean, origins = self.steps.origins(text)
        for start, end, id in self._clean.parts(clean):
            words = [[(id, 0, end - start)]] if id is not None else self.steps.words(clean[start:end])
            for pieces in words:
                yield [(x, offset + origins[start + a][0], offset + origins[start + b - 1][1]) for x, a, b in pieces]

    def decode(self, ids: Iterable[int]) -> str:
        """Ids to text, as by the tokenizer itself; added tokens as they are. Raises InputError for an unknown id."""
        try:
            return self.steps.join([self.decoder[int(id)] for id in ids])
        except KeyError as error:
            raise InputError(f"there is no token id {error}: the vocabulary has ids 0 to {max(self.decoder)}") from None

    @property
    def LINES(self) -> str:
        return self.tokenizer.LINES

    def lines(self) -> list[str]:
        if self.changes_ids:
            raise InputError("this vocabulary has added tokens, which only transformers' files can express")
        return self.tokenizer.lines()


class _Finder:
    """Finds tokens in a text: the leftmost first, and of those that begin at one place the longest."""

    def __init__(self, ids, tokens):
        self.ids = {content: id for content, id in ids.items() if content}
        self.tokens = tokens
        self.pattern = re.compile("|".join(map(re.escape, sorted(self.ids, key=len, reverse=True))))

    def parts(self, text) -> Iterator[tuple[int, int, int | None]]:
        """(start, end, id) of each token and, with id None, of the texts between them."""
        done = 0
        for match in self.pattern.finditer(text) if self.ids else ():
            id = self.ids[match[0]]
            token, (start, end) = self.tokens[id], match.span()
            if token.single_word and (re.search(r"\w$", text[:start]) or re.match(r"\w", text[end:])):
                continue
            if token.lstrip:
                start = max(done, len(text[:start].rstrip()))
            if token.rstrip:
                end = len(text) - len(text[end:].lstrip())
            if done < start:
                yield done, start, None
            yield start, end, id
            done = end
        if done < len(text):
            yield done, len(text), None
