#!/bin/sh
# LoRA on a TransformerEncoderLayer works in train() and disappears in eval().
#
# Packages: peft 0.21.2, torch 2.13.0 (CPU), transformers 5.23.0 (peft needs it).
# Expect:   without dropout, train() and eval() give the same output, with the adapter in both.
# Found:    in eval() the layer takes PyTorch's fast path, which hands the weights of linear1 and
#           linear2 to one fused function. The adapters around these layers are not called. The
#           trained model is silently the base model again as soon as it is evaluated.
# Seen:     adapter changes the output: in train() True, in eval() False
#           eval() with torch.backends.mha.set_fastpath_enabled(False): True
# Avoid:    switch the fast path off as above, or merge the adapter before evaluation.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/env"
"$dir/env/bin/pip" install --quiet --no-compile torch==2.13.0 peft==0.21.2 transformers==5.23.0 numpy==2.4.6
"$dir/env/bin/python" -W ignore - <<'PYTHON'
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

torch.manual_seed(0)
layer = nn.TransformerEncoderLayer(16, 4, 32, dropout=0.0, batch_first=True)
# init_lora_weights=False: an adapter that is not zero, as after training.
config = LoraConfig(target_modules=["linear1", "linear2"], r=2, init_lora_weights=False)
model = get_peft_model(nn.Sequential(layer), config)
x = torch.randn(2, 5, 16)


@torch.no_grad()
def adapter_changes_output():
    with_adapter = model(x)
    with model.disable_adapter():
        without = model(x)
    return (with_adapter - without).abs().max().item() > 0.01


model.train()
training = adapter_changes_output()
model.eval()
evaluating = adapter_changes_output()
print(f"adapter changes the output: in train() {training}, in eval() {evaluating}")
torch.backends.mha.set_fastpath_enabled(False)
slow = adapter_changes_output()
print(f"eval() with torch.backends.mha.set_fastpath_enabled(False): {slow}")
assert training and not evaluating and slow
PYTHON
