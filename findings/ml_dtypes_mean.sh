#!/bin/sh
# The NumPy mean of a thousand bfloat16 ones is 0.256.
#
# Packages: numpy 2.4.6, ml_dtypes 0.6.0, jax 0.10.2.
# Expect:   1. NumPy's mean of float16 adds in float32, and JAX's mean of the same bfloat16 array
#           is 1.
# Found:    NumPy does not know that the type is a float, so it adds in bfloat16, one value after
#           the other. From 256 on, adding 1 changes nothing: the sum is 256, the mean 0.256. The
#           dot product of the same array with itself is right (1000).
# Seen:     numpy: sum 256.0, mean 0.255859375, dot 1000.0
#           jax:   sum 1000.0, mean 1.0
#           numpy, float16: mean 1.0
# Matters:  jax.numpy and numpy give different class prototypes for the same stored features.
# Avoid:    x.mean(dtype=np.float32), or convert first.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/env"
"$dir/env/bin/pip" install --quiet --no-compile numpy==2.4.6 ml_dtypes==0.6.0 jax==0.10.2 jaxlib==0.10.2
JAX_PLATFORMS=cpu "$dir/env/bin/python" - <<'PYTHON'
import jax.numpy as jnp
import numpy as np
from ml_dtypes import bfloat16

ones = np.ones(1000, bfloat16)
print(f"numpy: sum {ones.sum()}, mean {ones.mean()}, dot {ones @ ones}")
assert float(ones.sum()) == 256 and abs(float(ones.mean()) - 0.256) < 0.001
assert float(ones @ ones) == 1000
assert ones.mean(dtype=np.float32) == 1

on_jax = jnp.asarray(ones)
assert on_jax.dtype == jnp.bfloat16
print(f"jax:   sum {on_jax.sum()}, mean {on_jax.mean()}")
assert float(on_jax.sum()) == 1000 and float(on_jax.mean()) == 1

print("numpy, float16: mean", np.ones(1000, np.float16).mean())
assert np.ones(1000, np.float16).mean() == 1
PYTHON
