"""A file is fetched whole or not at all: what is right, what is refused, and mirrors."""

# ruff: noqa: F811  fixtures are imported, and are arguments of the same name

import contextlib
import gzip
import socket
import subprocess
import time

import pytest
from downloads import arrived, get, impatient, refused, server  # noqa: F401
from scripted_server import CONTENT, OTHER, Answer, N, expected, files_in, sha256, unused_port

from miniclip import InputError
from miniclip.fetch import download
from miniclip.fetch.download import Expected, fetch

pytestmark = pytest.mark.usefixtures("impatient")


# ----------------------------------------------------------------------------------------------------- without failures


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


# ------------------------------------------------------------------------------------------------------ refused answers

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


# -------------------------------------------------------------------------------------------------------------- mirrors


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
