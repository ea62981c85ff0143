"""What is embedded: pictures in object stores, and texts in tables."""

import itertools
import os
import shutil
import time

import pytest
from arithmetic import close_in_float16

from miniclip import InputError, embed
from miniclip.cli import main
from miniclip.embed import tables, urls

pytest_plugins = ["embedded_photos"]


def test_urls_are_read_with_pyarrow(tmp_path, loaded, photos, readable, capsys):
    """Those of files are opened as those of object stores are."""
    assert main(["embed", f"file://{photos}", "-o", str(tmp_path / "i"), "--batch", "50"]) == 1
    embed.pictures(tmp_path / "plain", *loaded, readable, name="shapes", batch=50)
    found, plain = embed.read(tmp_path / "i"), embed.read(tmp_path / "plain")
    assert found.names == [f"file://{path}" for path in readable] and close_in_float16(found.features, plain.features)
    said = capsys.readouterr().err
    assert f"miniclip: file://{photos}/1/4.png: cannot be read as a picture" in said


def test_urls_that_cannot_be_read_are_named(tmp_path, loaded, photos):
    broken = []
    some = [f"file://{photos}/none.png", "odd://bucket/a.png", f"file://{photos}/0/0.png"]
    done = embed.pictures(
        tmp_path / "i", *loaded, some, name="shapes", broken=lambda url, error: broken.append((url, str(error)))
    )
    assert done == (1, 1, 2) and [url for url, _ in broken] == some[:2]
    assert all(message.startswith(f"{url}: cannot be read: ") for url, message in broken)
    (tmp_path / "empty").mkdir()
    assert [*urls.listed(some[2])] == [some[2]]
    odd = tmp_path / "a b" / "50% é#.png"
    odd.parent.mkdir()
    shutil.copy(photos / "0" / "0.png", odd)
    assert embed.pictures(tmp_path / "i", *loaded, urls.listed(f"file://{tmp_path}/a%20b"), name="shapes").new == 1
    with pytest.raises(InputError, match="empty: has no pictures"):
        [*urls.listed(f"file://{tmp_path}/empty")]


def test_a_store_is_opened_once_and_its_pictures_are_fetched_ahead(photos, readable, monkeypatch):
    urls._store.cache_clear()
    monkeypatch.setattr(urls, "AHEAD", 4)
    fetched, content = [], urls.content
    monkeypatch.setattr(urls, "content", lambda url: fetched.append(url) or content(url))
    names = [f"file://{path}" for path in readable[:9]]
    taken = urls.fetched(iter([*names, readable[9]]), None)
    assert next(taken)[0] == names[0]
    while len(fetched) < 5:  # the others, while the first one is encoded
        time.sleep(0.01)
    assert [first for first, _ in itertools.islice(taken, 8)] == names[1:]
    assert next(taken) == readable[9] and len(fetched) == 9
    assert urls._store.cache_info().misses == 1
    assert next(urls.fetched(iter(readable), None)) == readable[0]  # paths do not wait


def test_what_a_url_says_about_its_store_is_kept(monkeypatch):
    """An address, a region, credentials: each picture's URL has them, too."""
    from pyarrow import fs

    store = fs._MockFileSystem()
    for path in ("bucket/a b/1.png", "bucket/a b/2.txt"):
        store.create_dir(path.rpartition("/")[0])
        store.open_output_stream(path).close()
    asked = []
    monkeypatch.setattr(urls, "_store", lambda *parts: asked.append(parts) or (store, "bucket"))
    found = [*urls.listed("s3://me:secret@bucket/a%20b?region=moon")]
    assert found == ["s3://me:secret@bucket/a%20b/1.png?region=moon"]
    assert urls.content(found[0]) == b"" and asked == [("s3", "me:secret@bucket", "region=moon")] * 2


@pytest.mark.parametrize(
    ("name", "content", "column", "found"),
    [
        ("a.jsonl", '{"text": "a"}\n\n{"text": ["b", "c"]}\n', None, ["a", "b", "c"]),
        ("a.csv", 'id,caption\n1,a\n2,"b, c"\n', None, ["a", "b, c"]),
        ("a.csv", "word\na\nb\n", None, ["a", "b"]),
        ("a.tsv", "id\tcaption\n1\ta\n", "id", ["1"]),
    ],
)
def test_texts_of_a_table(tmp_path, name, content, column, found):
    (tmp_path / name).write_text(content)
    skipped = {}
    assert [*tables.texts(tmp_path / name, skipped, column)] == found and skipped == {}


def test_lines_that_cannot_be_used_are_named(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\nb\n{"text": ""}\n{"text": 3}\n{"text": "e"}\n{"x": "f"}\n')
    skipped = {}
    assert [*tables.texts(tmp_path / "a.jsonl", skipped)] == ["a", "e"]
    assert [*skipped] == [f"{tmp_path}/a.jsonl, line {i}" for i in (2, 3, 4, 6)]


@pytest.mark.parametrize(
    ("first", "column", "message"),
    [
        ("a,b", None, r"no column clearly has the texts; its columns are 'a', 'b': pass column=NAME"),
        ("text,caption", None, r"'text' and 'caption' may both have the texts"),
        ("text,b", "c", r"line 2: has no column 'c'; it has text, b"),
    ],
)
def test_a_column_that_cannot_be_guessed_is_asked_for(tmp_path, first, column, message):
    (tmp_path / "a.csv").write_text(f"{first}\n1,2\n")
    with pytest.raises(InputError, match=message):
        [*tables.texts(tmp_path / "a.csv", {}, column)]


def test_a_text_that_is_not_unicode_is_named(tmp_path, capsys):
    (tmp_path / "a.jsonl").write_text('{"text": "a\\ud800"}\n{"text": "b"}\n')
    assert main(["embed", str(tmp_path / "a.jsonl"), "-o", str(tmp_path / "i")]) == 1
    assert "'a\\ud800': is not Unicode text" in capsys.readouterr().err
    assert embed.read(tmp_path / "i").names == ["b"]


def test_a_column_is_that_of_a_table(tmp_path, readable, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["embed", readable[0], "-o", str(tmp_path / "i"), "--column", "path"])
    assert "--column is for tables of texts" in capsys.readouterr().err


def test_a_folder_of_an_object_store_with_a_name_that_is_not_unicode_is_one_error(tmp_path, readable):
    shutil.copy(readable[0], os.fsencode(tmp_path) + b"/\xff.png")
    with pytest.raises(InputError, match="cannot be read: 'utf-8' codec"):
        [*urls.listed(f"file://{tmp_path}")]
