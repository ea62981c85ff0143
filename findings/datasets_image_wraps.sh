#!/bin/sh
# The Image column stores 300 as 44.
#
# Packages: datasets 5.2.0, pillow 13.0.0.
# Expect:   an array that is not an 8-bit picture is refused, or clipped to 0..255.
# Found:    a colour array of any integer type is cast to uint8, so that 300 becomes 44 and -1 becomes
#           255. The only sign is a warning about the type, "to be compatible with Pillow". Grey arrays
#           keep their value, and float colour arrays are refused. An array with its channels first
#           is accepted: 3 x 2 x 2 becomes a grey picture with alpha, 2 wide and 3 high.
# Seen:     uint16 colour 300 -> 44 (mode RGB)
#           int16 colour -1 -> 255 (mode RGB)
#           uint16 grey 300 -> 300 (mode I;16)
#           channels first (3, 2, 2) -> size (2, 3), mode LA
# Matters:  16-bit pictures, and tensors with channels first, are stored damaged.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/env"
"$dir/env/bin/pip" install --quiet --no-compile datasets==5.2.0 pillow==13.0.0 numpy==2.4.6
HF_HOME="$dir" HF_HUB_OFFLINE=1 "$dir/env/bin/python" -W ignore - <<'PYTHON'
import numpy as np
from datasets import Dataset, Features, Image


def stored(array):
    return Dataset.from_dict({"image": [array]}, features=Features({"image": Image()}))[0]["image"]


def value(name, array):
    image = stored(array)
    pixel = image.getpixel((0, 0))
    pixel = pixel[0] if isinstance(pixel, tuple) else pixel
    print(f"{name} {array.flat[0]} -> {pixel} (mode {image.mode})")
    return pixel


assert value("uint16 colour", np.full((2, 2, 3), 300, np.uint16)) == 44
assert value("int16 colour", np.full((2, 2, 3), -1, np.int16)) == 255
assert value("uint16 grey", np.full((2, 2), 300, np.uint16)) == 300
image = stored(np.zeros((3, 2, 2), np.uint8))
print(f"channels first (3, 2, 2) -> size {image.size}, mode {image.mode}")
assert image.size == (2, 3) and image.mode == "LA"
try:
    stored(np.full((2, 2, 3), 0.5, np.float32))
except TypeError:
    pass
else:
    raise AssertionError("float colour arrays are accepted now")
PYTHON
