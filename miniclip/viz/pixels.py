"""How a picture becomes tokens."""

import matplotlib.pyplot as plt
import numpy as np

from miniclip.viz.style import ORANGE, WIDTH, styled


@styled
def resampling(pictures):
    """Pictures side by side, pixel by pixel: {title: (height, width, 3) in 0..255}."""
    figure, axes = plt.subplots(1, len(pictures), figsize=(WIDTH, WIDTH / len(pictures) + 0.4))
    for ax, (title, pixels) in zip(axes, pictures.items()):
        ax.imshow(np.asarray(pixels).astype(np.uint8), interpolation="nearest" if len(pixels) < 100 else "antialiased")
        ax.set_title(title)
        ax.set_axis_off()
    return figure


@styled
def preprocessing(pixels, columns, image):
    """A picture with what is kept of it, and its three channels when all is done.

    pixels (height, width, 3) uint8 · columns (first, last + 1) of those that are kept · image (3, S, S), normalised
    """
    height, width, _ = pixels.shape
    figure, axes = plt.subplots(1, 4, figsize=(WIDTH, 2.5), width_ratios=[width / height, 1, 1, 1])
    axes[0].imshow(pixels)
    left, right = columns
    axes[0].add_patch(plt.Rectangle((left, 1), right - left - 1, height - 3, fill=False, edgecolor=ORANGE, linewidth=3))
    axes[0].set_title(f"{height} x {width} pixels")
    for ax, channel, name in zip(axes[1:], image, ("red", "green", "blue")):
        shown = ax.imshow(channel, cmap="RdBu_r", vmin=-2.2, vmax=2.2)
        ax.set_title(name)
    for ax in axes:
        ax.set_axis_off()
    figure.colorbar(shown, ax=axes, fraction=0.03, shrink=0.85, ticks=[-2, 0, 2], label="normalised")
    return figure


@styled
def grid_and_positions(image, P, similarities):
    """A picture cut into its patches, and for each position how alike it is to every other, as a map at its place.

    image (3, S, S), normalised · P pixels to a patch's side · similarities {title: (G·G, G·G) cosines}
    """
    G = image.shape[1] // P
    figure, axes = plt.subplots(1, 1 + len(similarities), figsize=(WIDTH, 4.3))
    shown = image.transpose(1, 2, 0)
    shown = (shown - shown.min()) / (shown.max() - shown.min())
    tiles = shown.reshape(G, P, G, P, 3).transpose(0, 2, 1, 3, 4)  # (G, G, P, P, 3)
    axes[0].imshow(_apart(tiles, 1))
    for i in range(G * G):
        y, x = divmod(i, G)
        place = (x * (P + 1) + (P - 1) / 2, y * (P + 1) + (P - 1) / 2)
        label = axes[0].text(*place, str(i + 1), ha="center", va="center", fontsize=12)
        label.set_bbox({"boxstyle": "round,pad=0.12", "facecolor": "white", "edgecolor": "none", "alpha": 0.7})
    axes[0].set_title(f"{G} x {G} patches")
    figure.get_layout_engine().set(wspace=0.06)
    for ax, (title, values) in zip(axes[1:], similarities.items()):
        lowest = min(values.min() for values in similarities.values())
        maps = ax.imshow(_apart(values.reshape(G, G, G, G), 1), cmap="viridis", vmin=lowest, vmax=1)
        ax.set_title(f"positions, {title}")
    for ax in axes:
        ax.set_axis_off()
    figure.colorbar(maps, ax=axes, location="bottom", shrink=0.5, aspect=30, label="cosine of two positions")
    return figure


def _apart(tiles, gap):
    """Tiles (rows, columns, height, width, ...) as one picture, NaN between them."""
    rows, columns, height, width, *rest = tiles.shape
    out = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, *rest), np.nan)
    for i in range(rows):
        for j in range(columns):
            y, x = i * (height + gap), j * (width + gap)
            out[y : y + height, x : x + width] = tiles[i, j]
    return out
