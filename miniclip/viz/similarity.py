"""A figure of the similarity of pictures and texts."""

import textwrap

import matplotlib.pyplot as plt
import numpy as np

from miniclip.viz.style import GREY, readable, styled


@styled
def similarity_matrix(pictures, captions, values, *, number="{:.2f}"):
    """A table of similarities, pictures across and captions down; returns a matplotlib Figure.

    pictures  n PIL images or arrays (height, width, 3), shown whole · captions  m texts · values (m, n), the largest is
    the darkest cell · number  the format of a value
    """
    values = np.asarray(values)
    m, n = values.shape
    captions = [textwrap.fill(readable(caption), 40) for caption in captions]
    longest = max(len(line) for caption in captions for line in caption.split("\n"))
    figure, axes = plt.subplots(figsize=(max(2.6, 0.1 * longest) + 0.8 * n, 1 + 0.8 * m))
    cells = axes.imshow(values, cmap="Blues", vmin=values.min(), vmax=values.max() * 1.15)
    for i, j in np.ndindex(m, n):
        brightness = np.dot(cells.cmap(cells.norm(values[i, j]))[:3], (0.299, 0.587, 0.114))
        colour = "white" if brightness < 0.45 else "black"
        axes.text(j, i, number.format(values[i, j]).replace("-0.00", "0.00"), ha="center", va="center", color=colour)
    for j, picture in enumerate(pictures):
        picture = np.asarray(picture)
        height, width = 0.44 * np.array(picture.shape[:2]) / max(picture.shape[:2])  # half of what it has in the figure
        axes.imshow(picture, extent=(j - width, j + width, height - 1.06, -height - 1.06))
        frame = plt.Rectangle((j - width, -height - 1.06), 2 * width, 2 * height, fill=False, color=GREY, linewidth=0.8)
        axes.add_patch(frame)
    axes.set(xlim=(-0.5, n - 0.5), ylim=(m - 0.5, -1.6), xticks=[], yticks=range(m), yticklabels=captions)
    axes.tick_params(length=0, labelsize=12)
    axes.spines[:].set_visible(False)
    return figure
