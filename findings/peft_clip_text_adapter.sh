#!/bin/sh
# A LoRA of CLIPTextModel that was trained with transformers 4 does nothing with transformers 5.
#
# Packages: peft 0.21.2 with transformers 4.57.3 and then 5.23.0, torch 2.13.0 (CPU).
# Expect:   the same adapter on the same weights changes the features as before the upgrade, or is
#           refused. The weights themselves load in both: transformers converts their names.
# Found:    since transformers 5 the tower is CLIPTextModel itself, without a text_model inside.
#           target_modules ("q_proj") still fits, so PEFT makes the layers, but the adapter's tensors
#           have names with text_model. and go nowhere. A warning lists "missing adapter keys"; the
#           result is exactly the base model. CLIPModel and the classes WithProjection are unchanged.
# Seen:     transformers 4.57.3: adapter changes the features True
#           transformers 5.23.0: adapter changes the features False
# Avoid:    remove text_model. (or vision_model.) from the names in adapter_model.safetensors, or
#           merge the adapter before the upgrade.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/env"
cat >"$dir/train.py" <<'PYTHON'
import torch
from peft import LoraConfig, get_peft_model
from transformers import CLIPTextConfig, CLIPTextModel

torch.manual_seed(0)
sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
ids = {"bos_token_id": 48, "eos_token_id": 49, "pad_token_id": 49}
model = CLIPTextModel(CLIPTextConfig(vocab_size=50, **sizes, **ids))
model.save_pretrained("base")
model = get_peft_model(model, LoraConfig(target_modules=["q_proj"], r=2))
for name, x in model.named_parameters():
    if "lora_B" in name:  # as after training
        torch.nn.init.normal_(x)
model.save_pretrained("adapter")
PYTHON
cat >"$dir/load.py" <<'PYTHON'
import sys

import torch
import transformers
from peft import PeftModel
from transformers import CLIPTextModel

model = PeftModel.from_pretrained(CLIPTextModel.from_pretrained("base"), "adapter").eval()
tokens = torch.tensor([[48, 3, 4, 5, 49]])
with torch.no_grad():
    adapted = model(input_ids=tokens).pooler_output
    with model.disable_adapter():
        base = model(input_ids=tokens).pooler_output
changes = not torch.equal(adapted, base)
print(f"transformers {transformers.__version__}: adapter changes the features {changes}")
assert changes == (sys.argv[1] == "True")
PYTHON
cd "$dir"
env/bin/pip install --quiet --no-compile torch==2.13.0 peft==0.21.2 transformers==4.57.3 numpy==2.4.6
HF_HUB_OFFLINE=1 env/bin/python -W ignore train.py 2>log || { cat log; exit 1; }
HF_HUB_OFFLINE=1 env/bin/python -W ignore load.py True 2>log || { cat log; exit 1; }
env/bin/pip install --quiet --no-compile transformers==5.23.0
HF_HUB_OFFLINE=1 env/bin/python -W ignore load.py False 2>log || { cat log; exit 1; }
