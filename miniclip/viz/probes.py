"""Figures of probes and fine-tuning: scans with captions, confusions, few-shot curves, the line between two models."""

import textwrap

import matplotlib.pyplot as plt
import numpy as np

from miniclip.viz.evaluation import counts_matrix
from miniclip.viz.style import BLUE, GREEN, ORANGE, PURPLE, WIDTH, styled


@styled
def scans(pictures, titles, columns=5):
    """Small grey pictures with a title each, in rows of `columns`.

    pictures n arrays (height, width) uint8 · titles n
    """
    rows = -(-len(pictures) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(WIDTH, (WIDTH / columns + 0.5) * rows), squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, picture, title in zip(axes.flat, pictures, titles):
        ax.imshow(picture, cmap="gray", vmin=0, vmax=255)
        ax.set_title(textwrap.fill(str(title), 18), fontsize=12)
    return figure


@styled
def confusion(names, counts, wrong, titles):
    """How often a class, down, is given each name, across; beside it pictures with a wrong name.

    names N · counts (N, N) · wrong up to 6 arrays (height, width) uint8 · titles of these pictures
    """
    figure = plt.figure(figsize=(WIDTH, 5.6))
    left, right = figure.subfigures(1, 2, width_ratios=[5.2, 4.4])
    counts_matrix(left.subplots(), names, counts, "the digit")
    for ax in (axes := right.subplots(3, 2)).flat:
        ax.set_axis_off()
    for ax, picture, title in zip(axes.flat, wrong, titles):
        ax.imshow(picture, cmap="gray", vmin=0, vmax=255)
        ax.set_title(title, fontsize=12)
    return figure


@styled
def few_shot(shots, curves, levels):
    """Accuracy against the number of labelled pictures of each class: a mean, and a band of the standard deviation.

    shots n · curves {name: (means n, standard deviations n)} · levels {what needs no labelled picture: its accuracy}
    """
    figure, ax = plt.subplots(figsize=(WIDTH, 4.8))
    for (name, (mean, spread)), colour in zip(curves.items(), (BLUE, GREEN, ORANGE)):
        mean, spread = 100 * np.asarray(mean), 100 * np.asarray(spread)
        ax.plot(shots, mean, "o-", color=colour, label=name)
        ax.fill_between(shots, mean - spread, mean + spread, color=colour, alpha=0.2, linewidth=0)
    for name, level in levels.items():
        ax.axhline(100 * level, color="black", linestyle="--", linewidth=1.5, label=name, zorder=0)
    ax.set_xscale("log", base=2)
    ax.set_xticks(shots, shots)
    ax.set(xlabel="labelled scans of each digit", ylabel="right, in %")
    ax.legend(loc="lower right")
    return figure


@styled
def between(alphas, curves, names):
    """Two accuracies on the line from one model, alpha = 0, to another, alpha = 1.

    alphas n · curves {task: n accuracies} · names of the two models
    """
    figure, ax = plt.subplots(figsize=(WIDTH, 4.2))
    for (task, values), colour in zip(curves.items(), (BLUE, ORANGE, PURPLE)):
        ax.plot(alphas, 100 * np.asarray(values), "o-", color=colour, label=task)
    ax.set(xlim=(-0.02, 1.02), ylim=(0, 104), xlabel="alpha", ylabel="right, in %")
    ax.set_xticks([0, 0.25, 0.5, 0.75, 1], [f"0\n{names[0]}", "0.25", "0.5", "0.75", f"1\n{names[1]}"])
    ax.legend(loc="center left")
    return figure
