#!/bin/sh
# Two tags of OpenCLIP's ViT-B-16-plus-240, epochs 31 and 32, download the same weights.
#
# Packages: open_clip_torch 3.3.0.
# Expect:   each tag of a model names weights of its own, as their addresses on GitHub do.
# Found:    both tags name the repository of epoch 31 on Hugging Face's hub, and with huggingface_hub, which
#           open_clip_torch requires, create_model downloads from the hub (pretrained.py, `download_pretrained`).
# Seen:     laion400m_e31: vit_b_16_plus_240-laion400m_e31-8fb26589.pt timm/vit_base_patch16_plus_clip_240.laion400m_e31/
#           laion400m_e32: vit_b_16_plus_240-laion400m_e32-699c4b84.pt timm/vit_base_patch16_plus_clip_240.laion400m_e31/
# Avoid:    pass the file of epoch 32 from GitHub as `pretrained`.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/env"
"$dir/env/bin/pip" install --quiet --no-compile tqdm==4.67.1
"$dir/env/bin/pip" install --quiet --no-compile --no-deps open_clip_torch==3.3.0
"$dir/env/bin/python" - <<'PYTHON'
import importlib.util
import sys
import types

# The package imports torch; its table of weights is one file that does not.
package = types.ModuleType("open_clip")
package.__path__ = importlib.util.find_spec("open_clip").submodule_search_locations
sys.modules["open_clip"] = package
from open_clip.pretrained import get_pretrained_cfg

found = {tag: get_pretrained_cfg("ViT-B-16-plus-240", tag) for tag in ("laion400m_e31", "laion400m_e32")}
for tag, entry in found.items():
    print(f"{tag}: {entry['url'].rpartition('/')[2]} {entry['hf_hub']}")
assert len({entry["url"] for entry in found.values()}) == 2
assert len({entry["hf_hub"] for entry in found.values()}) == 1
PYTHON
