"""OpenCLIP's tokenizers from transformers: a text is cleaned, then encoded by a tokenizer.json.

Equal to its HFTokenizer. SigLIP, SigLIP 2, CLIPA and MetaCLIP 2 have one in OpenCLIP; in transformers, MetaCLIP 2 has
one that does not clean.
"""

from collections.abc import Callable, Iterable

import numpy as np

from miniclip.errors import InputError
from miniclip.tokenizers import repair
from miniclip.tokenizers.sentencepieces import WITHOUT_PUNCTUATION
from miniclip.tokenizers.tokenizer_json import TokenizerJson


def whitespace(text):
    """A repaired text with single spaces."""
    return " ".join(repair(text).split())


def lower(text):
    """The same in lower case."""
    return whitespace(text).lower()


def canonicalize(text):
    """A repaired text in lower case, without ASCII's punctuation: "A traffic_light!" -> "a traffic light"."""
    text = repair(text).strip().replace("_", " ").translate(WITHOUT_PUNCTUATION).lower()
    return " ".join(text.split())


# OpenCLIP's names (tokenizer.py), and None.
CLEAN: dict[str | None, Callable[[str], str]]
CLEAN = {"whitespace": whitespace, "lower": lower, "canonicalize": canonicalize, None: str}


class Cleaned(TokenizerJson):
    """A TokenizerJson that cleans texts first. Raises InputError also for another `clean`.

    clean  a name in `CLEAN`, None: texts stay as they are
    pad    the token that pads rows · left  whether it does so on the left
    zero   a token whose id becomes 0 in rows, as OpenCLIP's `strip_sep_token` does for CLIPA; None: no token
    """

    LINES = "cleaned_tokenizer"

    def __init__(
        self, content: str, *, clean: str | None = "whitespace", pad: str, left: bool = False, zero: str | None = None
    ):
        if clean not in CLEAN:
            raise InputError(f"clean is {clean!r}, expected one of {', '.join(map(str, CLEAN))}")
        super().__init__(content, pad=pad, left=left)
        self.zero_id = self._id(zero)
        self.options = {"clean": clean, "pad": pad, "left": left, "zero": zero}

    def _encoded(self, texts):
        return super()._encoded([*map(CLEAN[self.options["clean"]], texts)])

    def tokenize(self, texts: str | Iterable[str], context_length: int = 64, truncate: bool = False) -> np.ndarray:
        """A batch of ids, as in TokenizerJson, with 0 instead of the id of `zero`: (n, context_length) int32."""
        rows = super().tokenize(texts, context_length, truncate)
        return rows if self.zero_id is None else np.where(rows == self.zero_id, np.int32(0), rows)
