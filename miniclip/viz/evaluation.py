"""Figures of an evaluation: which classes are confused, and how far a confidence can be trusted."""

import matplotlib.pyplot as plt
import numpy as np

from miniclip.viz.style import BLUE, GREY, WIDTH, readable, styled

MOST = 20  # classes whose numbers can be read in a figure


def counts_matrix(ax, names, counts, truth):
    """Draw how often a class, down, is named as each class, across: the darker, the more errors.

    names N · counts (N, N) · truth  the name of the axis of the true classes
    """
    N, names = len(names), [*map(readable, names)]
    errors = np.where(np.eye(N, dtype=bool), 0, counts)
    ax.imshow(errors, cmap="Oranges", vmin=0, vmax=1.6 * max(errors.max(), 1))
    for i, j in np.ndindex(N, N):
        if counts[i, j]:
            ax.text(j, i, counts[i, j], ha="center", va="center", fontsize=12, color=GREY if i == j else "black")
    ax.set_xticks(range(N), names, rotation=45, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(N), names)
    ax.set(xlabel="named", ylabel=truth)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


@styled
def confusion(names, counts):
    """How often a class, down, is named as each class, across; of many classes those that are confused most often.

    names N · counts (N, N) integers, as `evaluate.metrics.confusion` has them
    """
    N, counts = len(names), np.asarray(counts)
    shown = most_confused(counts, MOST)  # n
    n = len(shown)
    side = 2.4 + 0.42 * n + 0.1 * max(len(names[i]) for i in shown)
    figure, ax = plt.subplots(figsize=(side, side))
    counts_matrix(ax, [names[i] for i in shown], counts[np.ix_(shown, shown)], "the class")
    if n < N:
        ax.set_title(f"the most confused,\n{n} of {N:,} classes")
    return figure


def most_confused(counts, most):
    """The numbers of at most `most` classes, in order: those of the pairs of classes that are confused most often.

    Of more than `most` classes, those that are never confused are left out; if none is, these are the first ones.
    """
    N = len(counts)
    if most >= N:
        return list(range(N))
    errors = np.where(np.eye(N, dtype=bool), 0, counts)
    chosen = {}  # a set that keeps its order
    for place in np.argsort(-errors, axis=None, kind="stable"):
        i, j = divmod(int(place), N)
        if len(chosen) >= most or not errors[i, j]:
            break
        chosen |= {i: None, j: None}
    return sorted([*chosen][:most]) or list(range(most))


@styled
def reliability(bins, error):
    """Accuracy against confidence: bars on the diagonal are what a calibrated classifier has; below, how many answers.

    bins  `evaluate.metrics.Bins` · error  the expected calibration error, for the title
    """
    M = len(bins.count)
    edges, width = np.arange(M) / M, 1 / M
    figure, (ax, below) = plt.subplots(
        2, 1, figsize=(0.85 * WIDTH, 0.75 * WIDTH), sharex=True, gridspec_kw={"height_ratios": [4, 1]}
    )
    ax.plot([0, 1], [0, 1], color="black", linewidth=1.3, linestyle="--", label="calibrated")
    ax.bar(edges, bins.accuracy, width, align="edge", color=BLUE, edgecolor="white", label="this classifier")
    ax.plot(bins.confidence, bins.accuracy, "o", color="black", markersize=4, clip_on=False, label="mean confidence")
    ax.set(xlim=(0, 1), ylim=(0, 1), ylabel="right", title=f"calibration error {error:.1%}")
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))  # beside the bars: any of them may be high
    below.bar(edges, bins.count / bins.count.sum(), width, align="edge", color=GREY, edgecolor="white")
    below.set(xlabel="confidence: the probability of the answer", ylabel="answers")
    for axis in (ax.xaxis, ax.yaxis, below.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:.0%}")
    return figure
