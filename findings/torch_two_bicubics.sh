#!/bin/sh
# antialias=True changes a bicubic enlargement, although it has nothing to antialias.
#
# Packages: torch 2.13.0 (CPU), pillow 13.0.0.
# Expect:   interpolate(mode="bicubic") gives the same numbers with and without antialias=True if the
#           picture gets larger, as mode="bilinear" does.
# Found:    "bicubic" is two different curves: its parameter is -0.75 without antialiasing, and -0.5
#           with it, as in Pillow (and in jax.image.resize). An edge overshoots by 10.5% or by 7.0%.
#           OpenCLIP resizes position embeddings with antialias=True, and transformers'
#           interpolate_pos_encoding without, so one checkpoint at another resolution has other
#           positions in each.
# Seen:     an edge, enlarged twice: plain -0.1055, antialias -0.0703, Pillow -0.0703
#           7x7 positions to 14x14: bicubic differs by 0.35 at most, bilinear by 0.00
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/env"
"$dir/env/bin/pip" install --quiet --no-compile torch==2.13.0 pillow==13.0.0 numpy==2.4.6
"$dir/env/bin/python" - <<'PYTHON'
import numpy as np
import torch
from PIL import Image
from torch.nn.functional import interpolate

edge = torch.zeros(1, 1, 1, 8)
edge[..., 4:] = 1
plain = interpolate(edge, size=(1, 16), mode="bicubic").min().item()
smooth = interpolate(edge, size=(1, 16), mode="bicubic", antialias=True).min().item()
pillow = float(np.asarray(Image.fromarray(edge[0, 0].numpy()).resize((16, 1), Image.Resampling.BICUBIC)).min())
print(f"an edge, enlarged twice: plain {plain:.4f}, antialias {smooth:.4f}, Pillow {pillow:.4f}")
# The overshoot of the curve with parameter a is 9a/64 here.
assert abs(plain + 0.75 * 9 / 64) < 1e-6
assert abs(smooth + 0.5 * 9 / 64) < 1e-6 and abs(pillow - smooth) < 1e-6

positions = torch.randn(1, 64, 7, 7, generator=torch.Generator().manual_seed(0))


def difference(mode):
    with_it, without = (interpolate(positions, size=(14, 14), mode=mode, antialias=a) for a in (True, False))
    return (with_it - without).abs().max().item()


cubic, linear = difference("bicubic"), difference("bilinear")
print(f"7x7 positions to 14x14: bicubic differs by {cubic:.2f} at most, bilinear by {linear:.2f}")
assert cubic > 0.1 and linear < 1e-5
PYTHON
