#!/bin/sh
# The text tower of a Chinese-CLIP or an AltCLIP that is loaded by itself has random weights.
#
# Packages: transformers 5.23.0, torch 2.13.0 (CPU).
# Expect:   ChineseCLIPTextModel.from_pretrained and AltCLIPTextModel.from_pretrained of a whole
#           model's directory take the text tower out of it, as CLIPTextModel.from_pretrained does.
# Found:    no name in the file fits: the names there begin with "text_model.", which is removed
#           for CLIP alone. All weights are drawn at random. A report is logged; nothing is raised.
# Seen:     CLIPTextModel: 0 weights are missing, the same output: True
#           ChineseCLIPTextModel: 23 weights are missing, the same output: False
#           AltCLIPTextModel: 25 weights are missing, the same output: False
# Avoid:    load the whole model, and use its text_model.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/env"
"$dir/env/bin/pip" install --quiet --no-compile torch==2.13.0 transformers==5.23.0 numpy==2.4.6
"$dir/env/bin/python" -W ignore - 2>"$dir/log" <<'PYTHON' || { cat "$dir/log"; exit 1; }
import tempfile

import torch
import transformers

small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
text = {**small, "vocab_size": 99, "eos_token_id": 98, "bos_token_id": 97}
ids = torch.tensor([[97, 5, 6, 98]])
missing = {"CLIP": 0, "ChineseCLIP": 23, "AltCLIP": 25}
for family, count in missing.items():
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(text_config=text, vision_config=small)
    whole, part = getattr(transformers, f"{family}Model")(config).eval(), getattr(transformers, f"{family}TextModel")
    with tempfile.TemporaryDirectory() as folder:
        whole.save_pretrained(folder)
        tower, report = part.from_pretrained(folder, output_loading_info=True)
    with torch.no_grad():
        same = torch.allclose(whole.text_model(ids).last_hidden_state, tower(ids).last_hidden_state, atol=1e-6)
    print(f"{part.__name__}: {len(report['missing_keys'])} weights are missing, the same output: {same}")
    assert len(report["missing_keys"]) == count and same == (family == "CLIP")
PYTHON
