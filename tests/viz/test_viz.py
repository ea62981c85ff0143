"""Figures hold what they were given."""

import matplotlib
import numpy as np
import pytest
from checkout import ROOT
from PIL import Image

matplotlib.use("Agg")

from miniclip.viz import gradients, machine, probes, relevance, similarity_matrix, style


def test_a_similarity_matrix_shows_every_picture_caption_and_value(tmp_path):
    values = np.array([[0.9, 0.1, 0.25], [0.2, 0.8, 0.31]])
    pictures = [Image.new("RGB", (20, 20), colour) for colour in ("red", "green", "blue")]
    figure = similarity_matrix(pictures, ["first", "second"], values)
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts] == ["0.90", "0.10", "0.25", "0.20", "0.80", "0.31"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["first", "second"]
    matrix, *thumbnails = axes.images
    np.testing.assert_array_equal(matrix.get_array(), values)
    assert [tuple(image.get_array()[0, 0]) for image in thumbnails] == [(255, 0, 0), (0, 128, 0), (0, 0, 255)]
    figure.savefig(tmp_path / "figure.png")
    with Image.open(tmp_path / "figure.png") as image:
        assert min(image.size) > 200


def test_pictures_of_a_machine_show_what_they_are_given():
    lanes = np.arange(128).reshape(16, 8) % 32
    for axes in machine.fragments({"A": lanes, "C": lanes}).axes:
        assert [text.get_text() for text in axes.texts] == [str(lane) for lane in lanes.ravel()]
    plain, moved = np.tile(np.arange(8), (8, 1)), np.arange(8) ^ np.arange(8)[:, None]
    left, right = machine.banks({"plain": plain, "moved": moved}, read=2).axes
    assert [ax.get_title(loc="left") for ax in (left, right)] == ["plain: 8 turns", "moved: 1 turn"]
    (axes, _) = machine.butterfly(np.array([[1.0, 2.0, 3.0, 4.0], [4.0, 6.0, 4.0, 6.0]]), [2]).axes
    assert [text.get_text() for text in axes.texts] == ["1.0", "4", "4.0", "2", "lane 0", "different"]


def test_pictures_of_gradients_show_what_they_are_given():
    curves = {"ours": [3.0, 2.0, 1.5], "theirs": [3.0, 2.5, 1.25]}
    above, below = gradients.same_training(curves, {"ln 6": 1.8}).axes
    assert [list(line.get_ydata()) for line in above.lines] == [*curves.values(), [1.8, 1.8]]
    assert above.texts[0].get_text() == "ln 6"
    np.testing.assert_array_equal(below.lines[0].get_ydata(), [np.nan, 0.5, 0.25])  # no point where they are equal

    x_hat, down = (
        np.sqrt(1.5) * np.array([[1.0, -1, 0], [-1, 1, 0], [1, 0, -1], [-1, 0, 1]]),
        np.tile([1.0, 1, 1], (4, 1)),
    )
    left = np.tile([1.0, 1, -2], (4, 1)) / np.sqrt(6)
    side, above = gradients.what_a_norm_removes(x_hat, down, left).axes
    before, after = side.collections
    np.testing.assert_allclose(before.V, np.sqrt([3, 3]))  # all of it is along (1, 1, 1)
    np.testing.assert_allclose([after.U, after.V], np.zeros((2, 2)), atol=1e-15)
    before, after = above.collections
    np.testing.assert_allclose([before.U, before.V], np.zeros((2, 4)), atol=1e-15)
    np.testing.assert_allclose([after.U, after.V], [np.zeros(4), np.ones(4)], atol=1e-15)

    (axes,) = gradients.gradient_check(np.array([0.1, 1, 10]), {"float64": np.array([3, 1, 2])}, limit=0.5).axes
    curve, lowest, level = axes.lines
    assert [list(line.get_ydata()) for line in (curve, lowest, level)] == [[3, 1, 2], [1], [0.5, 0.5]]


def test_a_confusion_matrix_shows_counts_and_the_pictures_that_were_wrong():
    pictures = np.arange(2 * 64, dtype=np.uint8).reshape(2, 8, 8)
    table, *beside = probes.confusion(["a", "b"], np.array([[5, 2], [0, 7]]), pictures, ["0, named 1"] * 2).axes
    assert [text.get_text() for text in table.texts] == ["5", "2", "7"]
    np.testing.assert_array_equal(table.images[0].get_array(), [[0, 2], [0, 0]])
    assert [len(ax.images) for ax in beside] == [1, 1, 0, 0, 0, 0] and beside[1].get_title() == "0, named 1"
    np.testing.assert_array_equal(beside[1].images[0].get_array(), pictures[1])


def test_curves_of_probes_hold_percent():
    (axes,) = probes.few_shot([1, 2], {"probe": ([0.5, 0.75], [0.1, 0.05])}, {"zero-shot": 0.625}).axes
    curve, level = axes.lines
    assert curve.get_ydata().tolist() == [50, 75] and set(level.get_ydata()) == {62.5}
    (axes,) = probes.between([0, 1], {"old": [1, 0.5], "new": [0, 1]}, ("before", "after")).axes
    assert [line.get_ydata().tolist() for line in axes.lines] == [[100, 50], [0, 100]]


@pytest.mark.parametrize(("script", "said"), [("03_attention.py", "03_attention.md"), ("render.py", ""), ("", "")])
def test_a_tutorial_without_a_screen_says_where_its_pictures_are(script, said, capsys):
    style._say_where_pictures_are(ROOT / "tutorials" / script)
    assert said in (printed := capsys.readouterr().out) and bool(said) == bool(printed)


def test_an_explanation_shows_the_picture_the_patches_and_the_tokens():
    picture, patches = np.zeros((12, 24, 3)), np.array([[0.0, 1, 4], [0, 0, 0]])
    words = [("a", 0.0), ("cat", 2.0), *[("sat", 1.0)] * 20]
    left, middle, right = relevance.explanations(picture, [("cosine 0.30", words, patches)]).axes
    np.testing.assert_array_equal(left.images[0].get_array(), picture)
    pale, heat = middle.images
    assert pale.get_extent() == heat.get_extent() == [0, 3, 2, 0]
    np.testing.assert_allclose(heat.get_array()[..., 3], 0.85 * np.sqrt(patches / 4))  # how much of the red is seen
    assert right.get_title(loc="left") == "cosine 0.30"
    lines = right.artists[0].get_child().get_children()
    boxes = [text for line in lines for text in line.get_children()]
    assert [box.get_text() for box in boxes] == [word for word, _ in words] and len(lines) > 3
    grounds = [box._text.get_bbox_patch().get_facecolor() for box in boxes[:3]]
    assert grounds == [relevance.HEAT(0.8 * share) for share in (0, 1, 0.5)]


def test_heads_are_drawn_block_by_block():
    attention = np.random.default_rng(0).random((2, 3, 4, 5))
    (axes,) = relevance.heads(np.zeros((8, 10, 3)), attention).axes
    maps = axes.images[1::2]
    assert len(maps) == 6
    for image, values in zip(maps, attention.reshape(6, 4, 5)):
        np.testing.assert_allclose(image.get_array()[..., 3], 0.85 * np.sqrt(values / values.max()))
    assert maps[0].get_extent()[1] < maps[1].get_extent()[0] and maps[0].get_extent()[2] < maps[3].get_extent()[3]
    (axes,) = relevance.heads(np.zeros((8, 8, 3)), attention.reshape(1, 6, 4, 5).repeat(4, axis=1)).axes  # 24 heads
    corners = {tuple(image.get_extent()[::3]) for image in axes.images}
    assert len(corners) == 24 and len({y for _, y in corners}) == 2
    assert [label.get_text() for label in axes.get_yticklabels()] == ["0", "12"]
