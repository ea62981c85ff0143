"""The style of all figures, readable at half size on a page 960 pixels wide."""

import functools
import sys
from pathlib import Path

from miniclip.errors import InputError
from miniclip.runtime.installation import install

try:
    import matplotlib.pyplot as plt
except ImportError as error:
    raise InputError(f"figures need matplotlib: {install('figures')}") from error

WIDTH = 9.6  # inches, the width of a page at 100 dots an inch
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
    """Decorate a function that returns a Figure: it draws in this style, and does not change the style of others."""

    @functools.wraps(draw)
    def drawn(*arguments, **options):
        with plt.rc_context(STYLE):
            figure = draw(*arguments, **options)
            figure.draw_without_rendering()  # ticks get their style when they are first drawn
        return figure

    return drawn


def readable(text):
    """A user's text for a figure: "$" is no formula, and bytes of file names that are not Unicode are "?"."""
    return text.replace("$", r"\$").encode(errors="replace").decode()


def level_line(ax, level, name, *, under=False):
    """Draw a dashed line at a level of y that is known beforehand, with its name over or under it."""
    ax.axhline(level, color="black", linewidth=1.3, linestyle="--")
    ax.annotate(
        name, (1, level), (-4, -4 if under else 4), xycoords=ax.get_yaxis_transform(), textcoords="offset points",
        ha="right", va="top" if under else "bottom", fontsize=12,
    )  # fmt: skip


def _say_where_pictures_are(script):
    """Print where a tutorial's page is, if its script runs without a screen: there one sees only what it prints."""
    page = Path(script).parent / "rendered" / f"{Path(script).stem}.md"
    if page.is_file() and plt.get_backend().lower() == "agg":
        print(f"There is no screen for the pictures. Read {page}: it has them, and the text around these numbers.\n")


_say_where_pictures_are(getattr(sys.modules["__main__"], "__file__", None) or "")
