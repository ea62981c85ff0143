"""What a command says on stderr while it works: a bar, and notes above it."""

import sys


def progress(items, *, total=None, unit="pictures", shown=True):
    """The same items; meanwhile a bar says how many there were, how fast, and how long the rest will take.

    It is shown on a terminal only. Without `total` it does not know the rest.
    """
    if not (shown and sys.stderr.isatty()):
        return items
    from tqdm import tqdm  # not at the top: it would be a tenth of a short command's time

    total = len(items) if total is None and hasattr(items, "__len__") else total
    return tqdm(items, total=total, unit=f" {unit}", file=sys.stderr)


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
