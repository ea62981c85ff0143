#!/bin/sh
# The towers of one SigLIP 2 in OpenCLIP compute two different GELUs.
#
# Packages: open_clip_torch 3.3.0, timm 1.0.31, transformers 5.23.0, torch 2.13.0 (CPU), pillow 13.0.0.
# Expect:   a SigLIP has one activation. The models were trained with GELU's approximation by tanh (JAX's default), which
#           is what transformers computes in both towers of all of them.
# Found:    OpenCLIP takes the image tower from timm, by its name. Those with the names that came with SigLIP compute GELU
#           itself, those that came with SigLIP 2 its approximation; the smaller SigLIP 2 have towers of the older names.
#           So ViT-B-16-SigLIP2 has GELU for pictures and its approximation for texts. With the same weights, features
#           in OpenCLIP and in transformers differ a little.
# Seen:     ViT-B-16-SigLIP       pictures none, texts none
#           ViT-B-16-SigLIP2      pictures none, texts tanh
#           ViT-B-32-SigLIP2-256  pictures tanh, texts tanh
#           transformers          pictures gelu_pytorch_tanh, texts gelu_pytorch_tanh
#           features of a picture, random weights: differ by 2e-04 of the largest value
# Matters:  a test that compares both libraries within 1e-5 fails, and no other names of the weights make it pass.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/env"
"$dir/env/bin/pip" install --quiet --no-compile torch==2.13.0 transformers==5.23.0 numpy==2.4.6 pillow==13.0.0 \
    ftfy==6.3.1 regex==2026.11.19
"$dir/env/bin/pip" install --quiet --no-compile --no-deps open_clip_torch==3.3.0 timm==1.0.31
"$dir/env/bin/python" -W ignore - <<'PYTHON'
import sys
from unittest.mock import MagicMock

import torch
from transformers import SiglipConfig, logging

logging.set_verbosity_error()
theirs = SiglipConfig()
for name in ("", ".datasets", ".transforms", ".transforms.functional", ".ops", ".ops.misc"):
    sys.modules["torchvision" + name] = MagicMock()  # needed for pictures alone
sys.modules["transformers"] = None
import open_clip
import timm

found = {}
for name in ("ViT-B-16-SigLIP", "ViT-B-16-SigLIP2", "ViT-B-32-SigLIP2-256"):
    config = open_clip.get_model_config(name)
    with torch.device("meta"):
        tower = timm.create_model(config["vision_cfg"]["timm_model_name"], num_classes=0, depth=1)
    act = tower.blocks[0].mlp.act
    picture = "tanh" if "Tanh" in type(act).__name__ else act.approximate
    found[name] = picture, config["text_cfg"].get("act_kwargs", {}).get("approximate", "none")
    print(f"{name:21} pictures {found[name][0]}, texts {found[name][1]}")
print(f"transformers          pictures {theirs.vision_config.hidden_act}, texts {theirs.text_config.hidden_act}")
assert [*found.values()] == [("none", "none"), ("none", "tanh"), ("tanh", "tanh")]
assert theirs.vision_config.hidden_act == theirs.text_config.hidden_act == "gelu_pytorch_tanh"

torch.manual_seed(0)
tower = timm.create_model("vit_base_patch16_siglip_224", num_classes=0).eval()
picture = torch.randn(1, 3, 224, 224)
with torch.no_grad():
    for x in tower.parameters():
        x += 0.05 * torch.randn_like(x)
    exact = tower(picture)
    for module in tower.modules():
        if isinstance(module, torch.nn.GELU):
            module.approximate = "tanh"
    error = ((tower(picture) - exact).abs().max() / exact.abs().max()).item()
print(f"features of a picture, random weights: differ by {error:.0e} of the largest value")
assert error > 1e-4
PYTHON
