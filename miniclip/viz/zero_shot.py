"""What labels make of a picture: probabilities against the scale, accuracy against the number of prompts."""

import matplotlib.pyplot as plt
import numpy as np

from miniclip.viz.style import BLUE, GREY, WIDTH, styled


@styled
def probabilities_by_scale(labels, probabilities, titles):
    """A panel of bars for each scale: the probability of every label, the largest one dark.

    labels N · probabilities (S, N), rows summing to one · titles S
    """
    S, N = np.shape(probabilities)
    figure, axes = plt.subplots(1, S, figsize=(WIDTH, 0.34 * N + 1.1), sharex=True, sharey=True)
    for ax, row, title in zip(axes, probabilities, titles):
        best = np.argmax(row)
        ax.barh(range(N), row, color=[BLUE if i == best else GREY for i in range(N)])
        for i, p in enumerate(row):
            inside = p > 0.6
            ax.text(
                p - 0.03 if inside else p + 0.03, i, f"{p:.3f}", va="center", ha="right" if inside else "left",
                fontsize=12, color="white" if inside else "black",
            )  # fmt: skip
        ax.set(xlim=(0, 1.02), title=title)
        ax.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        ax.set_yticks(range(N), labels)
        ax.tick_params(axis="y", length=0)
    axes[0].invert_yaxis()
    figure.supxlabel("probability", fontsize=13)
    return figure


@styled
def accuracy_by_prompts(numbers, curves, bare):
    """Accuracy against the number of prompts in the ensemble: means over choices, and in a band their spread.

    numbers n of prompts · curves {name: (means n, standard deviations n)} · bare the accuracy of the label alone
    """
    figure, ax = plt.subplots(figsize=(WIDTH, 4.4))
    for name, (mean, spread) in curves.items():
        mean, spread = np.asarray(mean), np.asarray(spread)
        (line,) = ax.plot(numbers[: len(mean)], mean, "o-", label=name)
        ax.fill_between(
            numbers[: len(mean)], mean - spread, mean + spread, color=line.get_color(), alpha=0.2, linewidth=0
        )
    ax.axhline(bare, color="black", linestyle="--", linewidth=1.5, label="the label alone", zorder=0)
    ax.set_xscale("log", base=2)
    ax.set_xticks(numbers, numbers)
    ax.set(xlabel="prompts in the ensemble", ylabel="accuracy among 80 labels")
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    ax.legend(loc="lower right")
    return figure
