"""What bounds the speed of operations: shares of a profile, and rooflines."""

import matplotlib.pyplot as plt
import numpy as np

from miniclip.viz.style import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, WIDTH, styled

MARKERS = "osD^vphX"
COLOURS = plt.cycler(color=[BLUE, ORANGE, GREEN, RED, PURPLE, "#7a5a3a", "#d96fae", "#1f9aa8"])


@styled
def profile(names, work, time, what):
    """Bars, two for each operation: its share of the FLOPs and of the time, 0 to 1.

    names (n,) · work, time (n,) · what  was profiled
    """
    places = np.arange(len(names))
    figure, ax = plt.subplots(figsize=(WIDTH, 1.2 + 0.62 * len(names)))
    for shift, share, colour, label in ((-0.2, work, GREY, "of the FLOPs"), (0.2, time, BLUE, "of the time")):
        ax.barh(places + shift, share, 0.38, color=colour, label=label)
        for place, value in zip(places, share):
            ax.text(value + 0.008, place + shift, f"{value:.1%}", va="center", fontsize=12)
    ax.set_yticks(places, names)
    ax.set(ylim=(len(names) - 0.5, -0.5), xlim=(0, 1.1 * max(*work, *time)), xlabel="share")
    ax.xaxis.set_major_formatter("{x:.0%}")
    ax.tick_params(left=False)
    ax.set_title(what, loc="left")
    ax.legend(loc="lower right", title="share", title_fontsize=12)
    return figure


@styled
def rooflines(panels):
    """A roofline for each device, one below the other; thin lines show what its points lack to the roof.

    panels [(title, stamp, peak, bandwidth, points)]: what the device is · what the measurement says of itself, or "" ·
    FLOP/s · bytes/s · points  name -> [(FLOPs per byte, FLOP/s)], or [(FLOPs per byte, FLOP/s, what to write at it)]
    """
    heights = [4.8 if len(points) == 1 else 6 for *_, points in panels]
    figure, axes = plt.subplots(len(panels), 1, figsize=(WIDTH, sum(heights)), height_ratios=heights, squeeze=False)
    for ax, panel in zip(axes[:, 0], panels):
        _roofline(ax, *panel)
    return figure


def _roofline(ax, title, stamp, peak, bandwidth, points):
    ridge = peak / bandwidth
    unit, name = (1e12, "T") if peak > 1e13 else (1e9, "G")
    everything = np.array([point[:2] for row in points.values() for point in row])  # (n, 2)
    low, high = min(everything[:, 0].min(), ridge) / 2.5, max(everything[:, 0].max(), ridge) * 2.5
    x = np.array([low, ridge, high])
    bottom = min(everything[:, 1].min(), bandwidth * low) / 2
    ax.plot(x, np.minimum(peak, bandwidth * x), color="black", lw=2.5, zorder=2)
    ax.axvline(ridge, color=GREY, lw=1, ls=":", zorder=1)
    for (what, row), marker, style in zip(points.items(), MARKERS, COLOURS):
        label = f"{what}: {_plot(ax, row, peak, bandwidth, marker, style['color'])}"
        ax.lines[-1].set_label(label)
    ax.set(xscale="log", yscale="log", xlim=(low, high), ylim=(bottom, peak * 3))
    ax.set(xlabel="arithmetic intensity, FLOPs per byte", ylabel=f"{name}FLOP/s")
    ax.yaxis.set_major_formatter(lambda rate, _: f"{rate / unit:,g}")
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter("")
    ax.text(high / 1.05, peak * 1.15, f"peak {peak / unit:.3g} {name}FLOP/s", ha="right", va="bottom")
    ax.text(low * 1.05, peak * 1.15, f"bandwidth {bandwidth / unit:.3g} {name}B/s", ha="left", va="bottom")
    right = ridge > np.sqrt(low * high)  # then there is more room on the left of it
    label, side = f" ridge {ridge:.3g} FLOPs per byte ", "right" if right else "left"
    ax.text(ridge, bottom * 1.15, label, ha=side, va="bottom", color="#555555")
    ax.set_title(title, loc="left", pad=6 + 14 * len(stamp.splitlines()))
    ax.annotate(stamp, (0, 1), (0, 4), "axes fraction", "offset points", va="bottom", fontsize=11, color="#555555")
    if len(points) > 1:
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=3, columnspacing=1.5)
        ax.get_legend().set_title("share of the roof", {"size": 12})


def _plot(ax, row, peak, bandwidth, marker, colour):
    """Points and what they lack to the roof; -> their shares of it, in words."""
    intensity, rate = np.array([point[:2] for point in row]).T  # (n,) each
    bound = np.minimum(peak, bandwidth * intensity)
    ax.vlines(intensity, rate, bound, color=colour, lw=0.8, alpha=0.6, zorder=1)
    ax.plot(intensity, rate, marker, color=colour, ms=8, mec="white", mew=0.8, zorder=3)
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1}
    for x, y, *text in row:
        if text:
            ax.annotate(text[0], (x, y), (9, 0), textcoords="offset points", va="center", fontsize=12, bbox=box)
    least, most = (f"{100 * share:.0f}" for share in (min(rate / bound), max(rate / bound)))
    return f"{least}%" if least == most else f"{least}–{most}%"
