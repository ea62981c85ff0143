#!/bin/sh
# A CLIP checkpoint with other attention heads loads without an error and computes something else.
#
# Packages: openai-clip 1.0.1 (its file model.py), torch 2.13.0 (CPU).
# Expect:   build_model(state_dict) restores the model that state_dict was taken from, or fails.
# Found:    a state dict does not hold the number of heads, and the shapes of the weights do not depend
#           on it. build_model takes width // 64. A text tower of width 64 with two heads comes back
#           with one; all names and shapes fit. The weights are also rounded to float16, so that a
#           model fine-tuned in float32 does not come back exactly, even after .float().
# Seen:     heads: saved 2, loaded 1; all keys and shapes fit: True
#           text features differ by more than 10%: True
#           image features (2 heads of 64 in both) differ by rounding to float16 only: True
# Avoid:    build the model with CLIP(...) and call load_state_dict.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/env"
"$dir/env/bin/pip" install --quiet --no-compile torch==2.13.0 numpy==2.4.6
"$dir/env/bin/pip" install --quiet --no-compile --no-deps openai-clip==1.0.1
# The package imports torchvision; its models are one file that does not.
PYTHONPATH=$(echo "$dir"/env/lib/python3*/site-packages/clip) "$dir/env/bin/python" -W ignore - <<'PYTHON'
import torch
from model import CLIP, build_model

torch.manual_seed(0)
saved = CLIP(embed_dim=16, image_resolution=32, vision_layers=2, vision_width=128, vision_patch_size=8,
             context_length=8, vocab_size=50, transformer_width=64, transformer_heads=2, transformer_layers=2).eval()
loaded = build_model(dict(saved.state_dict())).float()
heads = [model.transformer.resblocks[0].attn.num_heads for model in (saved, loaded)]
a, b = saved.state_dict(), loaded.state_dict()
fit = {k: v.shape for k, v in a.items()} == {k: v.shape for k, v in b.items()}
print(f"heads: saved {heads[0]}, loaded {heads[1]}; all keys and shapes fit: {fit}")
assert heads == [2, 1] and fit

ids, pixels = torch.tensor([[1, 4, 5, 49, 0, 0, 0, 0]]), torch.randn(1, 3, 32, 32)


@torch.no_grad()
def difference(name, x):
    first, second = getattr(saved, name)(x), getattr(loaded, name)(x)
    return ((first - second).norm() / first.norm()).item()


text, image = difference("encode_text", ids), difference("encode_image", pixels)
print("text features differ by more than 10%:", text > 0.1)
print("image features (2 heads of 64 in both) differ by rounding to float16 only:", 0 < image < 0.01)
assert text > 0.1 and 0 < image < 0.01
assert torch.equal(saved.visual.proj.half().float(), loaded.visual.proj)
assert not torch.equal(saved.visual.proj, loaded.visual.proj)
PYTHON
