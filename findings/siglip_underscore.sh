#!/bin/sh
# An underscore separates words for SigLIP in OpenCLIP and glues them together in transformers.
#
# Packages: transformers 5.23.0, open_clip_torch 3.3.0, torch 2.13.0 (CPU), sentencepiece 0.2.3.
# Expect:   both libraries clean a caption for a SigLIP model in the same way, since the models were
#           trained with one rule: lower case, punctuation removed, spaces joined.
# Found:    OpenCLIP makes "_" a space before it removes the other punctuation. transformers
#           removes it with the rest, so that two words become one. Class names of data sets
#           (traffic_light, dining_table) often have underscores. Words joined by "-" are glued in both.
# Seen:     'A traffic_light.'  OpenCLIP 'a traffic light', transformers 'a trafficlight'
#           'A T-shirt!'        OpenCLIP 'a tshirt', transformers 'a tshirt'
#           tokens of 'A traffic_light.' in transformers as of 'a trafficlight': True
# Avoid:    replace "_" by a space before the tokenizer is called.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/env"
"$dir/env/bin/pip" install --quiet --no-compile torch==2.13.0 transformers==5.23.0 sentencepiece==0.2.3 protobuf==7.36.2 \
    numpy==2.4.6 ftfy==6.3.1 regex==2026.11.19
"$dir/env/bin/pip" install --quiet --no-compile --no-deps open_clip_torch==3.3.0
cd "$dir"
# open_clip imports torchvision; its tokenizer is one file that does not.
PYTHONPATH=$(echo env/lib/python3*/site-packages/open_clip) env/bin/python -W ignore - 2>log <<'PYTHON' || { cat log; exit 1; }
import random

import sentencepiece
from tokenizer import canonicalize_text
from transformers import SiglipTokenizer

random.seed(0)
words = "a traffic light tshirt of the quick brown fox jumps over lazy dog with six vivid zebra".split()
with open("captions.txt", "w") as file:
    for _ in range(500):
        file.write(" ".join(random.choices(words, k=12)) + "\n")
sentencepiece.SentencePieceTrainer.train(
    input="captions.txt", model_prefix="small", vocab_size=100, hard_vocab_limit=False, minloglevel=2,
    pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
tokenizer = SiglipTokenizer("small.model")

cleaned = {}
for text in ["A traffic_light.", "A T-shirt!"]:
    cleaned[text] = canonicalize_text(text), tokenizer.canonicalize_text(text)
    print(f"{text!r:19} OpenCLIP {cleaned[text][0]!r}, transformers {cleaned[text][1]!r}")
assert cleaned["A traffic_light."] == ("a traffic light", "a trafficlight")
assert cleaned["A T-shirt!"] == ("a tshirt", "a tshirt")

ids = [tokenizer(text).input_ids for text in ("A traffic_light.", "a trafficlight", "a traffic light")]
print("tokens of 'A traffic_light.' in transformers as of 'a trafficlight':", ids[0] == ids[1])
assert ids[0] == ids[1] != ids[2]
PYTHON
