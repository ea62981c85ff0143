"""transformers' files of XLM-RoBERTa's tokenizer: tokenizer.json or sentencepiece.bpe.model, and its settings."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from miniclip.errors import InputError
from miniclip.families.siglip import gemma_files
from miniclip.families.tokenizer_settings import CONFIG, DECLARED, EXTRA, ROLES, read_settings, without_added_tokens
from miniclip.runtime.files import write_json
from miniclip.tokenizers import xlm_roberta
from miniclip.tokenizers.added import AddedToken
from miniclip.tokenizers.xlm_roberta import BOS, EOS, MASK, PAD, UNK, XLMRoberta

SPECIAL = {
    **{"bos_token": BOS, "eos_token": EOS, "sep_token": EOS, "cls_token": BOS},
    **{"unk_token": UNK, "pad_token": PAD, "mask_token": MASK},
}
VOCABULARIES = ("tokenizer.json", "sentencepiece.bpe.model")
save_vocabulary, tokenizer_json = gemma_files.save_vocabulary, gemma_files.tokenizer_json  # Gemma's file, too


def load_tokenizer(directory: Path, vocab_size: int | None = None) -> XLMRoberta | None:
    """The tokenizer of a directory, None if it has no vocabulary; that may be smaller than the model's `vocab_size`."""
    return read_vocabulary(Path(directory), read_settings(directory))


def read_vocabulary(path: Path, settings: dict[str, Any]) -> XLMRoberta | None:
    """The XLMRoberta of a directory's files, or of one file of them; None without.

    Raises InputError that names a damaged file, and for a token that the settings add to the vocabulary.
    """
    files = [path / name for name in VOCABULARIES] if path.is_dir() else [path]
    path = next((file for file in files if file.exists()), path)
    if path.is_dir() or not path.exists():
        return None
    names = {role.removesuffix("_token"): str(AddedToken.of(settings.get(role) or SPECIAL[role])) for role in ROLES}
    prefix, side = settings.get("add_prefix_space", True), settings.get("padding_side", "right")
    try:
        pieces, characters, _ = xlm_roberta.read(path, names)  # the settings have its added tokens, too
        added = _added(settings, {piece for piece, _ in pieces})
        ends = {name: names[name] for name in ("bos", "eos")}
        content = xlm_roberta.content(pieces, characters, added, prefix=bool(prefix), **ends)
        return XLMRoberta(content, pad=names["pad"], left=side == "left", **ends)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:  # InputError is a ValueError
        raise InputError(f"{path}: not the vocabulary of an XLM-RoBERTa: {error}") from error


def _added(settings, pieces):
    """The tokens that are found in a text before it is cut: those with a role, and all that the settings declare."""
    declared = {str(token): token for token in (settings.get(DECLARED) or {}).values()}
    roles = [AddedToken.of(settings.get(role) or SPECIAL[role], special=True) for role in ROLES]
    extra = [AddedToken.of(token, special=True) for token in settings.get(EXTRA) or ()]
    found = {**{str(token): token for token in (*extra, *roles)}, **declared}
    new = [token for token in found if token not in pieces]
    if new:
        raise InputError(f"its settings add the token {new[0]!r}, and miniclip adds no tokens to it: remove it there")
    return found.values()


def save_tokenizer(directory, tokenizer, context_length, settings: Iterable = (), prefix=""):
    """Write the files that transformers' XLMRobertaTokenizer reads; returns their paths."""
    tokenizer = without_added_tokens(tokenizer)
    given = tokenizer.options
    content = {
        "tokenizer_class": "XLMRobertaTokenizer",
        **SPECIAL,
        **{"bos_token": given["bos"], "cls_token": given["bos"], "eos_token": given["eos"], "sep_token": given["eos"]},
        "pad_token": given["pad"],
        "padding_side": "left" if given["left"] else "right",
        "add_prefix_space": xlm_roberta.prefixes(tokenizer.content),
        "model_max_length": context_length,
        **dict(settings),
    }
    path = directory / f"{prefix}{CONFIG}"
    write_json(path, content)
    return path, *save_vocabulary(directory, tokenizer, prefix)
