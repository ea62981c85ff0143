"""The steps of CLIP's and ALIGN's tokenizers one by one, with the place of every piece in the text.

`Tokenizer` and `WordPiece` take these steps at once, which is faster and is what one reads. Here each step can be asked
for alone: added tokens are found between two of them, and Hugging Face's offsets need to know what became of each
character.
"""

import difflib
from collections.abc import Iterator

from miniclip.tokenizer import END, END_OF_WORD, START, SYMBOL_BYTES, WORD, Tokenizer, clean
from miniclip.tokenizers import PLAIN, repair
from miniclip.tokenizers.wordpiece import CLS, CONTINUES, MASK, PAD, SEP, UNK, WordPiece, join, word_spans, words

Places = list[tuple[int, int]]  # for each character, the (start, end) of what it was made from


class BytePairs:
    """The steps of a Tokenizer or of a Renumbered one."""

    own = (START, END)  # the special tokens that the tokenizer itself finds in a text
    found_as_words = (
        own  # those of them that `words` finds (official: not after other punctuation, as in "!<|endoftext|>")
    )

    def __init__(self, tokenizer):
        self.tokenizer: Tokenizer = getattr(tokenizer, "tokenizer", tokenizer)
        self.numbers = getattr(tokenizer, "numbers", range(len(self.tokenizer)))  # its ids -> the ids to return

    normalize = staticmethod(clean)
    join = staticmethod(lambda tokens: join_bytes(tokens))

    def encode(self, text: str) -> list[int]:
        """The ids of a clean text."""
        return [self.numbers[ord(id)] for word in WORD.findall(text) for id in self.tokenizer._words[word]]

    def words(self, text: str) -> Iterator[list[tuple[int, int, int]]]:
        """For each word of a clean text, [(id, start, end), ...]. Pieces of one character all have its place."""
        for match in WORD.finditer(text):
            owners = [i for i, character in enumerate(match[0], match.start()) for _ in character.encode()]
            pieces, done = [], 0
            for id in map(ord, self.tokenizer._words[match[0]]):
                size = len(self.tokenizer.decoder[id].removesuffix(END_OF_WORD))  # bytes
                pieces.append((self.numbers[id], owners[done], owners[done + size - 1] + 1))
                done += size
            yield pieces

    def origins(self, text: str) -> tuple[str, Places]:
        """A text cleaned, and for each character the place that it comes from.

        What was repaired or unescaped comes from the whole stretch that differs.
        """
        repaired = text if PLAIN.fullmatch(text) else repair(text)
        places = _align(text, repaired)
        cleaned: Places = []
        space = None  # the place of the spaces before the next character
        for character, place in zip(repaired, places):
            if character.isspace():
                space = (space or place)[0], place[1]
                continue
            cleaned += [space] if space and cleaned else []
            cleaned += [place] * len(character.lower())
            space = None
        return clean(text), cleaned


def join_bytes(tokens: list[str]) -> str:
    """Tokens to text, as `Tokenizer.decode`; a token with characters that are no byte symbols stays as it is."""
    parts = [bytes(map(SYMBOL_BYTES.__getitem__, x)) if SYMBOL_BYTES.keys() >= set(x) else x.encode() for x in tokens]
    return b"".join(parts).decode(errors="replace").replace(END_OF_WORD, " ")


class WordPieces:
    """The steps of a WordPiece."""

    own = (PAD, UNK, CLS, SEP, MASK)  # the special tokens that the tokenizer itself finds in a text
    found_as_words = ()

    def __init__(self, tokenizer: WordPiece):
        self.tokenizer = tokenizer
        self.normalize = tokenizer.normalize

    join = staticmethod(join)

    def encode(self, text: str) -> list[int]:
        """The ids of a clean text."""
        return [id for word in words(text) for id in self.tokenizer._words[word]]

    def words(self, text: str) -> Iterator[list[tuple[int, int, int]]]:
        """For each word of a clean text, [(id, start, end), ...]."""
        for start, end in word_spans(text):
            ids = self.tokenizer._words[text[start:end]]
            if ids == (self.tokenizer.unknown_id,):
                yield [(*ids, start, end)]
                continue
            pieces = []
            for i, id in enumerate(ids):
                size = len(self.tokenizer.decoder[id]) - len(CONTINUES) * (i > 0)
                pieces.append((id, start, start + size))
                start += size
            yield pieces

    def origins(self, text: str) -> tuple[str, Places]:
        """A text cleaned, and for each character the place that it comes from."""
        clean = self.normalize(text)
        places = [(i, i + 1) for i, character in enumerate(text) for _ in self.normalize(character)]
        return clean, places if len(places) == len(clean) else _align(text, clean)


def _align(before: str, after: str) -> Places:
    """For each character of `after`, its place in `before`: its own, or the whole stretch if the two differ there."""
    if before == after:
        return [(i, i + 1) for i in range(len(after))]
    places: Places = []
    for kind, a, b, c, d in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        one_by_one = kind == "equal" or b - a == d - c
        places += [(a + i, a + i + 1) if one_by_one else (a, b) for i in range(d - c)]
    return places
