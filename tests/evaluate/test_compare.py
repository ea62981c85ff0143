"""`miniclip compare`: the matrix of cosines, as JSON, as a table and as a figure."""

import json

import matplotlib
import numpy as np
import pytest
from PIL import Image

matplotlib.use("Agg")

import miniclip
from miniclip.cli import main
from miniclip.ops import numpy_ops
from miniclip.viz import similarity_matrix

TEXTS = ["a red square", "a blue circle"]


@pytest.fixture
def pictures(tmp_path):
    """A wide one, a tall one, a grey one."""
    Image.new("RGB", (60, 20), "red").save(tmp_path / "a.png")
    Image.new("RGB", (20, 40), "blue").save(tmp_path / "b.png")
    Image.new("L", (30, 30), 128).save(tmp_path / "c.png")
    return tmp_path


def compare(capsys, *arguments):
    code = main(["compare", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out, err


def test_cosines_in_json(pictures, capsys):
    model, preprocess = miniclip.load("shapes")
    paths = [str(pictures / name) for name in ("a.png", "b.png", "c.png")]
    images = numpy_ops.l2_normalize(model.encode_image(preprocess(paths)))
    texts = numpy_ops.l2_normalize(model.encode_text(model.tokenize(TEXTS)))
    code, out, err = compare(capsys, pictures, "--texts", *TEXTS, "--json")
    found = json.loads(out)
    assert (code, err, found["pictures"], found["texts"]) == (0, "", paths, TEXTS)
    np.testing.assert_allclose(found["cosines"], images @ texts.T, atol=1e-5)
    found = json.loads(compare(capsys, pictures, "--json")[1])
    np.testing.assert_allclose(found["cosines"], images @ images.T, atol=1e-5)
    assert "texts" not in found


def test_a_table_and_a_figure_without_what_is_broken(pictures, capsys, tmp_path):
    (pictures / "broken.png").write_bytes(b"")
    code, out, err = compare(capsys, pictures)
    assert code == 1 and "broken.png: cannot be read" in err
    first, *rows = [line.split() for line in out.splitlines()]
    assert first == ["a.png", "b.png", "c.png"] and [row[0] for row in rows] == first and rows[0][1] == "1.00"
    figure = tmp_path / "figure.png"
    for _ in range(2):  # the second figure replaces the first
        code, out, _ = compare(capsys, *sorted(pictures.glob("?.png")), "--texts", *TEXTS, "-o", figure)
        assert (code, out) == (0, "")
    with Image.open(figure) as image:
        assert image.width > 200


def test_thumbnails_keep_their_shape():
    pictures = [np.zeros((20, 60, 3), np.uint8), np.zeros((40, 20, 3), np.uint8), np.zeros((9, 9, 3), np.uint8)]
    (axes,) = similarity_matrix(pictures, TEXTS, np.eye(2, 3)).axes
    _, *thumbnails = axes.images
    assert axes.get_aspect() == 1
    for j, (picture, image) in enumerate(zip(pictures, thumbnails)):
        left, right, bottom, top = image.get_extent()
        height, width, _ = picture.shape
        assert (right - left) / (bottom - top) == pytest.approx(width / height)
        assert max(right - left, bottom - top) == pytest.approx(0.88)
        assert ((left + right) / 2, (bottom + top) / 2) == pytest.approx((j, -1.06))


def test_refusals(pictures, capsys):
    for arguments, message in [
        ([pictures / "none.png"], "none of the pictures can be read"),
        ([pictures / "a.png", "--texts", *map(str, range(41))], "more than 40 pictures or texts"),
        ([pictures / "a.png", "-o", pictures / "x.docx"], "is of no known format"),
    ]:
        code, out, err = compare(capsys, *arguments)
        assert (code, out) == (1, "") and message in err
    with pytest.raises(SystemExit):
        compare(capsys, "--texts", "a", pictures / "a.png")
    assert "write the pictures before --texts" in capsys.readouterr().err
