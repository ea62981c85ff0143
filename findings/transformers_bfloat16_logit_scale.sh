#!/bin/sh
# A CLIP model in bfloat16 multiplies its cosines by 99, not by 100.
#
# Packages: transformers 5.23.0, torch 2.13.0 (CPU).
# Expect:   dtype=bfloat16 rounds each weight by at most 0.4%, and the logits with them.
# Found:    the model stores the logarithm of the scale, ln(100) = 4.6052, and rounds it like a
#           weight, to 4.59375. The exponential turns the small absolute error into a factor: the
#           exact scale is now 98.87, and 99 after the next rounding. All logits are 1% low, in the
#           same direction, so that every probability is a little too flat.
# Seen:     logit_scale 4.605170 -> 4.593750; exp 100.0 -> 99.0
# Avoid:    load in float32, convert, and put the float32 logit_scale back.
#           OpenCLIP's precision="bf16" keeps it in float32.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/env"
"$dir/env/bin/pip" install --quiet --no-compile torch==2.13.0 transformers==5.23.0 numpy==2.4.6
cd "$dir"
env/bin/python -W ignore - 2>log <<'PYTHON' || { cat log; exit 1; }
import math

import torch
from transformers import CLIPConfig, CLIPModel

tower = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2)
config = CLIPConfig(text_config=dict(vocab_size=100, **tower), vision_config=dict(image_size=32, patch_size=16, **tower),
                    logit_scale_init_value=math.log(100))
CLIPModel(config).save_pretrained("clip")
full, brain = (CLIPModel.from_pretrained("clip", dtype=dtype).logit_scale.detach()
               for dtype in (torch.float32, torch.bfloat16))
print(f"logit_scale {full.item():.6f} -> {brain.item():.6f}; exp {full.exp().item():.1f} -> {brain.exp().item():.1f}")
assert brain.dtype == torch.bfloat16
assert brain.item() == 4.59375 and brain.exp().item() == 99
assert abs(full.exp().item() - 100) < 1e-3
PYTHON
