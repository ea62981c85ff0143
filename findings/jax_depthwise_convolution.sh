#!/bin/sh
# On a CPU, XLA's depthwise convolution is many times slower than nine shifted additions.
#
# Packages: jax 0.10.2, jaxlib 0.10.2 (CPU), numpy 2.4.6.
# Expect:   a 3x3 convolution with 64 groups of one channel (feature_group_count=64), as in
#           EfficientNet, costs less than the dense convolution of 64 to 64 channels.
# Found:    it takes several times as long as the dense one, which has 64 times the work, and tens of
#           times as long as nine shifted multiplications and additions, which compute the same.
# Seen:     same values True; depthwise / dense 14.1 times, depthwise / nine shifts 119.2 times
#           (on two busy cores; the ratios depend on the processor, the script asks for more than 4
#           against the shifts)
# Avoid:    write depthwise convolutions as shifts on CPUs.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/env"
"$dir/env/bin/pip" install --quiet --no-compile jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
JAX_PLATFORMS=cpu "$dir/env/bin/python" - <<'PYTHON'
import time

import jax
import numpy as np

SIZE, CHANNELS = 56, 64


def convolution(groups):
    return jax.jit(lambda x, w: jax.lax.conv_general_dilated(
        x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=groups))


@jax.jit
def shifts(x, w):
    padded = jax.numpy.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return sum(padded[:, i:i + SIZE, j:j + SIZE] * w[i, j, 0] for i in range(3) for j in range(3))


def seconds(function, *arguments):
    function(*arguments).block_until_ready()
    times = []
    for _ in range(30):
        start = time.perf_counter()
        function(*arguments).block_until_ready()
        times.append(time.perf_counter() - start)
    return min(times)  # the least disturbed run


random = np.random.RandomState(0)
x = random.standard_normal((1, SIZE, SIZE, CHANNELS)).astype(np.float32)
full = random.standard_normal((3, 3, CHANNELS, CHANNELS)).astype(np.float32)
thin = full[:, :, :1]
same = np.allclose(convolution(CHANNELS)(x, thin), shifts(x, thin), atol=1e-4)
depthwise = seconds(convolution(CHANNELS), x, thin)
dense, shifted = seconds(convolution(1), x, full), seconds(shifts, x, thin)
print(f"same values {same}; depthwise / dense {depthwise / dense:.1f} times, "
      f"depthwise / nine shifts {depthwise / shifted:.1f} times")
assert same and depthwise > 4 * shifted
PYTHON
