#!/bin/sh
# A thread limit of OpenBLAS is silently ignored in every thread except one.
#
# Packages: threadpoolctl 3.8.0, numpy 2.4.6 (its wheel has OpenBLAS with its own threads).
# Expect:   "with threadpool_limits(n)" limits BLAS in the thread that asks for it, or fails.
# Found:    the first thread that sets a limit owns OpenBLAS until it leaves its "with" block. If it
#           sets the limit with a plain call, it owns OpenBLAS as long as it lives. The limits that
#           other threads set meanwhile are dropped. There is no error and no warning.
# Seen:     before the main thread sets a limit: a worker asks for 1 and gets 1
#           after threadpool_limits(2) in the main thread: a worker asks for 1 and gets 2
#           inside "with threadpool_limits(2)" of the main thread: a worker asks for 1 and gets 2
# Matters:  a server that limits BLAS once at start cannot give its worker threads less.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/env"
"$dir/env/bin/pip" install --quiet --no-compile threadpoolctl==3.8.0 numpy==2.4.6
OPENBLAS_NUM_THREADS=2 "$dir/env/bin/python" - <<'PYTHON'
from concurrent.futures import ThreadPoolExecutor

import numpy as np  # loads OpenBLAS
from threadpoolctl import threadpool_info, threadpool_limits


def blas_threads():
    [library] = [entry for entry in threadpool_info() if entry["user_api"] == "blas"]
    assert library["internal_api"] == "openblas" and library["threading_layer"] == "pthreads", library
    return library["num_threads"]


def limited_to_one():
    with threadpool_limits(1):
        return blas_threads()


def in_a_worker():
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(limited_to_one).result()


free = in_a_worker()
print(f"before the main thread sets a limit: a worker asks for 1 and gets {free}")
with threadpool_limits(2):
    inside = in_a_worker()
afterwards = in_a_worker()
threadpool_limits(2)
owned = in_a_worker()
print(f"after threadpool_limits(2) in the main thread: a worker asks for 1 and gets {owned}")
print(f'inside "with threadpool_limits(2)" of the main thread: a worker asks for 1 and gets {inside}')
assert (free, inside, afterwards, owned) == (1, 2, 1, 2)
assert limited_to_one() == 1  # the main thread itself still can
PYTHON
