"""What commands say on stderr about pictures that are stored turned, and about words that a model never saw."""

import pytest
from PIL import ExifTags, Image

from miniclip import cli

COMMANDS = {
    "embed": lambda path, folder: ["embed", path, "-o", str(folder / "index")],
    "compare": lambda path, folder: ["compare", path, "--texts", "a red circle"],
    "explain": lambda path, folder: ["explain", path, "a red circle"],
    "caption": lambda path, folder: ["caption", path],
}


@pytest.fixture
def turned(tmp_path):
    """A picture that its file says to turn."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (60, 40), "red").save(tmp_path / "turned.jpg", exif=exif)
    return tmp_path / "turned.jpg"


@pytest.mark.parametrize("command", COMMANDS)
def test_pictures_that_are_stored_turned_are_counted(command, turned, tmp_path, capsys):
    arguments = COMMANDS[command](str(turned), tmp_path)
    assert cli.main(arguments) == 0
    assert "1 of 1 pictures are to be turned, as their files say (EXIF)" in capsys.readouterr().err
    if command == "embed":
        arguments[-1] += "-2"  # an index of pictures that are turned is another one
    assert cli.main([*arguments, "--exif"]) == 0
    assert "EXIF" not in capsys.readouterr().err


def test_words_that_the_built_in_model_never_saw_are_named(turned, capsys):
    assert cli.main(["compare", str(turned), "--exif", "--texts", "a dog", "a red circle"]) == 0
    assert "never saw these words, so its answer says nothing about them: dog." in capsys.readouterr().err


@pytest.mark.parametrize("command", ["embed", "classify"])
def test_photographs_that_cannot_be_read_are_counted(command, tmp_path, capsys):
    Image.new("RGB", (60, 40), "red").save(tmp_path / "a.jpg")
    for name in ("b.HEIC", "c.heic", "d.cr2", "notes.md"):
        (tmp_path / name).touch()
    rest = {"embed": ["-o", str(tmp_path / "index")], "classify": ["--labels", "a red circle", "a star"]}[command]
    assert cli.main([command, str(tmp_path), *rest]) == 0
    assert "3 files are left out, because Pillow does not read .cr2, .heic: convert them" in capsys.readouterr().err
