"""An index: a folder with the features of pictures or texts, in Parquet files that pyarrow reads and writes.

    part-000000.parquet, part-000001.parquet, ...   rows in the order of the input; `ROWS` each, the last part has less
        "path" or "text"   string
        "features"         fixed-size list of E float16, of length one
    _failed.jsonl          {"path": ..., "error": ...} of each picture that could not be read

The schema of each part has what all rows share: see `describe`. `writer.py` writes the parts.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from miniclip import identity
from miniclip.errors import InputError
from miniclip.runtime import files
from miniclip.runtime.installation import install

ROWS = 4096
COLUMNS = {"pictures": "path", "texts": "text"}  # kind: the column of names
KEY, VERSION = b"miniclip", 1  # of the metadata in a part's schema
PART, FAILED = "part-{:06d}.parquet", "_failed.jsonl"  # readers of Parquet leave out names that begin with "_"


class Rows(NamedTuple):
    metadata: dict[str, Any]  # see `describe`
    names: list[str]  # paths or texts, n
    features: np.ndarray  # (n, E) float16, of length one


def describe(kind, model, preprocess, name):
    """What all rows of an index share, a dict that JSON can hold:

    {"version": 1, "kind": "pictures" or "texts", "model": name, "identity": as `identity.of` returns it,
    "preprocess": {...}, "embed_dim": E}
    """
    settings = {}
    if kind == "pictures":
        fields = {field.name: getattr(preprocess, field.name) for field in dataclasses.fields(preprocess)}
        settings = {"family": model.config.family, **{key: x for key, x in fields.items() if key != "asarray"}}
    metadata = {"version": VERSION, "kind": kind, "model": name, "identity": identity.of(model)}
    tower = model.config.visual if kind == "pictures" else model.config.text
    metadata |= {"preprocess": settings, "embed_dim": model.config.embed_dim or tower.width}
    return json.loads(json.dumps(metadata, default=dataclasses.asdict))  # as it will be read: tuples become lists


def check_same(where, old, new):
    """Raise InputError unless rows that `new` describes may follow those that `old` describes."""
    other = "write to another folder"
    if old["kind"] != new["kind"]:
        raise InputError(f"{where}: has features of {old['kind']}, not of {new['kind']}: {other}")
    if old["embed_dim"] != new["embed_dim"] or not identity.same(old["identity"], new["identity"]):
        raise InputError(
            f"{where}: has features of another model, {old['model']}, whose weights are not those of {new['model']} "
            f"now: {other}"
        )
    a, b = old["preprocess"], new["preprocess"]
    if a != b:
        changes = "; ".join(f"{x} is {a.get(x)}, not {b.get(x)}" for x in {**a, **b} if a.get(x) != b.get(x))
        raise InputError(f"{where}: its pictures were prepared in another way ({changes}): {other}")


# ---------------------------------------------------------------------------------------------- reading


def read(index):
    """Rows(metadata, names, features) of an index, in the order of their input.

    Raises InputError if it is not the folder of an index, or if a part is missing, damaged or of another index.
    """
    parts = _at_least_one(index)
    features = np.empty((sum(part.rows for part in parts), parts[0].metadata["embed_dim"]), np.float16)  # (n, E)
    names = []
    for part in parts:
        some, features[len(names) : len(names) + part.rows] = rows_of(part)
        names += some
    return Rows(parts[0].metadata, names, features)


def write_npy(index, path):
    """Write an index's features to `path`, (n, E) float32, and its n names to the .json beside it, a list.

    Files that are there are replaced. Raises InputError as `read` and `check_npy` do, and if they cannot be written.
    """
    check_npy(path)
    path, names, parts = Path(path), [], _at_least_one(index)
    shape = (sum(part.rows for part in parts), parts[0].metadata["embed_dim"])  # (n, E)
    with files.atomic(path) as temporary, open(temporary, "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
        for part in parts:
            some, features = rows_of(part)
            file.write(features.astype("<f4").tobytes())
            names += some
    files.write_json(path.with_suffix(".json"), names)


def check_npy(path):
    """Raise InputError unless `path` is the name of a file that `write_npy` can write: a command calls it at once."""
    path = Path(path)
    if path.suffix != ".npy" or path.is_dir() or not path.parent.is_dir():
        raise InputError(f"{path}: features cannot be written to it: choose a name that ends in .npy, in a folder that "
                         "exists")  # fmt: skip


def _at_least_one(index):
    parts = parts_of(index)
    if not parts:
        raise InputError(f"{index}: has no features yet: write some with miniclip embed PICTURES -o {index}")
    return parts


class Part(NamedTuple):
    path: Path
    metadata: dict[str, Any]
    rows: int


def parts_of(index):
    """The parts of an index, a list of Part. Raises InputError if it is not a folder, or for a part as `read` does."""
    try:
        paths = sorted(Path(index).glob("part-*.parquet")) if Path(index).is_dir() else [*Path(index).iterdir()]
    except OSError as error:
        raise InputError(f"{index}: cannot be read as the folder of an index: {error.strerror}") from error
    parts = []
    for number, path in enumerate(paths):
        if path.name != PART.format(number):
            raise InputError(f"{path.with_name(PART.format(number))}: is missing: {AGAIN}")
        parts.append(_opened(path))
        check_same(path, parts[0].metadata, parts[-1].metadata)
    return parts


AGAIN = "remove all later parts, and run miniclip embed again"


def _opened(path):
    """The Part of a file; only its end is read. Raises InputError if miniclip did not write it."""
    pa, pq = pyarrow()
    try:
        with pq.ParquetFile(path) as file:
            metadata = json.loads((file.schema_arrow.metadata or {}).get(KEY, b"null"))
            rows = file.metadata.num_rows
    except (OSError, ValueError, pa.ArrowException) as error:
        raise InputError(f"{path}: cannot be read ({error}): remove it; {AGAIN}") from error
    if not _is_description(metadata):
        raise InputError(f"{path}: is not a part of an index that this version of miniclip wrote: use another folder")
    return Part(path, metadata, rows)


def _is_description(metadata):
    """Whether `metadata` are as `describe` returns them."""
    if not isinstance(metadata, dict) or metadata.get("version") != VERSION or metadata.get("kind") not in COLUMNS:
        return False
    types = {"model": str, "preprocess": dict, "embed_dim": int}
    typed = all(isinstance(metadata.get(key), kind) for key, kind in types.items())
    return typed and identity.is_identity(metadata.get("identity"))


def rows_of(part, features=True):
    """(names, features (n, E) float16) of a part; without `features` the names alone. Raises InputError."""
    pa, pq = pyarrow()
    column, E = COLUMNS[part.metadata["kind"]], part.metadata["embed_dim"]
    try:
        with pq.ParquetFile(part.path) as file:  # pq.read_table and to_numpy would import pandas
            table = file.read([column, "features"] if features else [column])
        table = table.slice(0, part.rows)  # another process may have added rows meanwhile
        names = table[column].to_pylist()
        if len(names) < part.rows or not all(isinstance(name, str) for name in names):
            raise ValueError(f"expected {part.rows} rows with texts in the column {column!r}")
        if features and not pa.types.is_fixed_size_list(table["features"].type):
            raise ValueError(f"expected lists of {E} numbers in the column 'features'")
        if not features:
            return names
        return names, np.from_dlpack(table["features"].combine_chunks().flatten()).reshape(-1, E)  # (n, E)
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise InputError(f"{part.path}: cannot be read ({error}): remove it; {AGAIN}") from error


def pyarrow():
    """The package and its module for Parquet. Raises InputError if it is not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise InputError(f"an index consists of Parquet files, which need pyarrow: {install('embed')}") from error
    return pyarrow, pyarrow.parquet
