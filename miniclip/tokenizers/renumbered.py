"""CLIP's tokenizer with other ids: a vocab.json may number its tokens in any order, and leave some out."""

from collections.abc import Iterable

from miniclip.errors import InputError
from miniclip.tokenizer import END, START, Tokenizer
from miniclip.tokenizers.steps import join_bytes


class Renumbered:
    """A Tokenizer whose tokens have the ids {token: id}; a byte that has none gets the id of `unknown`.

    Raises InputError if there are no ids for the start, the end, the unknown token or a merge.
    """

    tokenize = Tokenizer.tokenize  # it uses only encode_batch, start_id, end_id and pad_id
    LINES = Tokenizer.LINES

    def __init__(self, tokenizer: Tokenizer, ids: dict[str, int], unknown: str = END):
        made = ["".join(pair) for pair in tokenizer.merges]
        missing = [token for token in (START, END, unknown, *made) if token not in ids]
        if missing:
            raise InputError(f"the vocabulary has no {missing[0]!r}, which the tokenizer can make or needs")
        self.tokenizer, self.unknown = tokenizer, unknown
        self.encoder, self.decoder = ids, {id: token for token, id in ids.items()}
        self.numbers = [ids.get(token, ids[unknown]) for token in tokenizer.decoder.values()]
        self.start_id, self.end_id, self.pad_id = ids[START], ids[END], tokenizer.pad_id

    def __len__(self) -> int:
        """The size V of the vocabulary."""
        return len(self.decoder)

    def encode(self, text: str) -> list[int]:
        """A text's ids, without start and end."""
        return [self.numbers[id] for id in self.tokenizer.encode(text)]

    def encode_batch(self, texts: str | Iterable[str]) -> list[list[int]]:
        """The ids of each text, as by `encode`."""
        return [[self.numbers[id] for id in ids] for ids in self.tokenizer.encode_batch(texts)]

    def decode(self, ids: Iterable[int]) -> str:
        """Ids to clean text, as `Tokenizer.decode`. Raises InputError for an unknown id."""
        try:
            return join_bytes([self.decoder[int(id)] for id in ids])
        except KeyError as error:
            raise InputError(f"there is no token id {error} in the vocabulary") from None

    def lines(self) -> list[str]:
        raise InputError("this vocabulary has ids of its own, which only transformers' files can express")
