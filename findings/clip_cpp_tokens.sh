#!/bin/sh
# clip.cpp reads "Hello" as three pieces from the middle of words, and never ends a word of several tokens.
#
# Packages: clip-cpp 0.5.0 (Linux, x86 with AVX2), gguf 0.19.0, openai-clip 1.0.1; clip.cpp's main
#           branch (commit 3484ffc) does the same.
# Expect:   the tokens of OpenAI's tokenizer, whose vocabulary is in the model's file.
# Found:    Only words that are one token in lower case are equal. Capitals stay, so "Hello" is not
#           the known word "hello". Other words are cut into the longest known pieces from the left,
#           and the last piece is not one that ends a word (</w>): another token, another vector.
# Seen:     a cat        clip.cpp a</w> cat</w>      OpenAI a</w> cat</w>
#           Hello        clip.cpp H ell o            OpenAI hello</w>
#           two zebras   clip.cpp two</w> zebra s    OpenAI two</w> ze bras</w>
#           in 1969      clip.cpp in</w> 1 9 6 9     OpenAI in</w> 1</w> 9</w> 6</w> 9</w>
# Matters:  Features and probabilities are those of another text, and nothing says so.
# Avoid:    clip_text_encode (Python: encode_text) takes ids: give it those of another tokenizer.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/env"
"$dir/env/bin/pip" install --quiet --no-compile --no-deps clip-cpp==0.5.0 gguf==0.19.0 openai-clip==1.0.1 \
    numpy==2.4.6 pyyaml==6.0.4 ftfy==6.3.1 wcwidth==0.9.4 regex==2026.11.19 tqdm==4.70.1
cd "$dir"
env/bin/python - 2>log <<'PYTHON' || { cat log; exit 1; }
import ctypes
import importlib.util
import pathlib

import gguf
import numpy as np


def folder(package):
    return pathlib.Path(importlib.util.find_spec(package).submodule_search_locations[0])


spec = importlib.util.spec_from_file_location("official", folder("clip") / "simple_tokenizer.py")
official = importlib.util.module_from_spec(spec)
spec.loader.exec_module(official)
tokenizer = official.SimpleTokenizer()

# A text tower of 12 blocks: clip.cpp reads no model with another number of tensors. Its weights do not matter here.
writer = gguf.GGUFWriter("text.gguf", "clip")
for key, value in {"has_text_encoder": True, "has_vision_encoder": False, "use_gelu": False}.items():
    writer.add_bool(f"clip.{key}", value)
writer.add_uint32("general.file_type", 0)
writer.add_description("a text tower")
sizes = {"context_length": 77, "embedding_length": 32, "feed_forward_length": 32, "projection_dim": 32}
for key, value in {**sizes, "attention.head_count": 1, "block_count": 12}.items():
    writer.add_uint32(f"clip.text.{key}", value)
writer.add_float32("clip.text.attention.layer_norm_epsilon", 1e-5)
writer.add_token_list(list(tokenizer.encoder))
shapes = {"t.token_embd.weight": (49408, 32), "t.position_embd.weight": (77, 32), "text_projection.weight": (32, 32)}
shapes |= {"t.post_ln.weight": (32,), "t.post_ln.bias": (32,)}
for i in range(12):
    for part in ("attn_q", "attn_k", "attn_v", "attn_out", "ffn_down", "ffn_up", "ln1", "ln2"):
        shapes[f"t.blk.{i}.{part}.weight"] = (32,) if part.startswith("ln") else (32, 32)
        shapes[f"t.blk.{i}.{part}.bias"] = (32,)
for name, shape in shapes.items():
    writer.add_tensor(name, np.zeros(shape, np.float32))
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()


class Tokens(ctypes.Structure):
    _fields_ = (("data", ctypes.POINTER(ctypes.c_int32)), ("size", ctypes.c_size_t))


ctypes.CDLL(str(folder("clip_cpp") / "libggml.so"), mode=ctypes.RTLD_GLOBAL)
library = ctypes.CDLL(str(folder("clip_cpp") / "libclip.so"))
library.clip_model_load.restype = ctypes.c_void_p
model = ctypes.c_void_p(library.clip_model_load(b"text.gguf", 0))
different = []
for text in ("a cat", "Hello", "two zebras", "in 1969"):
    tokens = Tokens()
    library.clip_tokenize(model, text.encode(), ctypes.byref(tokens))
    found = " ".join(tokenizer.decoder[id] for id in tokens.data[1 : tokens.size - 1])
    expected = " ".join(tokenizer.decoder[id] for id in tokenizer.encode(text))
    print(f"{text:<12} clip.cpp {found:<17} OpenAI {expected}")
    different.append(found != expected)
assert different == [False, True, True, True]
PYTHON
