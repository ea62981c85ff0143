"""The settings of transformers' tokenizers: special and added tokens, from the four JSON files that can have them.

A directory has some of tokenizer_config.json, special_tokens_map.json, added_tokens.json and tokenizer.json, depending
on the version that wrote it. The order is transformers' (tokenization_utils_base.py, `_from_pretrained`).
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from miniclip.errors import InputError
from miniclip.formats import read_json
from miniclip.tokenizers.added import AddedToken, WithAddedTokens

ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
CONFIG = "tokenizer_config.json"
EXTRA = "extra_special_tokens"
DECLARED = "added_tokens_decoder"
# The files that a tokenizer can have, besides those of its vocabulary.
FILES = (CONFIG, "special_tokens_map.json", "added_tokens.json", "tokenizer.json")


def read_settings(directory: Path) -> dict[str, Any]:
    """The settings of a directory as one dict, special and added tokens included; or those of one tokenizer.json.

    Raises InputError naming the file.
    """
    directory = Path(directory)
    paths = {name: directory / name for name in FILES}
    if directory.is_file():
        paths = {**dict.fromkeys(FILES, directory / "none"), "tokenizer.json": directory}
    found = {name: read_json(path) if path.exists() else {} for name, path in paths.items()}
    settings = found[CONFIG]
    for name in ("tokenizer_class", "init_inputs", "name_or_path", "special_tokens_map_file", "tokenizer_file"):
        settings.pop(name, None)
    if "additional_special_tokens" in settings:
        settings.setdefault(EXTRA, settings["additional_special_tokens"])
        del settings["additional_special_tokens"]
    if "max_len" in settings:  # its name in transformers 2
        settings.setdefault("model_max_length", settings.pop("max_len"))
    own = [name for name, x in settings.items() if name.endswith("_token") and isinstance(x, (str, dict))]
    if set(own) - set(ROLES):
        raise InputError(f"{paths[CONFIG]}: has {', '.join(set(own) - set(ROLES))}, a special token with its own name")
    name = CONFIG
    try:
        declared = {int(id): AddedToken.of(token) for id, token in (settings.get(DECLARED) or {}).items()}
        special = _special(settings)
        name = "special_tokens_map.json"
        if DECLARED not in settings:
            settings |= {EXTRA if key.startswith("additional") else key: x for key, x in found[name].items()}
            special = _special(settings)
        name = "added_tokens.json"
        added = {id: AddedToken.of(token, token in special) for token, id in found[name].items()}
        name = "tokenizer.json"
        added |= {token["id"]: AddedToken.of(token) for token in found[name].get("added_tokens") or ()}
        _read_sides(settings, found[name])
    except (KeyError, TypeError, ValueError, AttributeError) as error:  # InputError is a ValueError
        reason = error if isinstance(error, InputError) else repr(error)
        raise InputError(f"{paths[name]}: not the settings of a tokenizer: {reason}") from error
    if DECLARED not in settings:
        declared = added
    lost = {*map(str, added.values())} - {*map(str, declared.values())} - special
    if lost:
        raise InputError(
            f"{directory}: added_tokens.json or tokenizer.json has {', '.join(sorted(lost))}, but {CONFIG} has "
            f"{DECLARED} without: remove {DECLARED} from it, or the tokens from the other file"
        )
    return {**settings, DECLARED: declared}


def model_type(path: Path) -> str | None:
    """The type of model that a tokenizer.json states, as "Unigram"; None if it states none, or if there is no file."""
    content = read_json(path) if path.exists() else None
    model = content.get("model") if isinstance(content, dict) else None
    return model.get("type") if isinstance(model, dict) else None


def _special(settings):
    """The special tokens as a set of str."""
    tokens = [*filter(None, map(settings.get, ROLES)), *(settings.get(EXTRA) or ())]
    return {*map(str, map(AddedToken.of, tokens))}


def _read_sides(settings, content):
    """The padding and truncation that tokenizer.json states, if the other files do not."""
    padding, truncation = content.get("padding") or {}, content.get("truncation") or {}
    if padding:
        settings.setdefault("pad_token", padding["pad_token"])
        settings.setdefault("padding_side", padding["direction"].lower())
    if truncation:
        settings.setdefault("truncation_side", truncation["direction"].lower())


def with_added_tokens(tokenizer: Any, settings: dict[str, Any]) -> WithAddedTokens:
    """A tokenizer with the added and special tokens of its settings. Raises InputError if a token gets another id."""
    declared = settings.get(DECLARED) or {}
    if not isinstance(declared, dict) or not all(isinstance(id, int) for id in declared):
        raise InputError(f"{DECLARED} is {declared!r}, expected {{id: token}}")
    roles = [AddedToken.of(settings[role], special=True) for role in ROLES if settings.get(role) is not None]
    named = {*map(str, roles)}
    tokens = [AddedToken.of(token) for _, token in sorted(declared.items())]
    extra = [AddedToken.of(token, special=True) for token in settings.get(EXTRA) or ()]
    tokens = [AddedToken(**{**vars(token), "special": token.special or str(token) in named}) for token in tokens]
    known = {*map(str, tokens)}
    found = WithAddedTokens(tokenizer, [*tokens, *(token for token in (*roles, *extra) if str(token) not in known)])
    for id, token in declared.items():
        given = found.encoder[str(token)]
        if given != id:
            raise InputError(f"the added token {str(token)!r} has the id {id}, but the vocabulary gives it {given}")
    return found


def without_added_tokens(tokenizer: Any) -> Any:
    """The Tokenizer, Renumbered or WordPiece itself."""
    return tokenizer.tokenizer if isinstance(tokenizer, WithAddedTokens) else tokenizer


def to_settings(tokenizer: Any) -> dict[str, Any]:
    """`added_tokens_decoder` of a tokenizer, as transformers' tokenizer_config.json has it; {} if there is none."""
    added = getattr(tokenizer, "added", {})
    return {DECLARED: {str(id): {**vars(token)} for id, token in sorted(added.items())}} if added else {}


def to_added_tokens(tokenizer: Any, special: Iterable[str]) -> list[dict[str, Any]]:
    """`added_tokens` of transformers' tokenizer.json: those of a tokenizer, and the `special` ones it has."""
    own = {tokenizer.encoder[x]: AddedToken.of(x, special=True) for x in special if x in tokenizer.encoder}
    found = {**own, **getattr(tokenizer, "added", {})}
    return [{"id": id, **vars(token)} for id, token in sorted(found.items())]
