"""Opens regular files only, and writes files and directories whole or not at all."""

import errno
import json
import os
import re
import shutil
import stat
from contextlib import contextmanager, suppress
from pathlib import Path

from miniclip.errors import InputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None
    import msvcrt


def open_regular(path):
    """Open a file to read its bytes. Raises OSError for anything else: a pipe, say, would make the caller wait."""
    try:
        regular = stat.S_ISREG(os.stat(path).st_mode)
    except ValueError as error:  # no file can have such a name
        raise OSError(errno.EINVAL, str(error)) from error
    if not regular:
        raise OSError(errno.EINVAL, "not a file")
    return open(path, "rb")


@contextmanager
def atomic(path):
    """Yield a temporary path beside `path`; rename it into place if all went well, else remove it.

    It is hidden and ends in ".incomplete": if this process is killed, anyone can see that it may be removed.
    Readers see the old file or the new one, never half of one. A link is followed. Raises InputError if `path` cannot
    be written, or is a device or a pipe.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise InputError(f"{path}: cannot be written: it is a device or a pipe, not a file")
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}.incomplete")
    try:
        temporary.touch(exist_ok=False)
        mode = temporary.stat().st_mode
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from error
    try:
        yield temporary
        temporary.chmod(mode)  # safetensors replaces the file by one that only its owner may read
        os.replace(temporary, path)
    except OSError as error:  # NumPy's, when an array does not fit, has no strerror
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_atomically(path, content):
    """Write `content` (bytes) to `path`, whole or not at all."""
    with atomic(path) as temporary:
        temporary.write_bytes(content)


def write_json(path, content):
    write_atomically(path, json.dumps(content, ensure_ascii=False, indent=2).encode())


def remove_incomplete(path):
    """Remove what killed processes left of `atomic` and `atomic_directory`; nobody may be writing `path` meanwhile."""
    path = Path(os.path.realpath(path))
    leftover = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{8}}\.incomplete")
    for found in [x for x in path.parent.iterdir() if leftover.fullmatch(x.name)]:
        if found.is_dir():
            shutil.rmtree(found, ignore_errors=True)
        else:
            found.unlink(missing_ok=True)


@contextmanager
def atomic_directory(path, replace=False):
    """Yield a new directory beside `path`, named as in `atomic`; rename it if all went well, else remove it.

    With `replace` a directory at `path` is removed then. Raises InputError if `path` exists without it, or cannot be
    written.
    """
    path = Path(path)
    if path.exists() and not replace:
        raise InputError(f"{path}: exists already: move it away, or write to another path")
    temporary, old = (path.with_name(f".{path.name}.{os.urandom(4).hex()}.incomplete") for _ in range(2))
    try:
        temporary.mkdir()
        yield temporary
        if path.exists():
            path.rename(old)
        temporary.rename(path)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def locked(path, wait=True):
    """Hold the file `path` as a lock: one thread of one process at a time, the others wait.

    The system releases it when its holder dies, so that no lock is ever stale. Raises OSError if `path` cannot be
    created, and without `wait` BlockingIOError if another one holds it.
    """
    while True:
        with open(path, "ab") as file:
            _lock(file, wait)
            # The last holder may have removed the file while we waited: then lock the new one.
            if not _is_at(file, path):
                continue
            try:
                yield
            finally:
                with suppress(OSError):  # Windows cannot remove an open file: an empty one stays
                    os.remove(path)
                if fcntl is not None:  # closing is not enough: children forked meanwhile would keep the lock
                    fcntl.flock(file, fcntl.LOCK_UN)
            return


def _lock(file, wait):
    if fcntl is not None:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        return
    while True:
        with suppress(OSError):  # Windows gives up after ten seconds
            msvcrt.locking(file.fileno(), msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
            return
        if not wait:
            raise BlockingIOError(errno.EWOULDBLOCK, "another process holds it")


def _is_at(file, path):
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False
