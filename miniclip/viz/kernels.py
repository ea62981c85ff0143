"""Figures of kernels: lanes and masks, bytes moved, the online softmax, tiles."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Patch, Rectangle

from miniclip.viz.style import BLUE, GREY, ORANGE, RED, WIDTH, styled

LIGHT = "#d9d9d9"  # for masked lanes


@styled
def programs(mask):
    """Blocks as rows, one for each program, and their lanes as cells: some hold a number, the others are masked.

    mask (programs, lanes) bool
    """
    rows, lanes = mask.shape
    figure, ax = plt.subplots(figsize=(WIDTH, 1.3 + 0.5 * rows))
    for row, col in np.ndindex(rows, lanes):
        ax.add_patch(Rectangle((col, row + 0.1), 0.86, 0.8, color=BLUE if mask[row, col] else LIGHT, lw=0))
    ax.set(xlim=(0, lanes), ylim=(rows, 0))
    _lane_ticks(ax, lanes)
    ax.set_yticks(np.arange(rows) + 0.5, [f"program {row}" for row in range(rows)])
    ax.tick_params(left=False)
    ax.spines["left"].set_visible(False)
    handles = [Patch(color=BLUE, label="has a number"), Patch(color=LIGHT, label="masked: reads and writes nothing")]
    figure.legend(handles=handles, loc="outside upper center", ncols=2)
    return figure


def _lane_ticks(ax, lanes):
    ax.set_xticks([*range(0, lanes, 8), lanes - 1])
    ax.set_xlabel("lane")


@styled
def forgotten(loaded, D):
    """The lanes of a row after loading, and after the mean is subtracted from masked lanes too.

    loaded (lanes,), zeros from D on
    """
    lanes = len(loaded)
    mean = loaded[:D].mean()
    figure, axes = plt.subplots(2, 1, figsize=(WIDTH, 4.8), sharex=True)
    for ax, values, label in ((axes[0], loaded, "masked: 0"), (axes[1], loaded - mean, "masked: −μ")):
        ax.bar(range(lanes), values, 0.8, color=[BLUE] * D + [RED] * (lanes - D))
        ax.axvspan(D - 0.5, lanes - 0.4, color=LIGHT, alpha=0.5, lw=0, zorder=0)
        ax.axhline(0, color="black", lw=1)
        ax.set(xlim=(-0.6, lanes - 0.4), ylim=(values.min() - 0.3, values.max() + 1.6))
        ax.text((D + lanes - 1) / 2, values.max() + 1.4, label, ha="center", va="top")
    axes[0].plot([-0.5, D - 0.5], [mean, mean], color=ORANGE, label=f"mean μ = {mean:.2f}")
    axes[0].set_ylabel("loaded")
    axes[0].legend(loc="upper left")
    axes[1].set_ylabel("μ subtracted")
    _lane_ticks(axes[1], lanes)
    return figure


@styled
def lanes_and_bytes(values, D, cases, what, bandwidth):
    """Rows in lanes, masked from D on, one row for each program; and the bytes moved by several ways to compute them.

    values (R, lanes) · cases  name -> its operations, each (name, bytes read, bytes written) · what  the subject of
    the title · bandwidth in bytes/s
    """
    R, lanes = values.shape
    figure, (above, below) = plt.subplots(2, 1, figsize=(WIDTH, 5.8), height_ratios=[1, 1.1])
    above.imshow(values[:, :D], cmap="Blues", aspect="auto", extent=(-0.5, D - 0.5, R - 0.5, -0.5))
    masked = Rectangle((D - 0.5, -0.5), lanes - D, R, facecolor="white", edgecolor=LIGHT, hatch="///", lw=0)
    above.add_patch(masked)
    box = {"facecolor": "white", "edgecolor": "none"}
    above.text((D + lanes - 1) / 2, (R - 1) / 2, f"{lanes - D} masked", ha="center", va="center", bbox=box)
    above.set(xlim=(-0.5, lanes - 0.5), ylabel="row = program", yticks=[0, R - 1])
    above.set_title(f"rows of {D} numbers in blocks of {lanes} lanes", loc="left")
    _lane_ticks(above, lanes)
    longest = 0
    for place, steps in enumerate(cases.values()):
        end = 0
        for _, read, written in steps:
            for part, colour in ((read, BLUE), (written, ORANGE)):
                below.barh(place, part / 1e6, left=end / 1e6, color=colour, edgecolor="white", lw=1)
                end += part
        below.text(end / 1e6 + 12, place, f"{end / 1e6:,.0f} MB, {end / bandwidth * 1e6:.0f} µs", va="center")
        longest = max(longest, end)
    below.set_yticks(range(len(cases)), cases)
    below.set(ylim=(len(cases) - 0.5, -0.5), xlim=(0, 1.35 * longest / 1e6), xlabel="MB moved")
    below.set_title(f"{what}: bytes moved, and the least time at {bandwidth / 1e12:g} TB/s", loc="left")
    below.legend(handles=[Patch(color=BLUE, label="read"), Patch(color=ORANGE, label="written")], loc="lower right")
    return figure


def _running(above, below, tiles, largest, total):
    """Draw scores and their running maximum on one axis, the running sum on the other; arguments as in `running`."""
    n = len(largest)
    above.plot(*zip(*[(i, s) for i, tile in enumerate(tiles) for s in tile]), "o", color=GREY, ms=4, label="scores s")
    above.step(np.arange(n + 1) - 0.5, [*largest, largest[-1]], where="post", color=RED, label="maximum m")
    before = np.r_[0, total[:-1]]
    carried = before * np.exp(np.r_[-np.inf, largest[:-1]] - largest)
    for i in range(1, n):
        if largest[i] > largest[i - 1]:
            top = max(before[i], total[i])
            if before[i] > total[i]:
                below.bar(i, top - total[i], 0.77, bottom=total[i], fill=False, edgecolor=GREY, ls="--", lw=1.2)
            factor = f"×{carried[i] / before[i]:.2f}"
            below.text(i, top + 0.02 * total.max(), factor, ha="center", va="bottom", fontsize=11)
    below.bar(range(n), carried, 0.8, color=BLUE, label="carried over")
    below.bar(range(n), total - carried, 0.8, bottom=carried, color=ORANGE, label="added")
    below.set(ylabel="sum l", ylim=(0, 1.4 * total.max()))
    above.set(ylabel="score", ylim=(None, largest[-1] + 2.4))
    for ax in (above, below):
        ax.legend(loc="upper left", ncols=2, borderaxespad=0)
        ax.set_xlim(-0.6, n - 0.4)
        ax.set_xticks(range(n))
    above.tick_params(labelbottom=False)


@styled
def running(tiles, largest, total):
    """Online softmax: each tile's scores and the maximum so far; the sum so far, its carried-over and its added part.

    tiles  n arrays of scores · largest, total (n,) the running maximum and sum after each tile. If the
    maximum rises, a label shows the factor of the old sum; a dashed outline shows the old sum if it was larger.
    """
    figure, axes = plt.subplots(2, 1, figsize=(WIDTH, 5))
    _running(*axes, tiles, largest, total)
    axes[1].set_xlabel("key")
    return figure


@styled
def tile_work(T, layouts):
    """The T x T scores that are needed, and the tiles that are computed for them.

    layouts  title -> (edges of the tiles of queries, edges of the tiles of keys)
    """
    figure, ax = plt.subplots(figsize=(WIDTH, 4.1))
    left = 0
    for title, (queries, keys) in layouts.items():
        ax.add_patch(Rectangle((left, 0), keys[-1], queries[-1], color=ORANGE, alpha=0.45, lw=0))
        ax.add_patch(Rectangle((left, 0), T, T, color=BLUE, lw=0))
        ax.hlines(queries, left, left + keys[-1], color="white", lw=1.5)
        ax.vlines(left + keys, 0, queries[-1], color="white", lw=1.5)
        ax.text(left + keys[-1] / 2, -8, f"{title}\n{queries[-1]} × {keys[-1]}", ha="center", va="bottom", fontsize=14)
        ax.text(left + T / 2, queries[-1] + 6, f"{T} keys", ha="center", va="top")
        left += keys[-1] + 50
    ax.text(-6, T / 2, f"{T} queries", rotation=90, ha="right", va="center")
    highest = max(queries[-1] for queries, _ in layouts.values())
    ax.set(xlim=(0, left - 50), ylim=(highest + 30, 0), aspect="equal")
    ax.set_axis_off()
    handles = [Patch(color=BLUE, label="needed"), Patch(color=ORANGE, alpha=0.45, label="computed and thrown away")]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


@styled
def running_and_memory(tiles, largest, total, lengths, held):
    """Left: online softmax by tiles of keys, as in `running`. Right: all scores of a head, and the numbers in tiles.

    tiles  n arrays of scores · largest, total (n,) · lengths  values of T to mark · held  numbers, the same for every T
    """
    figure, axes = plt.subplot_mosaic([["max", "memory"], ["sum", "memory"]], figsize=(WIDTH, 5.4))
    _running(axes["max"], axes["sum"], tiles, largest, total)
    axes["sum"].set_xlabel("tile of keys")
    ax = axes["memory"]
    T = np.geomspace(30, 1400)
    ax.plot(T, T**2, color=ORANGE, label="naive: T² scores")
    ax.axhline(held, color=BLUE, label="in tiles of 64 × 64")
    ax.plot(lengths, np.square(lengths), "o", color=ORANGE)
    for length in lengths:
        ax.annotate(f"T = {length}", (length, length**2), (8, -6), textcoords="offset points", va="top", fontsize=12)
    ax.set(xscale="log", yscale="log", xlim=(30, 1400), xlabel="tokens T", ylabel="numbers that a head holds")
    ax.set_xticks([50, 100, 200, 500], [50, 100, 200, 500])
    ax.minorticks_off()
    ax.legend(loc="upper left")
    return figure
