"""A download on a full or read-only disk, in several processes at once, and in one that is killed."""

# ruff: noqa: F811  fixtures are imported, and are arguments of the same name

import contextlib
import errno
import io
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest
from downloads import arrived, get, impatient, left_part, server  # noqa: F401
from scripted_server import CONTENT, Answer, N, expected, files_in, sha256

from miniclip import InputError
from miniclip.fetch import download
from miniclip.fetch.download import fetch

pytestmark = pytest.mark.usefixtures("impatient")


# ------------------------------------------------------------------------------------------------------------- the disk


def test_a_file_that_does_not_fit_is_not_begun(get, monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=N - 1))
    with pytest.raises(InputError, match=f"cache: file needs {N} bytes, {N - 1} are free: make room"):
        get(Answer())
    assert files_in(tmp_path) == []


def test_only_the_rest_has_to_fit(get, arrived, tmp_path, monkeypatch):
    left_part(tmp_path, CONTENT[:-9])
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=9))
    get(Answer())
    arrived()


class FullDisk(io.FileIO):
    """A file on a disk with half a megabyte left: it writes half a block at first, then nothing."""

    def write(self, block):
        room = 500_000 - self.seek(0, io.SEEK_END)
        if room <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(block[:room])


class SlowDisk(io.FileIO):
    """A file that writes only a few bytes at a time, which is allowed."""

    def write(self, block):
        return super().write(block[:50_000])


def test_bytes_that_are_not_written_at_once_are_written_later(get, arrived, monkeypatch):
    monkeypatch.setattr(
        download, "open", lambda path, mode, **_: SlowDisk(path, "a+" if "a" in mode else "r"), raising=False
    )
    get(Answer())
    arrived()


def test_a_disk_that_fills_up_is_left_as_it_was(get, tmp_path, monkeypatch):
    monkeypatch.setattr(
        download, "open", lambda path, mode, **_: FullDisk(path, "a+" if "a" in mode else "r"), raising=False
    )
    with pytest.raises(InputError, match=r"cache/file: cannot be written: No space left .*MINICLIP_CACHE"):
        get(Answer())
    assert files_in(tmp_path) == []


def test_a_directory_that_cannot_be_made_or_written_is_named(server, tmp_path):
    (tmp_path / "plain").write_text("a file where a directory should be")
    (tmp_path / "directory" / "file").mkdir(parents=True)
    server.script["/file"] = [Answer()]
    for path in (tmp_path / "plain" / "deep" / "file", tmp_path / "plain" / "file", tmp_path / "directory" / "file"):
        with pytest.raises(InputError, match="cannot be written") as error:
            fetch([f"{server.url}/file"], path, expected())
        assert str(path) in str(error.value)
    assert files_in(tmp_path) in (["plain"], ["directory/file.part", "plain"])


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_may_not_be_written_is_named(get, tmp_path):
    (tmp_path / "cache").mkdir(mode=0o500)
    with pytest.raises(InputError, match="cache/file: cannot be written: Permission denied"):
        get(Answer())


# -------------------------------------------------------------------------------- several at once, and killed processes

WORKER = """
import sys
from miniclip.fetch import download
print("ready", flush=True)
sys.stdin.readline()
download.fetch([sys.argv[1]], sys.argv[2], download.Expected(int(sys.argv[3]), sys.argv[4]))
"""


@contextlib.contextmanager
def worker(url, path):
    """A process that fetches CONTENT to `path` when it receives a line."""
    command = [sys.executable, "-c", WORKER, url, str(path), str(N), sha256(CONTENT)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stdout.readline() == b"ready\n"
            yield process
        finally:
            process.kill()


def test_of_two_processes_one_downloads_and_the_other_waits(server, arrived, tmp_path):
    def slowly(handler):
        time.sleep(0.3)
        Answer().give(handler)

    server.script["/file"] = [slowly]
    path = tmp_path / "cache" / "file"
    with worker(f"{server.url}/file", path) as one, worker(f"{server.url}/file", path) as two:
        for process in (one, two):
            process.stdin.write(b"\n")
            process.stdin.flush()
        assert [process.wait(10) for process in (one, two)] == [0, 0]
    arrived()
    assert len(server.asked) == 1


def test_of_many_threads_one_downloads(server, arrived, tmp_path):
    server.script["/file"] = [Answer(trickle=1 << 12)]
    path = tmp_path / "cache" / "file"
    threads = [threading.Thread(target=fetch, args=([f"{server.url}/file"], path, expected())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    arrived()
    assert len(server.asked) == 1


def test_a_killed_process_leaves_its_part_and_no_lock(server, get, arrived, tmp_path):
    server.script["/file"] = [Answer(stall=300_000)]
    part = tmp_path / "cache" / "file.part"
    with worker(f"{server.url}/file", tmp_path / "cache" / "file") as process:
        process.stdin.write(b"\n")
        process.stdin.flush()
        end = time.monotonic() + 10
        while not part.exists() or part.stat().st_size < 300_000:
            assert time.monotonic() < end
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    assert part.read_bytes() == CONTENT[:300_000] and not (tmp_path / "cache" / "file").exists()
    get(Answer())
    arrived()
    assert server.ranges[-1] == "bytes=300000-"
