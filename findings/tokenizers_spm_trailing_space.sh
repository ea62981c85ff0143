#!/bin/sh
# A space at the end of a caption is a token after a SentencePiece model is converted.
#
# Packages: tokenizers 0.23.3, sentencepiece 0.2.3 (T5 and SigLIP use such models).
# Expect:   SentencePieceUnigramTokenizer.from_spm gives the ids of the model that it reads.
# Found:    SentencePiece removes spaces at both ends of a text and shortens the ones inside. The converted
#           tokenizer shortens them, but keeps one at the end, as a token of its own. "a cat" and
#           "a cat " are the same text for one library and two texts for the other. 300 random
#           texts without a space at the end agree.
# Seen:     'a photo of a cat'    sentencepiece 5 tokens, tokenizers 5
#           '  a  photo'          sentencepiece 2 tokens, tokenizers 2
#           'a photo of a cat '   sentencepiece 5 tokens, tokenizers 6, the last is '\u2581'
# Avoid:    text.strip() before encoding.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/env"
"$dir/env/bin/pip" install --quiet --no-compile tokenizers==0.23.3 sentencepiece==0.2.3 protobuf==7.36.2
cd "$dir"
# from_spm imports sentencepiece_model_pb2, which is inside the package of sentencepiece.
PYTHONPATH=$(echo env/lib/python3*/site-packages/sentencepiece) env/bin/python - <<'PYTHON'
import random

import sentencepiece
from tokenizers import SentencePieceUnigramTokenizer

random.seed(0)
words = ("a photo of the quick brown fox jumps over lazy dog cat bird in small red house under tree with snow "
         "seven wizards mix quartz painting vivid yellow flower jackdaws love my big sphinx").split()
with open("captions.txt", "w") as file:
    for _ in range(500):
        file.write(" ".join(random.choices(words, k=12)) + "\n")
sentencepiece.SentencePieceTrainer.train(
    input="captions.txt", model_prefix="small", vocab_size=150, hard_vocab_limit=False, minloglevel=2)
original = sentencepiece.SentencePieceProcessor(model_file="small.model")
converted = SentencePieceUnigramTokenizer.from_spm("small.model")

extra = []
for text in ["a photo of a cat", "  a  photo", "a photo of a cat "]:
    expected, found = original.encode(text), converted.encode(text)
    last = f", the last is {ascii(found.tokens[-1])}" if found.ids != expected else ""
    print(f"{text!r:21} sentencepiece {len(expected)} tokens, tokenizers {len(found.ids)}{last}")
    extra.append(found.tokens[len(expected):])
    assert found.ids[:len(expected)] == expected
assert extra == [[], [], ["\u2581"]]
for _ in range(300):
    text = " ".join("".join(random.choices("aeotrhndcbpf", k=random.randint(1, 8))) for _ in range(4))
    assert converted.encode(text).ids == original.encode(text)
PYTHON
