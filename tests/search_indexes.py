"""Small indexes for tests, written by pyarrow as docs/search.md describes them, without `miniclip.embed`."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from miniclip import identity
from miniclip.search import cells

OTHER = {part: dict.fromkeys(("float32", "bfloat16", "float16"), "0" * 16) for part in ("visual", "text")}  # no model's


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    """Nothing is said about cells that are built."""
    monkeypatch.setattr(cells.logging.getLogger(cells.__name__), "disabled", True)


def unit(x):
    x = np.asarray(x, np.float64)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def random_features(n, E, seed=0):
    """(n, E) float16 of length one, as an index stores them."""
    return unit(np.random.default_rng(seed).standard_normal((n, E))).astype(np.float16)


def write(folder, features, names, *, model=None, name="shapes", kind="pictures", rows=4, first=0, exif=False):
    """Write features (n, E) and n names as parts of at most `rows`, of `model`; returns the folder."""
    folder.mkdir(exist_ok=True)
    preprocess = {"family": "clip", "image_size": 48, "exif": exif} if kind == "pictures" else {}
    features, column = np.asarray(features, np.float16), {"pictures": "path", "texts": "text"}[kind]
    metadata = {"version": 1, "kind": kind, "model": name, "identity": OTHER if model is None else identity.of(model)}
    metadata |= {"preprocess": preprocess, "embed_dim": features.shape[1]}
    for number, i in enumerate(range(0, len(names), rows), first):
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(features[i : i + rows].ravel()), features.shape[1])
        table = pa.table({column: pa.array(names[i : i + rows], pa.string()), "features": vectors})
        table = table.replace_schema_metadata({b"miniclip": json.dumps(metadata).encode()})
        pq.write_table(table, folder / f"part-{number:06d}.parquet")
    return folder
