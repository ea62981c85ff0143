"""What training data can be read from: folders, tables, Hugging Face's datasets; what of them is skipped, and why."""

import builtins
import errno
import gc
import json
import os
import subprocess
import sys

import datasets
import numpy as np
import pytest
from PIL import Image
from training_pictures import caption_of, encoded, pictures, write_folder

from miniclip import InputError
from miniclip.image import Preprocess
from miniclip.train import data
from miniclip.train.data import read

HEADER_AND_ROWS = {  # a table of two pictures, in the forms that others write
    "openclip.csv": "filepath\ttitle\na.png\ta cat\nb.png\ta dog, asleep\n",
    "excel.csv": "\ufeffPath;Caption\r\na.png;a cat\r\nb.png;a dog, asleep\r\n",
    "hf.csv": '\nfile_name,text\na.png,a cat\nb.png,"a dog, asleep"\n',
    "blank.csv": "\ufeff\r\nPath;Caption\r\n\r\na.png;a cat\r\nb.png;a dog, asleep\r\n",
    "hf.jsonl": '{"file_name": "a.png", "text": "a cat"}\n\n{"file_name": "b.png", "text": "a dog, asleep"}\n',
    "pairs.tsv": "image\tcaption\tlicence\na.png\ta cat\t\nb.png\ta dog, asleep\tfree\n",
    "lists.jsonl": '{"image": "a.png", "captions": ["a cat"]}\n{"image": "b.png", "captions": ["a dog, asleep"]}\n',
}


def captions_of(pairs, folder=None):
    names = [name if folder is None else name.removeprefix(f"{folder}/") for name in pairs.names]
    return dict(zip(names, pairs.captions))


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


# -------------------------------------------------------------------------------------------------- in memory


def test_a_list_of_pictures_and_captions(tmp_path):
    grey, red = np.full((8, 8), 90, np.uint8), Image.new("RGB", (8, 8), "red")
    red.save(tmp_path / "a.png")
    path = str(tmp_path / "a.png")
    rows = [(grey, np.str_("grey")), (red, ("red", "a red one")), [path, ["file"]], (red, "again"), (path, "same")]
    rows += [(grey.copy(), 7)]
    pairs = read(rows)
    assert captions_of(pairs) == {"row 0": ("grey",), "row 1": ("red", "a red one", "again"), path: ("file", "same")}
    assert pairs.skipped == {"row 5": "its caption is 7, expected a text"}
    batches = data.load(rows, 8, batch=3)
    images, captions = batches.batch(0)
    expected = dict(zip(pairs.names, Preprocess(8)([grey, red, path])))
    for image, caption in zip(images, captions):
        name = next(name for name, texts in captions_of(pairs).items() if caption in texts)
        np.testing.assert_array_equal(image, expected[name])


def test_a_list_of_pairs_is_whole():
    pair = (np.zeros((8, 8), np.uint8), "black")
    with pytest.raises(InputError, match=r"row 1 is 'x.png', expected \(picture, caption\)"):
        read([pair, "x.png"])
    with pytest.raises(InputError, match="has no columns: leave them out"):
        read([pair], ("a", "b"))
    with pytest.raises(InputError, match="the list: no picture with a caption is there"):
        read([(pair[0], "")])


# ----------------------------------------------------------------------------------------------------- tables


@pytest.mark.parametrize("name", HEADER_AND_ROWS)
def test_tables_are_read_in_the_usual_forms(name, tmp_path):
    pairs = read(write(tmp_path / name, HEADER_AND_ROWS[name]))
    assert captions_of(pairs, tmp_path) == {"a.png": ("a cat",), "b.png": ("a dog, asleep",)}
    assert pairs.skipped == {} and pairs.picture(0) == str(tmp_path / "a.png")


def test_a_picture_in_several_rows_has_several_captions(tmp_path):
    path = write(tmp_path / "t.csv", "path,caption\na.png,one\nb.png,x\n./a.png,two\na.png,one\n")
    assert captions_of(read(path), tmp_path) == {"a.png": ("one", "two"), "b.png": ("x",)}


def test_paths_are_relative_to_the_table_or_absolute(tmp_path, monkeypatch):
    write(tmp_path / "sub" / "t.csv", f"path,caption\n../a.png,one\n{tmp_path}/b.png,two\n")
    monkeypatch.chdir(tmp_path)
    pairs = read("sub/t.csv")
    assert pairs.names == ["a.png", f"{tmp_path}/b.png"]


def test_captions_that_look_like_something_else_stay_texts(tmp_path):
    """pandas, and with it OpenCLIP and datasets, reads the first four as missing, and the last as the number 7."""
    texts = ["None", "null", "NA", "nan", "007"]
    path = write(tmp_path / "t.csv", "path,caption\n" + "".join(f"{i}.png,{text}\n" for i, text in enumerate(texts)))
    assert [*read(path).captions] == [(text,) for text in texts]


def test_rows_that_cannot_be_used_are_named_by_their_line(tmp_path):
    path = write(
        tmp_path / "t.csv",
        'path,caption\na.png,fine\nb.png,a dog, asleep\nc.png\nd.png,\n,nothing\n\ne.png,"cut" off\nf.png,last\n',
    )
    pairs = read(path)
    assert captions_of(pairs, tmp_path) == {"a.png": ("fine",), "f.png": ("last",)}
    reasons = {name.removeprefix(f"{path}, line "): reason for name, reason in pairs.skipped.items()}
    assert reasons.keys() == {"3", "4", "5", "6", "8"}
    assert "3 cells, but the first line names 2 columns: put quotation marks" in reasons["3"]
    assert "1 cells" in reasons["4"] and reasons["5"] == "its caption is empty"
    assert reasons["6"] == "it names no picture" and "expected after" in reasons["8"]

    lines = [
        '{"path": "a.png", "caption": "fine"}',
        "[1]",
        '{"path": ',
        '{"path": "b.png", "caption": 7}',
        '{"path": 1}',
    ]
    path = write(tmp_path / "t.jsonl", "\n".join(lines))
    pairs = read(path)
    assert captions_of(pairs, tmp_path) == {"a.png": ("fine",)}
    assert [*pairs.skipped] == [f"{path}, line {n}" for n in (2, 3, 4, 5)]
    assert pairs.skipped[f"{path}, line 4"] == "its caption is 7, expected a text"


def test_columns_are_never_guessed_between_two(tmp_path):
    path = write(tmp_path / "t.csv", "path,title,caption\na.png,A title,a caption\n")
    with pytest.raises(
        InputError, match=r"'title' and 'caption' may both be the captions; its columns are 'path', 'tit"
    ):
        read(path)
    assert read(path, ("path", "caption")).captions == [("a caption",)]
    assert data.load(path, 8, batch=1, columns=("path", "title")).captions == ["A title"]
    with pytest.raises(InputError, match="has no column 'text'; its columns are 'path', 'title', 'caption'"):
        read(path, ("path", "text"))
    with pytest.raises(InputError, match="expected two names"):
        read(path, "path")
    path = write(tmp_path / "t.csv", "photo,words\na.png,a caption\n")
    with pytest.raises(InputError, match="no column is clearly that of pictures; its columns are 'photo', 'words'"):
        read(path)


def test_tables_that_cannot_be_read_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"no such file or folder, expected a folder of pictures, a \.csv"):
        read(tmp_path / "missing.csv")
    with pytest.raises(InputError, match="is a file of no known kind"):
        read(write(tmp_path / "t.parquet", ""))
    for text in ("", "path,caption\n"):
        with pytest.raises(InputError, match="no picture with a caption is there"):
            read(write(tmp_path / "t.csv", text))
    with pytest.raises(InputError, match=r"no picture with a caption is there; \S+, line 2: its caption is empty"):
        read(write(tmp_path / "t.csv", "path,caption\na.png,\n"))
    with pytest.raises(InputError, match="names a column twice"):
        read(write(tmp_path / "t.csv", "path,caption,caption\n"))
    (tmp_path / "t.csv").write_bytes("path,caption\na.png,été\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"t\.csv: is not UTF-8 text .*: save it as UTF-8"):
        read(tmp_path / "t.csv")
    with pytest.raises(InputError, match="the data are of type int, expected a folder"):
        read(3)


# ---------------------------------------------------------------------------------------------------- folders


def test_a_folder_has_a_table_or_a_text_beside_each_picture(tmp_path):
    picture = encoded(pictures(1)["000.png"])
    names = "a.png b/c.JPG b/d.webp train/e.png train/f.png alone.gif .hidden.png __MACOSX/g.png b/.thumbs/h.png"
    for name in names.split():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(picture)
    write(tmp_path / "captions.csv", "file_name,text\na.png,from the table\nb/d.webp,first\nb/d.webp,second\n")
    write(tmp_path / "train" / "metadata.jsonl", '{"file_name": "e.png", "text": "in train"}\n')
    write(tmp_path / "a.txt", "not used: the table has a caption")
    write(tmp_path / "b" / "c.txt", "one line\n\nanother line\n")
    write(tmp_path / "train" / "f.txt", " \n")
    write(tmp_path / "README.txt", "about these pictures")
    pairs = read(tmp_path)
    assert captions_of(pairs, tmp_path) == {
        "a.png": ("from the table",),
        "b/c.JPG": ("one line", "another line"),
        "b/d.webp": ("first", "second"),
        "train/e.png": ("in train",),
    }
    assert pairs.skipped == {
        str(tmp_path / "alone.gif"): "has no caption",
        str(tmp_path / "train" / "f.png"): "has no caption",
        str(tmp_path / "a.txt"): "there is no picture of this name that lacks a caption",
        str(tmp_path / "README.txt"): "there is no picture of this name that lacks a caption",
    }


def test_links_to_folders_are_followed_but_not_in_circles(tmp_path):
    write(tmp_path / "elsewhere" / "captions.csv", "file_name,text\na.png,a cat\n")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "photos")
    assert captions_of(read(tmp_path / "photos"), tmp_path) == {"photos/more/a.png": ("a cat",)}


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    write(tmp_path / "closed" / "a.txt", "")
    write(tmp_path / "captions.csv", "file_name,text\na.png,a cat\n")
    scan = os.scandir

    def refuse(path):
        if str(path).endswith("closed"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert read(tmp_path).skipped == {str(tmp_path / "closed"): "cannot be read: Permission denied"}


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(InputError, match="no picture with a caption is there"):
        read(tmp_path)
    write(tmp_path / "00.tar", "")
    with pytest.raises(InputError, match=r'has tar files and no pictures: pass "\S+/\{00\.\.99\}\.tar" or a list'):
        read(tmp_path)
    (tmp_path / "a.png").write_bytes(encoded(pictures(1)["000.png"]))
    with pytest.raises(InputError, match=r"no picture with a caption is there; \S+/a\.png: has no caption"):
        read(tmp_path)


def test_a_text_that_is_not_utf8_is_skipped_and_named_once(tmp_path, caplog):
    for name in ("a.gif", "a.png", "b.png"):
        (tmp_path / name).write_bytes(encoded(pictures(1)["000.png"]))
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe")
    write(tmp_path / "b.txt", "fine")
    pairs = read(tmp_path)
    assert pairs.names == [str(tmp_path / "b.png")]
    assert "cannot be read as UTF-8 text" in pairs.skipped[str(tmp_path / "a.txt")]
    assert caplog.text.count("cannot be read as UTF-8 text") == 1


# ------------------------------------------------------------------------------------- Hugging Face's datasets


@pytest.fixture(scope="module")
def dataset():
    images = [datasets.Image().encode_example(image) for image in pictures().values()]
    columns = {"image": images, "text": [caption_of(name) for name in pictures()], "label": [*range(60)]}
    return datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image())


def check(loaded):
    own = {caption_of(name): image for name, image in pictures().items()}
    images, captions = loaded.batch(1)
    assert len(loaded) == 60 and len({*captions}) == 16
    assert all(np.array_equal(image, Preprocess(16)(own[text])) for image, text in zip(images, captions))


def test_a_dataset_is_read_whatever_its_format(dataset):
    formats = [dataset.with_format(name) for name in ("numpy", "torch", "pandas", "arrow")]
    for given in (dataset, dataset.shuffle(seed=0), *formats):
        check(data.load(given, 16, batch=16))


def test_a_saved_dataset_is_read_from_its_folder(dataset, tmp_path):
    dataset.save_to_disk(tmp_path / "saved")
    check(data.load(tmp_path / "saved", 16, batch=16))
    datasets.DatasetDict(train=dataset, test=dataset).save_to_disk(tmp_path / "splits")
    with pytest.raises(InputError, match=r"has the splits train, test: choose one"):
        data.load(tmp_path / "splits", 16, batch=16)
    check(data.load(tmp_path / "splits" / "train", 16, batch=16))


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # datasets does not close metadata.csv
def test_an_image_folder_of_datasets_is_read_alike(tmp_path):
    (tmp_path / "pictures").mkdir()
    write_folder(tmp_path / "pictures", table="metadata.csv")
    cache = {"cache_dir": str(tmp_path / "cache")}
    loaded = datasets.load_dataset("imagefolder", data_dir=str(tmp_path / "pictures"), split="train", **cache)
    ours, theirs = (data.load(source, 16, batch=16) for source in (tmp_path / "pictures", loaded))
    assert ours.captions == theirs.captions
    assert np.array_equal(ours.batch(2)[0], theirs.batch(2)[0])
    gc.collect()


def test_rows_that_cannot_be_used_are_named_by_their_number(tmp_path):
    broken = [{"bytes": b"no picture", "path": None}, {"bytes": None, "path": str(tmp_path / "none.png")}, None]
    good = [{"bytes": encoded(image), "path": None} for image in pictures(4).values()]
    texts = [["a"], ["b"], ["c"], [], None, ["e", "f"], ["g"]]
    dataset = datasets.Dataset.from_dict({"image": broken + good, "captions": texts})
    dataset = dataset.cast_column("image", datasets.Image())
    loaded = data.load(dataset, 16, batch=2)
    assert loaded.captions == ["a", "b", "c", "e", "f", "g"]
    assert loaded.skipped == {"row 3": "has no caption", "row 4": "has no caption"}
    seen = {text for step in range(20) for text in loaded.batch(step)[1]}
    assert seen == {"e", "f", "g"}
    assert loaded.skipped["row 0"] == "cannot be read as a picture: cannot identify image file"
    assert loaded.skipped["row 1"] == f"{tmp_path / 'none.png'}: no such file"
    assert loaded.skipped["row 2"] == "the row has no picture"


def test_datasets_that_do_not_fit_are_refused_with_the_remedy(dataset):
    for given, match in [
        (
            datasets.DatasetDict(train=dataset, test=dataset),
            r"has the splits train, test: choose one, dataset\['train'\]",
        ),
        (dataset.to_iterable_dataset(), "is a IterableDataset, expected a datasets.Dataset"),
        (dataset.with_transform(lambda row: row), r"has a transform, .* pass dataset\.with_format\(None\)"),
        (dataset.remove_columns("text"), "no column is clearly that of captions; its columns are 'image', 'label'"),
        (dataset.remove_columns("image"), "no column is clearly that of pictures; its columns are 'text', 'label'"),
        (dataset.add_column("caption", ["x"] * 60), "'text' and 'caption' may both be the captions"),
    ]:
        with pytest.raises(InputError, match=match):
            read(given)
    with pytest.raises(InputError, match=r"dataset\.cast_column\('label', datasets\.Image\(\)\)"):
        read(dataset, ("label", "text"))
    with pytest.raises(InputError, match=r"dataset\.cast_column\('label', datasets\.Value\('string'\)\)"):
        read(dataset, ("image", "label"))
    named = dataset.rename_columns({"image": "photo", "text": "words"})
    assert read(named).captions[0] == (caption_of("000"),)  # the only columns of their types


def test_a_picture_is_not_turned_unless_the_model_asks(tmp_path):
    """datasets turns pictures by their EXIF orientation when it decodes them; CLIP's preprocessing does not."""
    image = pictures(1)["000.png"]
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    image.save(tmp_path / "turned.png", exif=exif)
    dataset = datasets.Dataset.from_dict({"image": [str(tmp_path / "turned.png")], "text": ["x"]})
    dataset = dataset.cast_column("image", datasets.Image())
    for exif in (False, True):
        preprocess = Preprocess(16, exif=exif)
        picture = data.load(dataset, preprocess, batch=1).batch(0)[0][0]
        assert np.array_equal(picture, preprocess(tmp_path / "turned.png"))


# ------------------------------------------------------------------------------------------- without the extras


def test_importing_loads_neither_package():
    heavy = ["datasets", "webdataset", "torch", "pandas"]
    code = f"import sys, miniclip.train.data; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_to_install_is_said(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name.partition(".")[0] in ("datasets", "webdataset"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    write(tmp_path / "dataset_info.json", json.dumps({}))
    with pytest.raises(InputError, match=r"a saved dataset needs datasets: .*\[data\]"):
        read(tmp_path)
    with pytest.raises(InputError, match=r"tar shards need webdataset: .*\[data\]"):
        read("0.tar")
