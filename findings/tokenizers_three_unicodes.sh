#!/bin/sh
# One normalizer follows three versions of Unicode.
#
# Package: tokenizers 0.23.3.
# Expect:  BertNormalizer lower-cases, decomposes and removes accents with one table of characters, and
#          BertPreTokenizer splits at punctuation with the same one.
# Found:   categories stop at Unicode 8.0 (2015), decompositions before 13.0, and lower case is at
#          least 16.0 (2024). A mark or a punctuation sign of Unicode 9.0 or later has no category:
#          it is not removed as an accent and does not split a word. Google's BERT code asks
#          Python's unicodedata (14.0 in Python 3.11, newer in later ones), which knows both.
# Seen:    accent       8.0 U+08E3: removed       9.0 U+08D4: kept
#          punctuation  6.1 U+2E3A: splits        9.0 U+2E43: does not split
#          decomposed   5.2 U+1109A: yes          13.0 U+11938: no
#          lower case  16.0 U+A7CB: becomes U+0264
# Matters: text with newer marks gives other tokens than the official BERT (and ALIGN) tokenizer.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/env"
"$dir/env/bin/pip" install --quiet --no-compile tokenizers==0.23.3
"$dir/env/bin/python" - <<'PYTHON'
import unicodedata

from tokenizers.normalizers import NFD, BertNormalizer, Lowercase
from tokenizers.pre_tokenizers import BertPreTokenizer

accents = BertNormalizer(clean_text=False, handle_chinese_chars=False, strip_accents=True, lowercase=False)
splitter = BertPreTokenizer()


def accent(char):
    assert unicodedata.category(char) == "Mn"
    return "kept" if char in accents.normalize_str("a" + char) else "removed"


def punctuation(char):
    assert unicodedata.category(char).startswith("P")
    return "splits" if len(splitter.pre_tokenize_str("a" + char + "b")) == 3 else "does not split"


def decomposed(char):
    assert unicodedata.normalize("NFD", char) != char
    return "yes" if NFD().normalize_str(char) == unicodedata.normalize("NFD", char) else "no"


rows = [
    ("accent", accent, [("8.0", "\u08e3", "removed"), ("9.0", "\u08d4", "kept")]),
    ("punctuation", punctuation, [("6.1", "\u2e3a", "splits"), ("9.0", "\u2e43", "does not split")]),
    ("decomposed", decomposed, [("5.2", "\U0001109a", "yes"), ("13.0", "\U00011938", "no")]),
]
for name, function, cases in rows:
    found = [function(char) for _, char, _ in cases]
    print(f"{name:11}", "  ".join(f"{v:>4} U+{ord(c):04X}: {f:14}" for (v, c, _), f in zip(cases, found)).rstrip())
    assert found == [expected for _, _, expected in cases]
lower = Lowercase().normalize_str("\ua7cb")
print(f"lower case  16.0 U+A7CB: becomes U+{ord(lower):04X}")
assert lower == "\u0264"
PYTHON
