"""Many texts at once: all their words that were not seen before are merged together, in NumPy.

`Tokenizer.encode` and `Tokenizer._merge_word` say what the ids are. Here they are the same, found faster: one round of
merging is one pass through all words, so that a thousand words take a tenth of the time.

Ids are kept as text, each as the character with this code: no object of Python is joined and cut as fast as a str.
"""

import functools
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from miniclip.errors import InputError
from miniclip.tokenizers import PLAIN, Cache, as_texts, repair

FEW_TEXTS, FEW = 8, 32  # texts, and new words, that take as long at once as one by one
MANY = 2048  # words that take as long one by one as making the tables for NumPy
CHARACTERS = 1 << 20  # of the texts that are encoded together, which limits the memory
TEXT_END, PIECE_END = "\0", "\1"  # no clean text has these characters, so they and their ids can be marks


def encode_batch(texts: str | Iterable[str], encode: Callable, pieces: Cache) -> list[list[int]]:
    """[encode(text) for text in texts]. `pieces` has the ids of what is between two spaces of a clean text."""
    texts = as_texts(texts)
    if len(texts) < FEW_TEXTS:
        return [*map(encode, texts)]
    rows: list[list[int]] = []
    for part in parts(texts):
        # plain: [clean(text).split(" ") for text in part], here as one list with a mark after each text
        lower = [(text if PLAIN.fullmatch(text) else repair(text)).lower() for text in part]
        ids = codes("".join(pieces.all(f" {TEXT_END} ".join([*lower, ""]).split())))
        ends = np.flatnonzero(ids == ord(pieces[TEXT_END])).tolist()
        ids = ids.tolist()
        rows += [ids[start:end] for start, end in zip([0, *(end + 1 for end in ends)], ends)]
    return rows


def parts(texts: list[str]) -> Iterator[list[str]]:
    """The texts in lists of about CHARACTERS characters."""
    part, size = [], 0
    for text in texts:
        part.append(text)
        size += len(text)
        if size >= CHARACTERS:
            yield part
            part, size = [], 0
    yield part


def codes(text: str) -> np.ndarray:
    """The codes of a text's characters: a str of length n -> (n,) uint32."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


def characters(codes: np.ndarray) -> str:
    """The text of characters with these codes."""
    return codes.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")


def caches(tokenizer: Any, find: Callable, spell: Callable, byte_symbols: dict[int, str], end_of_word: str):
    """Two caches of ids for a Tokenizer: {word: ids} and {piece: ids}, where find(piece) are its words.

    spell(word) is the word as `Tokenizer._merge_word` takes it. Raises InputError if there are too many ids.
    """

    if len(tokenizer) > sys.maxunicode:
        raise InputError(f"the vocabulary has {len(tokenizer)} ids, expected at most {sys.maxunicode}")

    def merge_word(word):
        return "".join(map(chr, tokenizer._merge_word(spell(word))))

    def merge_piece(piece):
        return "".join(map(words.__getitem__, find(piece)))

    def merge_pieces(pieces):
        return "".join(words.all(find(f" {PIECE_END} ".join(pieces)))).split(words[PIECE_END])

    words = Cache(merge_word, Merger(tokenizer, merge_word, byte_symbols, end_of_word))
    return words, Cache(merge_piece, merge_pieces)


class Merger:
    """Merges many words with the merges of a Tokenizer; `one` merges one of them."""

    def __init__(self, tokenizer: Any, one: Callable, byte_symbols: dict[int, str], end_of_word: str):
        self.tokenizer, self.one, self.byte_symbols, self.end_of_word = tokenizer, one, byte_symbols, end_of_word
        self.count = 0  # of words so far

    def __call__(self, words: list[str]) -> list[str]:
        """The ids of each word: [one(word) for word in words]."""
        self.count += len(words)
        if len(words) < FEW or self.count < MANY:
            return [*map(self.one, words)]
        names = [self.tokenizer.decoder[id] for id in (self.tokenizer.start_id, self.tokenizer.end_id)]
        others = [word for word in words if word not in names]
        ids, word = self._merge(*self._symbols(others))
        end = len(self.tokenizer)  # no token has this id
        ids = np.insert(ids, np.cumsum(np.bincount(word, minlength=len(others))), end)
        merged = iter(characters(ids).split(chr(end)))
        return [self.one(word) if word in names else next(merged) for word in words]

    @functools.cached_property
    def _tables(self):
        """What is looked up for many symbols at once: (keys, joined, slots, letters). M pairs, V ids.

        keys     (M + 1,), left * V + right for the ids of each pair, best rank first; then one that no pair has
        joined   (M,), the id that each pair is joined to
        slots    a hash table of the pairs: each is in the first slot from `_slot` on that was free; others have M
        letters  (2, 256), the id of each byte: in a word, and at its end
        """
        encoder, ranks = self.tokenizer.encoder, self.tokenizer.ranks
        best_first = sorted(ranks, key=ranks.__getitem__)
        joined = np.array([encoder[a + b] for a, b in best_first], np.int32)
        keys = np.array([*(encoder[a] * len(self.tokenizer) + encoder[b] for a, b in best_first), -1])
        slots = np.full(1 << (4 * len(keys)).bit_length(), len(joined), np.int32)
        waiting, slot = np.arange(len(joined)), _slot(keys, len(slots))
        while len(waiting):
            free = waiting[slots[slot[waiting]] == len(joined)]
            slots[slot[free]] = free  # if several pairs want a slot, one gets it
            waiting = waiting[slots[slot[waiting]] != waiting]
            slot[waiting] = (slot[waiting] + 1) % len(slots)
        symbols = [self.byte_symbols[byte] for byte in range(256)]
        ends = [symbol + self.end_of_word for symbol in symbols]
        letters = np.array([[encoder[symbol] for symbol in row] for row in (symbols, ends)], np.int32)
        return keys, joined, slots, letters

    def _pairs(self, left, right):
        """The numbers of pairs of ids, a better pair has a smaller one, and M is for none: (n,), (n,) -> (n,)."""
        keys, joined, slots, _ = self._tables
        key = left * np.int64(len(self.tokenizer)) + right
        slot = _slot(key, len(slots))
        pair = slots[slot]
        wrong = np.flatnonzero((keys[pair] != key) & (pair != len(joined)))
        while len(wrong):
            slot[wrong] = (slot[wrong] + 1) % len(slots)
            pair[wrong] = slots[slot[wrong]]
            wrong = wrong[(keys[pair[wrong]] != key[wrong]) & (pair[wrong] != len(joined))]
        return pair

    def _symbols(self, words):
        """(the ids of the bytes of all words one after another, the word that each is of), both (S,)."""
        *_, letters = self._tables
        data = np.frombuffer("".join([f"{word}\n" for word in words]).encode(), np.uint8)  # no word has a line break
        is_break = data == ord("\n")
        word, is_end = np.cumsum(is_break, dtype=np.int32), np.append(is_break[1:], False).astype(np.uint8)
        return letters[is_end, data][~is_break], word[~is_break]

    def _merge(self, ids, word):
        """Ids and words as from `_symbols`, after merging."""
        _, joined, _, _ = self._tables
        none = len(joined)

        def update(places):  # pairs that begin here, if the next symbol is of the same word
            places = places[(places >= 0) & (places + 1 < len(ids))]
            places = places[word[places] == word[places + 1]]
            pair[places] = self._pairs(ids[places], ids[places + 1])

        pair = np.full(len(ids), none, np.int32)  # of each symbol and the next one
        update(np.arange(len(ids)))
        done = [(ids[:0], word[:0])]
        while len(ids):
            # the best pair in each word; words without a pair that is known are done
            begins = np.flatnonzero(np.diff(word, prepend=-1))
            best = np.repeat(np.minimum.reduceat(pair, begins), np.diff(begins, append=len(ids)))  # (S,)
            more = best != none
            done.append((ids[~more], word[~more]))
            ids, word, pair, best = ids[more], word[more], pair[more], best[more]
            # join it everywhere in the word: the left symbol becomes the joined one, the right one goes
            left = _apart(np.flatnonzero(pair == best))
            ids[left], pair[left] = joined[pair[left]], none
            stays = np.ones(len(ids), bool)
            stays[left + 1] = False
            ids, word, pair = ids[stays], word[stays], pair[stays]
            # the joined symbols make new pairs, with the symbols before and after them
            left -= np.arange(len(left))  # where they are now
            update(np.concatenate([left - 1, left]))
        ids, word = map(np.concatenate, zip(*done))
        order = np.argsort(word, kind="stable")
        return ids[order], word[order]


def _slot(key, slots):
    """The first slot of keys in a hash table of 2**k slots: the highest bits of a product (Knuth, TAOCP 6.4)."""
    return (key * np.int64(0x9E3779B97F4A7C15 - 2**64) >> 40) % slots


def _apart(places):
    """Places of equal pairs without those that overlap the pair before, as in "aaa": of 3, 4, 5, 9 -> 3, 5, 9."""
    index = np.arange(len(places))
    run = np.maximum.accumulate(np.where(np.diff(places, prepend=-2) == 1, 0, index))  # where its run begins
    return places[(index - run) % 2 == 0]
