"""How a text becomes tokens."""

import itertools

import matplotlib.pyplot as plt

from miniclip.viz.style import BLUE, GREY, WIDTH, styled

END_OF_WORD = "</w>"
DARK = "#555555"  # of small print


@styled
def shrinking(per_word, merges, *, show=()):
    """How many symbols a word takes, against the number of merges that have been made.

    per_word n + 1 means, the first before any merge · merges n pairs · show numbers of merges at which the last one's
    symbol is written, e.g. [1, 20]
    """
    figure, ax = plt.subplots(figsize=(WIDTH, 3.8))
    ax.plot(per_word)
    for n in show:
        ax.plot(n, per_word[n], "o", color=BLUE)
        ax.annotate("".join(merges[n - 1]), (n, per_word[n]), (6, 6), textcoords="offset points", fontsize=12)
    ax.axhline(1, color=GREY, linewidth=1, linestyle="--")
    ax.set(xlim=(-2, len(merges) * 1.1), ylim=(0, None), xlabel="merges", ylabel="symbols a word, mean")
    return figure


@styled
def trees_and_counts(examples, words, counts):
    """Above, how merges build each of a few words; below, how many tokens each of many words takes.

    examples (word, states, ranks): its symbols after each merge, n + 1 tuples, and the ranks of the n merges · words m
    texts · counts {name of a vocabulary: m numbers of tokens}
    """
    height = 0.5 * max(len(states) for _, states, _ in examples) + 0.7, 0.38 * len(words) + 0.9
    figure = plt.figure(figsize=(WIDTH, sum(height)))
    above, below = figure.subfigures(2, 1, height_ratios=height)
    axes = above.subplots(1, len(examples), squeeze=False)[0]
    for ax, (word, states, ranks) in zip(axes, examples):
        _tree(ax, states, ranks)
        ax.set_ylim(-0.5, max(len(states) for _, states, _ in examples) - 0.5)
        ax.set_title(f"{word}: {_number(len(states[-1]))}")
    ax = below.subplots()
    thick = 0.8 / len(counts)
    for i, (name, numbers) in enumerate(counts.items()):
        places = [j + (i - (len(counts) - 1) / 2) * thick for j in range(len(words))]
        ax.bar_label(ax.barh(places, numbers, thick, label=name), padding=4, fontsize=12)
    ax.set_yticks(range(len(words)), words)
    ax.tick_params(axis="y", length=0)
    ax.set(ylim=(len(words) - 0.5, -0.5), xlabel="tokens")
    ax.legend(loc="upper right")
    return figure


def _number(tokens):
    return "1 token" if tokens == 1 else f"{tokens} tokens"


def _tree(ax, states, ranks):
    """A word's symbols as leaves, and a join for each merge, the later the higher."""
    place = {}  # (first leaf, last leaf + 1) -> where it is drawn
    for i, symbol in enumerate(states[0]):
        place[i, i + 1] = (i, 0)
        _symbol(ax, i, 0, symbol, token=(i, i + 1) in _spans(states[-1]))
    for step, (before, after) in enumerate(itertools.pairwise(states), 1):
        parts = _spans(before)
        for span, symbol in zip(_spans(after), after):
            if span in place:
                continue
            ends = [place[part] for part in parts if span[0] <= part[0] and part[1] <= span[1]]
            x = sum(end[0] for end in ends) / 2
            for left, level in ends:
                ax.plot([left, left, x], [level, step, step], color=GREY, linewidth=1.5, zorder=0)
            ax.text(x, step - 0.5, str(ranks[step - 1]), color=DARK, fontsize=11, ha="center", va="center")
            place[span] = (x, step)
            _symbol(ax, x, step, symbol, token=span in _spans(states[-1]))
    ax.set_xlim(-0.7, len(states[0]) - 0.3)
    ax.set_axis_off()


def _spans(symbols):
    """Which leaves each of a word's symbols covers: ("ab", "c</w>") -> [(0, 2), (2, 3)]."""
    spans, begin = [], 0
    for symbol in symbols:
        end = begin + len(symbol.removesuffix(END_OF_WORD))
        spans.append((begin, end))
        begin = end
    return spans


def _symbol(ax, x, y, symbol, *, token):
    box = {"boxstyle": "round,pad=0.25", "facecolor": BLUE if token else "white", "edgecolor": BLUE}
    ax.text(x, y, symbol, ha="center", va="center", fontsize=12, color="white" if token else "black", bbox=box)
