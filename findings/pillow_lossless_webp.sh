#!/bin/sh
# A lossless WebP file does not give back the pixels that were saved.
#
# Package: pillow 13.0.0.
# Expect:  save("x.webp", lossless=True) keeps all pixels, like PNG.
# Found:   the colours under alpha 0 are changed; only exact=True keeps them. A viewer shows
#          no difference. But image processors of transformers start with convert("RGB"), which drops
#          alpha and shows the colours again, so the model sees another picture.
# Seen:    PNG                   all pixels kept: True
#          WebP, lossless        all pixels kept: False; opaque pixels kept: True
#          WebP, lossless, exact all pixels kept: True
#          RGB pixels that change for a model that drops alpha: 50%
# Matters: a data set that is converted to WebP "without loss" gives other features.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/env"
"$dir/env/bin/pip" install --quiet --no-compile pillow==13.0.0 numpy==2.4.6
"$dir/env/bin/python" - <<'PYTHON'
import io

import numpy as np
from PIL import Image

pixels = np.random.RandomState(0).randint(1, 256, (16, 16, 4)).astype(np.uint8)
pixels[:8, :, 3] = 0  # the upper half is transparent and has colours


def saved(**options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, **options)
    return np.asarray(Image.open(file).convert("RGBA"))


png, webp = saved(format="PNG"), saved(format="WEBP", lossless=True)
exact = saved(format="WEBP", lossless=True, exact=True)
opaque = np.array_equal(webp[8:], pixels[8:])
print("PNG                   all pixels kept:", np.array_equal(png, pixels))
print(f"WebP, lossless        all pixels kept: {np.array_equal(webp, pixels)}; opaque pixels kept: {opaque}")
print("WebP, lossless, exact all pixels kept:", np.array_equal(exact, pixels))
rgb = [np.asarray(Image.fromarray(p).convert("RGB")) for p in (pixels, webp)]
changed = (rgb[0] != rgb[1]).any(-1).mean()
print(f"RGB pixels that change for a model that drops alpha: {changed:.0%}")
assert np.array_equal(png, pixels) and np.array_equal(exact, pixels)
assert opaque and changed > 0.4
PYTHON
