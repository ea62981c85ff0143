"""SigLIP's tokenizer: a cleaned text, cut by a SentencePiece model. Equal to transformers' SiglipTokenizer.

Builds on the package sentencepiece (SentencePiece, Kudo and Richardson, 2018), which reads the model, a file
spiece.model, and cuts texts by it. A text is cleaned first: lower case, no punctuation, single spaces (big_vision,
prompt_engineering.py, canonicalize). OpenCLIP cleans it a little differently: it makes an underscore a space.
"""

import base64
import functools
import json
import os
import re
import string
from collections.abc import Iterable
from typing import Any

import numpy as np

from miniclip.errors import InputError
from miniclip.runtime.files import open_regular, write_atomically
from miniclip.runtime.installation import install
from miniclip.tokenizers import as_texts
from miniclip.tokenizers.rows import batch_of

EOS, UNK = "</s>", "<unk>"
UNDERLINE = "▁"  # a space, in pieces
WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


def canonicalize(text, lower_case=True):
    """A text in lower case, without ASCII's punctuation and with single spaces: "A T-shirt!" -> "a tshirt"."""
    text = (text.lower() if lower_case else text).translate(WITHOUT_PUNCTUATION)
    return re.sub(r"\s+", " ", text).strip()


def library():
    """The package sentencepiece. Raises InputError if it is not installed."""
    try:
        import sentencepiece
    except ImportError as error:
        raise InputError(f"SigLIP's tokenizer needs sentencepiece: {install('siglip')}") from error
    return sentencepiece


class SentencePiece:
    """Encodes texts by a SentencePiece model, the bytes of its file. Safe to share between threads.

    lower_case  whether the vocabulary has no capitals · pad  the token that pads rows, by default the end token

    Raises InputError if the bytes are not a model, if it lacks </s>, <unk> or `pad`, and without sentencepiece.
    """

    LINES = "sentencepiece"  # the name of `lines` in miniclip's own files
    MAY_BE_SMALLER = True  # than its model's table of tokens

    def __init__(self, model: bytes, *, lower_case: bool = True, pad: str = EOS):
        self.model = bytes(model)
        self.options: dict[str, Any] = {"lower_case": lower_case, "pad": pad}
        self._processor = library().SentencePieceProcessor()
        try:
            self._processor.LoadFromSerializedProto(self.model)
        except (RuntimeError, TypeError) as error:
            raise InputError(f"not a SentencePiece model: {str(error).splitlines()[0]}") from error
        self.decoder = {id: self._processor.IdToPiece(id) for id in range(self._processor.GetPieceSize())}
        self.encoder = {piece: id for id, piece in self.decoder.items()}
        missing = [piece for piece in (EOS, UNK, pad) if piece not in self.encoder]
        if missing:
            raise InputError(f"not a vocabulary of SigLIP: there is no {', '.join(missing)}")
        self.end_id, self.unknown_id, self.pad_id = (self.encoder[piece] for piece in (EOS, UNK, pad))
        self._special = {EOS, UNK, pad}
        self._split = re.compile(f"({'|'.join(map(re.escape, sorted(self._special, key=len, reverse=True)))})")
        self._unknown_length = len(self._processor.encode(UNK))

    def __reduce__(self) -> Any:
        return functools.partial(SentencePiece, **self.options), (self.model,)

    def __len__(self):
        """The size V of the vocabulary."""
        return len(self.decoder)

    def encode(self, text: str) -> list[int]:
        """A text's ids, without </s>. If the text itself has the name of a special token, it gets its id.

        (transformers, tokenization_siglip.py: the text is cut at special tokens, and what is between them is cleaned.)
        """
        parts = self._split.split(UNDERLINE + text.replace(UNDERLINE, " "))
        ids: list[int] = []
        for i, part in enumerate(parts):
            if i % 2:
                ids.append(self.encoder[part])
                continue
            found = self._encode(part)
            if i == 0 and len(parts) > 1 and [self.decoder[id] for id in found] == [UNDERLINE]:
                continue
            ids += found
        return ids

    def _encode(self, text):
        # a space at the beginning of a text would be dropped, so something else is there first
        try:
            ids = self._processor.encode(UNK + canonicalize(text, self.options["lower_case"]))
        except (UnicodeEncodeError, RuntimeError) as error:  # of half of a pair of surrogates
            raise InputError(f"{text[:200]!r} has a character that is no text") from error
        return ids[self._unknown_length :] if len(ids) >= self._unknown_length else ids

    def encode_batch(self, texts: str | Iterable[str]) -> list[list[int]]:
        """The ids of each text, as by `encode`."""
        return [*map(self.encode, as_texts(texts))]

    def tokenize(self, texts: str | Iterable[str], context_length: int = 64, truncate: bool = False) -> np.ndarray:
        """A batch of ids: a str or a list of n of them -> (n, context_length) int32.

        Each row is the text's ids, </s>, then padding. A text with more than context_length - 1 ids raises InputError
        naming it; `truncate` drops its last ids instead.
        """
        texts = as_texts(texts)
        return batch_of(texts, self.encode_batch(texts), self.row, context_length, 1, self.pad_id, truncate)

    def row(self, ids: list[int]) -> list[int]:
        """The ids with </s> after them, unless they end with it already."""
        return ids if ids[-1:] == [self.end_id] else [*ids, self.end_id]

    def decode(self, ids: Iterable[int]) -> str:
        """Ids to a clean text. Raises InputError for an unknown id."""
        try:
            return self.join([self.decoder[int(id)] for id in ids])
        except KeyError as error:
            raise InputError(f"there is no token id {error}: the vocabulary has ids 0 to {len(self) - 1}") from None

    def join(self, pieces: list[str]) -> str:
        """Pieces to text; special tokens stay as they are (transformers, `convert_tokens_to_string`)."""
        text, after_special = "", False
        current: list[str] = []
        for piece in pieces:
            if piece in self._special:
                text += ("" if after_special else " ") + self._processor.decode(current) + piece
                current = []
            else:
                current.append(piece)
            after_special = piece in self._special
        return (text + self._processor.decode(current)).strip()

    def lines(self) -> list[str]:
        """The options and the model as text: what `from_lines` reads."""
        return [json.dumps(self.options), base64.b64encode(self.model).decode()]

    @classmethod
    def from_lines(cls, lines: Iterable[str]) -> "SentencePiece":
        try:
            options, model = lines
            return cls(base64.b64decode(model), **json.loads(options))
        except (ValueError, TypeError) as error:
            raise InputError(f"not the lines of a SentencePiece model: {error}") from error

    def save(self, path: str | os.PathLike) -> None:
        """Write the model: transformers' spiece.model."""
        write_atomically(path, self.model)

    @classmethod
    def load(cls, path: str | os.PathLike, **options: Any) -> "SentencePiece":
        """Read a spiece.model. Raises InputError that names the file if it is not one."""
        try:
            with open_regular(path) as file:
                return cls(file.read(), **options)
        except (OSError, ValueError) as error:  # InputError is a ValueError
            raise InputError(f"{path}: cannot be read as a SentencePiece model: {error}") from error

    def steps(self) -> "Steps":
        """What `WithAddedTokens` asks of a tokenizer."""
        return Steps(self)


class Steps:
    """The steps of a SentencePiece for `WithAddedTokens`, which adds no tokens to it."""

    found_as_words = ()
    closed = True  # no tokens can be added

    def __init__(self, tokenizer: SentencePiece):
        self.own, self.join = tuple(tokenizer._special), tokenizer.join

    def normalize(self, text: str) -> str:
        return text

    def spans(self, text: str) -> Any:
        raise InputError("a SentencePiece tokenizer does not say where its tokens are in a text: ask for no offsets")
