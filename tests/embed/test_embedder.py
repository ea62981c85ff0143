"""`embed.pictures`, `embed.texts` and `miniclip embed`: rows are those of the model, in order, and kills lose none."""

import dataclasses
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

import miniclip
from miniclip import InputError, checkpoints, embed
from miniclip.cli import main
from miniclip.embed import index, tables, urls
from miniclip.fetch import hub
from miniclip.ops.numpy_ops import l2_normalize
from miniclip.runtime import listing


@pytest.fixture(scope="module")
def loaded():
    return miniclip.load("shapes", "numpy")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder with 200 pictures in subfolders, two of them broken."""
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for i in range(200):
        path = folder / f"{i % 3}" / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (6, 9, 3), np.uint8)).save(path)
    (folder / "1" / "4.png").write_bytes(b"")
    (folder / "2" / "50.png").write_bytes((folder / "2" / "53.png").read_bytes()[:99])
    return folder


@pytest.fixture(scope="module")
def readable(photos):
    broken = {photos / "1" / "4.png", photos / "2" / "50.png"}
    return [path for path in listing.pictures([photos]) if photos / path not in broken]


def close(a, b):
    """Whether features are the same except for the last bit of float16: batches may differ."""
    return np.abs(a.astype(np.float32) - b.astype(np.float32)).max() < 1e-3


# ------------------------------------------------------------------------------------------ rows


def test_rows_are_the_features_of_the_model(tmp_path, loaded, photos, readable):
    model, preprocess = loaded
    broken = []
    done = embed.pictures(
        tmp_path / "i", model, preprocess, listing.pictures([photos]), name="shapes", broken=lambda *x: broken.append(x)
    )
    metadata, names, features = embed.read(tmp_path / "i")
    assert done == (198, 198, 2) and names == readable
    assert close(features, l2_normalize(model.encode_image(preprocess(readable))))
    assert [os.path.relpath(name, photos) for name, _ in broken] == ["1/4.png", "2/50.png"]
    listed = [*map(json.loads, (tmp_path / "i" / "_failed.jsonl").read_text().splitlines())]
    assert [(row["path"], row["error"]) for row in listed] == [(name, str(error)) for name, error in broken]
    assert metadata["preprocess"] == {"family": "clip", "image_size": 48, "exif": False}
    assert (metadata["kind"], metadata["model"], metadata["embed_dim"]) == (
        "pictures",
        "shapes",
        model.config.embed_dim,
    )


def test_a_second_call_adds_only_what_is_new(tmp_path, loaded, readable):
    first = [readable[3], readable[0], readable[5]]
    embed.pictures(tmp_path / "i", *loaded, first, name="shapes")
    before = embed.read(tmp_path / "i")
    assert embed.pictures(tmp_path / "i", *loaded, first, name="shapes") == (3, 0, 0)
    seen = []
    done = embed.pictures(tmp_path / "i", *loaded, readable[:8], name="shapes", watch=lambda *x: seen.append(x))
    assert done == (8, 5, 0) and seen == [(0, 5), (5, 5)]
    after = embed.read(tmp_path / "i")
    assert after.names == [*first, *(readable[i] for i in (1, 2, 4, 6, 7))]
    assert np.array_equal(after.features[:3], before.features)


def test_progress_counts_what_is_finished(tmp_path, loaded, readable):
    """Not what an encoder takes from the list: a cluster takes all of it at once."""
    seen = []

    def watch(finished, total):
        seen.append((finished, total, len(calls)))

    model, preprocess = loaded
    calls, encode = [], model.encode_image
    paths = [*readable[:4], str(tmp_path / "none.png"), *readable[4:8]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "encode_image", lambda x: calls.append(x) or encode(x))
        embed.pictures(tmp_path / "i", model, preprocess, paths, name="shapes", batch=4, watch=watch)
    assert seen == [(0, 9, 0), (4, 9, 1), (5, 9, 1), (8, 9, 2), (9, 9, 3)]
    calls.clear()
    seen.clear()
    odd = str(tmp_path / "\udcff.png")  # not Unicode: it is finished, too
    embed.pictures(tmp_path / "j", model, preprocess, [odd, *paths[:2]], name="shapes", watch=watch)
    embed.pictures(tmp_path / "j", model, preprocess, iter(paths), name="shapes", watch=watch)
    assert seen == [(0, 3, 0), (1, 3, 0), (3, 3, 0), (0, None, 0), (1, None, 0), (7, None, 0)]


def test_paths_are_absolute_so_that_a_search_from_anywhere_finds_them(tmp_path, loaded, photos, readable, monkeypatch):
    monkeypatch.chdir(photos)
    embed.pictures(tmp_path / "i", *loaded, ["1/../0/0.png"], name="shapes")
    monkeypatch.chdir(photos / "0")
    assert embed.pictures(tmp_path / "i", *loaded, [photos / "0" / "0.png", "0.png"], name="shapes").new == 0
    assert embed.read(tmp_path / "i").names == [str(photos / "0" / "0.png")]


def test_a_repaired_picture_is_added(tmp_path, loaded, readable):
    path = tmp_path / "late.png"
    assert embed.pictures(tmp_path / "i", *loaded, [path, readable[0]], name="shapes") == (1, 1, 1)
    shutil.copy(readable[1], path)
    assert embed.pictures(tmp_path / "i", *loaded, [path, readable[0]], name="shapes") == (2, 1, 0)
    assert embed.read(tmp_path / "i").names == [readable[0], str(path)]
    assert (tmp_path / "i" / "_failed.jsonl").read_text() == ""


def test_texts(tmp_path, loaded):
    model, _ = loaded
    texts = ["a red circle", "a blue star", "a red circle", "a green heart " * 30]
    assert embed.texts(tmp_path / "i", model, texts, name="shapes") == (4, 4, 0)
    metadata, names, features = embed.read(tmp_path / "i")
    assert names == texts and metadata["kind"] == "texts" and metadata["preprocess"] == {}
    assert close(features, l2_normalize(model.encode_text(model.tokenize(texts, truncate=True))))
    assert embed.texts(tmp_path / "i", model, [*texts, "a star"], name="shapes") == (5, 1, 0)


def test_another_model_and_another_preprocessing_are_refused(tmp_path, loaded, readable):
    model, preprocess = loaded
    embed.pictures(tmp_path / "i", model, preprocess, readable[:2], name="shapes")
    with pytest.raises(InputError, match=r"exif is False, not True"):
        embed.pictures(tmp_path / "i", *miniclip.load("shapes", "numpy", exif=True), readable[:3], name="shapes")
    with pytest.raises(InputError, match=r"image_size is 48, not 64"):
        embed.pictures(tmp_path / "i", model, type(preprocess)(64), readable[:3], name="shapes")
    other, _ = miniclip.load("shapes", "numpy")
    other.params["logit_scale"] = other.params["logit_scale"] * 1.01
    with pytest.raises(InputError, match="has features of another model"):
        embed.pictures(tmp_path / "i", other, preprocess, readable[:3], name="shapes")
    with pytest.raises(InputError, match="has features of pictures, not of texts"):
        embed.texts(tmp_path / "i", model, ["a star"], name="shapes")
    on_torch = miniclip.load("shapes", "torch", dtype="bfloat16")  # the same weights
    assert embed.pictures(tmp_path / "i", *on_torch, readable[:3], name="shapes") == (3, 1, 0)


def test_features_that_are_not_numbers_are_refused_and_what_came_before_is_kept(
    tmp_path, loaded, readable, monkeypatch
):
    model, preprocess = loaded
    encode, calls = model.encode_image, []
    monkeypatch.setattr(model, "encode_image", lambda x: encode(x) * (np.nan if calls.append(0) or calls[2:] else 1))
    with pytest.raises(InputError, match="not numbers"):
        embed.pictures(tmp_path / "i", model, preprocess, readable, name="shapes", batch=10)
    assert embed.read(tmp_path / "i").names == readable[:20]


# ------------------------------------------------------------------------------------------- URLs


def test_urls_are_read_with_pyarrow(tmp_path, loaded, photos, readable, capsys):
    """Those of files are opened as those of object stores are."""
    assert main(["embed", f"file://{photos}", "-o", str(tmp_path / "i"), "--batch", "50"]) == 1
    embed.pictures(tmp_path / "plain", *loaded, readable, name="shapes", batch=50)
    found, plain = embed.read(tmp_path / "i"), embed.read(tmp_path / "plain")
    assert found.names == [f"file://{path}" for path in readable] and close(found.features, plain.features)
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


# --------------------------------------------------------------------------------------- tables of texts


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


# ------------------------------------------------------------------------------------- the command line


def test_the_command_embeds_a_folder_and_names_what_is_broken(tmp_path, photos, readable, capsys):
    command = ["embed", str(photos), "-o", str(tmp_path / "i"), "--backend", "numpy"]
    assert main([*command, "--json", "--npy", str(tmp_path / "f.npy")]) == 1
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {"index": str(tmp_path / "i"), "rows": 198, "new": 198, "failed": 2}
    first, second = printed.err.splitlines()
    assert f"{photos}/1/4.png: cannot be read as a picture" in first and "2/50.png: cannot be read" in second
    assert np.load(tmp_path / "f.npy").shape == (198, embed.read(tmp_path / "i").metadata["embed_dim"])
    assert main(command) == 1
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "miniclip: 2 of 200 pictures are left to embed"
    assert said[-1] == (
        f"miniclip: 0 pictures embedded, {tmp_path}/i has 198; 2 could not be read, see {tmp_path}/i/_failed.jsonl"
    )


def test_the_command_embeds_a_list_on_standard_input(tmp_path, readable):
    command = [sys.executable, "-m", "miniclip", "embed", "-", "-o", tmp_path / "i"]
    done = subprocess.run(command, input="\n".join(readable[:5]), text=True, capture_output=True)
    assert (done.returncode, done.stdout) == (0, "")
    assert embed.read(tmp_path / "i").names == readable[:5]


def test_the_command_embeds_texts(tmp_path, capsys):
    (tmp_path / "a.jsonl").write_text('{"text": "a red circle"}\n{"text": "a star"}\n')
    command = ["embed", str(tmp_path / "a.jsonl"), "-o", str(tmp_path / "i")]
    assert main(command) == 0 and embed.read(tmp_path / "i").names == ["a red circle", "a star"]
    (tmp_path / "a.jsonl").write_text('{"text": "a red circle"}\n{"text": ""}\n')
    assert main(command) == 1
    assert main(["embed", "photo.jpg", *command[1:]]) == 1
    assert "a.jsonl is a table of texts, and other names are of pictures" in capsys.readouterr().err


def test_a_path_of_a_model_is_stored_absolute(tmp_path, readable, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["convert", "shapes", "mine.safetensors", "--to", "miniclip"]) == 0
    assert main(["embed", readable[0], "-o", "i", "--model", "mine.safetensors"]) == 0
    assert embed.read("i").metadata["model"] == str(tmp_path / "mine.safetensors")
    assert main(["embed", readable[1], "-o", "i", "--model", "shapes"]) == 0  # the same weights


SLOW = """
import signal, sys, time
from miniclip import cli, model
from miniclip.embed import writer
writer.SECONDS = 0.2
encode = model.CLIP.encode_image
model.CLIP.encode_image = lambda self, x: time.sleep(0.1) or encode(self, x)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have started the tests with it ignored
sys.exit(cli.main(sys.argv[1:]))
"""


def test_a_run_that_is_killed_twice_and_resumed_has_the_rows_of_one_that_is_not(tmp_path, photos, readable):
    command = [str(photos), "--batch", "8", "--backend", "numpy", "-o"]
    assert main(["embed", *command, str(tmp_path / "whole")]) == 1
    rows = 0
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-c", SLOW, "embed", *command, str(tmp_path / "i")], stderr=subprocess.DEVNULL
        )
        while process.poll() is None and count(tmp_path / "i") < rows + 30:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        before, rows = rows, count(tmp_path / "i")
        assert before < rows < 198
        assert embed.read(tmp_path / "i").names == readable[:rows]
    assert main(["embed", *command, str(tmp_path / "i")]) == 1
    found, whole = embed.read(tmp_path / "i"), embed.read(tmp_path / "whole")
    assert found.names == whole.names == readable and close(found.features, whole.features)
    files = ({path.name for path in (tmp_path / name).iterdir()} for name in ("i", "whole"))
    assert [*files] == [{"part-000000.parquet", "_failed.jsonl"}] * 2


def count(folder):
    return sum(part.rows for part in index.parts_of(folder)) if folder.exists() else 0


def test_ctrl_c_keeps_what_was_embedded_and_says_how_to_resume(tmp_path, photos, readable):
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, "embed", str(photos), "--batch", "8", "-o", str(tmp_path / "i")],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while process.poll() is None and count(tmp_path / "i") < 8:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130
    assert said.splitlines()[-1] == f"miniclip: stopped; what was embedded is in {tmp_path}/i: the same command resumes"
    assert 8 <= len(names := embed.read(tmp_path / "i").names) < 198 and names == readable[: len(names)]


def test_a_batch_has_one_at_least(tmp_path, loaded, readable, capsys):
    with pytest.raises(InputError, match="batch is 0, expected how many are encoded at a time: 1 or more"):
        embed.pictures(tmp_path / "i", *loaded, readable[:2], name="shapes", batch=0)
    with pytest.raises(SystemExit, match="2"):
        main(["embed", readable[0], "-o", str(tmp_path / "i"), "--batch", "0"])
    assert "'0' is not an integer 1, 2, 3, ..." in capsys.readouterr().err


def test_what_is_left_is_counted_without_what_is_named_twice(tmp_path, readable, capsys):
    assert main(["embed", readable[0], readable[0], readable[1], "-o", str(tmp_path / "i")]) == 0
    assert "2 of 3 pictures are left to embed" in capsys.readouterr().err


def test_a_model_without_an_image_tower_embeds_texts(tmp_path, capsys):
    config, tree, tokenizer = checkpoints.load(hub.find("shapes"), dtype="float32")
    tree = {name: x for name, x in tree.items() if name not in ("visual", "logit_scale")}
    checkpoints.save(tmp_path / "t.safetensors", dataclasses.replace(config, visual=None), tree, tokenizer=tokenizer)
    (tmp_path / "a.csv").write_text("text\na red star\n")
    command = ["embed", str(tmp_path / "a.csv"), "-o", str(tmp_path / "i"), "--model", str(tmp_path / "t.safetensors")]
    assert main(command) == 0 and embed.read(tmp_path / "i").names == ["a red star"]
    assert main(["embed", "a.png", *command[2:]]) == 1
    assert "has no image tower: choose a model that has one" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------ memory

PEAK = """
import resource, sys
from miniclip import cli
code = cli.main(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)  # KiB on Linux
sys.exit(code)
"""
PATH = 400  # bytes in memory for a path: the text, its places in lists and in a table; 200 were measured


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems count memory in other units")
def test_memory_does_not_grow_with_the_number_of_pictures_except_for_their_paths(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "1.png")
    peaks = {}
    for n in (5_000, 20_000):
        photos = tmp_path / f"{n}"
        photos.mkdir()
        for i in range(n):
            os.link(tmp_path / "1.png", photos / f"{i}.png")
        command = ["embed", photos, "-o", tmp_path / f"index-{n}", "--backend", "numpy"]
        done = subprocess.run(
            [sys.executable, "-c", PEAK, *map(str, command)], capture_output=True, text=True, check=True
        )
        assert f"{n:,} pictures embedded" in done.stderr
        peaks[n] = int(done.stdout) << 10
    assert peaks[20_000] < peaks[5_000] + 15_000 * PATH  # 2% more; their features alone would be 8 MB


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
