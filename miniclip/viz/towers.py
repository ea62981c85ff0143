"""Figures of towers: their shapes, their parameters, their accuracy after each block, what they cost and reach."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import FancyArrowPatch, Rectangle

from miniclip.viz.style import BLUE, GREEN, GREY, ORANGE, WIDTH, styled

TINTS = ("#cfe0f3", "#f8ddc2")  # light blue and orange, under text


@styled
def early_reading(accuracy, blocks):
    """How often a tower is right if its class token is read after each half of each block.

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
    """Two towers side by side, from top to bottom: each stage is a box with the shape of its output.

    towers {title: [(stage, its output (B, ...), parameters), or None for no box]}, equally many for both · meeting
    (name, parameter) of the last box, (B, B). The coloured part of a box shows its parameters; the largest is full.
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


@styled
def comparison(towers, unscored):
    """Published accuracy against the operations for one picture; the area of a point shows its parameters.

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
        f"{name}\naccuracy not known", (x, 0.98), (7, 0), xycoords=("data", "axes fraction"),
        textcoords="offset points", va="top", fontsize=12, color=GREEN,
    )  # fmt: skip
    ax.set_xscale("log")
    ax.set_xticks([10, 20, 50, 100, 200, 500], [10, 20, 50, 100, 200, 500])
    ax.minorticks_off()
    ax.set(xlim=(5, 1100), ylim=(57.5, 79.5), yticks=range(60, 80, 5), xlabel="GFLOPs for one picture")
    ax.set_ylabel("zero-shot accuracy on ImageNet, top-1 in %")
    ax.legend(loc="lower right")
    return figure


BOX, HIGH = 0.94, 0.66  # width and height of a box; the distance of towers and of rows is 1


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
