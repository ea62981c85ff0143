"""Figures are written to new files and over older figures, and never over anything else."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from miniclip import InputError
from miniclip.viz import evaluation, relevance, saving, similarity_matrix


@pytest.mark.parametrize("ending", saving.KINDS)
def test_a_figure_is_replaced_and_no_other_file_is(tmp_path, ending):
    path = tmp_path / f"it{ending}"
    for _ in range(2):
        saving.check(path)
        saving.save(plt.figure(figsize=(1, 1)), path)
    if ending not in (".svg", ".pdf"):
        Image.new("RGB", (9, 9)).save(path)
        with pytest.raises(InputError, match="exists, and only a figure of miniclip would be replaced"):
            saving.check(path)


def test_two_figures_have_two_files(tmp_path):
    (tmp_path / "also").symlink_to(tmp_path)
    saving.check(tmp_path / "a.png", tmp_path / "b.png")
    with pytest.raises(InputError, match=r"a\.png: cannot have two figures"):
        saving.check(tmp_path / "a.png", tmp_path / "also" / "a.png")


@pytest.mark.parametrize("text", ["from $5 to $9", "$_^{ $", "", r"\$", "a file of \udcff.png"])
def test_texts_of_users_are_no_formulas_and_may_be_anything(tmp_path, text):
    shown = text.encode(errors="replace").decode()
    picture = np.zeros((4, 4, 3))
    figures = [
        similarity_matrix([picture], [text], [[1.0]]),
        evaluation.confusion([text, "other"], np.eye(2, dtype=int)),
        relevance.explanations(picture, [("title", [(text, 1.0)], np.ones((2, 2)))]),
    ]
    for figure in figures:
        saving.save(figure, tmp_path / "figure.svg")
        plt.close(figure)
    with plt.rc_context({"svg.fonttype": "none"}):
        figure = similarity_matrix([picture], [text], [[1.0]])
        saving.save(figure, tmp_path / "figure.svg")
        assert shown in (tmp_path / "figure.svg").read_text()
