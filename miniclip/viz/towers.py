"""Two towers: what goes through them, what they are made of, and how far they have come on the way."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import FancyArrowPatch, Rectangle

from miniclip.viz.style import BLUE, GREEN, GREY, ORANGE, WIDTH, styled

TINTS = ("#cfe0f3", "#f8ddc2")  # of blue and orange, to write on


@styled
def early_reading(accuracy, blocks):
    """How often a tower is right when its class token is read after each half of each block.

    accuracy {what: (2L + 1,) shares} · blocks L
    """
    figure, ax = plt.subplots(figsize=(WIDTH, 4.2))
    for (name, values), colour in zip(accuracy.items(), (ORANGE, GREEN, BLUE)):
        ax.plot(100 * np.asarray(values), "o-", color=colour, label=name)
    halves = [f"{half}\nblock {i}" for i in range(blocks) for half in ("attention", "mlp")]
    ax.set_xticks(range(2 * blocks + 1), ["input", *halves])
    ax.set(ylim=(0, 103), ylabel="right, in %")
    ax.legend(loc="upper left")
    return figure


@styled
def parameter_bars(parts, towers):
    """How many parameters each part of each tower has, in millions.

    parts {part: a count for each tower} · towers: their names
    """
    figure, ax = plt.subplots(figsize=(WIDTH, 0.72 * len(parts) + 0.7))
    thick = 0.8 / len(towers)
    for t, (tower, colour) in enumerate(zip(towers, (BLUE, ORANGE))):
        counts = [count[t] for count in parts.values()]
        places = np.arange(len(parts)) + (t - (len(towers) - 1) / 2) * thick
        bars = ax.barh(places, counts, 0.92 * thick, color=colour, label=tower)
        ax.bar_label(bars, map(_readable, counts), padding=5, fontsize=12)
    ax.set_yticks(range(len(parts)), parts)
    ax.invert_yaxis()
    ax.tick_params(length=0)
    ax.set_xticks([])
    ax.spines["bottom"].set_visible(False)
    ax.margins(x=0.15)
    ax.legend(loc="lower right")
    return figure


@styled
def flow(towers, meeting):
    """Two towers side by side, from top to bottom: each stage a box with the shape of what it gives.

    towers {title: [(stage, array (B, ...) that it gives, parameters), or None for none]}, equally many for both ·
    meeting (name, its one parameter) of what their features go into, (B, B). A box is coloured in by its parameters,
    the largest from end to end.
    """
    rows = max(map(len, towers.values()))
    most = max(stage[2] for stages in towers.values() for stage in stages if stage)
    total = sum(stage[2] for stages in towers.values() for stage in stages if stage) + 1
    figure, ax = plt.subplots(figsize=(WIDTH, 1.02 * (rows + 1.5)))
    for t, ((title, stages), colour, tint) in enumerate(zip(towers.items(), (BLUE, ORANGE), TINTS)):
        middle, above = t + BOX / 2, None
        ax.text(middle, -0.12, title, ha="center", va="bottom", fontsize=15)
        for row, stage in enumerate(stages):
            if stage is None:
                continue
            name, array, count = stage
            if above is not None:
                _arrow(ax, (middle, above), (middle, row))
            ax.add_patch(Rectangle((t, row), BOX * count / most, HIGH, facecolor=tint))
            _box(ax, t, row, name, array.shape[1:], _readable(count) if count else "no parameters", colour)
            above = row + HIGH
        _arrow(ax, (middle, above), (1 - (1 - BOX) / 2 + (t - 0.5) * 0.4, rows + 0.1))
    _box(ax, 0.5, rows + 0.1, meeting[0], ("B",), f"{meeting[1]}: 1 parameter; {total:,} in all", GREY)
    ax.set(xlim=(-0.02, 1 + BOX + 0.02), ylim=(rows + 0.8, -0.45))
    ax.set_axis_off()
    return figure


BOX, HIGH = 0.94, 0.66  # a box' width and height, where towers and rows are 1 apart


def _box(ax, left, top, name, shape, parameters, colour):
    ax.add_patch(Rectangle((left, top), BOX, HIGH, fill=False, edgecolor=colour, linewidth=1.8))
    ax.text(left + 0.025, top + 0.21, name, va="center", fontsize=13, weight="bold")
    shown = "(" + ", ".join(["B", *map(str, shape)]) + ")"
    ax.text(left + BOX - 0.025, top + 0.21, shown, ha="right", va="center", fontsize=13)
    ax.text(left + 0.025, top + 0.48, parameters, va="center", fontsize=12, color="#444444")


def _arrow(ax, start, end):
    ax.add_patch(
        FancyArrowPatch(
            start, end, arrowstyle="-|>", mutation_scale=14, color=GREY, shrinkA=1, shrinkB=1, linewidth=1.5
        )
    )


def _readable(count):
    return f"{count / 1e6:.1f} million" if count >= 1e5 else f"{count:,}"
