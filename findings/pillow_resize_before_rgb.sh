#!/bin/sh
# Resizing before the conversion to RGB gives another picture, up to all black.
#
# Package: pillow 13.0.0.
# Expect:  image.resize(size, BICUBIC).convert("RGB"), the order of OpenAI's CLIP, differs from
#          image.convert("RGB").resize(size, BICUBIC), the order of transformers, by rounding.
# Found:   the filter that is asked for is ignored in the modes "1" and "P": they always use NEAREST.
#          A fine chessboard, grey after a bicubic reduction, becomes black. In mode "RGBA" the
#          colours are weighted by alpha, and a colour under alpha 0 becomes black. resize to the
#          same size is a copy, so the colour survives in that case only.
# Seen:    mean of a chessboard: bicubic after convert 127.5; bicubic in mode 1: 0.0; in mode P: 0.0
#          a picture that is red under alpha 0: convert first 200, resize first 0, same size 200
# Matters: palette PNGs and cut-out product pictures get other features in each library.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/env"
"$dir/env/bin/pip" install --quiet --no-compile pillow==13.0.0 numpy==2.4.6
"$dir/env/bin/python" - <<'PYTHON'
import numpy as np
from PIL import Image

board = Image.fromarray((np.indices((8, 8)).sum(0) % 2 * 255).astype(np.uint8))


def reduced(image):
    return np.asarray(image.resize((4, 4), Image.Resampling.BICUBIC).convert("RGB")).mean()


after, one, palette = reduced(board.convert("RGB")), reduced(board.convert("1")), reduced(board.convert("P"))
print(f"mean of a chessboard: bicubic after convert {after:.1f}; bicubic in mode 1: {one:.1f}; in mode P: {palette:.1f}")
assert abs(after - 127.5) < 1 and one == palette == 0

clear = Image.new("RGBA", (4, 4), (200, 0, 0, 0))


def red(image, size=(2, 2), first="resize"):
    if first == "convert":
        image = image.convert("RGB")
    return image.resize(size, Image.Resampling.BICUBIC).convert("RGB").getpixel((0, 0))[0]


values = red(clear, first="convert"), red(clear), red(clear, size=(4, 4))
print("a picture that is red under alpha 0: convert first %d, resize first %d, same size %d" % values)
assert values == (200, 0, 200)
PYTHON
