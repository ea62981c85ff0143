"""Beam search: the most probable sequences of tokens, found by keeping a few partial ones at every step.

It knows no model: a function `step` says how probable each next token is. Arrays are NumPy's on every backend.
"""

import numpy as np


def beam_search(step, start, end, beams, length, *, length_penalty=1.0, early_stopping=False):
    """[(tokens, log probability)] of the best sequences that are found, at most `beams` of them, the best first.

    step            tokens (b, t) int -> the log probability of every next token (b, V)
    start           the tokens that every sequence begins with, may be none; they are not returned
    end             the token that ends a sequence; it is returned
    beams           how many unfinished sequences are kept after each step; 1 is greedy search
    length          the most tokens of a sequence, without `start`; what has no end by then is cut there
    length_penalty  sequences are ranked by log probability / (number of tokens) ** length_penalty, the end counted;
                    0 ranks by probability alone, a larger number prefers longer sequences
    early_stopping  once `beams` sequences are finished: True ends the search; "never" continues while any unfinished
                    one may still get a better rank; False assumes that it would get no better by becoming longer

    Names and results are those of transformers' `generate(num_beams=beams, do_sample=False)`.
    """
    running, scores = np.array([start], dtype=int), np.zeros(1)  # (b, t) and (b,): at first one, as long as `start`
    finished = []  # (rank, tokens, log probability), the best first
    for t in range(1, length + 1):
        # every running sequence with every next token
        every = scores[:, None] + step(running)  # (b, V)
        # the best ones: twice `beams`, so that enough of them continue even if `beams` of them end
        scores, places = largest(every.reshape(-1), 2 * beams)
        parents, tokens = np.divmod(places, every.shape[1])
        sequences = np.concatenate([running[parents], tokens[:, None]], axis=1)  # (2 · beams, t)
        # those that end, if they are among the best `beams`, compete with those that ended before
        ends = (tokens == end) | (t == length)
        for i in np.flatnonzero(ends[:beams]):
            finished.append((scores[i] / t**length_penalty, sequences[i, len(start) :].tolist(), float(scores[i])))
        finished = sorted(finished, key=lambda found: -found[0])[:beams]
        # the best of the others continue
        running, scores = sequences[~ends][:beams], scores[~ends][:beams]
        if len(scores) == 0:
            break
        if len(finished) == beams:
            longest = length if early_stopping == "never" and length_penalty > 0 else t
            if early_stopping is True or scores[0] / longest**length_penalty <= finished[-1][0]:
                break
    return [(tokens, score) for _, tokens, score in finished]


def largest(x, n):
    """The n largest of x (m,) and their places, the largest first: two of (n,)."""
    n = min(n, len(x))
    places = np.argpartition(-x, n - 1)[:n]
    places = places[np.argsort(-x[places], kind="stable")]
    return x[places], places
