#!/bin/sh
# The capital letters of a Greek caption give other tokens in Rust than in Python.
#
# Package: tokenizers 0.23.3.
# Expect:  the Lowercase normalizer is Python's str.lower, which CLIP's and BERT's official
#          tokenizers call. Both map single letters alike.
# Found:   it maps each letter by itself. In Greek the lower case of a sigma depends on its place:
#          it has another form at the end of a word. str.lower follows that rule of Unicode, Lowercase
#          and BertNormalizer do not. The result is not a Greek word, and its byte-level or
#          word-piece tokens are not those of the word.
# Seen:    str.lower      'οδος' (last letter U+03C2)
#          Lowercase      'οδοσ' (last letter U+03C3)
#          BertNormalizer 'οδοσ' (last letter U+03C3)
# Avoid:   lower-case the text with str.lower before it is given to the tokenizer.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/env"
"$dir/env/bin/pip" install --quiet --no-compile tokenizers==0.23.3
PYTHONUTF8=1 "$dir/env/bin/python" - <<'PYTHON'
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

street = "\u039f\u0394\u039f\u03a3"  # "STREET" in Greek capitals
results = {
    "str.lower": street.lower(),
    "Lowercase": normalizers.Lowercase().normalize_str(street),
    "BertNormalizer": normalizers.BertNormalizer().normalize_str(street),
}
for name, result in results.items():
    print(f"{name:14} {result!r} (last letter U+{ord(result[-1]):04X})")
assert results["str.lower"] == "\u03bf\u03b4\u03bf\u03c2"
assert results["Lowercase"] == results["BertNormalizer"] == "\u03bf\u03b4\u03bf\u03c3"

# The word is in the vocabulary as Greek writes it. Its capitals are unknown.
tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, street.lower(): 1}, unk_token="[UNK]"))
tokenizer.normalizer = normalizers.Lowercase()
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
assert tokenizer.encode(street.lower()).ids == [1]
assert tokenizer.encode(street).ids == [0]
PYTHON
