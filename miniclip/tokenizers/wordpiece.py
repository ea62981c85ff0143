"""ALIGN's tokenizer: BERT's WordPiece, from text to ids and back.

Four steps: clean the text, split it into words, remove accents and capitals, and cut each word into the longest pieces
that the vocabulary has (BERT, sec. 3; google-research/bert, tokenization.py). Equal to transformers' BertTokenizer for
uncased vocabularies; `bert_unicode` has its oddities with rarer characters.
"""

import functools
import json
import os
from collections.abc import Iterable
from typing import Any

import regex

from miniclip.errors import InputError
from miniclip.runtime.files import open_regular, write_atomically
from miniclip.tokenizer import Tokenizer
from miniclip.tokenizers import Cache, as_texts
from miniclip.tokenizers.bert_unicode import category, decompose, lower

PAD, UNK, CLS, SEP, MASK = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
CONTINUES = "##"  # begins a piece that is not the first of its word
JOINED = (".", "?", "!", ",", "n't", "'m", "'s", "'ve", "'re")  # to the word before (tokenizers, decoders/wordpiece.rs)
LONGEST_WORD = 100  # characters; a longer word is unknown

# Chinese is written without spaces: each character is a word (the blocks of CJK ideographs; like tokenizers, without
# 2b820 to 2b91f).
CHINESE = regex.compile(
    "[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002a6df\U0002a700-\U0002b81f\U0002b920-\U0002ceaf"
    "\U0002f800-\U0002fa1f]"
)


@functools.lru_cache(maxsize=1 << 14)
def clean(character, split_chinese=True):
    """The cleaned character: "" for a control, " " for any space, spaces around a Chinese character."""
    if character in "\t\n\r" or (character.isspace() and category(character) != "Cc"):
        return " "
    if character in "\0\ufffd" or category(character) in ("Cc", "Cf", "Co", "Cs"):
        return ""
    return f" {character} " if split_chinese and CHINESE.match(character) else character


def is_punctuation(character):
    """Whether a character is a word by itself: Unicode's punctuation, and ASCII without letters, digits and space."""
    if character < "\x7f":
        return character >= "!" and not character.isalnum()
    return category(character).startswith("P")


def normalize(text, lower_case=True, strip_accents=True, split_chinese=True):
    """A clean text, in lower case and without accents: "Élan, vital" -> "elan, vital"."""
    text = "".join(clean(character, split_chinese) for character in text)
    if strip_accents:
        text = "".join(character for character in decompose(text) if category(character) != "Mn")
    return "".join(map(lower, text)) if lower_case else text


def words(text):
    """Cut a clean text into words: "elan, vital" -> ["elan", ",", "vital"]."""
    return "".join(f" {character} " if is_punctuation(character) else character for character in text).split()


def split(text):
    """Clean a text and cut it into words, lower case and without accents: "Élan, vital" -> ["elan", ",", "vital"]."""
    return words(normalize(text))


def word_spans(text):
    """The (start, end) of each of the `words` of a clean text."""
    start = 0
    for end, character in enumerate(text + " "):
        if character.isspace() or is_punctuation(character):
            if start < end:
                yield start, end
            if end < len(text) and not character.isspace():
                yield end, end + 1
            start = end + 1


def join(pieces):
    """Pieces to text: they are joined to words, and words are separated by spaces, except before those in `JOINED`."""
    spaced = [piece if piece.startswith(JOINED) else f" {piece}".replace(f" {CONTINUES}", "") for piece in pieces]
    return "".join(pieces[:1] + spaced[1:])


class WordPiece:
    """Encodes texts with a vocabulary of pieces; a piece's id is its position. Safe to share between threads.

    ALIGN's vocabulary needs the defaults. Other vocabularies have capitals (lower_case=False) or accents
    (strip_accents; None: only without capitals), or Chinese words of several characters (split_chinese=False).

    Raises InputError if the vocabulary lacks [PAD], [UNK], [CLS] or [SEP].
    """

    LINES = "pieces"  # the name of `lines` in miniclip's own files

    def __init__(
        self,
        pieces: Iterable[str],
        *,
        lower_case: bool = True,
        strip_accents: bool | None = None,
        split_chinese: bool = True,
    ):
        self.options: dict[str, Any] = {
            "lower_case": lower_case,
            "strip_accents": strip_accents,
            "split_chinese": split_chinese,
        }
        self.decoder = dict(enumerate(pieces))
        self.encoder = {piece: id for id, piece in self.decoder.items()}
        missing = [piece for piece in (PAD, UNK, CLS, SEP) if piece not in self.encoder]
        if missing:
            raise InputError(f"not a vocabulary of word pieces: there is no {', '.join(missing)}")
        self.pad_id, self.unknown_id, self.start_id, self.end_id = map(self.encoder.get, (PAD, UNK, CLS, SEP))
        special = [piece for piece in (PAD, UNK, CLS, SEP, MASK) if piece in self.encoder]
        self._special = regex.compile(f"({'|'.join(map(regex.escape, special))})")
        self._words = Cache(self._longest_pieces)

    def __reduce__(self) -> Any:  # the cache cannot be pickled
        return functools.partial(WordPiece, **self.options), (list(self.decoder.values()),)

    def __len__(self):
        """The size V of the vocabulary."""
        return len(self.decoder)

    def encode(self, text: str) -> list[int]:
        """A text's ids, without [CLS] and [SEP] around them. If the text itself has such a name, it gets its id."""
        ids = []
        for i, part in enumerate(self._special.split(text)):
            found = () if i % 2 else words(self.normalize(part))
            ids += [self.encoder[part]] if i % 2 else [id for word in found for id in self._words[word]]
        return ids

    def encode_batch(self, texts: str | Iterable[str]) -> list[list[int]]:
        """The ids of each text, as by `encode`."""
        return [*map(self.encode, as_texts(texts))]

    def normalize(self, text: str) -> str:
        """A clean text, as this vocabulary needs it."""
        options = self.options
        if options["strip_accents"] is None:
            options = {**options, "strip_accents": options["lower_case"]}
        return normalize(text, **options)

    def _longest_pieces(self, word):
        """The longest pieces that fit, greedily from the left; [UNK] for the whole word if none fits."""
        ids, start = [], 0
        while start < len(word) <= LONGEST_WORD:
            ends = range(len(word), start, -1)
            pieces = ((end, CONTINUES * (start > 0) + word[start:end]) for end in ends)
            start, piece = next(((end, piece) for end, piece in pieces if piece in self.encoder), (len(word), UNK))
            if piece == UNK:
                return (self.unknown_id,)
            ids.append(self.encoder[piece])
        return tuple(ids) if ids else (self.unknown_id,)

    def decode(self, ids: Iterable[int]) -> str:
        """Ids to text, close to the original one, but cleaned: `join`. Raises InputError for an unknown id."""
        try:
            return join([self.decoder[int(id)] for id in ids])
        except KeyError as error:
            raise InputError(f"there is no token id {error}: the vocabulary has ids 0 to {len(self) - 1}") from None

    tokenize = Tokenizer.tokenize  # it uses only encode_batch, start_id, end_id and pad_id

    def lines(self) -> list[str]:
        """The pieces as text, one a line, in the order of their ids, after the options if they are not ALIGN's."""
        usual = {"lower_case": True, "strip_accents": None, "split_chinese": True}
        options = [] if self.options == usual else [json.dumps(self.options)]
        return [*options, *self.decoder.values()]

    @classmethod
    def from_lines(cls, lines: Iterable[str]) -> "WordPiece":
        """The inverse of `lines`: a piece never contains a space, but the options do."""
        first, *pieces = lines
        try:
            options = json.loads(first) if first.startswith('{"') and " " in first else {}
            return cls(pieces, **options) if options else cls([first, *pieces])
        except (ValueError, TypeError) as error:  # InputError is a ValueError
            raise InputError(f"not the lines of a vocabulary of word pieces: {error}") from error

    def save(self, path: str | os.PathLike) -> None:
        """Write the pieces as text, one a line, in the order of their ids: BERT's vocab.txt."""
        write_atomically(path, "".join(f"{piece}\n" for piece in self.decoder.values()).encode())

    @classmethod
    def load(cls, path: str | os.PathLike, **options: Any) -> "WordPiece":
        """Read a vocab.txt. Raises InputError that names the file if it is not one."""
        try:
            with open_regular(path) as file:
                lines = file.read().decode().replace("\r\n", "\n").removesuffix("\n").split("\n")
            return cls(lines, **options)
        except (OSError, ValueError) as error:  # InputError and UnicodeDecodeError are ValueErrors
            raise InputError(f"{path}: cannot be read as a vocabulary of word pieces: {error}") from error
