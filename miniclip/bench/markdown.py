"""Records as Markdown: tables, and pages with a generated part between two markers."""

import os
from pathlib import Path

from miniclip.errors import InputError
from miniclip.runtime.files import write_atomically


def shape(shape):
    """{name: size} as text: "B = 256, T = 50"."""
    return ", ".join(name if value is True else f"{name} = {value:,}" for name, value in shape.items())


def table(head, rows):
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])


def fill(page, markers, draw, section):
    """Write section([(title, path from the page)]) between two markers of a page, for the pictures that draw() makes.

    Returns False without matplotlib: then there are no pictures. Raises InputError if the page has no markers.
    """
    page = Path(page)
    text = page.read_text() if page.exists() else ""
    before, begin, rest = text.partition(markers[0])
    _, end, after = rest.partition(markers[1])
    if not begin or not end:
        raise InputError(f"{page} has no {' and '.join(markers)}: results are written between these two lines")
    try:
        pictures, complete = draw(), True
    except ImportError:
        pictures, complete = [], False
    links = [(title, Path(os.path.relpath(path, page.parent)).as_posix()) for title, path in pictures]
    write_atomically(page, f"{before}{begin}\n{section(links)}\n{end}{after}".encode())
    return complete
