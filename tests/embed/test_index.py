"""The folder of an index: who reads it, and what its readers refuse."""

import json
import os
import sys

import numpy as np
import pandas
import pyarrow
import pyarrow.parquet as pq
import pytest
from index_folders import METADATA, rows, small_parts, write

from miniclip import InputError, embed
from miniclip.embed import index, writer


@pytest.fixture(autouse=True)
def small(monkeypatch):
    small_parts(monkeypatch)


def test_other_readers_of_parquet_read_the_folder(tmp_path):
    with writer.writing(tmp_path / "i", METADATA) as w:
        w.add(*rows(0, 19))
        w.fail("/x.png", "it is broken")
    table = pandas.read_parquet(tmp_path / "i")
    assert table["path"].tolist() == rows(0, 19)[0]
    assert np.array_equal(np.stack(table["features"]), rows(0, 19)[1])


def test_features_for_numpy(tmp_path):
    write(tmp_path / "i", (0, 19))
    for _ in range(2):  # the second time, files are replaced
        embed.write_npy(tmp_path / "i", tmp_path / "f.npy")
    for name in ("f.json", "i/part-000000.parquet", "f", "nowhere/f.npy", "i"):
        with pytest.raises(InputError, match=r"ends in \.npy, in a folder that exists"):
            embed.write_npy(tmp_path / "i", tmp_path / name)
    features = np.load(tmp_path / "f.npy")
    assert features.dtype == np.float32 and np.array_equal(features, rows(0, 19)[1])
    assert json.loads((tmp_path / "f.json").read_text()) == rows(0, 19)[0]


def test_readers_name_what_is_wrong(tmp_path):
    with pytest.raises(InputError, match="none: cannot be read as the folder of an index"):
        embed.read(tmp_path / "none")
    with pytest.raises(InputError, match="has no features yet"):
        embed.read(tmp_path)
    folder = tmp_path / "i"
    write(folder, (0, 30))
    pandas.DataFrame({"path": ["a"]}).to_parquet(folder / "part-000004.parquet")
    with pytest.raises(InputError, match=r"part-000004.parquet: is not a part of an index"):
        embed.read(folder)
    os.remove(folder / "part-000004.parquet")
    other = tmp_path / "other"
    write(other, (0, 9), identity={"visual": {"float32": "another"}})
    (other / "part-000001.parquet").rename(folder / "part-000004.parquet")
    with pytest.raises(InputError, match=r"part-000004.parquet: has features of another model"):
        embed.read(folder)
    os.remove(folder / "part-000004.parquet")
    whole = (folder / "part-000002.parquet").read_bytes()
    for damaged in (b"", whole[:-9], b"x" * 100):
        (folder / "part-000002.parquet").write_bytes(damaged)
        with pytest.raises(InputError, match=r"part-000002.parquet: cannot be read .*: remove it"):
            embed.read(folder)
    os.remove(folder / "part-000002.parquet")
    with pytest.raises(InputError, match=r"part-000002.parquet: is missing: remove all later parts"):
        embed.read(folder)
    os.remove(folder / "part-000003.parquet")
    write(folder, (16, 30))
    assert embed.read(folder).names == rows(0, 30)[0]


def test_a_reader_that_meets_a_writer_sees_a_beginning(tmp_path, monkeypatch):
    write(tmp_path / "i", (0, 3))
    opened = index._opened

    def and_grow(path):
        part = opened(path)
        monkeypatch.setattr(index, "_opened", opened)
        write(tmp_path / "i", (3, 7))
        return part

    monkeypatch.setattr(index, "_opened", and_grow)
    assert embed.read(tmp_path / "i").names == rows(0, 3)[0]


def test_pyarrow_is_asked_for_by_name(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"need pyarrow: .*\[embed\]"):
        write(tmp_path / "i", (0, 1))


@pytest.mark.parametrize("key", [*METADATA])
def test_a_part_without_its_whole_description_is_refused(tmp_path, key):
    write(tmp_path / "i", (0, 3))
    part = tmp_path / "i" / "part-000000.parquet"
    table = pq.ParquetFile(part).read()
    metadata = {name: value for name, value in METADATA.items() if name != key}
    pq.write_table(table.replace_schema_metadata({"miniclip": json.dumps(metadata)}), part)
    with pytest.raises(InputError, match="is not a part of an index that this version of miniclip wrote"):
        embed.read(tmp_path / "i")


def test_a_part_whose_paths_are_no_texts_is_refused(tmp_path):
    write(tmp_path / "i", (0, 3))
    part = tmp_path / "i" / "part-000000.parquet"
    table = pq.ParquetFile(part).read()
    pq.write_table(table.set_column(0, "path", table["path"].cast("binary")), part)
    with pytest.raises(InputError, match="expected 3 rows with texts in the column 'path'"):
        embed.read(tmp_path / "i")


def test_a_part_with_fewer_rows_than_its_end_says_is_refused(tmp_path):
    write(tmp_path / "i", (0, 3))
    (part,) = index.parts_of(tmp_path / "i")
    with pytest.raises(InputError, match=r"part-000000\.parquet: cannot be read \(expected 4 rows"):
        index.rows_of(part._replace(rows=4))


def test_a_part_whose_features_are_no_lists_of_one_length_is_refused(tmp_path):
    write(tmp_path / "i", (0, 3))
    part = tmp_path / "i" / "part-000000.parquet"
    table = pq.ParquetFile(part).read()
    pq.write_table(table.set_column(1, "features", pyarrow.array([["x"]] * 3)), part)
    with pytest.raises(InputError, match="expected lists of 4 numbers in the column 'features'"):
        embed.read(tmp_path / "i")


def test_an_index_with_an_identity_of_another_form_is_refused(tmp_path):
    write(tmp_path / "i", (0, 3))
    part = tmp_path / "i" / "part-000000.parquet"
    metadata = METADATA | {"identity": {"float32": "0123456789abcdef"}}
    pq.write_table(pq.ParquetFile(part).read().replace_schema_metadata({"miniclip": json.dumps(metadata)}), part)
    with pytest.raises(InputError, match="is not a part of an index that this version of miniclip wrote"):
        embed.read(tmp_path / "i")
