#!/bin/sh
# A transparent picture is black for CLIP if it is given as a path, and white if it is opened first.
#
# Packages: transformers 5.23.0, pillow 13.0.0, torch 2.13.0 (CPU).
# Expect:   an image processor prepares a path and the opened file in the same way.
# Found:    for a path, `load_image` drops the transparency, so that the colour under it is shown: black in most
#           files. For an opened picture, the image processor blends it with white. The EXIF orientation
#           is another difference: it is applied to a path, and ignored in an opened picture.
# Seen:     lowest and highest pixel of a transparent picture: path 0.0 0.0, opened 1.0 1.0
#           a picture of 20 x 40 with an orientation: path (20, 40), opened (40, 20)
# Avoid:    open pictures yourself, apply ImageOps.exif_transpose, and convert them to RGB as in training.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/env"
"$dir/env/bin/pip" install --quiet --no-compile torch==2.13.0 transformers==5.23.0 pillow==13.0.0 numpy==2.4.6
cd "$dir"
"$dir/env/bin/python" -W ignore - 2>"$dir/log" <<'PYTHON' || { cat "$dir/log"; exit 1; }
import numpy as np
from PIL import Image
from transformers import CLIPImageProcessorPil

values = CLIPImageProcessorPil(do_normalize=False)
Image.new("RGBA", (40, 20)).save("clear.png")
path, opened = (values(x, return_tensors="np").pixel_values for x in ("clear.png", Image.open("clear.png")))
print("lowest and highest pixel of a transparent picture:",
      f"path {path.min():.1f} {path.max():.1f}, opened {opened.min():.1f} {opened.max():.1f}")
assert path.max() == 0 and opened.min() == 1

exif = Image.Exif()
exif[0x0112] = 6  # to be turned by 90 degrees
Image.new("RGB", (40, 20)).save("turned.png", exif=exif)
shapes = CLIPImageProcessorPil(do_resize=False, do_center_crop=False)
path, opened = (shapes(x, return_tensors="np").pixel_values.shape[:1:-1]
                for x in ("turned.png", Image.open("turned.png")))
print(f"a picture of 20 x 40 with an orientation: path {path}, opened {opened}")
assert path == (20, 40) and opened == (40, 20)
PYTHON
