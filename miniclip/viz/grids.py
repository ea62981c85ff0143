"""Figures of grids, halved or pooled."""

import matplotlib.pyplot as plt
import numpy as np

from miniclip.viz.style import WIDTH, styled


@styled
def shifted(rows, columns, names):
    """A table of grey pictures in two rows; the second row is made from the picture shifted by one pixel.

    rows (2, 3) pictures (G, G) in 0..1, G a divisor of 288 · columns 3 titles · names 2 labels of the rows
    """
    figure = plt.figure(figsize=(WIDTH, 6.32), layout="none")
    for r, pictures in enumerate(rows):
        for c, picture in enumerate(pictures):
            # 288 dots a side: a whole number for each pixel, otherwise the figure itself would show aliasing
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
    """A picture, the weights that several poolings give to its cells, and the colour that each pooling returns.

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
    axes[1, 0].text(1, 0.5, "result", ha="right", va="center", transform=axes[1, 0].transAxes, fontsize=13)
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
