#!/bin/sh
# top_k_accuracy_score with k=1 is not the accuracy of argmax.
#
# Packages: scikit-learn 1.9.1, numpy 2.4.6.
# Expect:   top_k_accuracy_score(labels, scores, k=1) == accuracy_score(labels, scores.argmax(1)).
# Found:    of equal scores argmax takes the first class, and top_k_accuracy_score the last. Ties look
#           rare, but near 25, where CLIP's logits are, float16 has a step of 1/64. For scores that are
#           all equal (a dead model) the two figures are 100% and 0%, or the reverse.
# Seen:     float32 logits: argmax 0.6680, top-1 0.6680
#           float16 logits: argmax 0.6715, top-1 0.6680
#           all equal, label 0: argmax 1.0, top-1 0.0
# Matters:  the same logits give two figures for top-1.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/env"
"$dir/env/bin/pip" install --quiet --no-compile scikit-learn==1.9.1 numpy==2.4.6
"$dir/env/bin/python" - <<'PYTHON'
import numpy as np
from sklearn.metrics import accuracy_score, top_k_accuracy_score


def both(labels, scores):
    classes = np.arange(scores.shape[1])
    return accuracy_score(labels, scores.argmax(1)), top_k_accuracy_score(labels, scores, k=1, labels=classes)


random = np.random.RandomState(0)
labels = random.randint(0, 10, 2000)
logits = (25 + 0.2 * random.standard_normal((2000, 10))).astype(np.float32)
logits[np.arange(2000), labels] += 0.4
full, half = both(labels, logits), both(labels, logits.astype(np.float16))
print("float32 logits: argmax {:.4f}, top-1 {:.4f}".format(*full))
print("float16 logits: argmax {:.4f}, top-1 {:.4f}".format(*half))
assert full[0] == full[1] and half[0] != half[1]

dead = both(np.zeros(100, int), np.ones((100, 10)))
print("all equal, label 0: argmax {}, top-1 {}".format(*dead))
assert dead == (1, 0)
PYTHON
