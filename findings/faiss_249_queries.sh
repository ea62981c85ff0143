#!/bin/sh
# faiss searches for 250 texts several times faster than for 249.
#
# Packages: faiss-cpu 1.15.1, numpy 2.4.6.
# Expect:   an exact search (IndexFlatIP) for one query less takes no longer.
# Found:    from queries x dimensions = 128,000 on, BLAS computes the products; below that, faiss computes those
#           of each query by itself. Older versions counted queries, and BLAS began at 20 of them. With CLIP's 512
#           dimensions a batch of up to 249 texts is searched for one text after another.
# Seen:     (one core of an AMD EPYC) 249 queries 0.97 s, 250 queries 0.12 s, 249 by BLAS 0.12 s
#           same rows: True
# Matters:  a recall over 64 or 128 texts at a time takes many times as long as it must. To avoid it, set
#           faiss.cvar.distance_compute_blas_threshold = 1 before a search for more than about ten queries.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/env"
"$dir/env/bin/pip" install --quiet --no-compile faiss-cpu==1.15.1 numpy==2.4.6
"$dir/env/bin/python" - <<'PYTHON'
import time

import faiss
import numpy as np

faiss.omp_set_num_threads(1)
features, queries = (np.random.default_rng(n).standard_normal((n, 512), np.float32) for n in (50_000, 250))
for x in (features, queries):
    faiss.normalize_L2(x)
index = faiss.IndexFlatIP(512)
index.add(features)


def timed(queries):
    """(the rows of the hits, the least seconds of processor time of three searches)"""
    times = []
    for _ in range(3):
        start = time.process_time()
        _, rows = index.search(queries, 10)
        times.append(time.process_time() - start)
    return rows, min(times)


rows, less = timed(queries[:249])
_, more = timed(queries)
assert faiss.cvar.distance_compute_blas_threshold == 128_000
faiss.cvar.distance_compute_blas_threshold = 1
same, blas = timed(queries[:249])
print(f"249 queries {less:.2f} s, 250 queries {more:.2f} s, 249 by BLAS {blas:.2f} s")
agreement = np.mean(rows == same)
print(f"same rows: {agreement > 0.999}")
assert less > 2 * more and less > 2 * blas and agreement > 0.999
PYTHON
