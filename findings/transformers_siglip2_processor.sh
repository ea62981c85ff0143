#!/bin/sh
# Siglip2Processor ignores how many patches its image processor makes.
#
# Packages: transformers 5.23.0, tokenizers 0.23.3, pillow 13.0.0.
# Expect:   a processor prepares pictures as its image processor does, whose settings are in processor_config.json.
# Found:    the class has defaults of its own for a call, 256 patches of 16 pixels, which replace `max_num_patches` and
#           `patch_size` of the image processor without a warning. A model saved with 1024 patches sees 256.
# Seen:     image processor:  1024 patches of 588 numbers
#           processor:         256 patches of 768 numbers
#           processor, asked: 1024 patches of 588 numbers
# Avoid:    pass both in each call, or call processor.image_processor.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/env"
"$dir/env/bin/pip" install --quiet --no-compile transformers==5.23.0 tokenizers==0.23.3 pillow==13.0.0 numpy==2.4.6
cd "$dir"
env/bin/python -W ignore - 2>log <<'PYTHON' || { cat log; exit 1; }
import numpy as np
from transformers import Siglip2ImageProcessorPil, Siglip2Processor, Siglip2Tokenizer

given = {"max_num_patches": 1024, "patch_size": 14}
picture = np.zeros((480, 640, 3), np.uint8)
image_processor = Siglip2ImageProcessorPil(**given)
processor = Siglip2Processor(image_processor, Siglip2Tokenizer())
shapes = {
    "image processor": image_processor(picture, return_tensors="np"),
    "processor": processor(images=picture, return_tensors="np"),
    "processor, asked": processor(images=picture, return_tensors="np", **given),
}
shapes = {name: x["pixel_values"].shape[1:] for name, x in shapes.items()}
for name, (count, numbers) in shapes.items():
    print(f"{name + ':':17} {count:4} patches of {numbers} numbers")
assert shapes == {"image processor": (1024, 588), "processor": (256, 768), "processor, asked": (1024, 588)}
PYTHON
