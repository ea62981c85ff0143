#!/bin/sh
# A new token gets the id of an old one if the vocabulary has a gap.
#
# Package: tokenizers 0.23.3.
# Expect:  add_tokens gives a new token an id that is free, for example one more than the highest.
# Found:   the new id is the NUMBER of tokens. If tokens were removed from a vocabulary and the others
#          kept their ids (to keep the rows of the embedding), that id may be in use. Both tokens then
#          have it, there is no error, and decoding returns the new token for both.
# Seen:    ids before: cat 0, [UNK] 2, bird 3; "dog" added as 3
#          encode("bird dog") -> [3, 3]; decode -> "dog dog"
#          the same after to_str() and from_str(): True
# Avoid:   fill gaps with unused names before tokens are added.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/env"
"$dir/env/bin/pip" install --quiet --no-compile tokenizers==0.23.3
"$dir/env/bin/python" - <<'PYTHON'
from tokenizers import Tokenizer, models, pre_tokenizers

vocabulary = {"cat": 0, "[UNK]": 2, "bird": 3}  # id 1 was removed
tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
assert tokenizer.encode("cat bird").ids == [0, 3]

assert tokenizer.add_tokens(["dog"]) == 1
print("ids before: cat 0, [UNK] 2, bird 3; \"dog\" added as", tokenizer.token_to_id("dog"))
ids = tokenizer.encode("bird dog").ids
text = tokenizer.decode(ids)
print(f'encode("bird dog") -> {ids}; decode -> "{text}"')
assert ids == [3, 3] and text == "dog dog"

again = Tokenizer.from_str(tokenizer.to_str())
same = again.encode("bird dog").ids == ids and again.decode(ids) == text
print("the same after to_str() and from_str():", same)
assert same

whole = Tokenizer(models.WordLevel({"cat": 0, "red": 1, "[UNK]": 2, "bird": 3}, unk_token="[UNK]"))
whole.add_tokens(["dog"])
assert whole.token_to_id("dog") == 4  # without a gap the id is new
PYTHON
