#!/bin/sh
# The maximum of an array loses its NaN as soon as the array is large.
#
# Packages: jax 0.10.2, jaxlib 0.10.2 (CPU), numpy 2.4.6.
# Expect:   jnp.max passes a NaN on, as numpy.max does and as JAX itself does for small arrays.
# Found:    On a CPU, the maximum and the minimum of 10,000 numbers with one NaN are numbers, jitted
#           or not. Along the last axis of a matrix with as many columns it is the same; with a few
#           hundred numbers the NaN is there. The mean and the sum are NaN at every size.
# Seen:     1000 numbers:  max nan, min nan, mean nan
#           10000 numbers: max 0.0, min 0.0, mean nan
# Matters:  a check like jnp.abs(features).max() < 1e4 passes on broken features.
# Avoid:    jnp.isnan(x).any(), or the maximum in NumPy.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/env"
"$dir/env/bin/pip" install --quiet --no-compile numpy==2.4.6 jax==0.10.2 jaxlib==0.10.2
JAX_PLATFORMS=cpu "$dir/env/bin/python" - <<'PYTHON'
import jax
import jax.numpy as jnp
import numpy as np

for size, lost in ((1000, False), (10000, True)):
    x = np.zeros(size, np.float32)
    x[size // 2] = np.nan
    largest, smallest, mean = (float(f(jnp.asarray(x))) for f in (jnp.max, jnp.min, jnp.mean))
    print(f"{f'{size} numbers:':<14} max {largest}, min {smallest}, mean {mean}")
    assert np.isnan(np.max(x)) and np.isnan(mean)
    assert np.isnan(largest) != lost and np.isnan(smallest) != lost
    assert np.isnan(float(jax.jit(jnp.max)(x))) != lost
    assert np.isnan(np.asarray(jnp.max(jnp.asarray(x)[None], axis=-1))).all() != lost
PYTHON
