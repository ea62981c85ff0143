#!/bin/sh
# `tf.nn.gelu` of float64 numbers is only as precise as float32.
#
# Packages: tensorflow-cpu 2.21.0.
# Expect:   In float64 the error is near 1e-16.
# Found:    It divides by the square root of 2 rounded to float32.
# Seen:     tf.nn.gelu: error 5e-09
#           by erfc: error 2e-16
# Matters:  A model in float64 that should check another one is off by 1e-8.
# Avoid:    x * 0.5 * tf.math.erfc(-x / 2**0.5)
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/env"
"$dir/env/bin/pip" install --quiet --no-compile tensorflow-cpu==2.21.0
"$dir/env/bin/python" - 2>/dev/null <<'PYTHON'
import math

import numpy as np
import tensorflow as tf

x = np.linspace(-3, 3, 601)
exact = np.array([z * 0.5 * math.erfc(-z / math.sqrt(2)) for z in x])
error = np.abs(tf.nn.gelu(tf.constant(x)).numpy() - exact).max()
print(f"tf.nn.gelu: error {error:.0e}")
assert 1e-9 < error < 1e-7
error = np.abs((x * 0.5 * tf.math.erfc(-x / 2**0.5)).numpy() - exact).max()
print(f"by erfc: error {error:.0e}")
assert error < 1e-15
PYTHON
