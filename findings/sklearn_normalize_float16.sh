#!/bin/sh
# scikit-learn normalises a long float16 vector to zero.
#
# Packages: scikit-learn 1.9.1, numpy 2.4.6.
# Expect:   normalize(x) returns vectors of length 1, in float16 as in float32.
# Found:    the squares are added in float16. If the length is more than 256, their sum is infinite, and
#           the vector becomes 0. If the values are below 0.0001, their squares are 0, and
#           the vector is returned as it was. Neither case gives a warning. cosine_similarity of the
#           same array converts to float64 first and is right, so the two ways to the same number differ.
# Seen:     512 values of 20.0: length after normalize 0.000, cosine with itself 1.000
#           512 values of 0.0001: length after normalize 0.002, cosine with itself 1.000
#           512 values of 1.0: length after normalize 1.000, cosine with itself 1.000
# Matters:  features are often stored in float16; a zero vector is equally far from all classes.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/env"
"$dir/env/bin/pip" install --quiet --no-compile scikit-learn==1.9.1 numpy==2.4.6
"$dir/env/bin/python" - <<'PYTHON'
import warnings

import numpy as np
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.preprocessing import normalize

warnings.simplefilter("error")  # no warning is given
lengths = []
for value in [20.0, 0.0001, 1.0]:
    x = np.full((1, 512), value, np.float16)
    unit = normalize(x)
    assert unit.dtype == np.float16
    length = np.linalg.norm(unit.astype(np.float64))
    cosine = cosine_similarity(x).item()
    print(f"512 values of {value}: length after normalize {length:.3f}, cosine with itself {cosine:.3f}")
    lengths.append(round(float(length), 2))
    assert abs(cosine - 1) < 1e-6
    assert abs(np.linalg.norm(normalize(x.astype(np.float32))) - 1) < 1e-5
assert lengths == [0, 0, 1], lengths
PYTHON
