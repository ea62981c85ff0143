"""transformers' files of the tokenizers of CLIPs of many languages: of each kind those that the directory has.

Chinese-CLIP's is BERT's: vocab.txt or tokenizer.json, and tokenizer_config.json. AltCLIP's is XLM-RoBERTa's.
"""

from collections.abc import Iterable
from pathlib import Path

from miniclip.families.align import tokenizer_files as wordpiece_files
from miniclip.families.multilingual import xlm_roberta_files
from miniclip.families.tokenizer_settings import model_type, without_added_tokens
from miniclip.tokenizers.wordpiece import WordPiece
from miniclip.tokenizers.xlm_roberta import XLMRoberta

SPECIAL = wordpiece_files.SPECIAL
CHINESE_LENGTH = 52  # tokens of a text in Chinese-CLIP's training (cn_clip/clip/utils.py)
# {class of a tokenizer: (the module that reads and writes its files, the type that its tokenizer.json states)}
FILES = {WordPiece: (wordpiece_files, "WordPiece"), XLMRoberta: (xlm_roberta_files, "Unigram")}


def load_tokenizer(directory, vocab_size):
    """The tokenizer of a directory, with its added tokens; None if it has no vocabulary of a kind in `FILES`."""
    stated = model_type(Path(directory) / "tokenizer.json")  # older files do not state a WordPiece, the first kind
    for files, kind in FILES.values():
        if stated in (None, kind) and (found := files.load_tokenizer(directory, vocab_size)):
            return found
    return None


def save_vocabulary(directory, tokenizer, prefix=""):
    """Write the files of the vocabulary without added tokens; returns their paths."""
    return _files(tokenizer).save_vocabulary(directory, tokenizer, prefix)


def save_tokenizer(directory, tokenizer, context_length, settings: Iterable = (), prefix=""):
    """Write the files that transformers' tokenizer reads; returns their paths."""
    files = _files(tokenizer)
    if files is wordpiece_files:
        settings = {"model_max_length": min(context_length, CHINESE_LENGTH), **dict(settings)}
    return files.save_tokenizer(directory, tokenizer, context_length, settings, prefix)


def tokenizer_json(tokenizer):
    """The content of a tokenizer.json: Hugging Face's tokenizers make the same ids with it."""
    return _files(tokenizer).tokenizer_json(tokenizer)


def _files(tokenizer):
    return FILES[type(without_added_tokens(tokenizer))][0]
