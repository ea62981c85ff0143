#!/bin/sh
# Interpolated to one column with antialias=True, all rows are the same on a CPU.
#
# Packages: torch 2.13.0 (CPU), pillow 13.0.0.
# Expect:   interpolate(x, size=(8, 1), antialias=True) is the transpose of what it makes of the transposed x, and what
#           Pillow makes.
# Found:    if the result has one column, and more or fewer rows than before, each row is the first one. One row is
#           right, and so are two columns, and one column without antialiasing or of as many rows as before.
# Seen:     one column:        5 5 5 5 5 5 5 5
#           one row:           5 10 20 30 40 50 60 65
#           Pillow, a column:  5 10 20 30 40 50 60 65
# Matters:  transformers' Siglip2Model (NaFlex) interpolates its position embeddings so: all patches of a picture that
#           is more than 128 times as tall as wide have the position of the first one.
# Avoid:    transpose, interpolate to one row, transpose.
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

x = torch.arange(8.0).reshape(1, 1, 4, 2) * 10
column = interpolate(x, size=(8, 1), mode="bilinear", antialias=True).flatten()
row = interpolate(x.mT, size=(1, 8), mode="bilinear", antialias=True).flatten()
pillow = np.asarray(Image.fromarray(x[0, 0].numpy()).resize((1, 8), Image.Resampling.BILINEAR)).ravel()
for name, found in (("one column", column), ("one row", row), ("Pillow, a column", pillow)):
    print(f"{name + ':':18}", *(f"{n:.0f}" for n in found))
assert (column == column[0]).all()
assert np.allclose(row, pillow) and np.ptp(pillow) == 60
for mode in ("bilinear", "bicubic"):
    for size in ((2, 1), (3, 1), (4, 1), (8, 2)):
        a = interpolate(x, size=size, mode=mode, antialias=True)
        b = interpolate(x.mT, size=size[::-1], mode=mode, antialias=True).mT
        assert torch.allclose(a, b) == (size in ((4, 1), (8, 2)))
PYTHON
