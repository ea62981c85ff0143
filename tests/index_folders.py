"""Small indexes, written without a model."""

import numpy as np

from miniclip.embed import index, writer

IDENTITY = {"visual": {"float32": "0123456789abcdef", "float16": "0123"}, "text": {"float32": "4567"}}
METADATA = {"version": 1, "kind": "pictures", "model": "shapes", "identity": IDENTITY, "preprocess": {"exif": False}}
METADATA["embed_dim"] = 4
ROWS = 8  # in a part here


def small_parts(monkeypatch):
    """Parts have few rows in a test; each file of tests has a fixture that calls this."""
    monkeypatch.setattr(index, "ROWS", ROWS)
    monkeypatch.setattr(writer, "ROWS", ROWS)


def rows(start, stop):
    """Names and features that differ from row to row."""
    return [f"/{i}.png" for i in range(start, stop)], np.arange(4 * start, 4 * stop, dtype=np.float32).reshape(-1, 4)


def write(folder, *batches, **changes):
    with writer.writing(folder, METADATA | changes) as w:
        for batch in batches:
            w.add(*rows(*batch))


def no_failure(name, error):
    raise AssertionError(error)
