"""Photographs and other pictures that were not made for miniclip, through every command that takes pictures.

scikit-image and scikit-learn have them in their packages: photographs, grey and transparent pictures, an animation, a
TIFF with pages, and one that Pillow cannot read. What the built-in model says of them means nothing.
"""

import json
from pathlib import Path

import pytest
import skimage
import sklearn
from PIL import Image

from miniclip.cli import main
from miniclip.runtime import listing

FOLDERS = [str(Path(skimage.__file__).parent / "data"), str(Path(sklearn.__file__).parent / "datasets" / "images")]


def mode_of(path):
    """Pillow's mode of a picture, such as "RGB"; None if it cannot be read."""
    try:
        with Image.open(path) as image:
            image.load()
            return image.mode
    except OSError:
        return None


@pytest.fixture(scope="module")
def readable():
    """The paths of the pictures in these folders that Pillow reads."""
    modes = {path: mode_of(path) for path in listing.pictures(FOLDERS)}
    assert {"astronaut.png", "coffee.png", "china.jpg", "flower.jpg"} < {Path(path).name for path in modes}
    assert {"L", "RGB", "RGBA"} <= {*modes.values()}
    return [path for path, mode in modes.items() if mode]


@pytest.fixture
def answer(capsys, readable):
    """What a command prints as JSON. On stderr are the pictures that Pillow cannot read, and at most one line more."""
    broken = sum(1 for _ in listing.pictures(FOLDERS)) - len(readable)

    def run(command, *arguments, broken=broken):
        assert main([command, *map(str, arguments), "--json"]) == (1 if broken else 0)
        out, err = capsys.readouterr()
        assert err.count("cannot be read as a picture") == broken >= err.count("\n") - 1
        return json.loads(out)

    return run


def test_classify(answer, readable):
    found = answer("classify", *FOLDERS, "--labels", "a red heart", "a blue circle")
    assert [one["image"] for one in found] == readable
    assert all(sum(label["probability"] for label in one["labels"]) == pytest.approx(1) for one in found)


def test_embed_and_search(answer, readable, tmp_path):
    index = tmp_path / "index"
    done = answer("embed", *FOLDERS, "-o", index)
    assert done["rows"] == len(readable)
    for path in readable[::7]:
        best, *_ = answer("search", index, "--image", path, "-k", 3, broken=0)
        assert best["path"] == path and best["score"] == pytest.approx(1, abs=1e-3)
    assert len(answer("search", index, "a red heart", "-k", 99, "-o", tmp_path / "x.png", broken=0)) == len(readable)


def test_compare(answer, readable):
    found = answer("compare", *FOLDERS)
    assert found["pictures"] == readable
    assert [row[i] for i, row in enumerate(found["cosines"])] == pytest.approx([1] * len(readable))


def test_explain(answer, readable):
    for path in readable[::7]:
        (text,) = answer("explain", path, "a red heart", broken=0)["texts"]
        assert len(text["patches"]) == 6 and -1 <= text["cosine"] <= 1


def test_caption(answer, readable):
    found = answer("caption", *FOLDERS, "--beams", 1)
    assert [one["image"] for one in found] == readable
    assert all(one["captions"][0]["caption"] for one in found)
