"""Texts in tables: a column of a .csv, .tsv or .jsonl file."""

import os

from miniclip.errors import InputError
from miniclip.train.data import captions
from miniclip.train.data.pairs import CAPTIONS, skip, texts_of


def are_texts(names):
    """Whether `names` are tables of texts. Raises InputError if some are, and others are not."""
    tables = [os.fspath(name) for name in names if os.fspath(name).lower().endswith(captions.TABLES)]
    if tables and len(tables) < len(names):
        raise InputError(f"{tables[0]} is a table of texts, and other names are of pictures: use a command for each")
    return bool(tables)


def texts(path, skipped, column=None):
    """Yield the texts of a table, in its order; a cell in a .jsonl may also be a list of texts.

    column   their column; None: the only one, or the only one with a usual name, such as "text" or "caption"
    skipped  {line: reason}: lines that cannot be used are added to it, and logged

    Raises InputError if the file cannot be read, or if its first row has no such column.
    """
    for number, (line, row) in enumerate(captions.rows(os.fspath(path), skipped)):
        column = column or _only_likely(path, row)
        missing = f"has no column {column!r}; it has {', '.join(row)}"
        if column not in row and number == 0:
            raise InputError(f"{path}, line {line}: {missing}")
        try:
            if column not in row:
                raise InputError(missing)
            found = [text for text in texts_of(row[column]) if text.strip()]
            if not found:
                raise InputError("its text is empty")
        except InputError as error:
            skip(skipped, f"{path}, line {line}", str(error))
            continue
        yield from found


def _only_likely(path, row):
    usual = [name for name in row if name.strip().lower() in CAPTIONS]
    likely = usual if len(row) > 1 else [*row]
    if len(likely) != 1:
        problem = f"{' and '.join(map(repr, likely))} may both have the" if likely else "no column clearly has the"
        raise InputError(f"{path}: {problem} texts; its columns are {', '.join(map(repr, row))}: pass column=NAME")
    return likely[0]
