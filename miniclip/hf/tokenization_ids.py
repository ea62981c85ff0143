"""From ids back to tokens and texts: a part of `miniclip.hf`'s tokenizers."""

from typing import Any

from miniclip.errors import InputError
from miniclip.hf.special_tokens import SpecialTokens
from miniclip.hf.text_inputs import id_list, names


class Ids(SpecialTokens):
    """The methods of a tokenizer that take ids or tokens."""

    def decode(
        self, token_ids: Any, skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool | None = None
    ) -> Any:
        """Ids to a text, a list of rows to a list of texts. Raises InputError for an unknown id.

        `clean_up_tokenization_spaces` is ignored.
        """
        ids = token_ids.tolist() if hasattr(token_ids, "tolist") else token_ids
        if isinstance(ids, (list, tuple)) and ids and hasattr(ids[0], "__len__"):
            return [self.decode(row, skip_special_tokens) for row in ids]
        ids = id_list("token_ids", ids)
        special = self.tokenizer.special if skip_special_tokens else ()
        return self.tokenizer.decode(id for id in ids if self.tokenizer.decoder.get(id) not in special).strip()

    def batch_decode(
        self, sequences: Any, skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool | None = None
    ) -> list[str]:
        """Rows of ids to a list of texts."""
        texts = self.decode(sequences, skip_special_tokens)
        return [texts] if isinstance(texts, str) else texts

    def convert_tokens_to_ids(self, tokens: Any) -> Any:
        """A token, or a list of tokens, to ids; an unknown token to the id of `unk_token`."""
        if isinstance(tokens, str):
            return self._id(tokens)
        if not isinstance(tokens, (list, tuple)):
            raise InputError(f"tokens is {tokens!r}, expected a str or a list of str")
        return [self.convert_tokens_to_ids(token) for token in tokens]

    def convert_ids_to_tokens(self, ids: Any, skip_special_tokens: bool = False) -> Any:
        """An id, or a list of ids, to tokens. Raises InputError for an unknown id."""
        found = id_list("ids", ids)
        self.tokenizer.decode(found)  # raises InputError for an unknown id
        if not hasattr(ids, "__len__"):
            return self.tokenizer.decoder[found[0]]
        skipped = self.all_special_ids if skip_special_tokens else ()
        return [self.tokenizer.decoder[id] for id in found if id not in skipped]

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        """Tokens to a text, as `decode`."""
        return self.tokenizer.steps.join(names("tokens", tokens)).strip()

    def get_vocab(self) -> dict[str, int]:
        """{token: id}, with added tokens."""
        return dict(self.tokenizer.encoder)

    vocab = property(get_vocab)

    @property
    def vocab_size(self) -> int:
        """The number of ids without added tokens."""
        return len(self.tokenizer.tokenizer)

    def __len__(self) -> int:
        """The number of ids with added tokens."""
        return len(self.tokenizer)
