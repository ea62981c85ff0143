"""Pictures in object stores: s3://bucket/folder, gs://bucket/folder, and whatever else pyarrow's file systems open."""

import re
from urllib.parse import quote

from miniclip.embed.index import pyarrow
from miniclip.errors import InputError
from miniclip.runtime import cpu, listing

AT_ONCE = 16  # pictures that are fetched at a time


def is_url(name):
    return "://" in name


def listed(url):
    """Yield the URL of a file; for that of a folder, those of the pictures in it and in its subfolders, sorted."""
    files, path = _opened(url)
    from pyarrow import fs

    try:
        if files.get_file_info(path).type != fs.FileType.Directory:
            yield url
            return
        found = sorted(info.path for info in files.get_file_info(fs.FileSelector(path, recursive=True)))
    except OSError as error:
        raise InputError(f"{url}: cannot be read: {error}") from error
    pictures = [path for path in found if listing.is_picture(path)]
    if not pictures:
        raise InputError(f"{url}: has no pictures")
    yield from (f"{url.partition('://')[0]}://{quote(path)}" for path in pictures)


def fetching(preprocess):
    """The same function of a list of paths, for URLs too."""

    def prepare(names):
        pictures = cpu.on_cores(lambda name: _content(name) if is_url(name) else name, names, AT_ONCE)
        try:
            return preprocess(pictures)
        except InputError as error:
            if len(names) > 1 or not is_url(names[0]):
                raise
            reason = re.sub("^picture 0: | <_io.BytesIO object at 0x[0-9a-f]+>", "", str(error))  # bytes have no name
            raise InputError(f"{names[0]}: {reason}") from error

    return prepare


def _content(url):
    files, path = _opened(url)
    try:
        with files.open_input_file(path) as file:
            return file.read()
    except OSError as error:
        raise InputError(f"{url}: cannot be read: {error}") from error


def _opened(url):
    """(pyarrow's FileSystem, path in it) of a URL."""
    pa, _ = pyarrow()
    from pyarrow import fs

    try:
        return fs.FileSystem.from_uri(url)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{url}: cannot be read: {error}") from error
