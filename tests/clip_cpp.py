"""clip.cpp, called in a process of its own: `PYTHON clip_cpp.py FILE.gguf INPUTS.npz ANSWERS.npz`; see `answers`.

Its library (commit 3484ffc is compared here):

    git clone --recurse-submodules https://github.com/monatis/clip.cpp
    cmake -S clip.cpp -B clip.cpp/build -DBUILD_SHARED_LIBS=ON && make -C clip.cpp/build clip
    export MINICLIP_CLIP_CPP=clip.cpp/build

The wheel clip-cpp 0.5.0 has the same features, but older preprocessing: findings/clip_cpp_colours.sh.
"""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

FOLDER = os.environ.get("MINICLIP_CLIP_CPP")
LACKING = "set MINICLIP_CLIP_CPP to the folder with libclip.so and libggml.so: tests/clip_cpp.py says how to get them"


class Tokens(ctypes.Structure):
    _fields_ = (("data", ctypes.POINTER(ctypes.c_int32)), ("size", ctypes.c_size_t))


class Image(ctypes.Structure):
    """Of bytes or of floats, (height, width, 3)."""

    _fields_ = (("nx", ctypes.c_int), ("ny", ctypes.c_int), ("data", ctypes.c_void_p), ("size", ctypes.c_size_t))


def answers(file, inputs, width):
    """{name: array} from clip.cpp for a GGUF file, a completed process if it ends early; `width` is a feature's.

    inputs  "texts" (n,) strings -> "tokens" (n, T), cut before the first 0; "ids" (n, T) with -1 as padding -> "texts"
            (n, width); "pixels" (n, 3, s, s) float32 -> "images" (n, width); "picture" (s, s, 3) bytes -> "prepared"
    """
    asked, answered = Path(file).with_suffix(".asked.npz"), Path(file).with_suffix(".answered.npz")
    np.savez(asked, width=width, **inputs)
    command = [sys.executable, __file__, str(file), str(asked), str(answered)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return dict(np.load(answered)) if done.returncode == 0 else done


def pointer(x):
    return x.ctypes.data_as(ctypes.POINTER(ctypes.c_float))


def run(file, inputs):
    ctypes.CDLL(f"{FOLDER}/libggml.so", mode=ctypes.RTLD_GLOBAL)
    library = ctypes.CDLL(f"{FOLDER}/libclip.so")
    library.clip_model_load.restype = ctypes.c_void_p
    model = ctypes.c_void_p(library.clip_model_load(str(file).encode(), 1))
    found = {}
    if "texts" in inputs:
        found["tokens"] = np.zeros((len(inputs["texts"]), 77), np.int32)
        for row, text in zip(found["tokens"], inputs["texts"]):
            tokens = Tokens()
            assert library.clip_tokenize(model, str(text).encode(), ctypes.byref(tokens))
            row[: tokens.size] = tokens.data[: tokens.size]
    if "ids" in inputs:
        found["texts"] = np.zeros((len(inputs["ids"]), inputs["width"]), np.float32)
        for row, ids in zip(found["texts"], inputs["ids"]):
            ids = ids[ids >= 0].astype(np.int32)
            tokens = Tokens(ids.ctypes.data_as(ctypes.POINTER(ctypes.c_int32)), len(ids))
            assert library.clip_text_encode(model, 1, ctypes.byref(tokens), pointer(row), False)
    if "pixels" in inputs:
        found["images"] = np.zeros((len(inputs["pixels"]), inputs["width"]), np.float32)
        for row, pixels in zip(found["images"], inputs["pixels"]):
            pixels = np.ascontiguousarray(pixels.transpose(1, 2, 0))
            image = Image(pixels.shape[1], pixels.shape[0], pixels.ctypes.data, pixels.size)
            assert library.clip_image_encode(model, 1, ctypes.byref(image), pointer(row), False)
    if "picture" in inputs:
        picture, image = np.ascontiguousarray(inputs["picture"]), Image()
        given = Image(picture.shape[1], picture.shape[0], picture.ctypes.data, picture.size)
        assert library.clip_image_preprocess(model, ctypes.byref(given), ctypes.byref(image))
        values = ctypes.cast(image.data, ctypes.POINTER(ctypes.c_float))[: 3 * image.nx * image.ny]
        found["prepared"] = np.array(values, np.float32).reshape(image.ny, image.nx, 3)
    return found


if __name__ == "__main__":
    np.savez(sys.argv[3], **run(sys.argv[1], dict(np.load(sys.argv[2]))))
