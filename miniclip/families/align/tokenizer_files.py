"""transformers' files of BERT's tokenizer: vocab.txt or tokenizer.json, and tokenizer_config.json."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from miniclip.errors import InputError
from miniclip.families.bert import TEXT_LENGTH
from miniclip.families.tokenizer_settings import (
    CONFIG,
    read_settings,
    to_added_tokens,
    to_settings,
    with_added_tokens,
    without_added_tokens,
)
from miniclip.formats import read_json
from miniclip.runtime.files import write_json
from miniclip.tokenizers.wordpiece import CLS, CONTINUES, LONGEST_WORD, MASK, PAD, SEP, UNK, WordPiece

SPECIAL = {"unk_token": UNK, "sep_token": SEP, "pad_token": PAD, "cls_token": CLS, "mask_token": MASK}
# transformers' names of WordPiece's options, in tokenizer_config.json and in tokenizer.json.
OPTIONS = {
    "lower_case": ("do_lower_case", "lowercase"),
    "strip_accents": ("strip_accents", "strip_accents"),
    "split_chinese": ("tokenize_chinese_chars", "handle_chinese_chars"),
}
VOCABULARY_FILES = ("tokenizer.json", "vocab.txt")


def load_tokenizer(directory, vocab_size):
    """The tokenizer of a directory, with its added tokens; None if it has no vocabulary."""
    settings = {**SPECIAL, **read_settings(directory)}
    tokenizer = read_vocabulary(Path(directory), settings)
    if tokenizer is None:
        return None
    found = with_added_tokens(tokenizer, settings)
    return found if found.changes_ids else tokenizer


def read_vocabulary(path: Path, settings: dict[str, Any], vocab_size: int | None = None) -> WordPiece | None:
    """The WordPiece of a directory's files, or of one file of them, without added tokens; None without files."""
    file, vocab = (path / name for name in VOCABULARY_FILES)
    if path.is_file():
        file, vocab = (path, vocab) if path.suffix == ".json" else (file, path)
    if file.exists():
        return _read_tokenizer_json(file, settings)
    return WordPiece.load(vocab, **options(settings)) if vocab.exists() else None


def _read_tokenizer_json(path, settings):
    try:
        content = read_json(path)
        if content["model"].get("type", "WordPiece") != "WordPiece":
            raise ValueError(f"it is a {content['model']['type']}")
        normalizer = content.get("normalizer") or {}
        given = {theirs: normalizer[name] for theirs, name in OPTIONS.values() if name in normalizer}
        return from_vocabulary(content["model"]["vocab"], {**given, **settings})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: has no vocabulary of word pieces: {error}") from error


def from_vocabulary(vocab: Any, settings: dict[str, Any]) -> WordPiece:
    """A WordPiece of {piece: id}, whose ids are 0, 1, ... Raises InputError for others."""
    try:
        vocab = dict(vocab)
        pieces = sorted(vocab, key=vocab.__getitem__)
        if [vocab[piece] for piece in pieces] != list(range(len(pieces))):
            raise InputError("the ids of the vocabulary are not 0, 1, ...")
        return WordPiece(pieces, **options(settings))
    except InputError:
        raise
    except (TypeError, ValueError) as error:
        raise InputError(f"vocab is not a vocabulary of word pieces: {error}") from error


def options(settings: dict[str, Any]) -> dict[str, Any]:
    """WordPiece's options in transformers' settings. Raises InputError if one is not True or False."""
    found = {ours: settings[theirs] for ours, (theirs, _) in OPTIONS.items() if theirs in settings}
    for name, value in found.items():
        if value not in (True, False) and not (value is None and name == "strip_accents"):
            raise InputError(f"{OPTIONS[name][0]} is {value!r}, expected True or False")
    return found


def save_vocabulary(directory, tokenizer, prefix=""):
    """Write the file of the vocabulary without added tokens; returns its path."""
    path = directory / f"{prefix}vocab.txt"
    without_added_tokens(tokenizer).save(path)
    return (path,)


def save_tokenizer(directory, tokenizer, context_length, settings: Iterable = (), prefix=""):
    """Write the files that transformers' BertTokenizer reads; returns their paths."""
    given = without_added_tokens(tokenizer).options
    content = {
        "tokenizer_class": "BertTokenizer",
        "model_max_length": min(context_length, TEXT_LENGTH),
        **{theirs: given[ours] for ours, (theirs, _) in OPTIONS.items()},
        **SPECIAL,
        **to_settings(tokenizer),
        **dict(settings),
    }
    path = directory / f"{prefix}{CONFIG}"
    write_json(path, content)
    return path, *save_vocabulary(directory, tokenizer, prefix)


def tokenizer_json(tokenizer):
    """The content of a tokenizer.json: Hugging Face's tokenizers make the same ids with it."""
    vocabulary = without_added_tokens(tokenizer)
    options = {theirs: vocabulary.options[ours] for ours, (_, theirs) in OPTIONS.items()}
    first, last = ({"SpecialToken": {"id": token, "type_id": 0}} for token in (CLS, SEP))
    text, second = ({"Sequence": {"id": name, "type_id": i}} for i, name in enumerate("AB"))
    ids = {x: {"id": x, "ids": [vocabulary.encoder[x]], "tokens": [x]} for x in (CLS, SEP)}
    pair = [first, text, last, second, {"SpecialToken": {"id": SEP, "type_id": 1}}]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": to_added_tokens(tokenizer, SPECIAL.values()),
        "normalizer": {"type": "BertNormalizer", "clean_text": True, **options},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [first, text, last],
            "pair": pair,
            "special_tokens": ids,
        },
        "decoder": {"type": "WordPiece", "prefix": CONTINUES, "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": UNK,
            "continuing_subword_prefix": CONTINUES,
            "max_input_chars_per_word": LONGEST_WORD,
            "vocab": dict(vocabulary.encoder),
        },
    }
