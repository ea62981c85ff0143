"""What a command says on stderr while it works: how far it is, and notes above that."""

import sys
import time

SECONDS = 30  # between two lines of a log


def progress(pictures, *, shown=True):
    """The same pictures; meanwhile a `Bar` says how many there were, and if they are a list, how many are left."""
    total = len(pictures) if hasattr(pictures, "__len__") else None
    return _shown(pictures, total) if shown else pictures


def _shown(pictures, total):
    with Bar() as bar:
        bar(0, total)
        for i, picture in enumerate(pictures, 1):
            yield picture
            bar(i, total)


class Bar:
    """Says how many are finished, how fast, and how long the rest will take: a bar on a terminal, else a line at times.

    It is a context, and called with how many are finished, and of how many; None if nobody knows.
    """

    def __init__(self, unit="pictures"):
        self.unit, self.bar, self.terminal = unit, None, sys.stderr.isatty()
        self.begun = self.said = time.monotonic()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if self.bar is not None:
            self.bar.close()

    def __call__(self, finished, total=None):
        if self.terminal:
            if self.bar is None:
                from tqdm import tqdm  # not at the top: it would be a tenth of a short command's time

                self.bar = tqdm(total=total, unit=f" {self.unit}", file=sys.stderr)
            self.bar.update(finished - self.bar.n)
        elif finished and time.monotonic() >= self.said + SECONDS:
            self.said = time.monotonic()
            speed = finished / (self.said - self.begun)
            of, left = (f" of {total:,}", f", {_time((total - finished) / speed)} left") if total else ("", "")
            say(f"{finished:,}{of} {self.unit}, {speed:,.{0 if speed >= 10 else 1}f}/s{left}")


def _time(seconds):
    """A duration in words, to two digits or so."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.{1 if unit == 'h' else 0}f} {unit}"
    return f"{seconds:.0f} s"


def counted(paths, names):
    """The paths of pictures as a list, so that progress knows how many there are.

    If "-" is among the names that they come from, a program may write them slowly: they stay an iterator.
    """
    return paths if "-" in names else [*paths]


def say(message):
    """One line on stderr."""
    if "tqdm" in sys.modules:  # there may be a bar
        sys.modules["tqdm"].tqdm.write(f"miniclip: {message}", file=sys.stderr)
    else:
        print(f"miniclip: {message}", file=sys.stderr, flush=True)


class Broken:
    """Called with each picture that cannot be read, it says so; `count` is how many there were."""

    def __init__(self):
        self.count = 0

    def __call__(self, picture, error):
        self.count += 1
        say(error)
