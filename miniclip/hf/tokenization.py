"""transformers' tokenizers around `miniclip.Tokenizer` and those in `miniclip.tokenizers`.

The tokens come from the wrapped tokenizers: BERT's for ALIGN, SentencePiece's and Gemma's for SigLIP, XLM-RoBERTa's for
CLIPs of many languages, OpenAI's for CLIP. OpenAI's first repairs texts that were decoded wrongly and unescapes HTML;
transformers' tokenizers in Rust do neither.
"""

import os
from pathlib import Path
from typing import Any

from miniclip import checkpoints
from miniclip.errors import InputError
from miniclip.families.align import tokenizer_files as align_files
from miniclip.families.clip import tokenizer_files as clip_files
from miniclip.families.multilingual import xlm_roberta_files
from miniclip.families.siglip import gemma_files
from miniclip.families.siglip import tokenizer_files as siglip_files
from miniclip.families.tokenizer_settings import without_added_tokens
from miniclip.fetch import vocabulary
from miniclip.hf import truncation as cuts
from miniclip.hf.files import find
from miniclip.hf.tokenization_base import CALL_OPTIONS, PreTrainedTokenizer
from miniclip.tokenizer import Tokenizer
from miniclip.tokenizers.gemma import Gemma
from miniclip.tokenizers.renumbered import Renumbered
from miniclip.tokenizers.sentencepieces import SentencePiece, canonicalize
from miniclip.tokenizers.wordpiece import WordPiece
from miniclip.tokenizers.xlm_roberta import XLMRoberta

__all__ = [
    "CALL_OPTIONS",
    "BertTokenizer",
    "BertTokenizerFast",
    "CLIPTokenizer",
    "CLIPTokenizerFast",
    "GemmaTokenizer",
    "GemmaTokenizerFast",
    "Siglip2Tokenizer",
    "SiglipTokenizer",
    "XLMRobertaTokenizer",
    "XLMRobertaTokenizerFast",
]

OFFICIAL_LENGTH = 77  # tokens of a text, in all of OpenAI's models
SIGLIP_LENGTH = 64  # in SigLIP's


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


class SiglipTokenizer(PreTrainedTokenizer):
    """transformers' SiglipTokenizer. It adds no tokens to its vocabulary, and gives no offsets.

    vocab_file   the path of spiece.model; or pass `tokenizer`, a miniclip SentencePiece. `do_lower_case=False` is for
                 other vocabularies than SigLIP's

    It gives an attention_mask unless its files say otherwise, as those of the official models do: they were trained
    without.
    """

    family, kinds = siglip_files, (SentencePiece,)
    model_input_names = ("input_ids", "attention_mask")
    second_type = 0
    ends = ("bos_token", "eos_token")
    separators = 1
    is_fast = False

    def __init__(self, vocab_file: Any = None, *, tokenizer: Any = None, **settings: Any):
        if tokenizer is None and vocab_file is None:
            raise InputError("SiglipTokenizer has no vocabulary of its own: give vocab_file")
        if tokenizer is None:
            tokenizer = SentencePiece.load(vocab_file, **siglip_files.options(settings))
        pad = without_added_tokens(tokenizer).options["pad"]
        super().__init__(tokenizer, **{"model_max_length": SIGLIP_LENGTH, "pad_token": pad, **settings})

    @property
    def do_lower_case(self) -> bool:
        """Whether texts become lower case."""
        return self.tokenizer.tokenizer.options["lower_case"]

    def canonicalize_text(self, text: str) -> str:
        """A text in lower case, without punctuation and with single spaces."""
        return canonicalize(text, self.do_lower_case)

    def _kept(self, first, second, room, strategy, limit):
        """As in transformers' tokenizers in Python, which take turns if both texts of a pair are equally long."""
        kept = super()._kept(first, second, room, strategy, limit)  # raises InputError if nothing fits
        if not second:
            return kept
        rows = cuts.remove([0] * first, [0] * second, first + second - room, strategy, 0, "right")[:2]
        return len(rows[0]), len(rows[1])

    def _parts(self, ranges, add_special_tokens, texts):
        """A row in parts, without a second </s> after a text that ends with it."""
        parts = super()._parts(ranges, add_special_tokens, texts)
        for i, (text, (start, end)) in enumerate(zip(texts, ranges)):
            if add_special_tokens and text.ids[start:end][-1:] == self._end:
                parts[2 * i + 2] = []
        return parts


class GemmaTokenizer(PreTrainedTokenizer):
    """transformers' GemmaTokenizer, for SigLIP 2. It adds no tokens to its vocabulary.

    tokenizer_file  the path of tokenizer.json; or pass `tokenizer`, a miniclip Gemma
    """

    family = gemma_files
    kinds: tuple[type, ...] = (Gemma,)
    lower_case = False  # whether texts become lower case, whatever the file says
    model_input_names = ("input_ids", "attention_mask")
    second_type = 1
    ends = ("bos_token", "eos_token")
    separators = 1

    def __init__(self, tokenizer_file: Any = None, *, tokenizer: Any = None, **settings: Any):
        files = " or ".join(self.family.VOCABULARIES)
        if tokenizer is None and tokenizer_file is None:
            raise InputError(f"{type(self).__name__} has no vocabulary of its own: give the path of {files}")
        if tokenizer is None:
            tokenizer = self.family.read_vocabulary(Path(tokenizer_file), settings)
            if tokenizer is None:
                raise InputError(f"{tokenizer_file}: there is no {files} here")
        plain = without_added_tokens(tokenizer)
        if self.lower_case and not gemma_files.is_lower_case(plain):
            tokenizer = plain = Gemma(plain.content, lower_case=True, **plain.options)
        own = {f"{name}_token": plain.options[name] for name in ("pad", "eos", "bos")}
        own["padding_side"] = "left" if plain.options["left"] else "right"
        absent = {} if self.family.SPECIAL["mask_token"] in plain.encoder else {"mask_token": None}
        super().__init__(tokenizer, **{**own, **absent, **settings})
        self._start, self._end = plain.start, plain.end  # as in transformers, also if its settings name other tokens


class Siglip2Tokenizer(GemmaTokenizer):
    """transformers' Siglip2Tokenizer: as GemmaTokenizer, but texts become lower case."""

    lower_case = True


class XLMRobertaTokenizer(GemmaTokenizer):
    """transformers' XLMRobertaTokenizer, for CLIPs of many languages. It adds no tokens to its vocabulary.

    vocab_file  the path of sentencepiece.bpe.model, or of tokenizer.json as `tokenizer_file`; or pass `tokenizer`, a
                miniclip XLMRoberta
    """

    family, kinds = xlm_roberta_files, (XLMRoberta,)
    second_type = 0
    separators = 2

    def __init__(self, vocab_file: Any = None, *, tokenizer_file: Any = None, **settings: Any):
        super().__init__(tokenizer_file if vocab_file is None else vocab_file, **settings)


def siglip_tokenizer(name: Any, **options: Any) -> SiglipTokenizer | GemmaTokenizer:
    """The tokenizer of a SigLIP, whichever it has; arguments as in `from_pretrained`."""
    path = find(name, dict(options), weights=False)
    if path.is_dir():
        is_gemma = not (path / siglip_files.VOCABULARY).exists() and (path / gemma_files.VOCABULARY).exists()
        lower_case = is_gemma and gemma_files.makes_lower_case(path)
    else:
        tokenizer: Any = checkpoints.load(path)[2]
        is_gemma = isinstance(tokenizer, Gemma)
        lower_case = isinstance(tokenizer, Gemma) and gemma_files.is_lower_case(tokenizer)
    kind = Siglip2Tokenizer if lower_case else GemmaTokenizer if is_gemma else SiglipTokenizer
    return kind.from_pretrained(name, **options)


CLIPTokenizerFast, BertTokenizerFast, GemmaTokenizerFast = CLIPTokenizer, BertTokenizer, GemmaTokenizer
XLMRobertaTokenizerFast = XLMRobertaTokenizer
