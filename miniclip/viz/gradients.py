"""Figures of backpropagation: the check of a gradient, what a layer norm removes, the same training twice."""

import matplotlib.pyplot as plt
import numpy as np

from miniclip.viz.style import BLUE, GREEN, GREY, ORANGE, WIDTH, level_line, styled


@styled
def gradient_check(steps, errors, *, limit):
    """How far finite differences are from the formula, by the size of their step.

    steps n · errors {method: n relative errors} · limit: the error that a check allows
    """
    figure, ax = plt.subplots(figsize=(WIDTH, 4.2))
    for (name, error), colour in zip(errors.items(), (BLUE, GREEN, ORANGE)):
        lowest = int(np.argmin(error))
        ax.plot(steps, error, color=colour, label=name)
        ax.plot(steps[lowest], error[lowest], "o", color=colour, markersize=9)
    level_line(ax, limit, "limit of our checks", under=True)
    ax.set(xscale="log", yscale="log", xlim=(steps[0], steps[-1]), xlabel="step h", ylabel="relative error")
    ax.legend(loc="lower left")
    return figure


@styled
def what_a_norm_removes(x_hat, down, left):
    """Layer norm of three numbers: where the loss falls at x̂, and the part that is left for x.

    x_hat, down, left (n, 3): n normalised vectors, at each the direction of fastest descent before and after the norm
    """
    basis = np.array([[1, -1, 0], [1, 1, -2], [1, 1, 1]]) / np.sqrt([[2], [6], [3]])  # two in the plane, one along 1
    at, before, after = (x @ basis.T for x in (x_hat, down, left))  # (n, 3) each
    flat = before * [1, 1, 0]
    figure, (side, top) = plt.subplots(1, 2, figsize=(WIDTH, 4.8), sharex=True, sharey=True)
    some = np.argsort(at[:, 0])[::3]  # from the side, arrows of neighbours would cover each other
    panels = (
        (side, 2, at[some], before[some], flat[some], "from the side: the part along 1 goes", "along (1, 1, 1)"),
        (top, 1, at, flat, after, "from above: the part along x̂ goes", "another direction of the plane"),
    )
    for ax, height, place, grey, blue, title, label in panels:
        for arrows, colour, width, text in ((grey, GREY, 0.006, "before"), (blue, BLUE, 0.01, "after")):
            ax.quiver(
                place[:, 0], place[:, height], arrows[:, 0], arrows[:, height], color=colour, width=width,
                angles="xy", scale_units="xy", scale=1, label=text, zorder=2,
            )  # fmt: skip
        ax.plot(place[:, 0], place[:, height], "o", color=ORANGE, markersize=7, zorder=3, label="x̂")
        ax.set(title=title, xlabel="one direction of the plane", ylabel=label, aspect="equal")
        ax.legend(loc="lower center", ncol=3, columnspacing=1, handlelength=1.2)
    turn = np.linspace(0, 2 * np.pi, 200)
    top.plot(np.sqrt(3) * np.cos(turn), np.sqrt(3) * np.sin(turn), color=ORANGE, linewidth=1, zorder=1)
    side.plot(np.sqrt([3, 3]) * [-1, 1], [0, 0], color=ORANGE, linewidth=1, zorder=1)
    side.set(xlim=(-2.9, 2.9), ylim=(-3.0, 2.4))
    return figure


@styled
def same_training(curves, levels):
    """Two trainings from the same start with the same batches: their losses, and how far they are apart.

    curves {name: n losses}, two of them · levels {what a model knows: its loss}
    """
    (first, ours), (second, theirs) = ((name, np.array(losses)) for name, losses in curves.items())
    steps = np.arange(1, len(ours) + 1)
    figure, (above, below) = plt.subplots(2, 1, figsize=(WIDTH, 6.2), sharex=True, height_ratios=[2, 1])
    above.plot(steps, ours, color=ORANGE, linewidth=5, alpha=0.55, label=first)
    above.plot(steps, theirs, color=BLUE, linewidth=1.3, label=second)
    for name, level in levels.items():
        level_line(above, level, name, under=True)
    above.set(ylabel="loss", xlim=(0, len(ours)), ylim=(0, None))
    above.legend(loc="lower left")
    gap = np.abs(ours - theirs)
    below.plot(steps, np.where(gap > 0, gap, np.nan), ".", color=GREEN)
    below.set(yscale="log", xlabel="step", ylabel="difference", ylim=(gap[gap > 0].min() / 30, 30 * gap.max()))
    figure.align_ylabels()
    return figure
