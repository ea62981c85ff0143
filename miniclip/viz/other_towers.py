"""Grids that are halved, grids that are pooled, and towers side by side."""

import matplotlib.pyplot as plt
import numpy as np

from miniclip.viz.style import BLUE, GREEN, ORANGE, WIDTH, styled


@styled
def shifted(rows, columns, names):
    """Grey pictures in a table of two rows, the second made from the picture shifted by one pixel.

    rows (2, 3) pictures (G, G) in 0..1, G a divisor of 288 · columns 3 titles · names 2 labels of the rows
    """
    figure = plt.figure(figsize=(WIDTH, 6.32), layout="none")
    for r, pictures in enumerate(rows):
        for c, picture in enumerate(pictures):
            # 288 dots a side: whole ones for each pixel, or the figure would alias by itself
            ax = figure.add_axes((0.05 + 0.315 * c, (312 - 304 * r) / 632, 288 / 960, 288 / 632))
            ax.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
            if r == 0:
                ax.set_title(columns[c])
            if c == 0:
                ax.set_ylabel(names[r])
    return figure


@styled
def pooled(picture, weights, colours, titles):
    """A picture, how much of each of its cells several poolings take, and the one colour that each of them gives.

    picture (height, width, 3) · weights n (G, G) · colours (n, 3) in 0..1 · titles n
    """
    n, G, side = len(titles), len(weights[0]), len(picture)
    figure, axes = plt.subplots(2, n + 1, figsize=(WIDTH, 3.2), height_ratios=[5, 1])
    axes[0, 0].imshow(picture)
    for cut in range(1, G):
        axes[0, 0].axhline(cut * side / G - 0.5, color="white", linewidth=0.8)
        axes[0, 0].axvline(cut * side / G - 0.5, color="white", linewidth=0.8)
    axes[0, 0].set_title(f"{G} x {G} cells")
    axes[1, 0].set_axis_off()
    axes[1, 0].text(1, 0.5, "what comes out", ha="right", va="center", transform=axes[1, 0].transAxes, fontsize=13)
    for (above, below), cells, colour, title in zip(axes[:, 1:].T, weights, colours, titles):
        above.imshow(cells, cmap="Blues", vmin=0, vmax=max(cells.max(), 0.1))
        flat = np.ptp(cells) < 1e-6
        y, x = (G // 2, G // 2) if flat else np.unravel_index(cells.argmax(), cells.shape)
        text = f"{cells.max():.2f} each" if flat else f"{cells.max():.2f}"
        above.text(x, y, text, ha="center", va="center", fontsize=11, color="black" if flat else "white")
        above.set_title(title)
        below.imshow([[colour]], aspect="auto")
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    return figure


@styled
def comparison(towers, unscored):
    """Published accuracy against the operations for one picture; the area of a point is that of its parameters.

    towers {family: [(name, GFLOPs, accuracy in percent, parameters), ...]}, the lower curve first · unscored (name,
    GFLOPs) of a tower whose accuracy is not known
    """
    figure, ax = plt.subplots(figsize=(WIDTH, 5.4))
    for (family, points), colour, below in zip(towers.items(), (BLUE, ORANGE), (True, False)):
        _, flops, accuracies, sizes = zip(*points)
        ax.plot(flops, accuracies, color=colour, label=family, zorder=1)
        ax.scatter(flops, accuracies, [size / 4e5 for size in sizes], color=colour, linewidth=0, zorder=2)
        for name, x, y, size in points:
            away = 0.8 * (size / 4e5 / 3.14) ** 0.5 + 2  # of a point's radius, in points
            ax.annotate(
                name, (x, y), (away, -away) if below else (-away, away), textcoords="offset points",
                ha="left" if below else "right", va="top" if below else "bottom", fontsize=12,
            )  # fmt: skip
    name, x = unscored
    ax.axvline(x, color=GREEN, linestyle="--", linewidth=1.5, zorder=0)
    ax.annotate(
        f"{name}\nno accuracy known to us", (x, 0.98), (7, 0), xycoords=("data", "axes fraction"),
        textcoords="offset points", va="top", fontsize=12, color=GREEN,
    )  # fmt: skip
    ax.set_xscale("log")
    ax.set_xticks([10, 20, 50, 100, 200, 500], [10, 20, 50, 100, 200, 500])
    ax.minorticks_off()
    ax.set(xlim=(5, 1100), ylim=(57.5, 79.5), yticks=range(60, 80, 5), xlabel="GFLOPs for one picture")
    ax.set_ylabel("zero-shot on ImageNet, top-1 in percent")
    ax.legend(loc="lower right")
    return figure
