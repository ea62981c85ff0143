"""Figures of contrastive learning: tables of logits, curves of the loss, results of a training."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle

from miniclip.viz.style import BLUE, GREEN, GREY, ORANGE, PURPLE, WIDTH, level_line, styled


@styled
def logits_and_gradient(names, logits, gradient):
    """A batch's logits and the gradient of the loss: blue entries should rise, red entries should fall.

    names N captions · logits, gradient (N, N): pictures down, texts across
    """
    N = len(names)
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 0.66 * N + 1.5), sharey=True)
    most = 100 * abs(gradient).max()
    panels = (
        ("logits", logits, "{:.1f}", {"cmap": "Blues", "vmin": logits.min(), "vmax": logits.max() * 1.15}),
        (
            "gradient, times 100",
            100 * gradient,
            "{:+.1f}",
            {"cmap": "RdBu_r", "vmin": -1.25 * most, "vmax": 1.25 * most},
        ),
    )
    for ax, (title, values, number, colours) in zip(axes, panels):
        shown = ax.imshow(values, aspect="auto", **colours)
        ax.set_title(title)
        for i, j in np.ndindex(N, N):
            *colour, _ = shown.cmap(shown.norm(values[i, j]))
            dark = np.dot(colour, (0.3, 0.6, 0.1)) < 0.5
            value = number.format(values[i, j]) if abs(values[i, j]) >= 0.05 else "0"
            ax.text(j, i, value, ha="center", va="center", fontsize=12, color="white" if dark else "black")
        ax.set_xticks(range(N), [f'"{name}"' for name in names], rotation=35, ha="right", rotation_mode="anchor")
        ax.set_yticks(range(N), [f"picture of {name}" for name in names])
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
    return figure


@styled
def loss_by_scale(scales, curves, knows_nothing):
    """The loss of a few batches against the scale of their logits.

    scales n · curves {batch: n losses} · knows_nothing the loss if all logits are equal
    """
    figure, ax = plt.subplots(figsize=(WIDTH, 3.8))
    for (name, losses), colour in zip(curves.items(), (GREEN, BLUE, ORANGE)):
        ax.plot(scales, losses, color=colour, label=name)
        lowest = int(np.argmin(losses))
        if losses[-1] > losses[lowest] + 0.01:  # it rises again
            ax.plot(scales[lowest], losses[lowest], "o", color=colour, markersize=9)
    level_line(ax, knows_nothing, "ln N")
    ax.set(xscale="log", xlim=(scales[0], scales[-1]), xlabel="scale", ylabel="loss", ylim=(0, 2 * knows_nothing))
    ax.set_xticks([0.1, 1, 10, 100], ["0.1", "1", "10", "100"])
    ax.legend(loc="upper left")
    return figure


@styled
def course(losses, smooth, levels, found, scales):
    """A training: the loss of each step and its running mean; the share of right answers; the learned scale.

    losses, smooth, scales n each · levels {what a model knows: its loss} · found {steps made: (colour, shape) shares}
    """
    figure, (above, middle, below) = plt.subplots(3, 1, figsize=(WIDTH, 7.6), sharex=True, height_ratios=[3, 1.7, 1.2])
    above.plot(losses, color=GREY, alpha=0.45, linewidth=0.8, label="each batch")
    above.plot(smooth, color=BLUE, linewidth=2.5, label="running mean")
    for name, level in levels.items():
        level_line(above, level, name)
    above.set(ylim=(0, 1.03 * max(losses)), xlim=(0, len(losses)), ylabel="loss")
    above.legend(loc="lower left")
    for name, shares, colour in zip(("colour", "shape"), zip(*found.values()), (GREEN, PURPLE)):
        middle.plot(list(found), 100 * np.array(shares), color=colour, label=name)
    middle.set(ylim=(0, 104), ylabel="right, in %")
    middle.legend(loc="lower right")
    below.plot(scales, color=ORANGE)
    below.set(xlabel="step", ylabel="scale")
    figure.align_ylabels()
    return figure


@styled
def accuracy_grids(colours, shapes, grids, outlined):
    """How often each pair of colour and shape is named correctly, in %, a grid for each model.

    colours C and shapes S names · grids {title: shares (C, S)} · outlined: (colour, shape) pairs to mark
    """
    C, S = len(colours), len(shapes)
    figure, axes = plt.subplots(1, len(grids), figsize=(WIDTH, 0.42 * C + 1.6), sharey=True)
    for ax, (title, shares) in zip(np.atleast_1d(axes), grids.items()):
        ax.imshow(shares, cmap="Blues", vmin=0, vmax=1.15, aspect="auto")
        ax.set_title(title)
        for i, j in np.ndindex(C, S):
            dark = shares[i, j] > 0.6
            ax.text(
                j, i, f"{100 * shares[i, j]:.0f}", ha="center", va="center", fontsize=12,
                color="white" if dark else "black",
            )  # fmt: skip
        for colour, shape in outlined:
            corner = shapes.index(shape) - 0.46, colours.index(colour) - 0.46
            ax.add_patch(Rectangle(corner, 0.92, 0.92, fill=False, edgecolor=ORANGE, linewidth=2.5))
        ax.set_xticks(range(S), shapes, rotation=45, ha="right", rotation_mode="anchor")
        ax.set_yticks(range(C), colours)
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
    return figure
