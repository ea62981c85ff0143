#!/bin/sh
# safetensors.numpy writes a file that safetensors.numpy cannot load.
#
# Packages: safetensors 0.8.0, numpy 2.4.6, ml_dtypes 0.6.0.
# Expect:   "load" returns what "save" accepted, or "save" refuses.
# Found:    "save" accepts the bfloat16 and float8 types of ml_dtypes and writes correct bytes. "load"
#           fails on all of them with a KeyError. safe_open reads bfloat16 from the same file, but
#           looks for the float8 types inside numpy, which does not have them.
# Seen:     bfloat16       load: KeyError('BF16'); safe_open: bfloat16
#           float8_e4m3fn  load: KeyError('F8_E4M3'); safe_open: AttributeError
#           float8_e5m2    load: KeyError('F8_E5M2'); safe_open: AttributeError
# Avoid:    read bfloat16 with safe_open(path, "np"); store float8 under its bits (a uint8 view).
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/env"
"$dir/env/bin/pip" install --quiet --no-compile safetensors==0.8.0 numpy==2.4.6 ml_dtypes==0.6.0
cd "$dir"
env/bin/python - <<'PYTHON'
import ml_dtypes
import numpy as np
from safetensors import safe_open
from safetensors.numpy import load, save, save_file

def outcome(function):
    try:
        return function()["weight"]
    except (KeyError, AttributeError) as error:
        return error


def read_one_by_one():
    with safe_open("weights.safetensors", "np") as file:
        return {name: file.get_tensor(name) for name in file.keys()}


for name, code, reads in [("bfloat16", "BF16", True), ("float8_e4m3fn", "F8_E4M3", False), ("float8_e5m2", "F8_E5M2", False)]:
    tensors = {"weight": np.arange(4).astype(getattr(ml_dtypes, name))}
    save_file(tensors, "weights.safetensors")
    whole, one = outcome(lambda: load(save(tensors))), outcome(read_one_by_one)
    shown = one.dtype if reads else type(one).__name__
    print(f"{name:14} load: {whole!r}; safe_open: {shown}")
    assert isinstance(whole, KeyError) and whole.args == (code,)
    assert np.array_equal(one, tensors["weight"]) if reads else isinstance(one, AttributeError)
PYTHON
