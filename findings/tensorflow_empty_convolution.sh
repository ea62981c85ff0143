#!/bin/sh
# The convolution of an empty batch has the shape of its input.
#
# Packages: tensorflow-cpu 2.21.0.
# Expect:   No pictures of 4 x 4 with 3 channels, convolved with 7 kernels of 2 x 2 and stride 2,
#           are no pictures of 2 x 2 with 7 channels: (0, 2, 2, 7).
# Found:    With oneDNN, which is on by default on x86, the result is (0, 4, 4, 3). It is
#           (0, 2, 2, 7) with TF_ENABLE_ONEDNN_OPTS=0.
# Seen:     oneDNN 1: (0, 4, 4, 3)
#           oneDNN 0: (0, 2, 2, 7)
# Matters:  The last batch of a filtered data set may be empty; then the next layer fails with
#           "Incompatible shapes".
# Avoid:    Leave out empty batches, or reshape the result.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/env"
"$dir/env/bin/pip" install --quiet --no-compile tensorflow-cpu==2.21.0
"$dir/env/bin/python" - <<'PYTHON'
import os
import subprocess
import sys

CODE = """
import tensorflow as tf
print(tuple(tf.nn.conv2d(tf.zeros((0, 4, 4, 3)), tf.zeros((2, 2, 3, 7)), 2, "VALID").shape))
"""
for on, expected in (("1", "(0, 4, 4, 3)"), ("0", "(0, 2, 2, 7)")):
    environment = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": on}
    done = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True)
    print(f"oneDNN {on}: {done.stdout.strip()}")
    assert done.stdout.strip() == expected
PYTHON
