#!/bin/sh
# A cased tokenizer.json is lower-cased when transformers loads it as a BertTokenizer.
#
# Packages: transformers 5.23.0, tokenizers 0.23.3.
# Expect:   tokenizer.json has the whole tokenizer; BertTokenizer.from_pretrained gives the ids that the file gives.
# Found:    only the vocabulary and the added tokens are taken from the file. The normalizer is made again from
#           tokenizer_config.json, and without that file, or without do_lower_case in it, it lower-cases. A word with
#           a capital becomes another word, or unknown, without a warning.
# Seen:     tokenizers:                        "The cat" -> The cat
#           BertTokenizer, tokenizer.json:     "The cat" -> [UNK] cat
#           PreTrainedTokenizerFast, the same: "The cat" -> The cat
# Avoid:    keep tokenizer_config.json, with do_lower_case, beside tokenizer.json; or load PreTrainedTokenizerFast.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/env"
"$dir/env/bin/pip" install --quiet --no-compile transformers==5.23.0 tokenizers==0.23.3
cd "$dir"
env/bin/python -W ignore - 2>log <<'PYTHON' || { cat log; exit 1; }
from pathlib import Path

from tokenizers import Tokenizer
from transformers import BertTokenizer, PreTrainedTokenizerFast

pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "The", "cat"]
cased = BertTokenizer(vocab={piece: id for id, piece in enumerate(pieces)}, do_lower_case=False)
cased.save_pretrained("cased")
Path("cased/tokenizer_config.json").unlink()

file = Tokenizer.from_file("cased/tokenizer.json").encode("The cat", add_special_tokens=False).tokens
bert = BertTokenizer.from_pretrained("cased").tokenize("The cat")
fast = PreTrainedTokenizerFast.from_pretrained("cased").tokenize("The cat")
for name, tokens in (("tokenizers", file), ("BertTokenizer, tokenizer.json", bert), ("PreTrainedTokenizerFast, the same", fast)):
    print(f"{name + ':':34}", '"The cat" ->', " ".join(tokens))
assert file == fast == ["The", "cat"] and bert == ["[UNK]", "cat"]
PYTHON
