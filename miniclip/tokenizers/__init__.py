"""Parts that tokenizers share, and the tokenizers of families other than CLIP. CLIP's is `miniclip.tokenizer`."""

import html
import re
from collections.abc import Iterable
from typing import Any

from miniclip.errors import InputError

# ASCII without ampersands, and of controls only \t\n\r: nothing to repair or unescape. (The re module is faster here.)
PLAIN = re.compile(r"[\t\n\r -%'-~]*")

# Letters of many languages, and signs, that ftfy changes only if they are next to others that look wrongly decoded.
# Without ampersands, quotes and marks that are combined with letters; and without line breaks, "Â" and "Ã": ftfy cuts
# texts at line breaks and after a million characters, and a part that begins with "Ã " looks wrong.
CALM = re.compile(
    r"[\t -%'-~¡-¬®-ÁÄ-ıĴ-ňŊ-ſΑ-ΡΣ-Ωά-ώЀ-ҁҊ-ӿא-תء-ي–—•…€™、。「」々〆ぁ-ゖァ-ー一-鿿가-힣"
    "\u200d\ufe0f\u2600-\u27bf\U0001f1e6-\U0001f1ff\U0001f300-\U0001faff]*"
)


def repair(text):
    """A text with its encoding repaired and HTML escapes undone twice (official: web captions have them)."""
    import ftfy  # imported here: plain texts, which are most, need no repair and no ftfy

    if CALM.fullmatch(text) and not ftfy.is_bad(text):
        return text
    return html.unescape(html.unescape(ftfy.fix_text(text)))


def as_texts(texts: Any) -> list[str]:
    """A list of a str, or of the strs of an Iterable. Raises InputError that names what is something else."""
    if isinstance(texts, str):
        return [texts]
    if isinstance(texts, bytes) or not isinstance(texts, Iterable):
        raise InputError(f"texts is of type {type(texts).__name__}, expected str or a list of str: {texts!r}")
    texts = [*texts]
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(f"text {i} is of type {type(text).__name__}, expected str: {text!r}")
    return texts


class Cache(dict):
    """{text: function(text)} of short texts, computed on first use. `many` is [function(text), ...] of a list of texts.

    It is emptied when it has `size` texts, so that memory does not grow. (functools.lru_cache, which keeps the texts
    that were used last, takes twice the time.)
    """

    LONGEST = 64  # characters of a text that is kept

    def __init__(self, function, many=None, size=1 << 17):
        super().__init__()
        self.function, self.many, self.size = function, many, size

    def __missing__(self, text):
        ids = self.function(text)
        if len(self) >= self.size:
            self.clear()
        if len(text) <= self.LONGEST:
            self[text] = ids
        return ids

    def all(self, texts):
        """[self[text] for text in texts], but those that are new are computed by one call of `many`."""
        found = [*map(self.get, texts)]
        if None in found:
            places = [i for i, ids in enumerate(found) if ids is None]
            names = [*dict.fromkeys([texts[i] for i in places])]
            new = dict(zip(names, self.many(names)))
            for i in places:
                found[i] = new[texts[i]]
            kept = [(text, ids) for text, ids in new.items() if len(text) <= self.LONGEST]
            if len(self) + len(kept) > self.size:
                self.clear()
            self.update(kept[: self.size])
        return found
