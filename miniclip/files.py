"""Files that are either written whole or not at all."""

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path

from miniclip.errors import InputError


@contextmanager
def atomic(path):
    """Yield a temporary path beside `path`; rename it into place if all went well, else remove it.

    Readers see the old file or the new one, never half of one. Raises InputError where `path` cannot be written.
    """
    path = Path(path)
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from error
    try:
        yield Path(temporary)
        os.chmod(temporary, 0o644)  # mkstemp lets only the owner read
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from error
    finally:
        Path(temporary).unlink(missing_ok=True)


def write_atomically(path, content):
    """Write `content` (bytes) to `path`, whole or not at all."""
    with atomic(path) as temporary:
        temporary.write_bytes(content)
