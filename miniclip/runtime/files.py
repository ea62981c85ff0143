"""Files: read where they are files, and either written whole or not at all."""

import errno
import json
import os
import secrets
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
    """A file opened to read its bytes; OSError for anything else, as are pipes, which one would wait for."""
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

    Readers see the old file or the new one, never half of one. Raises InputError where `path` cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        temporary.touch(exist_ok=False)
        mode = temporary.stat().st_mode
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from error
    try:
        yield temporary
        temporary.chmod(mode)  # safetensors puts a file of its own there, which others may not read
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_atomically(path, content):
    """Write `content` (bytes) to `path`, whole or not at all."""
    with atomic(path) as temporary:
        temporary.write_bytes(content)


def write_json(path, content):
    write_atomically(path, json.dumps(content, ensure_ascii=False, indent=2).encode())


@contextmanager
def atomic_directory(path):
    """Yield a new directory beside `path`; rename it to `path` if all went well, else remove it.

    Raises InputError where `path` exists already or cannot be written.
    """
    path = Path(path)
    if path.exists():
        raise InputError(f"{path}: exists already; move it away or write to another place")
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        temporary.mkdir()
        yield temporary
        temporary.rename(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def locked(path):
    """Hold the file `path` as a lock: one thread of one process at a time, the others wait.

    The system lets go of it when its holder dies, so that none is ever stale. Raises OSError where `path` cannot be
    made.
    """
    while True:
        with open(path, "ab") as file:
            _lock(file)
            # Its last holder may have removed it while this one waited: then the lock is a new file, if any.
            if not _is_at(file, path):
                continue
            try:
                yield
            finally:
                with suppress(OSError):  # Windows removes no open file: there an empty one stays
                    os.remove(path)
                if fcntl is not None:  # closing alone would leave it to children that were forked meanwhile
                    fcntl.flock(file, fcntl.LOCK_UN)
            return


def _lock(file):
    if fcntl is not None:
        fcntl.flock(file, fcntl.LOCK_EX)
        return
    while True:
        with suppress(OSError):  # Windows gives up after ten seconds
            msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
            return


def _is_at(file, path):
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False
