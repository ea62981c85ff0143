"""Pictures in object stores: s3://bucket/folder, gs://bucket/folder, and whatever else pyarrow's file systems open."""

import collections
import functools
import threading
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote, unquote, urlsplit

from miniclip.embed.index import pyarrow
from miniclip.errors import InputError
from miniclip.runtime import listing

AT_ONCE = 16  # pictures that are fetched at a time
AHEAD = 64  # pictures that are fetched before they are needed


def is_url(name):
    return "://" in name


def listed(url):
    """Yield the URL of a file; for that of a folder, those of the pictures in it and in its subfolders, sorted."""
    store, root, path = _opened(url)
    from pyarrow import fs

    try:
        if store.get_file_info(path).type != fs.FileType.Directory:
            yield url
            return
        found = sorted(info.path for info in store.get_file_info(fs.FileSelector(path, recursive=True)))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{url}: cannot be read: {error}") from error
    pictures = [path for path in found if listing.is_picture(path)]
    if not pictures:
        raise InputError(f"{url}: has no pictures")
    parts = urlsplit(url)
    query = f"?{parts.query}" if parts.query else ""
    yield from (f"{parts.scheme}://{parts.netloc}{quote(path.removeprefix(root))}{query}" for path in pictures)


def fetched(names, broken):
    """Yield what `encode.pictures` takes: paths as they are, and (URL, its content) of pictures in object stores.

    They are fetched ahead, at most `AHEAD`. broken(url, error) is called for those that cannot be fetched.
    """
    pool, waiting = ThreadPoolExecutor(AT_ONCE), collections.deque()

    def first():
        name, content = waiting.popleft()
        try:
            yield name if content is None else (name, content.result())
        except InputError as error:
            broken(name, error)

    try:
        for name in names:
            waiting.append((name, pool.submit(content, name) if is_url(name) else None))
            while waiting and (len(waiting) > AHEAD or waiting[0][1] is None):  # a path does not wait for others
                yield from first()
        while waiting:
            yield from first()
    finally:
        pool.shutdown(cancel_futures=True)


def named(broken):
    """The same function of a picture's name and its error; the errors of contents, which have no name, get the URL."""

    def call(name, error):
        if is_url(name):
            error = InputError(f"{name}: {str(error).removeprefix('the picture: ').removeprefix(f'{name}: ')}")
        broken(name, error)

    return call


def content(url):
    """The bytes of a picture in an object store. Raises InputError."""
    store, _, path = _opened(url)
    try:
        with store.open_input_file(path) as file:
            return file.read()
    except OSError as error:
        raise InputError(f"{url}: cannot be read: {error}") from error


def _opened(url):
    """(pyarrow's FileSystem, what it calls the root of the bucket, the path in it) of a URL."""
    pa, _ = pyarrow()
    try:
        parts = urlsplit(url)
        with _opening:  # threads that begin together open it once
            store, root = _store(parts.scheme, parts.netloc, parts.query)
    except (OSError, ValueError, pa.ArrowException) as error:  # ArrowInvalid is a ValueError, as urlsplit's is
        raise InputError(f"{url}: cannot be read: {error}") from error
    return store, root, root + unquote(parts.path)


_opening = threading.Lock()


@functools.lru_cache
def _store(scheme, bucket, query):
    """(pyarrow's FileSystem, its path of a bucket's root, without "/" at the end): S3 is asked where a bucket is."""
    from pyarrow import fs

    store, root = fs.FileSystem.from_uri(f"{scheme}://{bucket}/{f'?{query}' if query else ''}")
    return store, root.rstrip("/")
