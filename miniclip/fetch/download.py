"""Fetches one file from the network: whole and checked, or not at all.

    one process at a time · NAME.part grows, over several connections if needed · size and sum are right · renamed

`hub` decides which file to fetch. `network` asks the server, and explains why it does not answer.
"""

import contextlib
import dataclasses
import hashlib
import os
import re
import shutil
import time
from pathlib import Path

from tqdm import tqdm

from miniclip.errors import InputError
from miniclip.fetch.network import BLOCK, Cut, Failure, NoRange, ask, check_online, next_block, without_credentials
from miniclip.runtime.files import locked

PAUSE = 1  # seconds between a broken connection and the next
CONNECTIONS = 100  # to one address, one after the other, while each brings new bytes
LONGEST = 1 << 24  # bytes of an answer that is read into memory
ELSEWHERE = "download_root, --root or MINICLIP_CACHE choose another directory"


@dataclasses.dataclass(frozen=True)
class Expected:
    """The expected size of a file in bytes, and its sum in hex, as far as they are known.

    git_blob is the SHA-1 of small files in git, and so on Hugging Face's hub; computing it needs the size.
    """

    size: int | None = None
    sha256: str | None = None
    git_blob: str | None = None

    @property
    def sum(self):
        return self.sha256 or self.git_blob

    def digest(self):
        if self.sum == self.git_blob is not None:
            return hashlib.sha1(b"blob %d\0" % self.size, usedforsecurity=False)
        return hashlib.sha256()

    def fits(self, path):
        """Whether the file at `path` is the expected one, and can be read."""
        digest = self.digest()
        try:
            if not path.is_file() or self.size not in (None, path.stat().st_size):
                return False
            with open(path, "rb") as file:
                while self.sum and (block := file.read(BLOCK)):
                    digest.update(block)
        except OSError:
            return False
        return self.sum in (None, digest.hexdigest())


def fetch(urls, path, expected, *, headers=None, explain=None):
    """Fetch a file to `path` from the first of `urls` that has it, unless it is already there; returns the Path.

    If the connection breaks, NAME.part keeps the bytes so far, and the next call resumes there. headers and explain as
    in `network.ask`. Raises InputError that names each address and its fault, or the fault of the directory; `path` is
    then unchanged. With MINICLIP_OFFLINE=1 the network is not used.
    """
    path = Path(path)
    check_online(f"{path} is missing or incomplete", urls)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.with_name(f".{path.name}.lock")):
            if not expected.fits(path):  # another process may have fetched it while this one waited
                with _Part(path, expected) as part:
                    _fill(part, urls, headers or {}, explain or {})
                os.replace(part.path, path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}; {ELSEWHERE}") from error
    return path


def read(url, *, headers=None, explain=None):
    """The bytes at `url`, in memory; otherwise as `fetch`."""
    check_online("an answer from the network is needed", [url])
    content = bytearray()
    try:
        with ask(url, headers or {}, explain or {}) as response:
            end = response.length
            while block := next_block(response):
                content += block
                if len(content) > LONGEST:
                    raise Failure(f"it is longer than {LONGEST} bytes")
        if end is not None and len(content) < end:
            raise Cut(f"cut off after {len(content)} of {end} bytes")
    except Failure as failure:
        raise InputError(f"{without_credentials(url)}: {failure}") from failure
    return bytes(content)


class _Part:
    """NAME.part: the bytes of a file that have come so far. An error removes it if there are none."""

    def __init__(self, path, expected):
        self.name, self.path, self.expected = path.name, path.with_name(f"{path.name}.part"), expected

    def __enter__(self):
        self.file = open(self.path, "a+b", buffering=0)  # unbuffered: kept however this process ends
        self.size, self.digest = 0, self.expected.digest()
        self.file.seek(0)
        while block := self.file.read(BLOCK):
            self._count(block)
        if None in (self.expected.sum, self.expected.size) or self.size > self.expected.size:
            self.restart()  # without a sum and a size it may be a part of another file
        return self

    def __exit__(self, kind, *_):
        self.file.close()
        if kind and not self.size:
            self.path.unlink(missing_ok=True)

    def _count(self, block):
        self.digest.update(block)
        self.size += len(block)

    def append(self, block):
        rest = memoryview(block)
        try:
            while rest:
                rest = rest[self.file.write(rest) :]
        except OSError:
            self.restart()  # leave the disk as full as it was
            raise
        self._count(block)

    def state(self):
        return self.size, self.digest.copy()

    def go_back(self, size, digest):
        """Forget the bytes that have come since this `state`."""
        self.size, self.digest = size, digest
        self.file.truncate(size)

    def restart(self):
        self.go_back(0, self.expected.digest())

    def check(self):
        """Raise Failure and forget all bytes if their sum is wrong."""
        found = self.digest.hexdigest()
        if self.expected.sum not in (None, found):
            self.restart()
            raise Failure(f"has the checksum {found}, expected {self.expected.sum}: changed, damaged or replaced")


def _fill(part, urls, headers, explain):
    failures = []
    for url in urls:
        try:
            return _fill_from(url, part, headers, explain)
        except Failure as failure:
            failures.append(f"{without_credentials(url)}: {failure}")
    kept = f"; {part.size} bytes have come and are kept: the next try resumes there" if part.size else ""
    raise InputError(f"{part.name} cannot be fetched: {'; '.join(failures)}{kept}")


def _fill_from(url, part, headers, explain):
    if _receive(url, part, headers, explain):
        with contextlib.suppress(Failure):
            return part.check()
        _receive(url, part, headers, explain)  # from the start: the pieces may be of different versions
    part.check()


def _receive(url, part, headers, explain):
    """Complete the part, over several connections if needed; returns whether it consists of several pieces."""
    pieces = part.size > 0
    for left in reversed(range(CONNECTIONS)):
        if part.size == part.expected.size:
            break
        before = part.size
        try:
            _connect(url, part, headers, explain)
            break
        except Cut:
            if not left or part.size <= before or not part.expected.sum:
                raise
        pieces = True
        time.sleep(PAUSE)
    return pieces


def _connect(url, part, headers, explain):
    """Ask for the missing bytes, or for the whole file if the server cannot send a range, and append the new ones."""
    if part.size:
        with contextlib.suppress(NoRange):
            return _answer(url, part, {**headers, "Range": f"bytes={part.size}-"}, explain)
    _answer(url, part, headers, explain)


def _answer(url, part, headers, explain):
    with ask(url, headers, explain) as response:
        if response.headers.get_content_type() == "text/html":  # without a length it could be mistaken for a part
            raise Failure("sends a page of HTML, not the file: does this network require you to log in first?")
        if response.status == 206:
            _check_range(response, part)
        _append(response, part, part.size if response.status == 206 else 0)


def _check_range(response, part):
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    if not found or int(found[1]) != part.size or found[2] not in ("*", str(part.expected.size or found[2])):
        raise NoRange("sends another piece of the file than the one asked for")


def _append(response, part, position):
    """Append the bytes beyond the part, from an answer that begins at byte `position` of the file.

    A whole file has the part's bytes too. They are skipped and do not replace the part, because the answer may be
    something else, and shorter. If they differ, the sum will be wrong, and the file is fetched again from the start.
    """
    end = None if response.length is None else position + response.length  # according to the server
    size = end if part.expected.size is None else part.expected.size
    if end not in (None, size):
        encoding = response.headers.get("Content-Encoding")
        raise Failure(f"has {end} bytes{f' in the encoding {encoding}' if encoding else ''}, expected {size}")
    free = shutil.disk_usage(part.path.parent).free
    if size is not None and size - part.size > free:
        raise InputError(
            f"{part.path.parent}: {part.name} needs {size - part.size} bytes, {free} are free: make room; {ELSEWHERE}"
        )
    before = part.state()
    with tqdm(total=size, initial=position, unit="B", unit_scale=True, desc=part.name) as progress:
        while position != end and (block := next_block(response)):
            position += len(block)
            if size is not None and position > size:
                part.go_back(*before)
                raise Failure(f"is longer than the {size} bytes that are expected")
            if position > part.size:
                part.append(block[part.size - position :])
            progress.update(len(block))
    if size is not None and position < size:
        raise Cut(f"cut off after {position} of {size} bytes")
