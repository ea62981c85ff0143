"""Files of merges, one pair per line after a version line: OpenAI's vocabulary, Hugging Face's merges.txt, and ours."""

import gzip
import os
import zlib

from miniclip.errors import InputError
from miniclip.runtime.files import open_regular, write_atomically


def read(path):
    """The lines after the version line of a file, gzipped or not. Raises InputError that names a file without one."""
    try:
        with open_regular(path) as file:
            content = file.read()
        lines = (gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content).decode().split("\n")
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise InputError(f"{path}: cannot be read as a vocabulary of merges: {error}") from error
    if "#version" not in lines[0]:
        raise InputError(f"{path}: not a vocabulary of merges: line 1 has no #version")
    return [line for line in lines[1:] if line.strip()]


def write(path, lines):
    """Write a version line and `lines`, whole or not at all; gzipped if `path` ends in ".gz"."""
    content = "\n".join(["#version: 0.2", *lines, ""]).encode()
    write_atomically(path, gzip.compress(content, mtime=0) if os.fspath(path).endswith(".gz") else content)
