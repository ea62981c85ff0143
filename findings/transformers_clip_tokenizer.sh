#!/bin/sh
# A typographic apostrophe gives other CLIP tokens in transformers than in OpenAI's code.
#
# Packages: transformers 5.23.0, openai-clip 1.0.1 (its tokenizer), ftfy 6.3.1.
# Expect:   CLIPTokenizer, built from OpenAI's vocabulary and merges, returns OpenAI's ids.
# Found:    OpenAI's tokenizer first repairs the text with ftfy and undoes HTML escapes twice; the model
#           was trained on such text. CLIPTokenizer does neither. Text from word processors
#           and web pages, with curly quotes, ligatures, full-width letters or "&amp;", gets other ids,
#           and more of them.
# Seen:     "it's a dog"           same, 4 tokens
#           'it\u2019s a dog'      4 tokens in OpenAI's code, 6 in transformers
#           'salt &amp; pepper'    3 tokens in OpenAI's code, 5 in transformers
#           '\ufb01ne food'        2 tokens in OpenAI's code, 5 in transformers
# Avoid:    html.unescape(html.unescape(ftfy.fix_text(text))) before CLIPTokenizer.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/env"
"$dir/env/bin/pip" install --quiet --no-compile transformers==5.23.0 tokenizers==0.23.3 ftfy==6.3.1 regex==2026.11.19
"$dir/env/bin/pip" install --quiet --no-compile --no-deps openai-clip==1.0.1
cd "$dir"
# The package imports torch; its tokenizer is one file that does not.
PYTHONPATH=$(echo env/lib/python3*/site-packages/clip) env/bin/python -W ignore - 2>log <<'PYTHON' || { cat log; exit 1; }
import html
import json

import ftfy
from simple_tokenizer import SimpleTokenizer
from transformers import CLIPTokenizer

official = SimpleTokenizer()
with open("vocab.json", "w") as file:
    json.dump(official.encoder, file)
with open("merges.txt", "w") as file:
    file.write("#version: 0.2\n" + "\n".join(" ".join(pair) for pair in official.bpe_ranks) + "\n")
tokenizer = CLIPTokenizer.from_pretrained(".")


def ids(text):
    return tokenizer(text, add_special_tokens=False).input_ids


counts = []
for text in ["it's a dog", "it\u2019s a dog", "salt &amp; pepper", "\ufb01ne food"]:
    ours, theirs = official.encode(text), ids(text)
    same = ours == theirs
    counts.append((len(ours), len(theirs)))
    print(f"{ascii(text):22}", f"same, {len(ours)} tokens" if same else
          f"{len(ours)} tokens in OpenAI's code, {len(theirs)} in transformers")
    assert ids(html.unescape(html.unescape(ftfy.fix_text(text)))) == ours
assert counts == [(4, 4), (4, 6), (3, 5), (2, 5)], counts
PYTHON
