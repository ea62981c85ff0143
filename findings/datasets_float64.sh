#!/bin/sh
# A number read as a row and the same number read in a slice differ.
#
# Package: datasets 5.2.0 (format "numpy").
# Expect:  with_format("numpy") returns a float64 column as float64 and a uint8 column as uint8.
# Found:   one row gives a float64 scalar. A slice or a batch, and each row of a column of lists, is
#          converted to float32. Integers of any width become int64, so that bytes of pictures take
#          eight times the memory. The stored type is still float64 or uint8 in "features".
# Seen:    features double, bytes: float64, uint8
#          row:   16777217.0 float64
#          slice: 16777216.0 float32
#          bytes: int64
# Avoid:   with_format("numpy", dtype=...) for one type, or read through with_format("arrow").
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/env"
"$dir/env/bin/pip" install --quiet --no-compile datasets==5.2.0 numpy==2.4.6
HF_HOME="$dir" HF_HUB_OFFLINE=1 "$dir/env/bin/python" - <<'PYTHON'
import numpy as np
from datasets import Dataset

stored = {"double": [2.0**24 + 1], "bytes": [np.array([1, 2], np.uint8)]}
dataset = Dataset.from_dict(stored)
types = dataset.features["double"].dtype, dataset.features["bytes"].feature.dtype
print("features double, bytes: {}, {}".format(*types))
assert types == ("float64", "uint8")

arrays = dataset.with_format("numpy")
row, part, pixels = arrays[0]["double"], arrays[:1]["double"], arrays[0]["bytes"]
print(f"row:   {row} {row.dtype}")
print(f"slice: {part[0]} {part.dtype}")
print(f"bytes: {pixels.dtype}")
assert row == 2**24 + 1 and row.dtype == np.float64
assert part[0] == 2**24 and part.dtype == np.float32
assert pixels.dtype == np.int64
assert dataset.with_format("arrow")[:1]["double"][0].as_py() == 2**24 + 1
PYTHON
