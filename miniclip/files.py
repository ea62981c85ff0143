"""Files that are either written whole or not at all."""

import os
import secrets
from contextlib import contextmanager
from pathlib import Path

from miniclip.errors import InputError


@contextmanager
def atomic(path):
    """Yield a temporary path beside `path`; rename it into place if all went well, else remove it.

    Readers see the old file or the new one, never half of one. Raises InputError where `path` cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        temporary.touch(exist_ok=False)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from error
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_atomically(path, content):
    """Write `content` (bytes) to `path`, whole or not at all."""
    with atomic(path) as temporary:
        temporary.write_bytes(content)
