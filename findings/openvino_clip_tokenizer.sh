#!/bin/sh
# OpenVINO's conversion of the CLIP tokenizer adds four tokens after an end token inside a text.
#
# Packages: openvino 2026.4.1, openvino-tokenizers 2026.4.1.0, transformers 5.23.0, and the vocabulary
#           of openai-clip 1.0.1.
# Expect:   convert_tokenizer gives the ids of the tokenizer that it is given.
# Found:    the end-of-word suffix "</w>" of the vocabulary is added to special tokens as well, as plain
#           text: "dog<|endoftext|>cat" becomes dog, end, "<", "/", "w", ">", cat. The capital I with a
#           dot above (U+0130) is not lower-cased.
# Seen:     'a dog'               same
#           'dog<|endoftext|>cat' transformers dog</w> <|endoftext|> cat</w>
#                                 openvino     dog</w> <|endoftext|> < / w > cat</w>
#           '\u0130'              transformers i</w> Ìĩ</w>
#                                 openvino     Ä °</w>
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/env"
"$dir/env/bin/pip" install --quiet --no-compile openvino==2026.4.1 openvino-tokenizers==2026.4.1.0 transformers==5.23.0 \
    tokenizers==0.23.3 numpy==2.4.6 ftfy==6.3.1 regex==2026.11.19
"$dir/env/bin/pip" install --quiet --no-compile --no-deps openai-clip==1.0.1
cd "$dir"
# The package imports torch; its tokenizer is one file that does not.
PYTHONPATH=$(echo env/lib/python3*/site-packages/clip) PYTHONUTF8=1 env/bin/python -W ignore - 2>log <<'PYTHON' || { cat log; exit 1; }
import json

import openvino
from openvino_tokenizers import convert_tokenizer
from simple_tokenizer import SimpleTokenizer
from transformers import CLIPTokenizer

official = SimpleTokenizer()
with open("vocab.json", "w") as file:
    json.dump(official.encoder, file)
with open("merges.txt", "w") as file:
    file.write("#version: 0.2\n" + "\n".join(" ".join(pair) for pair in official.bpe_ranks) + "\n")
tokenizer = CLIPTokenizer.from_pretrained(".")
converted = openvino.compile_model(convert_tokenizer(tokenizer), "CPU")


def words(ids):
    return " ".join(tokenizer.convert_ids_to_tokens([int(i) for i in ids][1:-1]))


results = []
for text in ["a dog", "dog<|endoftext|>cat", "\u0130"]:
    pair = words(tokenizer(text).input_ids), words(converted([text])["input_ids"][0])
    results.append(pair)
    if pair[0] == pair[1]:
        print(f"{ascii(text):21} same")
    else:
        print(f"{ascii(text):21} transformers {pair[0]}\n{'':21} openvino     {pair[1]}")
assert results[0] == ("a</w> dog</w>",) * 2
assert results[1] == ("dog</w> <|endoftext|> cat</w>", "dog</w> <|endoftext|> < / w > cat</w>")
assert results[2][0] != results[2][1]
PYTHON
