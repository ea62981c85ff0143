"""Figures of retrieval: recall against the number of answers looked at, and the best answers themselves."""

import matplotlib.pyplot as plt
import numpy as np

from miniclip.viz.style import BLUE, GREEN, GREY, RED, WIDTH, styled


@styled
def recall_curves(curves, answers):
    """Recall@k against k, and the line k / m of guessing among m answers.

    curves {name: recalls (K,) of k = 1, 2, ... K} · answers m
    """
    figure, ax = plt.subplots(figsize=(WIDTH, 4.2))
    for name, recalls in curves.items():
        ax.plot(range(1, len(recalls) + 1), recalls, "o-", label=name)
    k = np.arange(1, len(recalls) + 1)
    ax.plot(k, k / answers, "--", color=GREY, label=f"guessing, k / {answers}")
    ax.set(ylim=(0, 1.03), xlabel="k, answers looked at", ylabel="recall@k", xticks=k)
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    ax.legend(loc="center right")
    return figure


@styled
def ranked(queries, hits):
    """A contact sheet: a row for each query, the picture or text on the left, its hits from the best one on.

    queries n PIL images or texts · hits n lists of (PIL image, score, whether it is right, or None if nobody says)
    """
    n, most = len(queries), max(map(len, hits))
    figure, axes = plt.subplots(n, most + 1, figsize=(WIDTH, 1.75 * n), width_ratios=[1.6] + [1] * most, squeeze=False)
    for row, query, found in zip(axes, queries, hits):
        for ax in row:
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
        if isinstance(query, str):
            row[0].text(1, 0.5, query.replace(" | ", "\n"), ha="right", va="center", fontsize=13)
        else:
            row[0].imshow(np.asarray(query))
        for ax, (picture, score, right) in zip(row[1:], found):
            colour = {True: GREEN, False: RED, None: BLUE}[right]
            ax.imshow(np.asarray(picture))
            ax.spines[:].set(visible=True, color=colour, linewidth=3)
            ax.set_title(f"{score:.2f}", fontsize=12, color=colour)
    return figure
