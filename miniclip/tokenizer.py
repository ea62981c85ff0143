"""CLIP's tokenizer: byte-level byte-pair encoding, from text to ids and back, and how its merges are learned.

Four steps: clean the text, split it into words, write each word as bytes, merge neighbours in the order that was
learned (Sennrich et al., 2016). Equal to the official clip/simple_tokenizer.py, and where that does what nobody would
guess, a comment says "official". The ids are

    256 bytes · 256 bytes that end a word · one id a merge, in order · <|startoftext|> · <|endoftext|>
"""

import math
import os
from collections import Counter
from collections.abc import Iterable
from itertools import chain, pairwise

import numpy as np
import regex

from miniclip.errors import InputError
from miniclip.tokenizers import PLAIN, as_texts, merges_file, merging, repair

START, END = "<|startoftext|>", "<|endoftext|>"
END_OF_WORD = "</w>"

# Official: each digit is a word, so is "'s" and the like; letters run together, so do other characters; and both
# special tokens are recognised in the text itself.
WORD = regex.compile(
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+", regex.IGNORECASE
)


def clean(text):
    """Repair encodings, undo HTML escapes twice (official: web captions have them), make spaces single, lower case."""
    if not PLAIN.fullmatch(text):
        text = repair(text)
    return " ".join(text.split()).lower()


def byte_symbols():
    """A printable character for each of the 256 bytes, in the order of their ids (as GPT-2's bytes_to_unicode).

    Printable bytes keep their character, others (controls, space, soft hyphen) get one from 256 on: merges are text.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(hidden)}


BYTE_SYMBOLS = byte_symbols()
SYMBOL_BYTES = {symbol: byte for byte, symbol in BYTE_SYMBOLS.items()}
FIXED = 2 * len(BYTE_SYMBOLS) + 2  # ids that every vocabulary has, whatever its merges


def spell(word):
    """A word in byte symbols: "hé" -> "hÃ©"."""
    return "".join(BYTE_SYMBOLS[byte] for byte in word.encode())


def split(text):
    """Cut a clean text into words, each written in byte symbols: "hé!" -> ["hÃ©", "!"]."""
    return [*map(spell, WORD.findall(text))]


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
    """Encodes texts with a list of merges [("a", "b"), ...], the first learned first. Safe to share between threads."""

    LINES = "merges"  # the key of `lines` in miniclip's own files

    def __init__(self, merges: Iterable[tuple[str, ...]]):
        self.merges = list(merges)
        symbols = [*BYTE_SYMBOLS.values()]
        symbols += [symbol + END_OF_WORD for symbol in symbols]
        symbols += [*map("".join, self.merges), START, END]
        self.decoder = dict(enumerate(symbols))
        self.encoder = {symbol: id for id, symbol in self.decoder.items()}  # official: of equal symbols the last id
        for pair in self.merges:
            if len(pair) != 2 or not self.encoder.keys() >= set(pair):
                raise InputError(f"not a vocabulary of merges: {' '.join(pair)!r} is not a pair of known symbols")
        self.ranks = {pair: rank for rank, pair in enumerate(self.merges)}
        self.start_id, self.end_id, self.pad_id = self.encoder[START], self.encoder[END], 0  # official: 0 is "!" too
        self._words, self._pieces = merging.caches(self, WORD.findall, spell, BYTE_SYMBOLS, END_OF_WORD)

    def __reduce__(self):
        return Tokenizer, (self.merges,)  # the cache cannot be pickled

    def __len__(self):
        """The size V of the vocabulary."""
        return len(self.decoder)

    def encode(self, text: str) -> list[int]:
        """A text's ids, without start and end: "Hello World!" -> [3306, 1002, 256] in the official vocabulary.

        "<|endoftext|>" in the text becomes the id of that name (official).
        """
        # plain: [id for word in split(clean(text)) for id in self._merge_word(word)]. No word contains a space, so
        # what is between two spaces has the same ids in every text: they are kept, each as the character of this code.
        return [*map(ord, "".join(map(self._pieces.__getitem__, clean(text).split(" "))))]

    def encode_batch(self, texts: str | Iterable[str]) -> list[list[int]]:
        """The ids of each text, as by `encode`, but the words that are new are merged together, which is faster."""
        return merging.encode_batch(texts, self.encode, self._pieces)

    def _merge_word(self, word):
        """A word's ids: join the pair that was learned first, everywhere in the word, until no pair is known."""
        if word in (START, END):
            return (self.encoder[word],)
        symbols = symbols_of(word)
        while len(symbols) > 1:
            pair = min(pairwise(symbols), key=lambda p: self.ranks.get(p, math.inf))  # unknown pairs come last
            if pair not in self.ranks:
                break
            symbols = merge(symbols, pair)
        return tuple(self.encoder[symbol] for symbol in symbols)

    def tokenize(self, texts: str | Iterable[str], context_length: int = 77, truncate: bool = False) -> np.ndarray:
        """A batch of ids: a str or a list of n of them -> (n, context_length) int32.

        Each row is start, the text's ids, end, then padding. A text with more than context_length - 2 ids raises
        InputError naming it; `truncate` drops its last ids instead, never the end token (clip/clip.py, tokenize).
        """
        texts = as_texts(texts)
        if not isinstance(context_length, (int, np.integer)) or context_length < 2:
            raise InputError(f"context_length is {context_length!r}, expected a whole number from 2, for start and end")
        rows = []
        for i, ids in enumerate(self.encode_batch(texts)):
            ids = [self.start_id, *ids, self.end_id]
            if len(ids) > context_length:
                if not truncate:
                    raise InputError(
                        f"text {i} has {len(ids)} tokens, start and end included, but the context length is "
                        f"{context_length}; shorten it or pass truncate=True: {texts[i][:200]!r}"
                    )
                ids = [*ids[: context_length - 1], self.end_id]
            rows.append(ids)
        # plain: [ids + [self.pad_id] * (context_length - len(ids)) for ids in rows]; here the whole batch at once
        batch = np.full((len(rows), context_length), self.pad_id, np.int32)  # (n, T)
        lengths = np.array([len(ids) for ids in rows], int)  # (n,)
        batch[np.arange(context_length) < lengths[:, None]] = [*chain.from_iterable(rows)]  # the mask is (n, T)
        return batch

    def decode(self, ids: Iterable[int]) -> str:
        """Ids to clean text: "hi!" gives "hi ! "; start, end, padding ("!") show too. Bytes not UTF-8 become U+FFFD.

        Raises InputError for an unknown id.
        """
        try:
            symbols = "".join(self.decoder[int(id)] for id in ids)
        except KeyError as error:
            raise InputError(f"there is no token id {error}: the vocabulary has ids 0 to {len(self) - 1}") from None
        text = bytes(SYMBOL_BYTES[symbol] for symbol in symbols).decode(errors="replace")  # "</w>" stays as it is
        return text.replace(END_OF_WORD, " ")

    def lines(self) -> list[str]:
        """The merges as text, a pair a line: what `from_lines` reads."""
        return [" ".join(pair) for pair in self.merges]

    @classmethod
    def from_lines(cls, lines: Iterable[str]) -> "Tokenizer":
        return cls(tuple(line.split()) for line in lines if line.strip())

    def save(self, path: str | os.PathLike) -> None:
        """Write the merges after a version line, gzipped if `path` ends in ".gz"."""
        merges_file.write(path, self.lines())

    @classmethod
    def load(cls, path: str | os.PathLike, vocab_size: int | None = None) -> "Tokenizer":
        """Read a file of merges: ours, OpenAI's bpe_simple_vocab_16e6.txt.gz, or Hugging Face's merges.txt.

        `vocab_size` is the number of ids that the model has; merges beyond them are left out (official: the file has
        262,144 merges, the models use the first 48,894). Raises InputError naming the file if it is not one.
        """
        lines = merges_file.read(path)
        wanted = len(lines) if vocab_size is None else vocab_size - FIXED
        if not 0 <= wanted <= len(lines):
            raise InputError(f"{path}: has {len(lines)} merges, but {vocab_size} ids need {wanted}")
        try:
            return cls.from_lines(lines[:wanted])
        except InputError as error:
            raise InputError(f"{path}: {error}") from None

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> "Tokenizer":
        """Learn merges: join the most frequent pair of neighbouring symbols, again and again (Sennrich et al., alg. 1).

        Stops at `vocab_size` ids (InputError below FIXED), or when no pair occurs twice. Of equally frequent pairs the
        alphabetically first wins: the same texts give the same merges everywhere. START and END are not words.
        """
        if vocab_size < FIXED:
            raise InputError(f"vocab_size is {vocab_size}, but bytes, start and end alone take {FIXED}")
        counts = Counter(word for text in texts for word in split(clean(text)) if word not in (START, END))
        words = {symbols_of(word): count for word, count in counts.items()}
        merges: list[tuple[str, ...]] = []
        while len(merges) < vocab_size - FIXED:
            # count all pairs of neighbours, each as often as its word occurs
            pairs: Counter[tuple[str, ...]] = Counter()
            for symbols, count in words.items():
                for pair in pairwise(symbols):
                    pairs[pair] += count
            best = min(pairs, key=lambda pair: (-pairs[pair], pair), default=None)
            if best is None or pairs[best] < 2:
                break
            # join the best pair in every word
            merges.append(best)
            words = {merge(symbols, best): count for symbols, count in words.items()}
        return cls(merges)
