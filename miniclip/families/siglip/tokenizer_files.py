"""transformers' files of SigLIP's tokenizers: spiece.model, or tokenizer.json (SigLIP 2), and tokenizer_config.json."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from miniclip.errors import InputError
from miniclip.families.siglip import gemma_files
from miniclip.families.siglip.gemma_files import check_added
from miniclip.families.tokenizer_settings import CONFIG, read_settings, without_added_tokens
from miniclip.runtime.files import write_json
from miniclip.tokenizers.added import AddedToken
from miniclip.tokenizers.gemma import Gemma
from miniclip.tokenizers.sentencepieces import EOS, UNK, SentencePiece

SPECIAL = {"eos_token": EOS, "unk_token": UNK, "pad_token": EOS}
VOCABULARY = "spiece.model"


def load_tokenizer(directory, vocab_size):
    """The tokenizer of a directory, None if it has no vocabulary. Raises InputError for tokens that are not in it.

    Its vocabulary may be smaller than the model's, which has `vocab_size` ids: transformers takes such models too.
    """
    directory, settings = Path(directory), read_settings(directory)
    return read_vocabulary(directory, settings) or gemma_files.read_vocabulary(directory, settings)


def read_vocabulary(path: Path, settings: dict[str, Any]) -> SentencePiece | None:
    """The SentencePiece of a directory's file, or of the file; None without."""
    path = path / VOCABULARY if path.is_dir() else path
    if not path.exists():
        return None
    tokenizer = SentencePiece.load(path, **options(settings))
    check_added(path, tokenizer, settings)
    return tokenizer


def options(settings: dict[str, Any]) -> dict[str, Any]:
    """SentencePiece's options in transformers' settings. Raises InputError if one is not what it must be."""
    lower_case = settings.get("do_lower_case", True)
    if lower_case not in (True, False):
        raise InputError(f"do_lower_case is {lower_case!r}, expected True or False")
    return {"lower_case": lower_case, "pad": str(AddedToken.of(settings.get("pad_token") or SPECIAL["pad_token"]))}


def save_vocabulary(directory, tokenizer, prefix=""):
    """Write the file of the vocabulary; returns its path."""
    tokenizer = without_added_tokens(tokenizer)
    if isinstance(tokenizer, Gemma):
        return gemma_files.save_vocabulary(directory, tokenizer, prefix)
    path = directory / f"{prefix}{VOCABULARY}"
    tokenizer.save(path)
    return (path,)


def save_tokenizer(directory, tokenizer, context_length, settings: Iterable = (), prefix=""):
    """Write the files that transformers' SiglipTokenizer reads, of a Gemma its GemmaTokenizer; returns their paths."""
    tokenizer = without_added_tokens(tokenizer)
    if isinstance(tokenizer, Gemma):
        return gemma_files.save_tokenizer(directory, tokenizer, context_length, settings, prefix)
    content = {
        "tokenizer_class": "SiglipTokenizer",
        "do_lower_case": tokenizer.options["lower_case"],
        **SPECIAL,
        "pad_token": tokenizer.options["pad"],
        "model_max_length": context_length,
        "model_input_names": ["input_ids"],  # the models were trained without a mask
        **dict(settings),
    }
    path = directory / f"{prefix}{CONFIG}"
    write_json(path, content)
    return path, *save_vocabulary(directory, tokenizer, prefix)


def tokenizer_json(tokenizer):
    """The content of a tokenizer.json: Hugging Face's tokenizers make the same ids with it.

    Raises InputError for a SentencePiece model, which the package tokenizers cannot express exactly.
    """
    tokenizer = without_added_tokens(tokenizer)
    if not isinstance(tokenizer, Gemma):
        raise InputError(f"it cannot express a SentencePiece model exactly: the vocabulary is in {VOCABULARY}")
    return gemma_files.tokenizer_json(tokenizer)
