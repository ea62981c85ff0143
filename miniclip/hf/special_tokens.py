"""Special and added tokens of `miniclip.hf`'s tokenizers, under transformers' names."""

from typing import Any

from miniclip.errors import InputError
from miniclip.families.tokenizer_settings import EXTRA, ROLES
from miniclip.tokenizers.added import AddedToken, WithAddedTokens


class _Role:
    """A special token as an attribute, `pad_token`, or its id, `pad_token_id`. Both can be set, also to None."""

    def __set_name__(self, owner, name):
        self.role, self.is_id = name.removesuffix("_id"), name.endswith("_id")

    def __get__(self, tokenizer, owner=None) -> Any:
        token = tokenizer._special_tokens_map.get(self.role)
        if token is None:
            return None
        return tokenizer._id(str(token)) if self.is_id else str(token)

    def __set__(self, tokenizer, value):
        if self.is_id and value is not None:
            value = tokenizer.convert_ids_to_tokens(value)
        tokenizer._special_tokens_map[self.role] = value and _checked(value)


class SpecialTokens:
    """What a tokenizer knows of special tokens.

    Setting one, `tokenizer.pad_token = "!"`, does not add it to the vocabulary: a token that is not there has the id of
    `unk_token`, as in transformers. `add_special_tokens` adds it. Rows begin and end with the tokens that the
    tokenizer was made with.
    """

    tokenizer: WithAddedTokens
    convert_ids_to_tokens: Any
    bos_token, bos_token_id = _Role(), _Role()
    eos_token, eos_token_id = _Role(), _Role()
    unk_token, unk_token_id = _Role(), _Role()
    sep_token, sep_token_id = _Role(), _Role()
    pad_token, pad_token_id = _Role(), _Role()
    cls_token, cls_token_id = _Role(), _Role()
    mask_token, mask_token_id = _Role(), _Role()
    SPECIAL_TOKENS_ATTRIBUTES = ROLES

    def _set_special_tokens(self, settings):
        self._special_tokens_map = {role: _checked(settings[role]) for role in ROLES if settings.get(role) is not None}
        self._extra = [*map(_checked, settings.get(EXTRA) or ())]

    def _id(self, token: str) -> int | None:
        encoder = self.tokenizer.encoder
        return encoder.get(token, encoder.get(str(self._special_tokens_map.get("unk_token"))))

    @property
    def special_tokens_map(self) -> dict[str, str]:
        """{"pad_token": "...", ...}: the special tokens that have a role."""
        return {role: token for role in ROLES if (token := getattr(self, role)) is not None}

    @property
    def extra_special_tokens(self) -> list[str]:
        """Special tokens without a role."""
        return [*map(str, self._extra)]

    @extra_special_tokens.setter
    def extra_special_tokens(self, tokens):
        if not isinstance(tokens, (list, tuple, type(None))):
            raise InputError(f"{EXTRA} is {tokens!r}, expected a list of tokens")
        self._extra = [*map(_checked, tokens or ())]

    @property
    def extra_special_tokens_ids(self) -> list[int | None]:
        return [self._id(token) for token in self.extra_special_tokens]

    @extra_special_tokens_ids.setter
    def extra_special_tokens_ids(self, ids):
        self.extra_special_tokens = self.convert_ids_to_tokens(list(ids) if isinstance(ids, tuple) else ids)

    # The names until transformers 4.
    additional_special_tokens = extra_special_tokens
    additional_special_tokens_ids = extra_special_tokens_ids

    @property
    def all_special_tokens(self) -> list[str]:
        return list(dict.fromkeys([*self.special_tokens_map.values(), *self.extra_special_tokens]))

    @property
    def all_special_ids(self) -> list[int | None]:
        return [self._id(token) for token in self.all_special_tokens]

    @property
    def added_tokens_decoder(self) -> dict[int, AddedToken]:
        """{id: AddedToken}: the special tokens and the added ones."""
        return dict(sorted(self.tokenizer.added.items()))

    @property
    def added_tokens_encoder(self) -> dict[str, int]:
        """{token: id}: the special tokens and the added ones."""
        return {str(token): id for id, token in self.added_tokens_decoder.items()}

    def get_added_vocab(self) -> dict[str, int]:
        return self.added_tokens_encoder

    def add_tokens(self, new_tokens: Any, special_tokens: bool = False) -> int:
        """Add a token or a list of them, each a str or an AddedToken; returns how many were not added before.

        New tokens get the next ids; resize the model's embedding for them. In a text they are found before it is split
        into words. A str is found in the cleaned text, as "CAT" is cleaned to "cat", unless it is special.
        """
        tokens = new_tokens if isinstance(new_tokens, (list, tuple)) else [new_tokens] if new_tokens else []
        return self.tokenizer.add([AddedToken.of(token, special_tokens) for token in tokens])

    def add_special_tokens(
        self, special_tokens_dict: dict[str, Any], replace_extra_special_tokens: bool = True, **options: bool
    ) -> int:
        """Add {"pad_token": "...", "extra_special_tokens": [...]} in these roles; returns how many are new."""
        replace = options.pop("replace_additional_special_tokens", replace_extra_special_tokens)
        if options or not isinstance(special_tokens_dict, dict):
            raise InputError(f"add_special_tokens takes a dict and no {', '.join(options) or 'other argument'}")
        tokens: list[Any] = []
        for name, value in special_tokens_dict.items():
            if name in (EXTRA, "additional_special_tokens"):
                if not isinstance(value, (list, tuple)):
                    raise InputError(f"{name} is {value!r}, expected a list of tokens")
                new = [x for x in map(_checked, value) if replace or str(x) not in self.extra_special_tokens]
                self._extra = new if replace and new else self._extra + new
                tokens += new
            elif name in ROLES:
                self._special_tokens_map[name] = _checked(value)
                tokens.append(value)
            else:
                raise InputError(f"there is no special token {name!r}, expected one of {', '.join((*ROLES, EXTRA))}")
        return self.add_tokens(tokens, special_tokens=True)


def _checked(token):
    """The token, a str or an AddedToken; that of a dict. Raises InputError for others."""
    made = AddedToken.of(token)
    return made if isinstance(token, dict) else token
