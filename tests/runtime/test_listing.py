"""Which pictures are meant by the names that users give."""

import io
import os

import pytest

from miniclip.errors import InputError
from miniclip.runtime import listing


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """photos/ with pictures in two folders, and files that are none; the current folder is its parent."""
    for name in [
        "b.PNG",
        "a.jpg",
        "notes.md",
        ".hidden.png",
        "trip/c.webp",
        "trip/.thumbnails/d.png",
        "__MACOSX/e.png",
    ]:
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "photos"


def paths(*names):
    return [os.path.join(*name.split("/")) for name in names]


def test_a_folder_means_its_pictures_and_those_below_sorted(photos):
    assert [*listing.pictures(["photos"])] == paths("photos/a.jpg", "photos/b.PNG", "photos/trip/c.webp")


def test_a_pattern_means_the_pictures_that_fit_it(photos):
    assert [*listing.pictures(["photos/*"])] == paths("photos/a.jpg", "photos/b.PNG")
    assert [*listing.pictures([photos / "**" / "*.webp"])] == [str(photos / "trip" / "c.webp")]


def test_a_file_with_the_characters_of_a_pattern_is_a_file(photos):
    (photos / "[1].png").touch()
    assert [*listing.pictures(["photos/[1].png"])] == ["photos/[1].png"]


def test_a_list_has_a_path_on_each_line(photos):
    (photos / "some.txt").write_text("x.png\n\n with blanks .jpg\r\nmissing.png", encoding="utf-8-sig")
    expected = ["x.png", " with blanks .jpg", "missing.png"]
    assert [*listing.pictures(["photos/some.txt"])] == expected
    assert [*listing.pictures(["-"], io.StringIO("x.png\n\n with blanks .jpg\r\nmissing.png"))] == expected


def test_names_keep_their_order_and_files_may_be_missing(photos):
    assert [*listing.pictures(["z.png", "photos/trip", "a.png"])] == ["z.png", *paths("photos/trip/c.webp"), "a.png"]


def test_a_list_on_standard_input_is_read_as_its_paths_are_used():
    lines = iter([f"{i}.png\n" for i in range(10)])
    found = listing.pictures(["-"], lines)
    assert [next(found), next(found)] == ["0.png", "1.png"]
    assert len([*lines]) == 8


@pytest.mark.parametrize("name, message", [
    ("empty", "empty: has no pictures"),
    ("empty/*.png", "empty/*.png: no picture's path fits this pattern"),
    ("nothing.txt", "nothing.txt: is empty: write a picture's path on each line"),
    ("missing.txt", "missing.txt: cannot be read: No such file"),
    ("-", "standard input: names no picture"),
])  # fmt: skip
def test_what_means_no_picture_is_refused_before_the_first_is_used(photos, name, message):
    os.mkdir("empty")
    open("nothing.txt", "w").close()
    with pytest.raises(InputError, match=message.replace("*", r"\*")):
        listing.pictures(["photos", name], io.StringIO(""))


def test_texts_in_a_file_have_no_spaces_around_them(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("a dog\n\n  a cat\u2028 \r\n \n", encoding="utf-8-sig")
    assert listing.texts(path) == ["a dog", "a cat"]
    for content, message in ((b" \n", "is empty: write a label on each line"), (b"\xff", "is not UTF-8 text")):
        path.write_bytes(content)
        with pytest.raises(InputError, match=rf"x\.txt: {message}"):
            listing.texts(path, "a label")
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        listing.texts(tmp_path)


def test_a_list_in_another_encoding_is_named(photos):
    (photos / "latin.txt").write_bytes("é.png".encode("latin-1"))
    with pytest.raises(InputError, match=r"latin.txt: is not UTF-8 text"):
        listing.pictures([photos / "latin.txt"])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in its folders")
def test_pipes_and_folders_are_no_pictures_of_a_folder_or_pattern(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")  # to open it would take forever
    (tmp_path / "folder.png").mkdir()
    for name in ("a.png", "folder.png/b.png"):
        (tmp_path / name).touch()
    (tmp_path / "gone.png").symlink_to("nowhere")
    found = [os.path.relpath(path, tmp_path) for path in listing.pictures([tmp_path])]
    assert found == ["a.png", "gone.png", "folder.png/b.png"]
    found = [os.path.relpath(path, tmp_path) for path in listing.pictures([f"{tmp_path}/*.png"])]
    assert found == ["a.png", "gone.png"]
