#!/bin/sh
# Stable Diffusion's clip_skip fails with the CLIPTextModel of transformers 5.
#
# Packages: diffusers 0.42.1, transformers 5.23.0, torch 2.13.0 (CPU).
# Expect:   encode_prompt(clip_skip=1) gives the embeddings of the layer before the last one.
# Found:    it raises AttributeError. The pipeline normalises that layer by text_model.final_layer_norm
#           of the text encoder, but since transformers 5 the tower is CLIPTextModel itself, without a
#           text_model inside. Without clip_skip the same pipeline works.
# Seen:     clip_skip=None: (1, 77, 32)
#           clip_skip=1: 'CLIPTextModel' object has no attribute 'text_model'
# Avoid:    text_encoder.text_model = text_encoder, set with object.__setattr__, before encoding.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/env"
"$dir/env/bin/pip" install --quiet --no-compile diffusers==0.42.1 torch==2.13.0 transformers==5.23.0 numpy==2.4.6
HF_HUB_OFFLINE=1 "$dir/env/bin/python" -W ignore - 2>"$dir/log" <<'PYTHON' || { cat "$dir/log"; exit 1; }
from types import SimpleNamespace

import torch
from diffusers import StableDiffusionPipeline
from transformers import CLIPTextConfig, CLIPTextModel

sizes = {"hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 3, "vocab_size": 99}
encoder = CLIPTextModel(CLIPTextConfig(**sizes, intermediate_size=64, bos_token_id=1, eos_token_id=2)).eval()
ids = torch.arange(77)[None]


def tokenizer(*args, **options):
    return SimpleNamespace(input_ids=ids, attention_mask=torch.ones_like(ids))


tokenizer.model_max_length = 77
pipeline = SimpleNamespace(tokenizer=tokenizer, text_encoder=encoder, unet=None)


def encode(clip_skip):
    options = {"device": torch.device("cpu"), "num_images_per_prompt": 1, "do_classifier_free_guidance": False}
    with torch.no_grad():
        return StableDiffusionPipeline.encode_prompt(pipeline, ["a cat"], **options, clip_skip=clip_skip)[0]


print(f"clip_skip=None: {tuple(encode(None).shape)}")
try:
    encode(1)
except AttributeError as error:
    print(f"clip_skip=1: {error}")
else:
    raise SystemExit("clip_skip works")
object.__setattr__(encoder, "text_model", encoder)
assert encode(1).shape == (1, 77, 32)
PYTHON
