"""The docstrings as Markdown, for the site's reference: ours are plain text, with columns for arguments."""

import re

from griffe import Extension

ARGUMENT = re.compile(r"(\w+(?:, \w+)*) {2,}(\S.*)")
SPECIAL = re.compile(r"(`[^`]*`)|([_*<\[\]])")  # code, which stays as it is; signs that mean something in Markdown
LINES = ("returns ", "Raises ", "    ")  # what begins a line of its own


class Docstrings(Extension):
    """Arguments become a list, formulas keep their signs."""

    def on_object(self, *, obj, **_):
        if obj.docstring:
            blocks = re.split(r"\n\s*\n", obj.docstring.value)
            obj.docstring.value = "\n\n".join(_block(block.splitlines()) for block in blocks)


def _block(lines):
    if not ARGUMENT.match(lines[0]):
        return "\n".join("<br>" * (line.startswith(LINES) and line != lines[0]) + _plain(line) for line in lines)
    found = [(ARGUMENT.match(line), line) for line in lines]
    return "\n".join(f"- **`{m[1]}`**: {_plain(m[2])}" if m else f"  {_plain(line.strip())}" for m, line in found)


def _plain(text):
    return SPECIAL.sub(lambda m: m[1] or f"\\{m[2]}", text)
