"""Figures of two losses hold what they were given."""

import matplotlib
import numpy as np
import pytest

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from miniclip.viz import losses


@pytest.fixture(autouse=True)
def closed():
    """pyplot warns of more than twenty open figures."""
    yield
    plt.close("all")


def heights(axes):
    """What the lines of axes show, without those drawn across them."""
    return [np.asarray(line.get_ydata()).tolist() for line in axes.lines if len(line.get_ydata()) > 2]


def test_curves_of_losses_show_what_they_are_given():
    curves = {"partners": [3.0, 1, 0.5], "strangers": [0.5, 1, 3]}
    slopes = {"partners": [-1.0, -0.5, 0], "strangers": [0.0, 0.5, 1]}
    left, right = losses.one_pair([-1, 0, 1], curves, slopes).axes
    assert heights(left) == [*curves.values()] and heights(right) == [*slopes.values()]

    (axes,) = losses.knows_nothing([-12, -4, 2], {60: [6.0, 5, 7], 1024: [9.0, 10, 11]}, [-10, 0]).axes
    assert heights(axes) == [[6, 5, 7], [9, 10, 11]]
    assert [line.get_xydata().tolist() for line in axes.lines if len(line.get_ydata()) == 1] == [[[-4, 5]], [[-12, 9]]]
    assert [text.get_text() for text in axes.texts] == ["b = -10", "b = 0"]


def test_pictures_of_trainings_show_what_they_are_given():
    cosines = {"b = 0": np.array([[0.0, 0.1], [0.25, -0.5], [0.5, -0.75]])}
    (axes,) = losses.first_steps(cosines, {"b = 0": -0.41}).axes
    assert heights(axes) == [[0, 0.25, 0.5], [0.1, -0.5, -0.75]]
    assert axes.lines[-1].get_ydata() == [-0.41, -0.41] and axes.get_title() == "b = 0 (line at -0.41)"

    panels = {"batches of 60": {"softmax": {0: 0.0, 2000: 0.25, 4000: 0.5}}, "batches of 30": {"softmax": {0: 1.0}}}
    first, second = losses.trainings(panels).axes
    assert heights(first) == [[0, 25, 50]] and first.lines[0].get_xdata().tolist() == [0, 2, 4]
    assert second.lines[0].get_xydata().tolist() == [[0, 100]] and second.get_title() == "batches of 30"


def test_a_histogram_of_logits_shows_percent():
    axes, _ = losses.logits_of_pairs({"before": (np.array([-9.9]), np.array([-9.9, -9.8, -1.2, 2.1]))}).axes
    shares = [round(bar.get_height()) for bar in axes.patches if bar.get_height()]
    assert shares == [100, 50, 25, 25]  # the partner, then strangers from left to right
    (curve,) = axes.lines
    assert curve.get_ydata()[curve.get_xdata() == 0] == 50


def test_blocks_and_scores_show_every_number():
    hops = np.array([[0, 1], [1, 0]])
    (axes,) = losses.blocks(hops).axes
    assert [text.get_text() for text in axes.texts] == ["hop 0", "hop 1", "hop 1", "hop 0"]
    assert [label.get_text() for label in axes.get_yticklabels()][1] == "device 1: pictures 1"

    picture = np.zeros((4, 4, 3), np.uint8)
    rows = {"softmax": np.array([[0.75, 0.25]]), "sigmoid": np.array([[0.1, 0]])}
    above, below = losses.shares_and_scores([picture], ["a heart"], [["a heart", "a star"]], rows).axes
    np.testing.assert_array_equal(above.images[0].get_array(), picture)
    assert above.get_title() == "a heart" and [t.get_text() for t in below.get_yticklabels()] == ["a heart", "a star"]
    assert [bar.get_width() for bar in below.patches] == [0.75, 0.25, 0.1, 0]
    assert [text.get_text() for text in below.texts] == ["0.75", "0.25", "0.10", "0.00"]
