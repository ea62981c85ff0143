#!/bin/sh
# Without the end token, every text has the same CLIP feature.
#
# Packages: transformers 5.23.0, torch 2.13.0 (CPU).
# Expect:   CLIPTextModel fails on ids without an end token, or takes the last position.
# Found:    it looks for the first end token with argmax over "is this the end token". If there is
#           none, argmax returns 0: the feature is that of the START token, which sees nothing of the
#           text. Long texts that are cut with ids[:, :77] all get the same feature, without a
#           warning. The older config value eos_token_id = 2 makes the model take the position of the
#           highest id instead. Without an end token that is the start token, too.
# Seen:     two texts without an end token: same feature True (eos_token_id 49407), True (2)
# Avoid:    cut with the tokenizer (truncation=True), which keeps the end token.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/env"
"$dir/env/bin/pip" install --quiet --no-compile torch==2.13.0 transformers==5.23.0 numpy==2.4.6
"$dir/env/bin/python" -W ignore - 2>"$dir/log" <<'PYTHON' || { cat "$dir/log"; exit 1; }
import torch
from transformers import CLIPTextConfig, CLIPTextModel

START, END = 49406, 49407


def same_features(end_id, ids):
    torch.manual_seed(0)
    config = CLIPTextConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
                            bos_token_id=START, eos_token_id=end_id)
    with torch.no_grad():
        first, second = CLIPTextModel(config).eval()(torch.tensor(ids)).pooler_output
    return torch.allclose(first, second, atol=1e-5)


cut = [[START, 320, 1125, 539, 320, 2368], [START, 518, 4287, 40, 718, 1929]]
official, legacy = same_features(END, cut), same_features(2, cut)
print(f"two texts without an end token: same feature {official} (eos_token_id {END}), {legacy} (2)")
assert official and legacy
with_end = [ids[:-1] + [END] for ids in cut]
assert not same_features(END, with_end) and not same_features(2, with_end)
PYTHON
