"""What is added to an index: parts, failures, and what is refused; kills and a full disk lose nothing."""

import json
import resource
import signal
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from index_folders import IDENTITY, METADATA, ROWS, no_failure, rows, small_parts, write

from miniclip import InputError, embed
from miniclip.embed import index, writer


@pytest.fixture(autouse=True)
def small(monkeypatch):
    small_parts(monkeypatch)


@settings(max_examples=15)
@given(st.lists(st.lists(st.integers(1, 20), max_size=3), min_size=1, max_size=4))
def test_parts_are_the_same_for_any_batches_and_any_number_of_runs(tmp_path_factory, runs):
    folder, whole = (tmp_path_factory.mktemp("index") / name for name in ("a", "b"))
    n = 0
    for sizes in runs:
        with writer.writing(folder, METADATA) as w:
            for size in sizes:
                w.add(*rows(n, n + size))
                n += size
            assert w.rows == n
    write(whole, (0, n))
    names = sorted(path.name for path in folder.glob("*"))
    assert names == sorted(path.name for path in whole.glob("*")) and len(names) == -(-n // ROWS)
    if n:
        metadata, names, features = embed.read(folder)
        assert metadata == METADATA and names == rows(0, n)[0]
        assert features.dtype == np.float16 and np.array_equal(features, rows(0, n)[1])
        assert [part.rows for part in index.parts_of(folder)[:-1]] == [ROWS] * ((n - 1) // ROWS)


def test_rows_are_written_every_few_seconds(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(writer.time, "monotonic", lambda: now[0])
    with writer.writing(tmp_path / "i", METADATA) as w:
        w.add(*rows(0, 3))
        assert not [*(tmp_path / "i").glob("part-*")]
        now[0] = writer.SECONDS + 1
        w.add(*rows(3, 5))
        assert embed.read(tmp_path / "i").names == rows(0, 5)[0]
        w.add(*rows(5, 6))
        assert len(embed.read(tmp_path / "i").names) == 5
    assert len(embed.read(tmp_path / "i").names) == 6


def test_only_what_is_not_there_is_left(tmp_path):
    write(tmp_path / "i", (0, 10))
    with writer.writing(tmp_path / "i", METADATA) as w:
        assert [*w.left(["/11.png", "/0.png", "/12.png", "/11.png", "/9.png"], no_failure)] == ["/11.png", "/12.png"]


def test_a_text_is_left_as_often_as_it_is_given_and_not_there(tmp_path):
    with writer.writing(tmp_path / "i", METADATA | {"kind": "texts"}) as w:
        given = ["a", "b", "a", "a"]
        assert [*w.left(given, no_failure)] == given
        w.add(given[:3], np.ones((3, 4)))
    with writer.writing(tmp_path / "i", METADATA | {"kind": "texts"}) as w:
        assert [*w.left([*given, "c"], no_failure)] == ["a", "c"]


def test_failures_are_kept_until_they_are_repaired(tmp_path):
    failed = tmp_path / "i" / "_failed.jsonl"
    with writer.writing(tmp_path / "i", METADATA) as w:
        w.fail("/2.png", InputError("it is broken"))
        w.fail("/å\ud800.png", "odd")
    assert [*map(json.loads, failed.read_text().splitlines())] == [
        {"path": "/2.png", "error": "it is broken"},
        {"path": "/å\ud800.png", "error": "odd"},
    ]
    write(tmp_path / "i", (0, 3))
    assert [json.loads(line)["path"] for line in failed.read_text().splitlines()] == ["/å\ud800.png"]


def test_many_failures_are_appended_and_listed_once_at_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "SECONDS", -1)  # each is written at once
    failed, whole = tmp_path / "i" / "_failed.jsonl", []
    monkeypatch.setattr(writer.files, "write_atomically", lambda *x: whole.append(x) or write_atomically(*x))
    with writer.writing(tmp_path / "i", METADATA) as w:
        for i in range(9):
            w.fail(f"/{i}.png", "it is broken")
            assert failed_in(failed) == [f"/{j}.png" for j in range(i + 1)]
    assert whole == []
    with writer.writing(tmp_path / "i", METADATA) as w:
        w.fail("/5.png", "it is still broken")
        w.add(*rows(0, 3))
        assert failed_in(failed) == [*(f"/{j}.png" for j in range(9)), "/5.png"]
    assert failed_in(failed) == [f"/{j}.png" for j in range(3, 9)] and len(whole) == 1
    assert json.loads(failed.read_text().splitlines()[2])["error"] == "it is still broken"


write_atomically = writer.files.write_atomically


def failed_in(path):
    return [json.loads(line)["path"] for line in path.read_text().splitlines()]


def test_what_a_killed_process_left_of_the_list_of_failures_is_mended(tmp_path):
    """Half a line, a line that is there twice, and a picture that was added after it had failed."""
    failed = tmp_path / "i" / "_failed.jsonl"
    write(tmp_path / "i", (0, 3))
    lines = [json.dumps({"path": path, "error": "x"}) + "\n" for path in ("/9.png", "/1.png", "/8.png", "/9.png")]
    failed.write_text("".join(lines) + '{"path": "/7.p')
    with writer.writing(tmp_path / "i", METADATA) as w:
        assert failed_in(failed) == ["/9.png", "/8.png"]
        w.fail("/7.png", "x")
    assert failed_in(failed) == ["/9.png", "/8.png", "/7.png"]


def test_a_name_that_is_not_unicode_is_a_failure(tmp_path):
    failed = []
    with writer.writing(tmp_path / "i", METADATA) as w:
        assert [*w.left(["/a\udcff.png", "/b.png"], lambda *both: failed.append(both))] == ["/b.png"]
    assert [name for name, _ in failed] == ["/a\udcff.png"] and "Unicode" in str(failed[0][1])


def test_what_a_killed_process_left_is_removed(tmp_path):
    write(tmp_path / "i", (0, 10))
    for name in ("part-000001.parquet", "part-000002.parquet", "_failed.jsonl"):
        (tmp_path / "i" / f".{name}.0123abcd.incomplete").touch()
    write(tmp_path / "i", (10, 11))
    assert sorted(path.name for path in (tmp_path / "i").iterdir()) == ["part-000000.parquet", "part-000001.parquet"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "texts"}, "has features of pictures, not of texts"),
        (
            {"identity": {"visual": {"float32": "another"}}, "model": "ViT-B/32"},
            "of another model, shapes, .* not those of ViT-B/32",
        ),
        ({"embed_dim": 8}, "of another model"),
        ({"preprocess": {"exif": True}}, r"prepared in another way \(exif is False, not True\)"),
    ],
)
def test_rows_of_another_kind_model_or_preprocessing_are_refused(tmp_path, changes, message):
    write(tmp_path / "i", (0, 10))
    before = {path.name: path.read_bytes() for path in (tmp_path / "i").iterdir()}
    with pytest.raises(InputError, match=message):
        write(tmp_path / "i", (10, 11), **changes)
    assert {path.name: path.read_bytes() for path in (tmp_path / "i").iterdir()} == before


def test_the_same_model_in_another_dtype_or_under_another_name_is_not(tmp_path):
    write(tmp_path / "i", (0, 10))
    write(tmp_path / "i", (10, 11), identity={"visual": {"float16": IDENTITY["visual"]["float16"]}}, model="/a/copy.pt")
    assert len(embed.read(tmp_path / "i").names) == 11


def test_a_second_writer_is_refused(tmp_path):
    with writer.writing(tmp_path / "i", METADATA), pytest.raises(InputError, match="another process is writing"):
        write(tmp_path / "i", (0, 1))
    write(tmp_path / "i", (0, 1))


def test_a_folder_with_other_files_is_not_an_index(tmp_path):
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(InputError, match=r"not of an index, such as photo.jpg: use a new folder"):
        write(tmp_path, (0, 1))
    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg"]


def test_a_file_or_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "index"):
        with pytest.raises(InputError, match="cannot be written"):
            write(path, (0, 1))


def test_a_full_disk_loses_nothing_that_was_written(tmp_path, monkeypatch):
    write(tmp_path / "i", (0, 10))
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))  # bytes of a file: writing more is an OSError
        with pytest.raises(InputError, match=r"part-000001.parquet: cannot be written: .*: the same command resumes"):
            write(tmp_path / "i", (10, 12))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, ignored)
    assert embed.read(tmp_path / "i").names == rows(0, 10)[0]
    assert not [*(tmp_path / "i").glob(".part*")]
    write(tmp_path / "i", (10, 12))
    assert embed.read(tmp_path / "i").names == rows(0, 12)[0]


def test_the_lock_of_a_killed_process_is_free(tmp_path):
    code = "import os, sys; from miniclip.runtime import files\nwith files.locked(sys.argv[1]): os.kill(os.getpid(), 9)"
    (tmp_path / "i").mkdir()
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "i" / writer.LOCK])
    assert done.returncode == -signal.SIGKILL and (tmp_path / "i" / writer.LOCK).exists()
    write(tmp_path / "i", (0, 1))


def test_a_missing_pyarrow_is_said_before_anything_is_computed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match="need pyarrow"), writer.writing(tmp_path / "i", METADATA):
        raise AssertionError("it began")
    assert not (tmp_path / "i").exists()
