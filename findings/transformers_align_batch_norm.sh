#!/bin/sh
# One training step replaces the running statistics of ALIGN and EfficientNet.
#
# Packages: transformers 5.23.0, torch 2.13.0 (CPU).
# Expect:   batch_norm_momentum = 0.99, Keras' value for EfficientNet, keeps 99% of the old running
#           mean at each step.
# Found:    the value is handed to torch.nn.BatchNorm2d, where "momentum" is the share of the NEW
#           batch (Keras' 0.99 is PyTorch's 0.01). So 99% of the running mean is thrown away at each
#           step, and evaluation after fine-tuning uses the statistics of the last batch only.
#           Nothing is wrong as long as the model is only evaluated.
# Seen:     AlignVisionConfig 0.99, EfficientNetConfig 0.99
#           running mean 1.0 before a step on a batch with mean 0; after it 0.01
# Avoid:    AlignVisionConfig(batch_norm_momentum=0.01), or keep the BatchNorm layers in eval().
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/env"
"$dir/env/bin/pip" install --quiet --no-compile torch==2.13.0 transformers==5.23.0 numpy==2.4.6
"$dir/env/bin/python" -W ignore - 2>"$dir/log" <<'PYTHON' || { cat "$dir/log"; exit 1; }
import torch
from transformers import AlignVisionConfig, AlignVisionModel, EfficientNetConfig

config = AlignVisionConfig(
    image_size=32, width_coefficient=0.25, depth_coefficient=0.1, hidden_dim=32, in_channels=[32], out_channels=[16],
    kernel_sizes=[3], strides=[1], num_block_repeats=[1], expand_ratios=[1], depthwise_padding=[])
defaults = AlignVisionConfig().batch_norm_momentum, EfficientNetConfig().batch_norm_momentum
print("AlignVisionConfig {}, EfficientNetConfig {}".format(*defaults))
assert defaults == (0.99, 0.99) == (config.batch_norm_momentum,) * 2

torch.manual_seed(0)
model = AlignVisionModel(config).train()
norm = model.embeddings.batchnorm
norm.running_mean.fill_(1)
with torch.no_grad():
    model(torch.zeros(4, 3, 32, 32))  # the convolution has no bias: its output is 0
after = norm.running_mean.unique().tolist()
print(f"running mean 1.0 before a step on a batch with mean 0; after it {after[0]:.2f}")
assert len(after) == 1 and abs(after[0] - 0.01) < 1e-6
PYTHON
