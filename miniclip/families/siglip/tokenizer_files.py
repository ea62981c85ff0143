"""transformers' files of SigLIP's tokenizers: spiece.model, or tokenizer.json (SigLIP 2), and tokenizer_config.json."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from miniclip.errors import InputError
from miniclip.families.tokenizer_settings import CONFIG, DECLARED, EXTRA, read_settings, without_added_tokens
from miniclip.formats import read_json
from miniclip.runtime.files import open_regular, write_atomically, write_json
from miniclip.tokenizers import gemma, sentencepieces
from miniclip.tokenizers.added import AddedToken
from miniclip.tokenizers.gemma import Gemma
from miniclip.tokenizers.sentencepieces import SentencePiece

SPECIAL = {"eos_token": sentencepieces.EOS, "unk_token": sentencepieces.UNK, "pad_token": sentencepieces.EOS}
SPECIAL_GEMMA = {
    **{"bos_token": gemma.BOS, "eos_token": gemma.EOS, "unk_token": gemma.UNK, "pad_token": gemma.PAD},
    "mask_token": gemma.MASK,
}
VOCABULARY_FILES = ("spiece.model", "tokenizer.json")
LOWER_CASE = "Siglip2Tokenizer"  # the class of transformers that makes texts lower case


def load_tokenizer(directory, vocab_size):
    """The tokenizer of a directory, None if it has no vocabulary. Raises InputError for tokens that are not in it.

    Its vocabulary may be smaller than the model's, which has `vocab_size` ids: transformers takes such models too.
    """
    return read_vocabulary(Path(directory), read_settings(directory))


def read_vocabulary(
    path: Path, settings: dict[str, Any], vocab_size: int | None = None
) -> SentencePiece | Gemma | None:
    """The tokenizer of a directory's files, or of one file of them; None without files."""
    model, file = (path / name for name in VOCABULARY_FILES)
    if path.is_file():
        model, file = (file, path) if path.suffix == ".json" else (path, file)
    tokenizer: SentencePiece | Gemma
    if model.exists():
        tokenizer = SentencePiece.load(model, **options(settings))
    elif file.exists():
        tokenizer = _read_gemma(file, settings)
    else:
        return None
    _check_added(file if tokenizer is Gemma else model, tokenizer, settings)
    return tokenizer


def options(settings: dict[str, Any]) -> dict[str, Any]:
    """SentencePiece's options in transformers' settings. Raises InputError if one is not what it must be."""
    lower_case = settings.get("do_lower_case", True)
    if lower_case not in (True, False):
        raise InputError(f"do_lower_case is {lower_case!r}, expected True or False")
    return {"lower_case": lower_case, "pad": str(AddedToken.of(settings.get("pad_token") or SPECIAL["pad_token"]))}


def options_of_gemma(settings: dict[str, Any]) -> dict[str, Any]:
    """Gemma's options in transformers' settings."""
    names = {role: str(AddedToken.of(settings.get(role) or token)) for role, token in SPECIAL_GEMMA.items()}
    left = settings.get("padding_side", "left") == "left"  # transformers' default for this class
    return {"pad": names["pad_token"], "eos": names["eos_token"], "bos": names["bos_token"], "left": left}


def _read_gemma(path, settings):
    config = path.parent / CONFIG
    kind = read_json(config).get("tokenizer_class") if config.exists() else None
    try:
        with open_regular(path) as file:
            content = file.read().decode()
        return Gemma(content, lower_case=kind == LOWER_CASE, **options_of_gemma(settings))
    except (OSError, ValueError) as error:  # InputError and UnicodeDecodeError are ValueErrors
        raise InputError(f"{path}: {error}") from error


def _check_added(path, tokenizer, settings):
    """Raise InputError for a token that the settings add to the vocabulary, or that they give another id."""
    declared = {str(token): id for id, token in (settings.get(DECLARED) or {}).items()}
    declared |= {str(AddedToken.of(token)): None for token in settings.get(EXTRA) or ()}
    for token, id in declared.items():
        found = tokenizer.encoder.get(token)
        if found is None or (id is not None and found != id):
            raise InputError(
                f"{path}: its settings add the token {token!r} with the id {id}, but miniclip adds no tokens to "
                f"SigLIP's vocabularies: remove it from {CONFIG}"
            )


def save_vocabulary(directory, tokenizer, prefix=""):
    """Write the file of the vocabulary; returns its path."""
    tokenizer = without_added_tokens(tokenizer)
    path = directory / f"{prefix}{VOCABULARY_FILES[isinstance(tokenizer, Gemma)]}"
    if isinstance(tokenizer, Gemma):
        write_atomically(path, tokenizer.content.encode())
    else:
        tokenizer.save(path)
    return (path,)


def save_tokenizer(directory, tokenizer, context_length, settings: Iterable = (), prefix=""):
    """Write the files that transformers' SiglipTokenizer or GemmaTokenizer reads; returns their paths."""
    tokenizer = without_added_tokens(tokenizer)
    given = tokenizer.options
    if isinstance(tokenizer, Gemma):
        lower_case = '"Lowercase"' in tokenizer.content
        content = {
            "tokenizer_class": LOWER_CASE if lower_case else "GemmaTokenizer",
            "padding_side": "left" if given["left"] else "right",
            **SPECIAL_GEMMA,
            **{"pad_token": given["pad"], "eos_token": given["eos"], "bos_token": given["bos"]},
        }
    else:
        content = {
            "tokenizer_class": "SiglipTokenizer",
            "do_lower_case": given["lower_case"],
            **SPECIAL,
            "pad_token": given["pad"],
        }
    # the models were trained without a mask, so the tokenizer gives none
    content |= {"model_max_length": context_length, "model_input_names": ["input_ids"], **dict(settings)}
    path = directory / f"{prefix}{CONFIG}"
    write_json(path, content)
    return path, *save_vocabulary(directory, tokenizer, prefix)


def tokenizer_json(tokenizer):
    """The content of a tokenizer.json: Hugging Face's tokenizers make the same ids with it.

    Raises InputError for a SentencePiece model, which the package tokenizers cannot express exactly.
    """
    tokenizer = without_added_tokens(tokenizer)
    if not isinstance(tokenizer, Gemma):
        raise InputError("a SentencePiece model is not a tokenizer.json: its reader needs spiece.model")
    return json.loads(tokenizer.content)
