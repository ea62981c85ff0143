"""Figures of a compiled kernel at work: its registers, what lanes exchange, who holds a matrix, what is under way."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import ListedColormap, PowerNorm
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from miniclip.viz.style import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, WIDTH, styled

KINDS = {"%rd": (ORANGE, "an address, 64 bits"), "%r": (BLUE, "a number, 32 bits"), "%p": (GREY, "a predicate")}
MARKS = {  # {what an opcode begins with: (marker, colour, label)}
    "ld.global": ("v", GREEN, "load"),
    "st.global": ("^", RED, "store"),
    "ld.shared": (".", PURPLE, "shared memory"),
    "st.shared": (".", PURPLE, "shared memory"),
}


@styled
def lifetimes(spans, alive, opcodes):
    """When each register of a kernel is in use, how many are at once, and where memory is touched.

    spans  {register: (the instruction that writes it, the last one that reads it)} · alive (n,) registers of 32 bits in
    use after each instruction · opcodes (n,) of the instructions; barriers are dashed lines
    """
    figure, (above, below) = plt.subplots(2, 1, figsize=(WIDTH, 6), sharex=True, height_ratios=[2.2, 1])
    for row, (name, (first, last)) in enumerate(spans.items()):
        above.plot([first, last + 0.2], [row, row], color=KINDS[name.rstrip("0123456789")][0], lw=2.2)
    above.set(ylim=(len(spans) + 2, -8), ylabel="registers of the PTX")
    for place, opcode in enumerate(opcodes):
        for beginning, (marker, colour, _) in MARKS.items():
            if opcode.startswith(beginning):
                above.plot(place, -4, marker=marker, color=colour, ms=9)
        if opcode.startswith("bar.sync"):
            for ax in (above, below):
                ax.axvline(place, color=GREY, lw=1, ls=":")
    lines = [Line2D([], [], color=colour, label=label) for colour, label in KINDS.values()]
    marks = {label: Line2D([], [], color=c, marker=m, ls="", ms=9, label=label) for m, c, label in MARKS.values()}
    barrier = Line2D([], [], color=GREY, lw=1, ls=":", label="barrier")
    figure.legend(handles=[*lines, *marks.values(), barrier], loc="outside upper center", ncols=4)
    below.fill_between(range(len(alive)), alive, step="mid", color=BLUE, alpha=0.4, lw=0)
    below.set(xlim=(-1, len(alive)), ylim=(0, None), xlabel="instruction", ylabel="in use at once")
    return figure


@styled
def butterfly(values, distances):
    """What the lanes of a warp hold while they add up: a row before each exchange, and one after the last. At the right
    the number in lane 0, and how many different numbers there are.

    values (steps + 1, 32) · distances (steps,) in each of them, lane i takes the number of lane i ^ distance
    """
    figure, ax = plt.subplots(figsize=(WIDTH, 4.6))
    lanes = values.shape[1]
    for step, distance in enumerate(distances):
        for lane in range(lanes):
            ax.plot([lane, lane ^ distance], [step, step + 1], color=GREY, lw=0.6, zorder=1)
            ax.plot([lane, lane], [step, step + 1], color=GREY, lw=0.6, zorder=1)
    steps, columns = np.indices(values.shape)
    norm = PowerNorm(0.4, min(0, values.min()), values.max())  # else all but the last sums are dark
    dots = ax.scatter(columns, steps, c=values, cmap="viridis", norm=norm, s=150, zorder=2, edgecolor="white", lw=0.8)
    for step, row in enumerate(values):
        ax.text(lanes + 0.1, step, f"{row[0]:.1f}", va="center")
        ax.text(lanes + 3.1, step, f"{len(np.unique(row))}", va="center")
    ax.text(lanes + 0.1, -0.75, "lane 0", va="center", fontsize=11)
    ax.text(lanes + 3.1, -0.75, "different", va="center", fontsize=11)
    names = ["loaded", *(f"+ lane ^ {distance}" for distance in distances)]
    ax.set_yticks(range(len(values)), names)
    ax.set(
        xlim=(-0.8, lanes + 6.5), ylim=(len(values) - 0.5, -1.1), xlabel="lane", xticks=[*range(0, lanes, 4), lanes - 1]
    )
    figure.colorbar(dots, ax=ax, label="what the lane holds", pad=0.01)
    return figure


@styled
def fragments(matrices):
    """Which lane holds each number of the matrices of a product. {title: (rows, columns) of lanes}"""
    sizes = [lanes.shape[1] for lanes in matrices.values()]
    figure, axes = plt.subplots(1, len(matrices), figsize=(WIDTH, 5.4), width_ratios=sizes)
    for ax, (title, lanes) in zip(axes, matrices.items()):
        ax.imshow(lanes, cmap="turbo", vmin=-4, vmax=35, alpha=0.75, aspect="auto")
        for row, column in np.ndindex(lanes.shape):
            ax.text(column, row, lanes[row, column], ha="center", va="center", fontsize=10.5)
        ax.set_title(f"{title}\n{lanes.shape[0]} × {lanes.shape[1]}", loc="left")
        ax.set(xticks=[], yticks=[])
    return figure


@styled
def banks(layouts, read):
    """Shared memory as rows of 128 bytes, in pieces of 16: which piece of a tile is where, and what one read touches.

    layouts  {title: (rows, 8), the column of the tile that each place holds} · read  the column that is read
    """
    figure, axes = plt.subplots(1, len(layouts), figsize=(WIDTH, 4.2))
    for ax, (title, columns) in zip(axes, layouts.items()):
        ax.imshow(columns == read, cmap=ListedColormap(["#dce6f1", ORANGE]), aspect="auto")
        for row, place in np.ndindex(columns.shape):
            ax.text(place, row, f"{row},{columns[row, place]}", ha="center", va="center", fontsize=11)
        times = (columns == read).sum(axis=0).max()
        ax.set_title(f"{title}: {times} {'turn' if times == 1 else 'turns'}", loc="left")
        ax.set_xticks(range(8), [f"{4 * place}-{4 * place + 3}" for place in range(8)], fontsize=10)
        ax.set(xlabel="banks", yticks=[])
    axes[0].set_ylabel("rows of 128 bytes")
    return figure


@styled
def under_way(kinds):
    """How many groups of asynchronous work a program has begun and not yet waited for, over its instructions.

    kinds  {name: (n,) after each instruction that the program executes}
    """
    figure, axes = plt.subplots(len(kinds), 1, figsize=(WIDTH, 4.2), sharex=True)
    for ax, (name, counts), colour in zip(axes, kinds.items(), (GREEN, ORANGE)):
        ax.fill_between(range(len(counts)), counts, step="post", color=colour, alpha=0.6, lw=0)
        ax.set(ylim=(0, max(counts) + 0.6), xlim=(0, len(counts)), yticks=range(max(counts) + 1))
        ax.set_title(name, loc="left")
    axes[-1].set_xlabel("instructions executed")
    return figure


@styled
def costs(rows, needed):
    """What versions of a kernel issue, and the model's time.

    rows  {version: (instructions issued for a row, µs by the model of each GPU {name: µs})} · needed  {GPU: the µs that
    memory takes}
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.6), sharey=True)
    left.barh(list(rows), [issued for issued, _ in rows.values()], color=BLUE)
    for place, (issued, _) in enumerate(rows.values()):
        left.text(issued, place, f" {issued:.0f}", va="center")
    left.set(xlim=(0, 1.2 * max(issued for issued, _ in rows.values())), xlabel="instructions issued for a row")
    left.set_ylim(len(rows) - 0.5, -0.5)
    for i, (name, colour) in enumerate(zip(needed, (ORANGE, GREEN))):
        places = np.arange(len(rows)) + (i - 0.5) * 0.38
        right.barh(places, [times[name] for _, times in rows.values()], 0.36, color=colour)
        right.axvline(needed[name], color=colour, ls="--", lw=1.5)
    right.set(xlabel="µs by the model")
    handles = [Patch(color=colour, label=name) for name, colour in zip(needed, (ORANGE, GREEN))]
    handles.append(Line2D([], [], color=GREY, ls="--", lw=1.5, label="what memory takes"))
    figure.legend(handles=handles, loc="outside upper right", ncols=3)
    return figure
