"""What happens in a block."""

import matplotlib.pyplot as plt
import numpy as np

from miniclip.viz.style import BLUE, GREY, ORANGE, WIDTH, styled


@styled
def stream_lengths(class_token, patches, normed):
    """How long tokens of the residual stream are, as they come in and after each half of each block.

    class_token, patches (2L + 1,) lengths · normed: the length that a layer norm without gain gives to all
    """
    steps = range(len(patches))
    halves = [f"{half}\nblock {i}" for i in range(len(patches) // 2) for half in ("attention", "mlp")]
    figure, ax = plt.subplots(figsize=(WIDTH, 4.2))
    ax.plot(steps, class_token, "o-", color=ORANGE, label="class token")
    ax.plot(steps, patches, "o-", label="patches, mean")
    ax.axhline(normed, color=GREY, linestyle="--", linewidth=1.5)
    ax.text(steps[-1], normed - 0.6, "what each half reads: √D", ha="right", va="top", color="#555555")
    ax.set_xticks(steps, ["input", *halves])
    ax.set(ylim=(0, None), ylabel="length in the stream")
    ax.legend(loc="upper left")
    return figure


@styled
def quick_gelu_at_work(x, gap, before, after, *, limit=4.5):
    """Three panels over one axis: how far quick-GELU is from GELU, and a model's numbers before and behind it.

    x, gap n points of the curve · before, after numbers of any shape · limit: the axis runs from -limit to limit
    """
    figure, (curve, above, below) = plt.subplots(3, 1, figsize=(WIDTH, 8.4), sharex=True)
    curve.axhline(0, color=GREY, linewidth=1)
    curve.plot(x, gap)
    largest = abs(x[np.abs(gap).argmax()])
    for at in (-largest, largest):
        value = np.interp(at, x, gap)
        curve.plot(at, value, "o", color=BLUE)
        label = f"{value:.4f} at {at:.2f}".replace("-", "−")
        curve.text(at, value - 0.002, label, ha="center", va="top")
    curve.set(title="quick-GELU less GELU", ylabel="gap", ylim=(-0.028, 0.012), yticks=(-0.02, -0.01, 0, 0.01))
    before, after = np.ravel(before), np.ravel(after)
    negative = before < 0
    bins = np.arange(-limit, limit + 0.05, 0.1)
    titles = ("hidden numbers before quick-GELU", "the same numbers after it")
    for ax, values, title in ((above, before, titles[0]), (below, after, titles[1])):
        parts = [values[negative], values[~negative]]
        weights = [np.full(part.size, 100 / values.size) for part in parts]
        labels = [
            f"{100 * part.size / values.size:.0f}% are {sign}" for part, sign in zip(parts, ("negative", "positive"))
        ]
        ax.hist(parts, bins, weights=weights, color=(ORANGE, BLUE), histtype="stepfilled", stacked=True, label=labels)
        ax.set(title=title, ylabel="% in each 0.1", xlim=(-limit, limit))
    above.legend(loc="upper right")
    below.set(xlabel="x")
    figure.align_ylabels()
    return figure
