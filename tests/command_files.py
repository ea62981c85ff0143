"""Files to run the command line on: pictures that the built-in model knows, and files that cannot be used."""

import pytest
from PIL import Image, ImageDraw


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Two pictures that the built-in model knows, drawn without miniclip."""
    directory = tmp_path_factory.mktemp("pictures")
    for name, shape, colour in [("disc", "ellipse", "red"), ("box", "rectangle", "blue")]:
        image = Image.new("RGB", (200, 200), "white")
        getattr(ImageDraw.Draw(image), shape)((50, 50, 150, 150), fill=colour)
        image.save(directory / f"{name}.png")
    return directory / "disc.png", directory / "box.png"


@pytest.fixture
def bad_files(tmp_path):
    """A directory with a picture, a text file with a picture's name, and an empty directory."""
    Image.new("RGB", (9, 9)).save(tmp_path / "good.png")
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "empty").mkdir()
    return tmp_path
