"""SigLIP 2's tokenizer, Gemma's: byte pairs over a vocabulary of many languages, in a file tokenizer.json.

SigLIP 2 was trained on texts in lower case; whether they become so here is written in the files, as in transformers:
its Siglip2Tokenizer does it, its GemmaTokenizer does not.
"""

from miniclip.tokenizers.tokenizer_json import TokenizerJson

PAD, EOS, BOS, UNK, MASK = "<pad>", "<eos>", "<bos>", "<unk>", "<mask>"


class Gemma(TokenizerJson):
    """A TokenizerJson with Gemma's names of the special tokens. `lower_case`: texts become lower case first."""

    LINES = "tokenizer.json"

    def __init__(
        self,
        content: str,
        *,
        lower_case: bool = False,
        pad: str = PAD,
        eos: str = EOS,
        bos: str = BOS,
        left: bool = False,
    ):
        super().__init__(content, lower_case=lower_case, pad=pad, eos=eos, bos=bos, left=left)
