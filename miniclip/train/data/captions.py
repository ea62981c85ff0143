"""Pictures in files, with captions in a table (CSV, TSV or JSON lines) or in a text beside each picture."""

import csv
import io
import json
import os
from pathlib import Path

from miniclip.errors import InputError
from miniclip.runtime import listing
from miniclip.runtime.files import open_regular
from miniclip.train.data.pairs import choose_columns, pair_up, skip, texts_of

TABLES = (".csv", ".tsv", ".jsonl")
IN_FOLDER = ("captions.csv", "captions.tsv", "captions.jsonl", "metadata.csv", "metadata.jsonl")


def read_table(path, columns=None):
    """Pairs of a table of (path, caption), one pair a row; paths are relative to the table's folder.

    Rows of one picture give it several captions. Raises InputError if the table cannot be read.
    """
    skipped = {}
    captions = _captions_of_table(str(path), columns, skipped)
    return pair_up(str(path), ((name, texts, name) for name, texts in captions.items()), str, skipped)


def read_folder(folder, columns=None):
    """Pairs of a folder and its subfolders.

    A picture's captions are those in the tables named as in `IN_FOLDER`, each for pictures in its own folder and below;
    else the lines of the .txt beside it. Names that begin with "." or "__" are left out.
    """
    folder, skipped = str(folder), {}

    def note(error):
        skip(skipped, error.filename, f"cannot be read: {error.strerror}")

    files = [*listing.files(folder, note)]
    captions = {}
    for path in files:
        if os.path.basename(path) in IN_FOLDER:
            for name, texts in _captions_of_table(path, columns, skipped).items():
                captions.setdefault(name, []).extend(texts)
    texts = {os.path.splitext(path)[0]: path for path in files if path.lower().endswith(".txt")}
    used = set()
    for path in files:
        stem, _ = os.path.splitext(path)
        if path not in captions and listing.is_picture(path):
            captions[path] = _lines(texts[stem], skipped) if stem in texts else []
            used.add(stem)
    for stem in sorted(texts.keys() - used) if used & texts.keys() else ():
        skip(skipped, texts[stem], "there is no picture of this name that lacks a caption")
    if not captions and any(path.lower().endswith(".tar") for path in files):
        raise InputError(f'{folder}: has tar files and no pictures: pass "{folder}/{{00..99}}.tar" or a list')
    return pair_up(folder, ((name, captions[name], name) for name in sorted(captions)), str, skipped)


def _lines(path, skipped):
    try:
        return Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        skip(skipped, path, f"cannot be read as UTF-8 text: {error}")
        return []


def columns_of(path):
    """The names of a table's columns; none if no row of it can be used."""
    return [*next((row for _, row in rows(str(path), {})), ())]


def _captions_of_table(path, columns, skipped):
    """{path of a picture: its captions} of a table."""
    captions, names = {}, None
    for line, row in rows(path, skipped):
        names = names or choose_columns(path, [*row], columns)
        picture, caption = (row.get(name) for name in names)
        try:
            texts = texts_of(caption)
            if not (isinstance(picture, str) and picture.strip()):
                raise InputError("it names no picture")
            if not any(text.strip() for text in texts):
                raise InputError("its caption is empty")
        except InputError as error:
            skip(skipped, f"{path}, line {line}", str(error))
            continue
        name = os.path.normpath(os.path.join(os.path.dirname(path), picture.strip()))
        captions.setdefault(name, []).extend(texts)
    return captions


def rows(path, skipped):
    """Yield (line, {column: value}) of each row of a CSV, TSV or file of JSON lines.

    Lines that cannot be used are added to `skipped`, {line: reason}. Raises InputError if the file cannot be read.
    """
    try:
        with open_regular(path) as binary, io.TextIOWrapper(binary, encoding="utf-8-sig", newline="") as file:
            yield from (_json_rows if path.lower().endswith(".jsonl") else _csv_rows)(file, path, skipped)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text ({error}): save it as UTF-8") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error


def _csv_rows(file, path, skipped):
    """(line, {column: cell}) of a CSV or TSV; rows with another number of cells than the first line are skipped."""
    first = next((line for line in file if line.strip()), "")
    # OpenCLIP's .csv files have tabs, those of some spreadsheets have semicolons
    separator = "\t" if path.lower().endswith(".tsv") else max(",\t;", key=first.count)
    file.seek(0)
    rows, columns = csv.reader(file, delimiter=separator, strict=True), None
    while True:
        try:
            cells = next(rows, None)
            if cells is None:
                return
            if not cells:  # an empty line
                continue
            if columns is None:
                columns = cells
                if len({*columns}) < len(columns):
                    raise InputError(f"{path}: its first line names a column twice: {', '.join(columns)}")
            elif len(cells) == len(columns):
                yield rows.line_num, dict(zip(columns, cells))
            else:
                raise csv.Error(
                    f"it has {len(cells)} cells, but the first line names {len(columns)} columns: put quotation marks "
                    f"around a text that contains {separator!r}"
                )
        except csv.Error as error:
            skip(skipped, f"{path}, line {rows.line_num}", str(error))


def _json_rows(file, path, skipped):
    """(line, {column: value}) of JSON lines: one object a line."""
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError("expected an object, {...}")
        except (ValueError, RecursionError) as error:
            skip(skipped, f"{path}, line {number}", f"is not a JSON object: {error}")
            continue
        yield number, row
