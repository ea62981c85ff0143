"""The one style of all figures, made to be read at half its size on a page 960 pixels wide."""

import functools

from miniclip.errors import InputError

try:
    import matplotlib.pyplot as plt
except ImportError as error:
    raise InputError(
        "figures need matplotlib: in the checkout, pip install -c constraints.txt -e '.[tutorials]'"
    ) from error

WIDTH = 9.6  # inches that a page has, at 100 dots each
BLUE, ORANGE, GREEN, RED, PURPLE, GREY = "#2f6db5", "#e07b1f", "#3b8f4a", "#c53a3a", "#7c56b0", "#8a8a8a"
STYLE = {
    "figure.dpi": 100,
    "figure.constrained_layout.use": True,
    "font.size": 13,
    "axes.titlesize": 14,
    "axes.labelsize": 13,
    "xtick.labelsize": 12,
    "ytick.labelsize": 12,
    "legend.fontsize": 12,
    "legend.frameon": False,
    "lines.linewidth": 2,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": plt.cycler(color=[BLUE, ORANGE, GREEN, RED, PURPLE, GREY]),
}


def styled(draw):
    """Of a function that returns a Figure: it is drawn in this style, whatever the style of others."""

    @functools.wraps(draw)
    def drawn(*arguments, **options):
        with plt.rc_context(STYLE):
            figure = draw(*arguments, **options)
            figure.draw_without_rendering()  # ticks take their style when they are first drawn
        return figure

    return drawn
