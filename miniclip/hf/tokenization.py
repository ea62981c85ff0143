"""transformers' tokenizers around `miniclip.Tokenizer` and `WordPiece`.

The tokens come from the wrapped tokenizers: BERT's for ALIGN, OpenAI's for CLIP. OpenAI's first repairs texts that were
decoded wrongly and unescapes HTML; transformers' tokenizers in Rust do neither.
"""

import os
from typing import Any

from miniclip.errors import InputError
from miniclip.families.align import tokenizer_files as align_files
from miniclip.families.clip import tokenizer_files as clip_files
from miniclip.fetch import vocabulary
from miniclip.hf.tokenization_base import CALL_OPTIONS, PreTrainedTokenizer
from miniclip.tokenizer import Tokenizer
from miniclip.tokenizers.renumbered import Renumbered
from miniclip.tokenizers.wordpiece import WordPiece

__all__ = ["CALL_OPTIONS", "BertTokenizer", "BertTokenizerFast", "CLIPTokenizer", "CLIPTokenizerFast"]

OFFICIAL_LENGTH = 77  # tokens of a text, in all of OpenAI's models


class CLIPTokenizer(PreTrainedTokenizer):
    """transformers' CLIPTokenizer with OpenAI's tokens.

    vocab, merges   the paths of vocab.json and merges.txt, also named vocab_file and merges_file; or {token: id} and
                    a list of pairs. Without both it has the vocabulary of `tokenizer`, a miniclip.Tokenizer, or else
                    the official one
    """

    family, kinds = clip_files, (Tokenizer, Renumbered)
    model_input_names = ("input_ids", "attention_mask")
    second_type = 0
    ends = ("bos_token", "eos_token")
    separators = 2

    def __init__(
        self,
        vocab: Any = None,
        merges: Any = None,
        *,
        vocab_file: Any = None,
        merges_file: Any = None,
        tokenizer: Any = None,
        **settings: Any,
    ):
        vocab, merges = (a if a is not None else b for a, b in ((vocab, vocab_file), (merges, merges_file)))
        if tokenizer is None and merges is None:
            tokenizer = self._default()
            settings = {"model_max_length": OFFICIAL_LENGTH, **settings}
        elif tokenizer is None:
            tokenizer = clip_files.from_merges(merges)
        if vocab is not None:
            tokenizer = clip_files.from_vocabulary(vocab, tokenizer, settings)
        super().__init__(tokenizer, **settings)

    @classmethod
    def _default(cls):
        return vocabulary.official_tokenizer()


class BertTokenizer(PreTrainedTokenizer):
    """transformers' BertTokenizer, for ALIGN.

    vocab   the path of vocab.txt, also named vocab_file, or {piece: id}; or pass `tokenizer`, a miniclip WordPiece.
            `do_lower_case=False`, `strip_accents` and `tokenize_chinese_chars` are for other vocabularies than ALIGN's
    """

    family, kinds = align_files, (WordPiece,)
    model_input_names = ("input_ids", "token_type_ids", "attention_mask")
    second_type = 1
    ends = ("cls_token", "sep_token")
    separators = 1

    def __init__(self, vocab: Any = None, *, vocab_file: Any = None, tokenizer: Any = None, **settings: Any):
        vocab = vocab_file if vocab is None else vocab
        if tokenizer is None and vocab is None:
            raise InputError("BertTokenizer has no vocabulary of its own: give vocab_file")
        if isinstance(vocab, (str, os.PathLike)):
            tokenizer = WordPiece.load(vocab, **align_files.options(settings))
        elif vocab is not None:
            tokenizer = align_files.from_vocabulary(vocab, settings)
        super().__init__(tokenizer, **settings)

    @property
    def do_lower_case(self) -> bool:
        """Whether the vocabulary has no capitals."""
        return self.tokenizer.tokenizer.options["lower_case"]


CLIPTokenizerFast, BertTokenizerFast = CLIPTokenizer, BertTokenizer
