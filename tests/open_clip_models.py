"""OpenCLIP's models of random weights, saved in directories, and their features of given inputs."""

import json
import subprocess
import sys

TEXT = {"context_length": 9, "vocab_size": 60, "width": 64, "heads": 2, "layers": 2}
VISION = {"image_size": 24, "patch_size": 8, "width": 64, "layers": 2}
CONFIGS = {
    "gelu": {"embed_dim": 16, "vision_cfg": VISION, "text_cfg": TEXT},
    "quickgelu": {"embed_dim": 16, "quick_gelu": True, "vision_cfg": VISION, "text_cfg": TEXT},
    # Other widths of heads and MLP, and a long picture; modelled on ViT-H-14 and ViT-bigG-14.
    "huge": {
        "embed_dim": 24,
        "vision_cfg": {**VISION, "image_size": [16, 40], "width": 80, "head_width": 16, "mlp_ratio": 4.9231},
        "text_cfg": {**TEXT, "heads": 8, "mlp_ratio": 3.5},
    },
    "resnet": {
        "embed_dim": 16,
        "quick_gelu": True,
        "vision_cfg": {
            "image_size": 64,
            "layers": [1, 2, 1, 1],
            "width": 16,
            "head_width": 32,
            "patch_size": None,
        },
        "text_cfg": TEXT,
    },
    "defaults": {"embed_dim": 16, "vision_cfg": {"width": 64, "layers": 1}, "text_cfg": {"width": 64, "layers": 1}},
}

# OpenCLIP runs in its own process, where fake modules replace torchvision, which it imports only for pictures.
OFFICIAL = """
import json, logging, pathlib, sys
from unittest.mock import MagicMock

for name in ("", ".transforms", ".transforms.functional", ".ops", ".ops.misc"):
    sys.modules["torchvision" + name] = MagicMock()
sys.modules["transformers"] = None
logging.disable()
import numpy, open_clip, torch
from open_clip.push_to_hf_hub import save_for_hf

def run(task, directory, config, arrays, names):
    directory = pathlib.Path(directory)
    if task == "save":
        torch.manual_seed(0)
        model = open_clip.CLIP(**json.loads(json.dumps(config))).eval()
        with torch.no_grad():
            for name, x in [*model.named_parameters(), *model.named_buffers()]:
                if x.is_floating_point() and "running_var" not in name and "attn_mask" not in name:
                    x.add_(0.1 * torch.randn_like(x))
        model.visual.image_mean, model.visual.image_std = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
        save_for_hf(model, MagicMock(), config, directory)
    else:
        size = {"force_image_size": tuple(config)} if config else {}
        model = open_clip.create_model(f"local-dir:{directory}", require_pretrained=True, **size).eval()
    batch = numpy.load(arrays)
    with torch.no_grad():
        images, texts = map(torch.from_numpy, (batch["images"], batch["tokens"]))
        numpy.savez(arrays, **batch, image=model.encode_image(images), text=model.encode_text(texts))

for arguments in json.load(sys.stdin):
    run(*arguments)
"""


def official(tasks):
    done = subprocess.run(
        [sys.executable, "-c", OFFICIAL], input=json.dumps(tasks), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def size_of(config):
    size = config["vision_cfg"].get("image_size", 224)
    return size if isinstance(size, list) else [size, size]
