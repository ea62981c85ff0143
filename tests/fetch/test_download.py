"""A file is fetched whole or not at all, whatever a server or a disk does."""

# ruff: noqa: F811  fixtures are imported, and are arguments of the same name

import contextlib
import errno
import gzip
import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_server import (  # noqa: F401
    CONTENT,
    OTHER,
    Answer,
    N,
    Server,
    arrived,
    expected,
    files_in,
    get,
    impatient,
    left_part,
    refused,
    server,
    sha256,
    unused_port,
)

from miniclip import InputError
from miniclip.fetch import download, network
from miniclip.fetch.download import Expected, fetch

pytestmark = pytest.mark.usefixtures("impatient")

# ---------------------------------------------------------------------------------------------- without failures


def test_a_file_is_written_as_the_server_has_it(get, arrived, server, tmp_path, capsys):
    assert get(Answer()) == tmp_path / "cache" / "file"  # missing directories are created
    arrived()
    assert server.asked == [("/file", None, None)]
    assert "file: 100%" in capsys.readouterr().err


def test_a_path_may_be_text(server, tmp_path):
    server.script["/file"] = [Answer()]
    path = tmp_path / "some" / "where" / "file"
    assert fetch([f"{server.url}/file"], str(path), expected()) == path and path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    "like",
    [Expected(), Expected(size=N), Expected(sha256=sha256(CONTENT)), expected()],
    ids=["nothing", "size", "sum", "both"],
)
@pytest.mark.parametrize(
    "answer",
    [
        Answer(),
        Answer(headers={"Content-Length": None}),
        Answer(headers={"Content-Length": "many"}),
        Answer(trickle=70_001),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n5\r\n%b\r\n0\r\n\r\n"
        % (N - 5, CONTENT[:-5], CONTENT[-5:]),
    ],
    ids=["length", "no length", "odd length", "slowly", "in chunks"],
)
def test_a_file_arrives_whatever_is_known_of_it_and_however_it_is_sent(get, arrived, answer, like):
    get(answer, like=like)
    arrived()


def test_a_server_that_keeps_the_connection_open_is_not_waited_for(get, arrived):
    def answer(handler):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (N, CONTENT))
        handler.server.ended.wait(20)

    get(answer, like=Expected())
    arrived()


def test_a_slow_server_has_all_the_time_that_it_needs(get, arrived, monkeypatch):
    """Only silence times out: this file takes three times TIMEOUT in total."""
    content = CONTENT[:9]

    def answer(handler):
        handler.wfile.write(b"HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\n")
        for byte in content:
            time.sleep(0.1)
            handler.wfile.write(bytes([byte]))

    get(answer, like=expected(content))
    arrived(content)


def test_a_file_that_is_there_and_right_is_not_asked_for(get, arrived, server, tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "file").write_bytes(CONTENT)
    get(Answer(OTHER))
    arrived()
    assert server.asked == []


@pytest.mark.parametrize(
    "old, like",
    [
        (b"", expected()),
        (CONTENT[:-1], Expected(size=N)),
        (OTHER, expected()),
        (OTHER, Expected(sha256=sha256(CONTENT))),
    ],
    ids=["empty", "shorter", "another", "another of unknown size"],
)
def test_a_file_that_is_there_and_wrong_is_replaced(get, arrived, tmp_path, old, like):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "file").write_bytes(old)
    get(Answer(), like=like)
    arrived()


def test_a_failed_fetch_leaves_the_file_that_was_there(refused, tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "file").write_bytes(b"old")
    refused(Answer(OTHER), reason="checksum", left=["file"])
    assert (tmp_path / "cache" / "file").read_bytes() == b"old"


def test_an_empty_file_is_a_file(get, arrived):
    get(Answer(b""), like=expected(b""))
    arrived(b"")


def test_git_s_own_sum_is_understood(get, arrived, refused, tmp_path):
    done = subprocess.run(["git", "hash-object", "--stdin"], input=CONTENT, capture_output=True, check=True)
    git = Expected(N, git_blob=done.stdout.decode().strip())
    refused(Answer(OTHER), reason=f"expected {git.git_blob}", like=git)
    get(Answer(), like=git)
    arrived()


# ----------------------------------------------------------------------------------------------- cut and resumed


def test_after_a_cut_only_the_rest_is_asked_for(get, arrived, server):
    get(Answer(cut=300_000), Answer(cut=500_000), Answer())
    arrived()
    assert server.ranges == [None, "bytes=300000-", "bytes=800000-"]


def test_a_stall_is_a_cut(get, arrived, server):
    get(Answer(stall=300_000), Answer())
    arrived()
    assert server.ranges == [None, "bytes=300000-"]


def test_between_connections_there_is_a_pause(get, arrived, monkeypatch):
    pauses = []
    monkeypatch.setattr(download, "time", SimpleNamespace(sleep=pauses.append))
    monkeypatch.setattr(download, "PAUSE", 7)
    get(Answer(cut=9), Answer(cut=9), Answer())
    assert pauses == [7, 7]


def test_a_cut_without_new_bytes_ends_the_fetch_and_the_part_is_kept(get, refused, arrived, server, tmp_path):
    message = refused(Answer(cut=300_000), Answer(cut=0), reason="cut off after 300000 of", left=["file.part"])
    assert "300000 bytes have come and are kept" in message
    assert (tmp_path / "cache" / "file.part").read_bytes() == CONTENT[:300_000]
    get(Answer())
    arrived()
    assert server.ranges == [None, "bytes=300000-", "bytes=300000-"]


def test_a_stall_without_new_bytes_ends_the_fetch(refused):
    message = refused(Answer(stall=0), reason="nothing came for 0.3 seconds")
    assert "kept" not in message


def test_a_connection_that_is_reset_is_a_cut(get, arrived):
    def answer(handler):
        Answer(cut=300_000).give(handler)
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # close by a reset
        time.sleep(0.05)  # time for the client to receive what was sent

    get(answer, Answer())
    arrived()


def test_a_chunk_that_is_cut_off_is_a_cut(get, arrived, server):
    get(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffff\r\n" + CONTENT[:300_000], Answer())
    arrived()
    assert server.ranges == [None, "bytes=300000-"]


def test_an_end_without_a_length_is_a_cut_if_the_size_is_known(get, arrived, server):
    get(Answer(cut=300_000, headers={"Content-Length": None}), Answer())
    arrived()
    assert server.ranges == [None, "bytes=300000-"]


def test_a_server_without_ranges_is_asked_again_while_it_gets_further(get, refused, arrived, server, tmp_path):
    get(*(Answer(ranges=False, cut=cut) for cut in (300_000, 600_000, None)))
    arrived()
    (tmp_path / "cache" / "file").unlink()
    server.asked.clear()
    refused(Answer(ranges=False, cut=300_000), reason="cut off after 300000", left=["file.part"])
    assert len(server.asked) == 2


def test_a_server_that_gives_next_to_nothing_is_given_up(refused, server):
    refused(Answer(cut=1), reason=f"cut off after 9 of {N} bytes", left=["file.part"])
    assert len(server.asked) == 9


ODD = {  # answers to a request for a range that are not this range
    "another start": Answer(CONTENT, headers={"Content-Range": f"bytes 1-{N - 1}/{N}"}),
    "another size": Answer(CONTENT, headers={"Content-Range": f"bytes 300000-{N - 1}/{N + 1}"}),
    "no range at all": Answer(CONTENT, headers={"Content-Range": None}),
    "not a range": Answer(CONTENT, headers={"Content-Range": "bytes many"}),
    "416": Answer(status=416),
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD.keys())
def test_after_an_odd_answer_to_a_range_the_fetch_starts_over(get, arrived, server, odd):
    get(Answer(cut=300_000), odd, Answer())
    arrived()
    assert server.ranges == [None, "bytes=300000-", None]


@pytest.mark.parametrize("total", ["*", N])
def test_a_range_need_not_say_the_whole_size(get, arrived, server, total):
    rest = Answer(headers={"Content-Range": f"bytes 300000-{N - 1}/{total}"})
    get(Answer(cut=300_000), rest)
    arrived()
    assert len(server.asked) == 2


def test_a_whole_answer_to_a_range_starts_over(get, arrived, server):
    get(Answer(cut=300_000), Answer(ranges=False))
    arrived()
    assert len(server.asked) == 2


def test_a_piece_that_was_not_asked_for_is_refused(refused, server):
    refused(Answer(status=206), reason="another piece of the file than the one asked for")
    refused(Answer(status=416), reason="HTTP 416")
    assert len(server.asked) == 2


def test_a_part_of_another_version_is_thrown_away(get, arrived, server, tmp_path):
    left_part(tmp_path, OTHER[:300_000])
    get(Answer())
    arrived()
    assert server.ranges == ["bytes=300000-", None]


def test_pieces_of_two_versions_are_thrown_away(get, arrived, server):
    get(Answer(OTHER, cut=300_000), Answer())
    arrived()
    assert server.ranges == [None, "bytes=300000-", None]


def test_a_file_that_is_also_wrong_from_the_start_is_refused(refused, server, tmp_path):
    left_part(tmp_path, CONTENT[:300_000])
    refused(Answer(OTHER), reason="checksum")
    assert server.ranges == ["bytes=300000-", None]


def test_a_part_that_is_whole_needs_no_server(get, arrived, server, tmp_path):
    left_part(tmp_path, CONTENT)
    get(Answer(status=500))
    arrived()
    assert server.asked == []


@pytest.mark.parametrize(
    "part, like",
    [
        (CONTENT + b"!", expected()),  # longer than the whole
        (CONTENT[:9], Expected(size=N)),  # may be a part of another file
    ],
)
def test_a_part_that_cannot_be_checked_is_not_resumed(get, arrived, server, tmp_path, part, like):
    left_part(tmp_path, part)
    get(Answer(), like=like)
    arrived()
    assert server.ranges == [None]


PAGE = b"<html>" * 300
UNANNOUNCED = {"Content-Length": None}
ODD_RANGE = b"HTTP/1.0 206 Partial Content\r\nContent-Range: bytes many\r\nContent-Length: 1800\r\n\r\n" + PAGE
WRONG = {
    "a page": (Answer(PAGE, ranges=False), f"has 1800 bytes, expected {N}"),
    "a page without a length": (Answer(PAGE, ranges=False, headers=UNANNOUNCED), f"cut off after 1800 of {N} bytes"),
    "a page of HTML": (Answer(PAGE, ranges=False, headers={"Content-Type": "text/html; charset=utf-8"}), "of HTML"),
    "nothing": (b"HTTP/1.0 204 No Content\r\n\r\n", f"has 0 bytes, expected {N}"),
    "a page for a piece": (ODD_RANGE, "another piece of the file than the one asked for"),
    "more than the file": (Answer(OTHER + OTHER, ranges=False, headers=UNANNOUNCED), f"longer than the {N} bytes"),
    "a piece too many": (
        Answer(CONTENT + b"!", headers={**UNANNOUNCED, "Content-Range": f"bytes 700000-{N - 1}/{N}"}),
        f"longer than the {N} bytes",
    ),
}


@pytest.mark.parametrize("answer, reason", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_answer_leaves_the_part_unchanged(get, refused, arrived, server, tmp_path, answer, reason):
    left_part(tmp_path, CONTENT[:700_000])
    message = refused(answer, reason=reason, left=["file.part"])
    assert "700000 bytes have come and are kept" in message
    assert (tmp_path / "cache" / "file.part").read_bytes() == CONTENT[:700_000]
    get(Answer())
    arrived()
    assert server.ranges[-1] == "bytes=700000-"


def test_without_a_sum_pieces_are_not_put_together(refused, server):
    refused(Answer(cut=300_000), Answer(), reason="cut off", like=Expected(size=N), left=["file.part"])
    assert server.ranges == [None]


def test_an_interrupted_download_is_resumed(get, arrived, server, tmp_path, monkeypatch):
    def interrupt(response):
        monkeypatch.undo()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        ask = download.next_block
        patch.setattr(download, "next_block", lambda r: ask(r) if not server.part() else interrupt(r))
        server.part = lambda: (tmp_path / "cache" / "file.part").stat().st_size
        get(Answer())
    begun = (tmp_path / "cache" / "file.part").stat().st_size
    assert 0 < begun < N and files_in(tmp_path) == ["cache/file.part"]
    get(Answer())
    arrived()
    assert server.ranges == [None, f"bytes={begun}-"]


# ------------------------------------------------------------------------------------------------- refused answers

REFUSED = {
    "another file": (Answer(OTHER), f"has the checksum {sha256(OTHER)}, expected {sha256(CONTENT)}"),
    "a byte is wrong": (Answer(CONTENT[:-1] + b"!"), "checksum"),
    "longer": (Answer(CONTENT + b"!"), f"has {N + 1} bytes, expected {N}"),
    "shorter": (Answer(CONTENT[:-1]), f"has {N - 1} bytes, expected {N}"),
    "nothing": (Answer(b""), f"has 0 bytes, expected {N}"),
    "compressed": (
        Answer(gzip.compress(CONTENT), headers={"Content-Encoding": "gzip"}),
        f"bytes in the encoding gzip, expected {N}",
    ),
    "longer, unannounced": (
        Answer(CONTENT + b"!", headers={"Content-Length": None}),
        f"is longer than the {N} bytes that are expected",
    ),
    "a page to log in at": (
        Answer(b"<html>", headers={"Content-Length": None, "Content-Type": "text/html"}),
        "sends a page of HTML, not the file",
    ),
    "404": (b"HTTP/1.0 404 Not Found\r\n\r\n" + CONTENT, "HTTP 404 Not Found: there is no such file"),
    "401": (Answer(status=401), "HTTP 401 Unauthorized: it may not be fetched without permission"),
    "403": (Answer(status=403), "HTTP 403 Forbidden: it may not be fetched without permission"),
    "410": (Answer(status=410), "HTTP 410 Gone: it is refused"),
    "429": (Answer(status=429), "HTTP 429 Too Many Requests: too many requests, try again later"),
    "429, when": (Answer(status=429, headers={"Retry-After": 60}), "try again after 60 seconds"),
    "500": (b"HTTP/1.0 500 Out of order\r\n\r\n", "HTTP 500 Out of order: the server fails, try again later"),
    "503": (Answer(status=503), "HTTP 503 Service Unavailable: the server fails"),
    "in circles": (b"HTTP/1.0 302 Found\r\nLocation: /file\r\n\r\n", "redirects in circles"),
    "to a file of ours": (b"HTTP/1.0 302 Found\r\nLocation: file:///etc/passwd\r\n\r\n", "neither http nor https"),
    "to ftp": (
        b"HTTP/1.0 302 Found\r\nLocation: ftp://a:b@example.org/file?c\r\n\r\n",
        "redirects from http to ftp://example.org/file, which is not followed",
    ),
    "no answer": (b"", "not an HTTP answer (RemoteDisconnected)"),
    "another protocol": (b"220 mail.example.org ready\r\n", "not an HTTP answer (BadStatusLine)"),
}


@pytest.mark.parametrize("answer, reason", REFUSED.values(), ids=REFUSED.keys())
def test_an_unusable_answer_is_an_error_and_leaves_no_file(refused, answer, reason, monkeypatch):
    answered = []
    ask = download.ask
    monkeypatch.setattr(download, "ask", lambda *arguments: answered.append(ask(*arguments)) or answered[-1])
    refused(answer, reason=reason)
    assert all(response.closed for response in answered)


def test_a_server_without_end_is_stopped(refused, tmp_path):
    written = []

    def answer(handler):
        handler.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n")
        while not handler.server.ended.is_set():
            handler.wfile.write(OTHER)
            part = tmp_path / "cache" / "file.part"
            with contextlib.suppress(FileNotFoundError):
                written.append(part.stat().st_size)

    refused(answer, reason="is longer than")
    assert max(written, default=0) <= N


def test_the_caller_can_explain_a_status(refused):
    refused(Answer(status=403), reason="HTTP 403 Forbidden: ask Ann for it", explain={403: "ask Ann for it"})


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/file", "file:///etc/passwd", "data:,a", "/etc/passwd", ""])
def test_only_http_and_https_are_asked(tmp_path, url):
    with pytest.raises(InputError, match="neither an http nor an https address"):
        fetch([url], tmp_path / "file", expected())
    assert files_in(tmp_path) == []


def test_credentials_in_addresses_are_not_shown(server, tmp_path):
    server.script["/file"] = [Answer(status=403)]
    bad = f"http://ann:secret@127.0.0.1:{server.server_port}/file"
    with pytest.raises(InputError) as error:
        fetch([bad, f"{server.url}/file?token=secret"], tmp_path / "file", expected())
    assert "secret" not in str(error.value) and str(error.value).count(f"{server.url}/file") == 2


def test_a_server_that_is_not_there_refuses_the_connection(tmp_path):
    url = f"http://127.0.0.1:{unused_port()}/file"
    with pytest.raises(InputError, match="Connection refused") as error:
        fetch([url], tmp_path / "cache" / "file", expected())
    assert url in str(error.value) and files_in(tmp_path) == []


def test_a_host_that_does_not_exist_is_an_error(tmp_path, monkeypatch):
    def unknown(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(InputError, match=r"http://example.org/file: its host cannot be found, is there a network\?"):
        fetch(["http://example.org/file"], tmp_path / "file", expected())


def test_a_server_that_says_nothing_is_not_waited_for(tmp_path):
    begin = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/file"
        with pytest.raises(InputError, match=r"nothing came for 0\.3 seconds"):
            fetch([url], tmp_path / "file", expected())
    assert files_in(tmp_path) == [] and time.monotonic() - begin < 4


def test_offline_nothing_is_asked_of_the_network(get, refused, server, tmp_path, monkeypatch):
    monkeypatch.setenv("MINICLIP_OFFLINE", "1")
    message = refused(Answer(), reason="MINICLIP_OFFLINE=1 forbids")
    assert str(tmp_path / "cache" / "file") in message
    with pytest.raises(InputError, match="MINICLIP_OFFLINE=1 forbids"):
        download.read(f"{server.url}/file")
    assert server.asked == [] and list(tmp_path.iterdir()) == []
    monkeypatch.setenv("MINICLIP_OFFLINE", "0")
    get(Answer())


# --------------------------------------------------------------------------------------------------------- mirrors


def test_mirrors_are_tried_in_their_order(server, tmp_path):
    server.script |= {"/c": [Answer()], "/d": [Answer()], "/b": [Answer(OTHER)]}
    fetch([f"{server.url}/{name}" for name in "abcd"], tmp_path / "file", expected())
    assert (tmp_path / "file").read_bytes() == CONTENT and files_in(tmp_path) == ["file"]
    assert [path for path, _, _ in server.asked] == ["/a", "/b", "/c"]


def test_a_mirror_resumes_where_another_was_cut(server, tmp_path):
    server.script |= {"/a": [Answer(cut=300_000), Answer(cut=0)], "/b": [Answer()]}
    fetch([f"{server.url}/{name}" for name in "ab"], tmp_path / "file", expected())
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert server.asked[-1][:2] == ("/b", "bytes=300000-")


def test_the_error_says_why_each_mirror_failed(server, tmp_path):
    server.script |= {"/b": [Answer(OTHER)], "/c": [Answer(cut=9), Answer(cut=0)]}
    with pytest.raises(InputError) as error:
        fetch([f"{server.url}/{name}" for name in "abc"], tmp_path / "file", expected())
    reasons = str(error.value).split("; ")
    assert f"{server.url}/a: HTTP 404" in reasons[0] and f"{server.url}/b: has the checksum" in reasons[1]
    assert f"{server.url}/c: cut off after 9 of {N} bytes" in reasons[2] and "9 bytes have come" in reasons[3]
    assert files_in(tmp_path) == ["file.part"]


# ----------------------------------------------------------------------------------------------------------- the disk


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


# ----------------------------------------------------------------------------- several at once, and killed processes

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


# -------------------------------------------------------------------------------------------- random servers

RIGHT = CONTENT[:5000]
answers = st.builds(
    Answer,
    content=st.sampled_from([RIGHT] * 4 + [RIGHT[::-1], RIGHT[:-1] + b"!", RIGHT[:4000], CONTENT[:6000]]),
    ranges=st.booleans(),
    cut=st.none() | st.integers(0, 6000),
    status=st.sampled_from([None] * 6 + [200, 206, 416, 500]),
    headers=st.dictionaries(
        st.sampled_from(["Content-Length", "Content-Range"]),
        st.none() | st.integers(0, 6000) | st.builds("bytes {}-4999/{}".format, st.integers(0, 5000), st.just(5000)),
        max_size=1,
    ),
)


@given(
    mirrors=st.lists(st.lists(answers, min_size=1, max_size=5), min_size=1, max_size=3),
    part=st.binary(max_size=9) | st.integers(0, 5001).map(lambda size: (CONTENT + b"!")[:size]),
    knows_size=st.booleans(),
)
def test_whatever_servers_do_the_file_is_right_or_does_not_exist(mirrors, part, knows_size):
    no_https = mock.patch.object(network, "_trusted", return_value=None)  # reading certificates takes long
    with Server() as server, tempfile.TemporaryDirectory() as directory, no_https:
        path = Path(directory) / "file"
        path.with_name("file.part").write_bytes(part)
        server.script = {f"/{number}": list(script) for number, script in enumerate(mirrors)}
        urls = [server.url + name for name in server.script]
        try:
            fetch(urls, path, Expected(len(RIGHT) if knows_size else None, sha256(RIGHT)))
        except InputError as error:
            assert all(url in str(error) for url in urls)
            assert set(files_in(Path(directory))) <= {"file.part"}
        else:
            assert path.read_bytes() == RIGHT and files_in(Path(directory)) == ["file"]
