"""transformers' files of SigLIP 2's tokenizer: tokenizer.json and tokenizer_config.json."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from miniclip.errors import InputError
from miniclip.families.tokenizer_settings import CONFIG, DECLARED, EXTRA, without_added_tokens
from miniclip.formats import read_json
from miniclip.runtime.files import open_regular, write_atomically, write_json
from miniclip.tokenizers.added import AddedToken
from miniclip.tokenizers.gemma import BOS, EOS, MASK, PAD, UNK, Gemma

SPECIAL = {"bos_token": BOS, "eos_token": EOS, "unk_token": UNK, "pad_token": PAD, "mask_token": MASK}
VOCABULARY = "tokenizer.json"
VOCABULARIES = (VOCABULARY,)
LOWER_CASE = "Siglip2Tokenizer"  # the class of transformers that makes texts lower case
NAFLEX = "siglip2"  # the type of model that always has this class, whatever its files say


def read_vocabulary(path: Path, settings: dict[str, Any]) -> Gemma | None:
    """The Gemma of a directory's tokenizer.json, or of the file; None without."""
    path = path / VOCABULARY if path.is_dir() else path
    if not path.exists():
        return None
    lower_case = makes_lower_case(path.parent)
    try:
        with open_regular(path) as file:
            content = file.read().decode()
        tokenizer = Gemma(content, lower_case=lower_case, **options(settings))
    except (OSError, ValueError) as error:  # InputError and UnicodeDecodeError are ValueErrors
        raise InputError(f"{path}: {error}") from error
    check_added(path, tokenizer, settings)
    return tokenizer


def makes_lower_case(directory: Path) -> bool:
    """Whether a directory's files say that texts become lower case."""
    said = (("config.json", "model_type", NAFLEX), (CONFIG, "tokenizer_class", LOWER_CASE))
    return any((directory / file).exists() and read_json(directory / file).get(x) == y for file, x, y in said)


def is_lower_case(tokenizer: Gemma) -> bool:
    """Whether it makes texts lower case."""
    return '"Lowercase"' in tokenizer.content


def options(settings: dict[str, Any]) -> dict[str, Any]:
    """Gemma's options in transformers' settings."""
    pad, eos, bos = (
        str(AddedToken.of(settings.get(f"{x}_token") or SPECIAL[f"{x}_token"])) for x in ("pad", "eos", "bos")
    )
    left = settings.get("padding_side", "left") == "left"  # transformers' default for this class
    return {"pad": pad, "eos": eos, "bos": bos, "left": left}


def check_added(path: Path, tokenizer: Any, settings: dict[str, Any]) -> None:
    """Raise InputError for a token that the settings add to the vocabulary, or that they give another id."""
    declared = {str(token): id for id, token in (settings.get(DECLARED) or {}).items()}
    declared |= {str(AddedToken.of(token)): None for token in settings.get(EXTRA) or () if str(token) not in declared}
    for token, id in declared.items():
        found = tokenizer.encoder.get(token)
        if found is None or (id is not None and found != id):
            raise InputError(
                f"{path}: its settings add the token {token!r} with the id {id}, but miniclip adds no tokens to "
                f"SigLIP's vocabularies: remove it from {CONFIG}"
            )


def save_vocabulary(directory, tokenizer, prefix=""):
    """Write the file of the vocabulary; returns its path."""
    path = directory / f"{prefix}{VOCABULARY}"
    write_atomically(path, without_added_tokens(tokenizer).content.encode())
    return (path,)


def save_tokenizer(directory, tokenizer, context_length, settings: Iterable = (), prefix=""):
    """Write the files that transformers' GemmaTokenizer, or Siglip2Tokenizer, reads; returns their paths."""
    tokenizer = without_added_tokens(tokenizer)
    given = tokenizer.options
    content = {
        "tokenizer_class": LOWER_CASE if is_lower_case(tokenizer) else "GemmaTokenizer",
        "padding_side": "left" if given["left"] else "right",
        **SPECIAL,
        **{"pad_token": given["pad"], "eos_token": given["eos"], "bos_token": given["bos"]},
        "model_max_length": context_length,
        "model_input_names": ["input_ids"],  # the models were trained without a mask
        **dict(settings),
    }
    path = directory / f"{prefix}{CONFIG}"
    write_json(path, content)
    return path, *save_vocabulary(directory, tokenizer, prefix)


def tokenizer_json(tokenizer):
    """The content of the tokenizer.json."""
    return json.loads(without_added_tokens(tokenizer).content)
