"""Figures of two losses: softmax and sigmoid, and what the sigmoid's bias does."""

import matplotlib.pyplot as plt
import numpy as np

from miniclip.ops import numpy_ops
from miniclip.viz.style import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, WIDTH, styled

PARTNERS, STRANGERS = BLUE, ORANGE  # a picture and its own text, a picture and another text


@styled
def one_pair(logits, losses, slopes):
    """The loss of one pair by its logit, and how fast the loss grows.

    logits n · losses, slopes {"partners" or "strangers": n numbers}
    """
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.8), sharex=True)
    for ax, curves, title in zip(axes, (losses, slopes), ("loss of one pair", "its slope: < 0 pulls, > 0 pushes")):
        for (name, line), colour in zip(curves.items(), (PARTNERS, STRANGERS)):
            ax.plot(logits, line, color=colour, label=name)
        ax.axvline(0, color=GREY, linewidth=1)
        ax.set(title=title, xlabel="logit", xlim=(logits[0], logits[-1]))
    axes[1].axhline(0, color=GREY, linewidth=1)
    axes[0].legend(loc="upper center")
    return figure


@styled
def knows_nothing(constants, curves, biases):
    """The loss of a batch whose logits are all equal, by that logit; a point at the lowest of each curve.

    constants n logits · curves {batch size: n losses} · biases: where trainings may begin, drawn as lines
    """
    figure, ax = plt.subplots(figsize=(WIDTH, 4.4))
    for (size, losses), colour in zip(curves.items(), (GREEN, BLUE, PURPLE)):
        lowest = int(np.argmin(losses))
        ax.plot(constants, losses, color=colour, label=f"N = {size:,}")
        ax.plot(constants[lowest], losses[lowest], "o", color=colour, markersize=9)
    for bias in biases:
        ax.axvline(bias, color="black", linewidth=1.3, linestyle="--")
        ax.annotate(
            f"b = {bias:.0f}", (bias, 1), (5, -4), xycoords=ax.get_xaxis_transform(), textcoords="offset points",
            va="top", fontsize=12,
        )  # fmt: skip
    ax.set(yscale="log", xlabel="the logit of every pair", ylabel="loss", xlim=(constants[0], constants[-1]))
    ax.legend(loc="upper left")
    return figure


@styled
def logits_of_pairs(panels):
    """The logits of partners and of strangers, and the sigmoid that makes probabilities of them, in two columns.

    panels {title: (logits of partners, logits of strangers)}, any numbers of each
    """
    values = np.concatenate([x for pair in panels.values() for x in pair])
    bins = np.arange(np.floor(values.min()) - 1, max(np.ceil(values.max()), 3) + 1.25, 0.5)
    rows = (len(panels) + 1) // 2
    figure, axes = plt.subplots(rows, 2, figsize=(WIDTH, 2.2 * rows + 0.8), sharex=True, sharey=True, squeeze=False)
    for ax, (title, pair) in zip(axes.flat, panels.items()):
        for x, colour, name in zip(pair, (PARTNERS, STRANGERS), ("partners", "strangers")):
            ax.hist(x, bins, weights=np.full(len(x), 100 / len(x)), color=colour, alpha=0.6, label=name)
        ax.plot(bins, 100 * numpy_ops.sigmoid(bins), color="black", linewidth=1.5, label="σ(logit)")
        ax.set(title=title, xlim=(bins[0], bins[-1]), ylim=(0, 104))
    for ax in axes[:, 0]:
        ax.set_ylabel("%")
    for ax in axes[-1]:
        ax.set_xlabel("logit")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


@styled
def first_steps(cosines, levels):
    """The mean cosine of partners and of strangers in the first steps of trainings, a panel for each.

    cosines {title: (n, 2) numbers, from before the first step on} · levels {title: a cosine that is known beforehand}
    """
    figure, axes = plt.subplots(1, len(cosines), figsize=(WIDTH, 3.6), sharex=True, sharey=True)
    for ax, (title, lines) in zip(np.atleast_1d(axes), cosines.items()):
        for line, colour, name in zip(np.transpose(lines), (PARTNERS, STRANGERS), ("partners", "strangers")):
            ax.plot(line, color=colour, label=name)
        ax.axhline(levels[title], color="black", linewidth=1.3, linestyle="--")
        ax.set(title=f"{title} (line at {levels[title]:.2f})", xlabel="step", xlim=(0, len(lines) - 1), ylim=(-1, 1))
    np.atleast_1d(axes)[0].set_ylabel("mean cosine")
    np.atleast_1d(axes)[0].legend(loc="upper left")
    return figure


@styled
def trainings(panels):
    """The share of right captions during trainings, in %, a panel for each batch size.

    panels {title: {training: {pictures shown: share}}}
    """
    figure, axes = plt.subplots(1, len(panels), figsize=(WIDTH, 3.9), sharex=True, sharey=True)
    for ax, (title, curves) in zip(np.atleast_1d(axes), panels.items()):
        for (name, found), colour in zip(curves.items(), (GREEN, BLUE, PURPLE, RED)):
            shown = np.array(list(found)) / 1000
            ax.plot(shown, 100 * np.array(list(found.values())), color=colour, label=name)
        ax.set(title=title, xlabel="pictures shown, in thousands", xlim=(0, None), ylim=(0, 100))
        ax.legend(loc="upper left")
    np.atleast_1d(axes)[0].set_ylabel("right captions, in %")
    return figure


@styled
def blocks(hops):
    """The table of logits, computed in blocks: devices hold its rows, and each hop brings them other columns.

    hops (D, D): the hop when a device, a row, computes its block with the texts of a device, a column
    """
    D = len(hops)
    figure, ax = plt.subplots(figsize=(0.62 * WIDTH, 0.5 * WIDTH))
    ax.imshow(hops, cmap="Blues", vmin=-0.5, vmax=1.6 * D)
    for i, j in np.ndindex(D, D):
        ax.text(j + 0.2, i - 0.25, f"hop {hops[i, j]}", ha="center", va="center", fontsize=12, color="black")
    ax.plot([-0.5, D - 0.5], [-0.5, D - 0.5], color=ORANGE)
    ax.set_title("the partners are on the line")
    ax.set_xticks(range(D), [f"texts {j}" for j in range(D)])
    ax.set_yticks(range(D), [f"device {i}: pictures {i}" for i in range(D)])
    ax.set_xticks(np.arange(D - 1) + 0.5, minor=True)
    ax.set_yticks(np.arange(D - 1) + 0.5, minor=True)
    ax.grid(which="minor", color="white", linewidth=3)
    ax.tick_params(which="both", length=0)
    ax.spines[:].set_visible(False)
    return figure


@styled
def shares_and_scores(pictures, titles, labels, probabilities):
    """Pictures, and under each the probability of every label by each model: bars of one colour a model.

    pictures, titles P · labels, P lists of n · probabilities {model: (P, n)}
    """
    P, n = len(pictures), len(labels[0])
    figure, axes = plt.subplots(2, P, figsize=(WIDTH, 2.4 + 0.5 * n), height_ratios=[1.6, 0.5 * n], squeeze=False)
    for p, (above, below) in enumerate(axes.T):
        above.imshow(pictures[p])
        above.set_title(titles[p])
        above.set(xticks=[], yticks=[])
        above.spines[:].set(visible=True, color=GREY)
        for m, ((name, rows), colour) in enumerate(zip(probabilities.items(), (GREEN, BLUE))):
            places = np.arange(n) + 0.4 * m
            below.barh(places, rows[p], height=0.38, color=colour, label=name)
            for place, x in zip(places, rows[p]):
                inside = x > 0.7
                below.text(
                    x - 0.03 if inside else x + 0.03, place, f"{x:.2f}", va="center", ha="right" if inside else "left",
                    fontsize=11, color="white" if inside else "black",
                )  # fmt: skip
        below.set(xlim=(0, 1.02), xlabel="probability")
        below.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        below.set_yticks(np.arange(n) + 0.2, labels[p])
        below.tick_params(axis="y", length=0)
        below.invert_yaxis()
    figure.legend(*below.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure
