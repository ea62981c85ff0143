"""The built-in model, and pictures to embed, two of them broken."""

import numpy as np
import pytest
from PIL import Image

import miniclip
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
