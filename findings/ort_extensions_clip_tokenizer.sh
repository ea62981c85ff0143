#!/bin/sh
# ONNX Runtime's CLIPTokenizer operator glues lines together and splits numbers differently.
#
# Packages: onnxruntime-extensions 0.15.2, and openai-clip 1.0.1 for the official tokenizer.
# Expect:   with the official vocabulary and merges, the operator returns the official ids.
# Found:    it does for plain words. But only the last digit of a number gets the "end of word" form,
#           where CLIP gives it to each digit. A line break is deleted, so that two words become
#           one. A tab is a token. A number of two digits in a prompt is enough to see a difference.
# Seen:     'a photo of a cat'   same
#           '12 cats'            official 1</w> 2</w> cats</w>; operator 1 2</w> cats</w>
#           'red\ncar'           official red</w> car</w>; operator red car</w>
#           'red\tcar'           official red</w> car</w>; operator red</w> ĉ</w> car</w>
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/env"
"$dir/env/bin/pip" install --quiet --no-compile onnxruntime-extensions==0.15.2 onnxruntime==1.32.0 onnx==1.23.2 \
    numpy==2.4.6 ftfy==6.3.1 regex==2026.11.19
"$dir/env/bin/pip" install --quiet --no-compile --no-deps openai-clip==1.0.1
# The package imports torch; its tokenizer is one file that does not.
PYTHONPATH=$(echo "$dir"/env/lib/python3*/site-packages/clip) PYTHONUTF8=1 "$dir/env/bin/python" - <<'PYTHON'
import json

import numpy as np
from onnxruntime_extensions import PyOrtFunction
from simple_tokenizer import SimpleTokenizer

official = SimpleTokenizer()
merges = "#version: 0.2\n" + "\n".join(" ".join(pair) for pair in official.bpe_ranks)
operator = PyOrtFunction.from_customop(
    "CLIPTokenizer", vocab=json.dumps(official.encoder), merges=merges, padding_length=-1)

same = {}
for text in ["a photo of a cat", "12 cats", "red\ncar", "red\tcar"]:
    expected = official.encode(text)
    found = np.ravel(operator([text])[0]).tolist()[1:-1]  # without the start and end tokens
    words = [" ".join(official.decoder[i] for i in ids) for ids in (expected, found)]
    same[text] = expected == found
    print(f"{text!r:20}", "same" if same[text] else f"official {words[0]}; operator {words[1]}")
assert list(same.values()) == [True, False, False, False]
PYTHON
