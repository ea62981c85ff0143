"""XLM-RoBERTa's tokenizer: words cut into pieces of many languages. Equal to transformers 5's XLMRobertaTokenizer.

A file has pieces with their scores (a unigram model, Kudo, 2018) and a table that normalises characters: a
tokenizer.json, or a SentencePiece model. Whatever else such a file says, a text is cut at white space, each word begins
with "▁", and a row is <s>, the text, </s> (tokenization_xlm_roberta.py).
"""

import base64
import json
import os
import struct
from collections.abc import Iterable
from typing import Any

from miniclip.errors import InputError
from miniclip.runtime.files import open_regular
from miniclip.tokenizers.added import AddedToken
from miniclip.tokenizers.tokenizer_json import TokenizerJson

BOS, PAD, EOS, UNK, MASK = "<s>", "<pad>", "</s>", "<unk>", "<mask>"
FIRST = 3  # pieces of a SentencePiece model, its <unk>, <s> and </s>; fairseq has four tokens instead, in another order

Pieces = list[tuple[str, float]]  # with their scores


class XLMRoberta(TokenizerJson):
    """A TokenizerJson of what `content` made, with XLM-RoBERTa's names of the special tokens."""

    LINES = "xlm-roberta.json"
    EXTRA = "multilingual"

    def __init__(self, content: str, *, pad: str = PAD, eos: str = EOS, bos: str = BOS, left: bool = False):
        super().__init__(content, pad=pad, eos=eos, bos=bos, left=left)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "XLMRoberta":
        """Read a tokenizer.json or a sentencepiece.bpe.model. Raises InputError that names a file that is neither."""
        try:
            pieces, characters, added = read(path, {"bos": BOS, "pad": PAD, "eos": EOS, "unk": UNK, "mask": MASK})
            usual = {token: AddedToken.of(token, special=True) for token in (BOS, PAD, EOS, UNK, MASK)}
            return cls(content(pieces, characters, {**usual, **{str(token): token for token in added}}.values()))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:  # InputError is a ValueError
            raise InputError(f"{path}: not the vocabulary of an XLM-RoBERTa: {error}") from error


def read(path: str | os.PathLike, names: dict[str, str]) -> tuple[Pieces, str | None, list[AddedToken]]:
    """A file's pieces with their scores, its table of characters, and its added tokens; `names` are the special ones'.

    Raises OSError or ValueError, KeyError, TypeError, AttributeError for a file that cannot be read.
    """
    with open_regular(path) as file:
        data = file.read()
    if os.fspath(path).endswith(".model"):
        return *read_sentencepiece(data, names), []
    parsed = json.loads(data.decode())
    return *read_json(parsed), [AddedToken.of(token) for token in parsed.get("added_tokens") or ()]


def content(
    pieces: Pieces,
    characters: str | None,
    added: Iterable[AddedToken] = (),
    *,
    prefix: bool = True,
    bos: str = BOS,
    eos: str = EOS,
) -> str:
    """The content of a tokenizer.json, of pieces with their scores and a table of characters in base 64, if any.

    `added` tokens, all of them pieces, are found in a text before it is cut; `prefix`: words begin with "▁".
    """
    ids = {piece: id for id, (piece, _) in reversed([*enumerate(pieces)])}
    spaces = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always" if prefix else "never", "split": True}
    ends = {name: {"id": name, "ids": [ids[name]], "tokens": [name]} for name in (bos, eos) if name in ids}
    start, end = ({"SpecialToken": {"id": name, "type_id": 0}} for name in (bos, eos))
    first, second = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    whole = {
        "version": "1.0",
        "added_tokens": sorted(({"id": ids[str(x)], **vars(x)} for x in added), key=lambda token: token["id"]),
        "normalizer": characters and {"type": "Precompiled", "precompiled_charsmap": characters},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, spaces]},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [start, first, end],
            "pair": [start, first, end, end, second, end],
            "special_tokens": ends,
        },
        "decoder": spaces,
        "model": {"type": "Unigram", "unk_id": FIRST, "vocab": pieces, "byte_fallback": False},
    }
    return json.dumps(whole, ensure_ascii=False)


def prefixes(content: str) -> bool:
    """Whether words begin with "▁": the `prefix` of `content`."""
    spaces = json.loads(content)["pre_tokenizer"]["pretokenizers"][1]
    return spaces["prepend_scheme"] == "always"


def read_json(parsed: dict[str, Any]) -> tuple[Pieces, str | None]:
    """The pieces and the table of characters of a tokenizer.json. Raises InputError if it is of another kind."""
    model, normalizer = parsed["model"], parsed.get("normalizer") or {}
    if model.get("type", "Unigram") != "Unigram" or not isinstance(model["vocab"], list):
        raise InputError(f"it is a {model.get('type')}, expected a Unigram")
    tables = [x for x in normalizer.get("normalizers", [normalizer]) if x.get("type") == "Precompiled"]
    pieces = [(str(piece), float(score)) for piece, score in model["vocab"]]
    return pieces, tables[0]["precompiled_charsmap"] if tables else None


def read_sentencepiece(model: bytes, names: dict[str, str]) -> tuple[Pieces, str | None]:
    """The same of a SentencePiece model, with the ids that fairseq gave its pieces (XLMRobertaConverter).

    `names` are those of the special tokens: <s>, <pad>, </s>, <unk> come before the pieces, and <mask> after them.
    Raises InputError if it is not one.
    """
    try:
        pieces: Pieces = []
        characters = b""
        for number, value in _fields(model):
            if number == 1:  # ModelProto.pieces
                piece = dict(_fields(value))
                pieces.append((piece[1].decode(), struct.unpack("<f", piece[2])[0] if 2 in piece else 0.0))
            elif number == 3:  # ModelProto.normalizer_spec
                characters = dict(_fields(value)).get(2, b"")
    except (IndexError, KeyError, TypeError, ValueError, AttributeError, struct.error) as error:
        raise InputError(f"not a SentencePiece model: {error!r}") from error
    if len(pieces) <= FIRST:
        raise InputError(f"not a SentencePiece model: it has {len(pieces)} pieces")
    first = [(names[name], 0.0) for name in ("bos", "pad", "eos", "unk")]
    table = base64.b64encode(characters).decode() if characters else None
    return [*first, *pieces[FIRST:], (names["mask"], 0.0)], table


def _fields(message):
    """(number, value) of each field of a message of Protocol Buffers: an int, or bytes (its "encoding" page)."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at, value, shift = at + 1, value | (byte & 127) << shift, shift + 7
            if byte < 128:
                return value

    while at < len(message):
        key = varint()
        kind = key & 7
        if kind == 0:
            yield key >> 3, varint()
            continue
        size = varint() if kind == 2 else {1: 8, 5: 4}[kind]
        if at + size > len(message):
            raise ValueError("it is cut off")
        yield key >> 3, message[at : at + size]
        at += size
