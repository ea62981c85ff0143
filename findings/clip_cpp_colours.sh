#!/bin/sh
# clip.cpp's Python package prepares green and blue with the mean and the deviation of red.
#
# Packages: clip-cpp 0.5.0 (Linux, x86 with AVX2), gguf 0.19.0. It is the newest on PyPI; in
#           clip.cpp's main branch all three channels have their own since commit c7ac1eb.
# Expect:   (x - mean) / std of each channel, as the model's file says it.
# Found:    All channels get the first channel's numbers. With OpenAI's, green is up to 0.15 too low
#           and blue up to 0.31, of values from -2 to 2: every picture is redder than it should be.
# Seen:     white  red 1.930 green 1.930 blue 1.930, expected 1.930 2.075 2.146
#           black  red -1.792 green -1.792 blue -1.792, expected -1.792 -1.752 -1.480
# Avoid:    Build clip.cpp from its sources.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/env"
"$dir/env/bin/pip" install --quiet --no-compile --no-deps clip-cpp==0.5.0 gguf==0.19.0 numpy==2.4.6 \
    pyyaml==6.0.4 tqdm==4.70.1
cd "$dir"
env/bin/python - 2>log <<'PYTHON' || { cat log; exit 1; }
import ctypes
import importlib.util
import pathlib

import gguf
import numpy as np

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)

# An image tower of 12 blocks: clip.cpp reads no model with another number of tensors. Its weights do not matter here.
writer = gguf.GGUFWriter("image.gguf", "clip")
for key, value in {"has_text_encoder": False, "has_vision_encoder": True, "use_gelu": False}.items():
    writer.add_bool(f"clip.{key}", value)
writer.add_uint32("general.file_type", 0)
writer.add_description("an image tower")
sizes = {"image_size": 32, "patch_size": 16, "embedding_length": 32, "feed_forward_length": 32, "projection_dim": 32}
for key, value in {**sizes, "attention.head_count": 1, "block_count": 12}.items():
    writer.add_uint32(f"clip.vision.{key}", value)
writer.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-5)
writer.add_array("clip.vision.image_mean", MEAN)
writer.add_array("clip.vision.image_std", STD)
shapes = {"v.patch_embd.weight": (32, 3, 16, 16), "v.position_embd.weight": (5, 32), "v.class_embd": (32,)}
shapes |= {f"v.{norm}_ln.{kind}": (32,) for norm in ("pre", "post") for kind in ("weight", "bias")}
shapes["visual_projection.weight"] = (32, 32)
for i in range(12):
    for part in ("attn_q", "attn_k", "attn_v", "attn_out", "ffn_down", "ffn_up", "ln1", "ln2"):
        shapes[f"v.blk.{i}.{part}.weight"] = (32,) if part.startswith("ln") else (32, 32)
        shapes[f"v.blk.{i}.{part}.bias"] = (32,)
for name, shape in shapes.items():
    writer.add_tensor(name, np.zeros(shape, np.float16 if len(shape) == 4 else np.float32))
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()


class Image(ctypes.Structure):
    _fields_ = (("nx", ctypes.c_int), ("ny", ctypes.c_int), ("data", ctypes.c_void_p), ("size", ctypes.c_size_t))


folder = pathlib.Path(importlib.util.find_spec("clip_cpp").submodule_search_locations[0])
ctypes.CDLL(str(folder / "libggml.so"), mode=ctypes.RTLD_GLOBAL)
library = ctypes.CDLL(str(folder / "libclip.so"))
library.clip_model_load.restype = ctypes.c_void_p
model = ctypes.c_void_p(library.clip_model_load(b"image.gguf", 0))
for name, value in {"white": 255, "black": 0}.items():
    picture, prepared = np.full((32, 32, 3), value, np.uint8), Image()
    image = Image(32, 32, picture.ctypes.data, picture.size)
    assert library.clip_image_preprocess(model, ctypes.byref(image), ctypes.byref(prepared))
    found = ctypes.cast(prepared.data, ctypes.POINTER(ctypes.c_float))[:3]
    expected = [(value / 255 - mean) / std for mean, std in zip(MEAN, STD)]
    print(f"{name}  red {found[0]:.3f} green {found[1]:.3f} blue {found[2]:.3f}, expected", *(f"{x:.3f}" for x in expected))
    assert abs(found[0] - expected[0]) < 1e-5 and found[1] == found[2] == found[0]
    assert min(abs(found[1] - expected[1]), abs(found[2] - expected[2])) > 0.03
PYTHON
