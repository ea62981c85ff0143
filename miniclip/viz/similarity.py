"""How similar each of several pictures is to each of several texts."""

import matplotlib.pyplot as plt
import numpy as np

from miniclip.viz.style import styled


@styled
def similarity_matrix(pictures, captions, values, *, number="{:.2f}"):
    """Pictures across, captions down, and in each cell how similar the two are; returns a matplotlib Figure.

    pictures  n PIL images or arrays (height, width, 3) · captions  m texts · values (m, n), the darkest cell the
    largest · number  how a value is written
    """
    values = np.asarray(values)
    m, n = values.shape
    figure, axes = plt.subplots(figsize=(2.6 + 0.8 * n, 1 + 0.8 * m))
    axes.imshow(values, cmap="Blues", vmin=values.min(), vmax=values.max() * 1.15)
    middle = (values.min() + values.max()) / 2
    for i, j in np.ndindex(m, n):
        colour = "white" if values[i, j] > middle else "black"
        axes.text(j, i, number.format(values[i, j]).replace("-0.00", "0.00"), ha="center", va="center", color=colour)
    for j, picture in enumerate(pictures):
        axes.imshow(np.asarray(picture), extent=(j - 0.44, j + 0.44, -0.62, -1.5))
    axes.set(xlim=(-0.5, n - 0.5), ylim=(m - 0.5, -1.6), xticks=[], yticks=range(m), yticklabels=captions)
    axes.tick_params(length=0, labelsize=12)
    axes.spines[:].set_visible(False)
    return figure
