#!/bin/sh
# LoRA on "out_proj" of PyTorch's attention trains nothing, and merging it changes the model.
#
# Packages: peft 0.21.2, torch 2.13.0 (CPU), transformers 5.23.0 (peft needs it).
# Expect:   a LoRA adapter on the layer "out_proj" of nn.MultiheadAttention, which OpenAI's CLIP and
#           OpenCLIP use, takes part in the forward pass; or peft refuses the layer.
# Found:    peft accepts it and counts its parameters as trainable. But the attention reads
#           out_proj.weight and never calls out_proj, so the adapter is not used: same output, no
#           gradient. merge_and_unload then adds the adapter to the weight, and the output changes.
#           A target with the same name in transformers' CLIPModel works.
# Seen:     trainable parameters 64; adapter changes the output: False; gradient: None
#           merging changes the output: True
# Avoid:    name the whole attention module as the target: peft has a layer of its own for it.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/env"
"$dir/env/bin/pip" install --quiet --no-compile torch==2.13.0 peft==0.21.2 transformers==5.23.0 numpy==2.4.6
"$dir/env/bin/python" -W ignore - <<'PYTHON'
import torch
from peft import LoraConfig, get_peft_model
from torch import nn


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.attn = nn.MultiheadAttention(16, 4, batch_first=True)
        self.mlp = nn.Linear(16, 16)

    def forward(self, x):
        return self.mlp(self.attn(x, x, x, need_weights=False)[0])


torch.manual_seed(0)
x = torch.randn(2, 5, 16)
# init_lora_weights=False: an adapter that is not zero, as after training.
config = LoraConfig(target_modules=["out_proj", "mlp"], r=2, init_lora_weights=False)
model = get_peft_model(Block(), config)
adapter = model.base_model.model.attn.out_proj
parameters = [p for p in adapter.parameters() if p.requires_grad]

with_adapter = model(x)
with_adapter.sum().backward()
scaling = adapter.scaling["default"]
adapter.scaling["default"] = 0.0
without = model(x)
adapter.scaling["default"] = scaling
changes = not torch.equal(with_adapter, without)
print(f"trainable parameters {sum(p.numel() for p in parameters)}; adapter changes the output: {changes}; "
      f"gradient: {parameters[0].grad}")
assert parameters and not changes and all(p.grad is None for p in parameters)
mlp = model.base_model.model.mlp
assert mlp.lora_A["default"].weight.grad.abs().sum() > 0  # an ordinary layer does train

merged = model.merge_and_unload()(x)
moved = not torch.allclose(merged, with_adapter, atol=1e-2)
print(f"merging changes the output: {moved}")
assert moved
PYTHON
