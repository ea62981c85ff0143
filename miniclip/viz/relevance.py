"""Figures of what raises a score: the patches of a picture, the tokens of a text, and where each head looks."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.offsetbox import AnchoredOffsetbox, HPacker, TextArea, VPacker

from miniclip.viz.style import WIDTH, level_line, readable, styled

HEAT = plt.get_cmap("YlOrRd")
LINE = 30  # characters in a line of a caption, with the gaps between tokens
TINY = 1e-30  # so that nothing is divided by 0


@styled
def explanations(picture, found):
    """A picture, and for each text the patches and the tokens that raise its score: the more, the redder.

    picture (height, width, 3) in 0..1, what the model sees · found [(title, words, patches)] with words
    [(token, relevance)] and patches (rows, columns)
    """
    side = WIDTH / 3 * picture.shape[0] / picture.shape[1] + 0.1
    heights = [max(side, 0.4 * len(_lines(words)) + 0.5) for _, words, _ in found]
    figure = plt.figure(figsize=(WIDTH, sum(heights)))
    rows = figure.subplots(len(found), 3, height_ratios=heights, squeeze=False)
    for (left, middle, right), (title, words, patches) in zip(rows, found):
        left.imshow(picture)
        heat(middle, picture, patches)
        caption(right, words)
        right.set_title(title, loc="left")
    for ax in rows.flat:
        ax.set_axis_off()
    return figure


@styled
def heads(picture, attention):
    """Where each head looks, blocks down and heads across: picture as above, attention (L, H, rows, columns).

    The many heads of a single block, such as a ResNet's attention pool, are in several rows.
    """
    L, H, rows, columns = attention.shape
    wide = max(n for n in range(1, 13) if H % n == 0) if L == 1 else H  # maps in a row
    maps = attention.reshape(-1, wide, rows, columns)
    tall = picture.shape[0] / picture.shape[1]
    figure, ax = plt.subplots(figsize=(WIDTH, (WIDTH - 0.5) * tall * (len(maps) + 0.15) / max(wide, 4) + 0.3))
    down, across = 1.06 * rows, 1.06 * columns  # from one map to the next
    for i, j in np.ndindex(maps.shape[:2]):
        heat(ax, picture, maps[i, j], corner=(across * j, down * i))
    ax.set(xlim=(0, across * wide), ylim=(down * len(maps), 0), xlabel="head", ylabel="block")
    ax.set_xticks(across * np.arange(wide) + columns / 2, range(wide))
    ax.set_yticks(down * np.arange(len(maps)) + rows / 2, range(len(maps)))
    if wide < H:  # one block, whose heads are numbered row by row
        ax.set(xlabel="", ylabel="first head of the row", xticks=[])
        ax.set_yticklabels(range(0, H, wide))
    ax.xaxis.tick_top()
    ax.xaxis.set_label_position("top")
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return figure


def heat(ax, picture, patches, corner=(0, 0)):
    """Draw patches (rows, columns) over the picture in pale colours: the larger the number, the redder."""
    (rows, columns), (x, y) = patches.shape, corner
    place = (x, x + columns, y + rows, y)
    pale = 0.5 + 0.25 * (picture + picture.mean(axis=-1, keepdims=True))  # (height, width, 3)
    ax.imshow(pale, extent=place)
    share = patches / max(patches.max(), TINY)  # in 0..1
    colours = HEAT(share)  # (rows, columns, 4)
    colours[..., 3] = 0.85 * np.sqrt(share)
    ax.imshow(colours, extent=place, interpolation="nearest")


def caption(ax, words):
    """Write tokens [(token, relevance)] in lines: the more relevant, the redder their ground."""
    most = max([relevance for _, relevance in words], default=0)
    lines = []
    for line in _lines(words):
        texts = []
        for word, relevance in line:
            share = relevance / max(most, TINY)  # in 0..1
            colour = "white" if share > 0.7 else "black"
            box = {"facecolor": HEAT(0.8 * share), "edgecolor": "none", "pad": 2.5}
            texts.append(TextArea(readable(word), textprops={"color": colour, "bbox": box}))
        lines.append(HPacker(children=texts, pad=0, sep=9))
    ax.add_artist(AnchoredOffsetbox("upper left", child=VPacker(children=lines, pad=0, sep=12), frameon=False))


def _lines(words):
    """Tokens in lines of about LINE characters."""
    lines, length = [[]], 0
    for word, relevance in words:
        length += len(word) + 2
        if length > LINE and lines[-1]:
            lines, length = [*lines, []], len(word) + 2
        lines[-1].append((word, relevance))
    return lines


@styled
def deletion(counts, curves, whole):
    """A score against the number of patches that were deleted: the mean of many pictures, and its standard error.

    counts n numbers of patches · curves {name: (means n, errors n)} · whole the score of the whole pictures
    """
    figure, ax = plt.subplots(figsize=(WIDTH, 4.2))
    for name, (mean, error) in curves.items():
        (line,) = ax.plot(counts, mean, "o-", label=name)
        ax.fill_between(counts, mean - error, mean + error, color=line.get_color(), alpha=0.2, linewidth=0)
    level_line(ax, whole, "the whole picture", under=True)
    ax.set(xlabel="patches deleted", ylabel="cosine, mean", xticks=counts)
    ax.legend(loc=(0.62, 0.22))
    return figure
