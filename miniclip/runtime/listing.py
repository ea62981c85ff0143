"""Which pictures are meant: the names that users give, with folders, patterns and lists among them."""

import glob
import itertools
import os
import stat
import sys

from PIL import Image

from miniclip.errors import InputError

LIST = ".txt"  # the ending of a file with a picture's path on each line


def pictures(names, stdin=None):
    """An iterator over the paths of the pictures that `names` mean, in their order. Few of them are in memory at once.

    names  each is a file, a folder (its pictures and those of its subfolders, sorted), a pattern ("photos/*.jpg"), a
           .txt file with a path on each line, or "-": the lines of `stdin`, by default the program's own

    A file that is missing or broken is among them: the function that opens it reports it. Raises InputError, before the
    first path is used, for a folder or list without pictures, and for a pattern that no picture's path fits.
    """
    return itertools.chain.from_iterable([_meant(os.fspath(name), stdin or sys.stdin) for name in names])


def _meant(name, stdin):
    if name == "-":
        return _some(_filled(stdin), "standard input: names no picture: write a path on each line")
    if os.path.isdir(name):
        found = (path for path in files(name) if is_picture(path))
        return _some(found, f"{name}: has no pictures of a format that Pillow reads")
    if glob.has_magic(name) and not os.path.exists(name):
        found = (path for path in sorted(glob.glob(name, recursive=True)) if is_picture(path) and not _is_other(path))
        return _some(found, f"{name}: no picture's path fits this pattern")
    if name.lower().endswith(LIST):
        return lines(name, "a picture's path")
    return iter([name])


def is_picture(path):
    """Whether a file's ending is one of a format that Pillow reads."""
    return Image.registered_extensions().get(os.path.splitext(path)[1].lower()) in Image.OPEN


def lines(path, what):
    """An iterator over the lines of a UTF-8 text file with `what` on each line, without their ends or empty ones.

    Raises InputError, before the first line is used, for a file that cannot be read or has none.
    """
    return _some(_read(path), f"{path}: is empty: write {what} on each line")


def texts(path, what="a text"):
    """The `lines` of a file as a list, without spaces around them."""
    return [line.strip() for line in lines(path, what)]


def _refuse(error):
    raise InputError(f"{error.filename}: cannot be read: {error.strerror}") from error


def files(folder, failed=_refuse):
    """Yield the paths of the files in a folder and its subfolders, sorted: systems list them in any order.

    Links are followed. Names that begin with "." or "__" are left out, and so are pipes, which may have no end.
    failed(error) is called with the OSError of each folder that cannot be read; without it, that is an InputError.
    """
    seen = set()
    for place, folders, names in os.walk(folder, onerror=failed, followlinks=True):
        if (real := os.path.realpath(place)) in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__")))
        shown = (os.path.join(place, name) for name in names if not name.startswith((".", "__")))
        yield from sorted(os.path.normpath(path) for path in shown if not _is_other(path))


def _is_other(path):
    """Whether there is something else than a file at `path`: a folder, a pipe, a device."""
    try:
        return not stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return False  # a file that is gone is reported when it is opened


def _some(paths, otherwise):
    """The same paths; InputError(otherwise) if there are none."""
    first = next(paths, None)
    if first is None:
        raise InputError(otherwise)
    return itertools.chain([first], paths)


def _read(path):
    try:
        with open(path, encoding="utf-8-sig") as file:
            yield from _filled(file)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text: {error}") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def _filled(file):
    return (line.rstrip("\r\n") for line in file if line.strip())
