"""`miniclip explain`, run as users run it."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, ImageDraw

from miniclip import explain, load
from miniclip.cli.explain import _show


def run(*arguments, cwd=None, **environment):
    command = [sys.executable, "-m", "miniclip", "explain", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env={**os.environ, **environment})


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    """A red disc on the right half of a picture that is not square; miniclip sees columns 40 to 200 of it."""
    path = tmp_path_factory.mktemp("picture") / "disc.png"
    image = Image.new("RGB", (240, 160), "white")
    ImageDraw.Draw(image).ellipse((120, 40, 190, 110), fill="red")
    image.save(path)
    return path


def test_json_has_the_librarys_numbers(picture):
    texts = ["a red circle", "a blue star"]
    done = run(picture, *texts, "--json", "--layers", 2)
    assert done.returncode == 0 and len(done.stderr.splitlines()) == 1 and "48 x 48 pixels" in done.stderr
    printed = json.loads(done.stdout)
    assert printed["image"] == str(picture) and [entry["text"] for entry in printed["texts"]] == texts
    model, preprocess = load("shapes", backend="numpy")
    found = explain.relevance(model, preprocess(str(picture)), model.tokenize(texts), layers=2)
    for i, entry in enumerate(printed["texts"]):
        np.testing.assert_allclose(entry["patches"], found.patches[i], rtol=1e-4, atol=1e-6)
        assert [x["token"] for x in entry["tokens"]] == texts[i].split()
        np.testing.assert_allclose(
            [x["relevance"] for x in entry["tokens"]], found.tokens[i, 1:4], rtol=1e-4, atol=1e-6
        )
        assert entry["cosine"] == pytest.approx(found.score[i] / np.exp(model.logit_scale), abs=1e-5)
    assert printed["texts"][0]["cosine"] > printed["texts"][1]["cosine"]


def test_a_text_shows_its_words_and_the_patches_on_the_object(picture):
    done = run(picture, "a red circle")
    name, text, *words_and_patches = done.stdout.splitlines()
    assert done.returncode == 0 and name == str(picture) and text.startswith("  'a red circle'  cosine 0.")
    words, patches = words_and_patches[:3], words_and_patches[3:]
    assert [line.split()[0] for line in words] == ["a", "red", "circle"] and "█" * 30 in "".join(words)
    assert len(patches) == 6 and all(len(row) == 4 + 2 * 6 for row in patches)
    dark = [(y, (x - 4) // 2) for y, row in enumerate(patches) for x, shade in enumerate(row) if shade in "▓█"]
    # the disc is in columns 80 to 150 of the 160 that the model sees, rows 40 to 110
    assert dark and all(40 // 27 <= y <= 110 // 26 and 80 // 27 <= x <= 150 // 26 for y, x in dark)


def test_figures_are_written_and_replaced(picture, tmp_path):
    for _ in range(2):
        done = run(picture, "a red circle", "a blue star", "-o", "map.png", "--heads", "heads.svg", cwd=tmp_path)
    assert done.returncode == 0 and "map.png is written" in done.stderr
    with Image.open(tmp_path / "map.png") as drawn:
        assert min(drawn.size) > 400 and len(drawn.convert("RGB").getcolors(1 << 24)) > 100
    assert "<svg" in (tmp_path / "heads.svg").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["heads.svg", "map.png"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none.png", "a circle"], "none.png: no such file"),
        (["{}", "a circle", "-o", "map.gif"], "map.gif: is of no known format: choose a name that ends in .png"),
        (["{}", "a circle", "-o", "none/map.png"], "none/map.png: cannot be written"),
        (["{}", "a circle", "--layers", "0"], "layers is 0, expected how many of the last layers count, 1 or more"),
        (["{}", "a circle", "--backend", "jax"], "the jax backend has no gradients: pass --backend numpy"),
    ],
)
def test_what_cannot_be_explained_is_one_line(arguments, said, picture, tmp_path):
    done = run(*(argument.format(picture) for argument in arguments), cwd=tmp_path)
    assert done.returncode == 1 and f"miniclip: {said}" in done.stderr.splitlines()[-1]
    assert not list(tmp_path.iterdir())


def test_without_matplotlib_it_says_what_to_install_and_numbers_are_there(picture, tmp_path):
    (tmp_path / "matplotlib.py").write_text("raise ImportError('not here')")
    done = run(picture, "a red circle", "-o", tmp_path / "map.png", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1 and "figures need matplotlib: " in done.stderr and len(done.stderr.splitlines()) == 1
    assert run(picture, "a red circle", PYTHONPATH=str(tmp_path)).returncode == 0


def test_a_map_without_relevance_is_said(capsys):
    _show("a cat", -0.1, [("a", 0.0), ("cat", 0.0)], np.zeros((7, 7)))
    assert capsys.readouterr().out.splitlines()[-2:] == ["    cat", "    no part of the picture raises the score"]


def test_words_that_the_built_in_model_never_saw_are_named(picture):
    done = run(picture, "a small dog on a circle")
    assert "never saw these words, so its answer says nothing about them: dog." in done.stderr
