"""CLIP's tokenizer: byte-level byte-pair encoding, from text to ids and back, and how its merges are learned.

Four steps: clean the text, split it into words, write each word as bytes, merge neighbours that were merged most
often in training (Sennrich et al., 2016). Equal to the official clip/simple_tokenizer.py, oddities included; those
are marked "official". Ids are laid out as

    256 bytes · 256 bytes that end a word · one id a merge, in order · <|startoftext|> · <|endoftext|>
"""

import gzip
import html
import os
import re
import zlib
from collections import Counter
from collections.abc import Iterable
from itertools import chain, pairwise, repeat

import ftfy
import regex

from miniclip import tokenizing
from miniclip.errors import InputError
from miniclip.files import open_regular, write_atomically

START, END = "<|startoftext|>", "<|endoftext|>"
END_OF_WORD = "</w>"

# Official: digits stand alone, "'s" and the like too, letters and the rest run together, and both
# specials are recognised in the text itself.
WORD = regex.compile(
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+", regex.IGNORECASE
)


# ASCII without controls or ampersands: nothing to mend, nothing escaped. (The re module is the faster one here.)
PLAIN = re.compile(r"[\t\n\r -%'-~]*")


def clean(text):
    """Mend broken encodings, undo HTML escapes twice (official: captions off the web need it), tidy spaces, lower."""
    if not PLAIN.fullmatch(text):
        text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split()).lower()


def byte_symbols():
    """A printable character for each of the 256 bytes, in the order of their ids (as GPT-2's bytes_to_unicode).

    Bytes that print keep their character; the others (controls, space, soft hyphen) take characters from 256 on.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(hidden)}


BYTE_SYMBOLS = byte_symbols()
SYMBOL_BYTES = {symbol: byte for byte, symbol in BYTE_SYMBOLS.items()}
FIXED = 2 * len(BYTE_SYMBOLS) + 2  # ids of every vocabulary, before any merge


def split(text):
    """Cut a clean text into words, each written in byte symbols: "hé!" -> ["hÃ©", "!"]."""
    return ["".join(BYTE_SYMBOLS[byte] for byte in word.encode()) for word in WORD.findall(text)]


def symbols_of(word):
    """A word as the symbols that merging starts from: "cat" -> ("c", "a", "t</w>")."""
    return (*word[:-1], word[-1] + END_OF_WORD)


def merge(symbols, pair):
    """Join each occurrence of `pair` from left to right: ("a", "b", "a", "b"), ("a", "b") -> ("ab", "ab")."""
    merged, i = [], 0
    while i < len(symbols):
        if symbols[i : i + 2] == pair:
            merged.append(symbols[i] + symbols[i + 1])
            i += 2
        else:
            merged.append(symbols[i])
            i += 1
    return tuple(merged)


class Tokenizer:
    """Encodes texts with a list of merges [("a", "b"), ...], the most frequent first. Safe to share between threads."""

    def __init__(self, merges: Iterable[tuple[str, str]]):
        self.merges = list(merges)
        symbols = [*BYTE_SYMBOLS.values()]
        symbols += [symbol + END_OF_WORD for symbol in symbols]
        symbols += map("".join, self.merges)
        symbols += [START, END]
        self.decoder = dict(enumerate(symbols))
        self.encoder = {symbol: id for id, symbol in self.decoder.items()}  # official: of two alike the later id
        for pair in self.merges:
            if len(pair) != 2 or not self.encoder.keys() >= set(pair):
                raise InputError(f"not a vocabulary of merges: {' '.join(pair)!r} is no pair of known symbols")
        self.ranks = {pair: rank for rank, pair in enumerate(self.merges)}
        self.start_id, self.end_id, self.pad_id = self.encoder[START], self.encoder[END], 0
        self._words, self._pieces = tokenizing.Cache(self._merge_word), tokenizing.Cache(self._merge_piece)

    def __reduce__(self):
        return Tokenizer, (self.merges,)  # the cache cannot be pickled

    def __len__(self):
        """The size V of the vocabulary."""
        return len(self.decoder)

    def encode(self, text: str) -> list[int]:
        """A text's ids, without start and end: "Hello World!" -> [3306, 1002, 256] in the official vocabulary.

        A "<|endoftext|>" that stands in the text becomes the id of that name (official).
        """
        # No word has a space in it: what stands between two of them has the same ids wherever it stands.
        return [*chain.from_iterable(map(self._pieces.__getitem__, clean(text).split(" ")))]

    def _merge_piece(self, piece):
        return tuple(id for word in split(piece) for id in self._words[word])

    def _merge_word(self, word):
        if word in (START, END):
            return (self.encoder[word],)
        symbols = symbols_of(word)
        while len(symbols) > 1:
            rank = min(map(self.ranks.get, pairwise(symbols), repeat(len(self.merges))))
            if rank == len(self.merges):  # no pair was ever merged
                break
            symbols = merge(symbols, self.merges[rank])
        return tuple(self.encoder[symbol] for symbol in symbols)

    def decode(self, ids: Iterable[int]) -> str:
        """Ids to text, words parted by spaces: close to what went in, but lower case and cleaned (as the official one).

        Bytes that are not UTF-8, as where a character was cut, become U+FFFD. Raises InputError for an unknown id.
        """
        try:
            text = "".join(self.decoder[int(id)] for id in ids)
        except KeyError as error:
            raise InputError(f"there is no token id {error}: the vocabulary has ids 0 to {len(self) - 1}") from None
        return bytes(SYMBOL_BYTES[symbol] for symbol in text).decode(errors="replace").replace(END_OF_WORD, " ")

    tokenize = tokenizing.tokenize

    def save(self, path: str | os.PathLike) -> None:
        """Write the merges as text, one pair a line below a version line, gzipped if `path` ends in ".gz"."""
        content = "\n".join(["#version: 0.2", *map(" ".join, self.merges), ""]).encode()
        write_atomically(path, gzip.compress(content, mtime=0) if os.fspath(path).endswith(".gz") else content)

    @classmethod
    def load(cls, path: str | os.PathLike, vocab_size: int | None = None) -> "Tokenizer":
        """Read a file of merges: ours, OpenAI's bpe_simple_vocab_16e6.txt.gz, or Hugging Face's merges.txt.

        `vocab_size` says how many ids the model has; merges beyond them are left out (official: the file holds
        262,144 merges, the models use the first 48,894). Raises InputError naming the file where it is not one.
        """
        try:
            with open_regular(path) as file:
                content = file.read()
            lines = (gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content).decode().split("\n")
        except (OSError, EOFError, ValueError, zlib.error) as error:
            raise InputError(f"{path}: cannot be read as a vocabulary of merges: {error}") from error
        if "#version" not in lines[0]:
            raise InputError(f"{path}: not a vocabulary of merges: line 1 has no #version")
        merges: list = [tuple(line.split()) for line in lines[1:] if line.strip()]
        wanted = len(merges) if vocab_size is None else vocab_size - FIXED
        if not 0 <= wanted <= len(merges):
            raise InputError(f"{path}: has {len(merges)} merges, but {vocab_size} ids need {wanted}")
        try:
            return cls(merges[:wanted])
        except InputError as error:
            raise InputError(f"{path}: {error}") from None

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> "Tokenizer":
        """Learn merges: join the most frequent pair of neighbouring symbols, again and again (Sennrich et al., alg. 1).

        Stops at `vocab_size` ids (InputError below FIXED), or when no pair occurs twice. Of equally frequent pairs the
        alphabetically first wins: the same texts give the same merges everywhere. START and END are no words.
        """
        if vocab_size < FIXED:
            raise InputError(f"vocab_size is {vocab_size}, but bytes, start and end alone take {FIXED}")
        counts = Counter(word for text in texts for word in split(clean(text)) if word not in (START, END))
        words = {symbols_of(word): count for word, count in counts.items()}
        merges: list[tuple[str, str]] = []
        while len(merges) < vocab_size - FIXED:
            pairs: Counter[tuple[str, str]] = Counter()
            for symbols, count in words.items():
                for pair in pairwise(symbols):
                    pairs[pair] += count
            best = min(pairs, key=lambda pair: (-pairs[pair], pair), default=None)
            if best is None or pairs[best] < 2:
                break
            merges.append(best)
            words = {merge(symbols, best): count for symbols, count in words.items()}
        return cls(merges)
