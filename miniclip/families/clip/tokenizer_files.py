"""transformers' files of CLIP's tokenizer: vocab.json and merges.txt, or tokenizer.json, and tokenizer_config.json."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from miniclip.errors import InputError
from miniclip.families import cleaned_files
from miniclip.families.tokenizer_settings import (
    CONFIG,
    model_type,
    read_settings,
    to_added_tokens,
    to_settings,
    with_added_tokens,
    without_added_tokens,
)
from miniclip.formats import read_json
from miniclip.runtime.files import write_json
from miniclip.tokenizer import END, END_OF_WORD, START, WORD, Tokenizer
from miniclip.tokenizers.added import AddedToken
from miniclip.tokenizers.renumbered import Renumbered

SPECIAL = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
VOCABULARY_FILES = ("tokenizer.json", "vocab.json", "merges.txt")


def load_tokenizer(directory, vocab_size):
    """The tokenizer of a directory, with its added tokens; None if it has no vocabulary.

    `vocab_size` is the number of ids that the model has, None if it is not known. It cuts a merges.txt that has no
    vocab.json beside it.
    """
    if model_type(Path(directory) / VOCABULARY_FILES[0]) == "Unigram":  # MetaCLIP 2's
        return cleaned_files.load(directory, vocab_size, clean=None)
    settings = {**SPECIAL, **read_settings(directory)}
    tokenizer = read_vocabulary(Path(directory), settings, vocab_size)
    if tokenizer is None:
        return None
    found = with_added_tokens(tokenizer, settings)
    return found if found.changes_ids else tokenizer


def read_vocabulary(path: Path, settings: dict[str, Any], vocab_size: int | None = None) -> Any:
    """The tokenizer of a directory's files, or of one tokenizer.json, without added tokens; None without files."""
    file, vocab, merges = (path / name for name in VOCABULARY_FILES)
    if path.is_file() or file.exists():
        return _read_tokenizer_json(path if path.is_file() else file, settings)
    if not merges.exists():
        return None
    return (
        from_vocabulary(vocab, from_merges(merges), settings) if vocab.exists() else Tokenizer.load(merges, vocab_size)
    )


def from_merges(merges: Any) -> Tokenizer:
    """A Tokenizer of a list of pairs, or of the path of a merges.txt. Raises InputError."""
    if isinstance(merges, (str, os.PathLike)):
        return Tokenizer.load(merges)
    try:
        return Tokenizer(tuple(pair.split(" ") if isinstance(pair, str) else pair) for pair in merges)
    except TypeError as error:
        raise InputError(f"merges is not a list of pairs of str: {error}") from error


def from_vocabulary(vocab: Any, tokenizer: Tokenizer, settings: dict[str, Any]) -> Any:
    """The tokenizer with the ids {token: id}, or of the path of a file with them. Raises InputError naming the file."""
    if not isinstance(vocab, (str, os.PathLike)):
        return numbered(tokenizer, vocab, settings)
    try:
        return numbered(tokenizer, read_json(vocab), settings)
    except InputError as error:
        raise InputError(f"{vocab}: does not fit the merges: {error}") from error


def _read_tokenizer_json(path, settings):
    try:
        model = read_json(path)["model"]
        suffix = model.get("end_of_word_suffix", END_OF_WORD)
        if model.get("type", "BPE") != "BPE" or suffix != END_OF_WORD:
            raise ValueError(f"its words end in {suffix!r}, expected {END_OF_WORD!r}")
        return numbered(from_merges(list(model["merges"])), model["vocab"], settings)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: has no merges of a byte-level BPE: {error}") from error


def numbered(tokenizer: Tokenizer, ids: Any, settings: dict[str, Any]) -> Any:
    """The tokenizer with the ids {token: id}, which are usually its own. Raises InputError if they cannot be used."""
    if ids == tokenizer.encoder:
        return tokenizer
    if not isinstance(ids, dict) or not all(type(id) is int and 0 <= id < 2**31 for id in ids.values()):
        raise InputError("the vocabulary is not {token: id} with whole numbers")
    if len({*ids.values()}) < len(ids):
        raise InputError("two tokens of the vocabulary have the same id")
    return Renumbered(tokenizer, ids, str(AddedToken.of(settings.get("unk_token") or END)))


def save_vocabulary(directory, tokenizer, prefix=""):
    """Write the files of the vocabulary without added tokens; returns their paths."""
    tokenizer = without_added_tokens(tokenizer)
    vocabulary, merges = directory / f"{prefix}vocab.json", directory / f"{prefix}merges.txt"
    write_json(vocabulary, dict(tokenizer.encoder))
    getattr(tokenizer, "tokenizer", tokenizer).save(merges)
    return vocabulary, merges


def save_tokenizer(directory, tokenizer, context_length, settings: Iterable = (), prefix=""):
    """Write the files that transformers' CLIPTokenizer reads; returns their paths."""
    content = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": context_length,
        **SPECIAL,
        **to_settings(tokenizer),
        **dict(settings),
    }
    path = directory / f"{prefix}{CONFIG}"
    write_json(path, content)
    return path, *save_vocabulary(directory, tokenizer, prefix)


def tokenizer_json(tokenizer):
    """The content of a tokenizer.json: Hugging Face's tokenizers make the same ids with it.

    Unlike `tokenizer.clean` they repair no encodings and undo no HTML escapes.
    """
    vocabulary = without_added_tokens(tokenizer)
    split = {"type": "Split", "pattern": {"Regex": WORD.pattern}, "behavior": "Removed", "invert": True}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    spaces = {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "}
    ends = {"sep": [END, vocabulary.end_id], "cls": [START, vocabulary.start_id]}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": to_added_tokens(tokenizer, (START, END)),
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, spaces, {"type": "Lowercase"}]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "post_processor": {"type": "RobertaProcessing", **ends, "trim_offsets": False, "add_prefix_space": False},
        "decoder": {**byte_level, "add_prefix_space": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": END,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": END_OF_WORD,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": dict(vocabulary.encoder),
            "merges": getattr(vocabulary, "tokenizer", vocabulary).lines(),
        },
    }
