"""Where attention looks."""

import matplotlib.pyplot as plt

from miniclip.viz.style import ORANGE, WIDTH, styled


@styled
def head_maps(weights, queries, keys, *, titles=None):
    """A heat map for each head: queries down, keys across, in each cell the share that the query takes of the key.

    weights (H, Tq, Tk), rows summing to one · queries Tq and keys Tk labels · titles H, else "head 0", ...
    """
    H, Tq, Tk = weights.shape
    columns = min(H, 2)
    rows = -(-H // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(WIDTH, (0.34 * Tq + 0.8) * rows), sharex=True, sharey=True, squeeze=False
    )
    for ax in axes.flat[H:]:
        ax.set_axis_off()
    for h, ax in enumerate(axes.flat[:H]):
        image = ax.imshow(weights[h], cmap="Blues", vmin=0, vmax=1, aspect="auto")
        ax.set_title(titles[h] if titles else f"head {h}")
        ax.set_xticks(range(Tk), keys, rotation=45, ha="right", rotation_mode="anchor")
        ax.set_yticks(range(Tq), queries)
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
        for i, j in zip(range(Tq), weights[h].argmax(-1)):
            ax.text(
                j, i, f"{weights[h, i, j]:.2f}", ha="center", va="center", fontsize=11,
                color="white" if weights[h, i, j] > 0.5 else "black",
            )  # fmt: skip
    figure.colorbar(image, ax=axes, fraction=0.03, label="share of the key")
    figure.supylabel("query: the token that looks")
    figure.supxlabel("key: the token that is looked at")
    return figure


@styled
def sharpness(widths, plain, scaled):
    """The largest weight that a query gives, against the width of its head, with and without the factor 1/√K.

    widths n head widths K · plain, scaled n means of the largest weight
    """
    figure, ax = plt.subplots(figsize=(WIDTH, 3.6))
    ax.plot(widths, plain, "o-", color=ORANGE, label="softmax(q·k)")
    ax.plot(widths, scaled, "o-", label="softmax(q·k / √K)")
    ax.set_xscale("log", base=2)
    ax.set_xticks(widths, widths)
    ax.set(ylim=(0, 1), xlabel="head width K", ylabel="largest weight, mean")
    ax.legend(loc="upper left")
    return figure
