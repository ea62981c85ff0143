"""The page's server, asked over the network: what it sends, what it refuses, and that it stays responsive."""

import contextlib
import http.client
import json
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.request

import anyio
import pytest

from miniclip import InputError
from miniclip.play import server
from miniclip.play.answers import BYTES, EXAMPLE

pytest_plugins = ["play_servers"]
LABELS = "a red heart\n\n  a blue heart \n"
BOUNDARY = "boundary"


PICTURE = EXAMPLE.read_bytes()


def form(picture=PICTURE, labels=LABELS, others=()):
    """A form as browsers send it."""
    parts = [] if picture is None else [('name="picture"; filename="/etc/passwd"', picture)]
    parts += [] if labels is None else [('name="labels"', labels.encode())]
    lines = [
        f"--{BOUNDARY}\r\nContent-Disposition: form-data; {name}\r\n\r\n".encode() + value + b"\r\n"
        for name, value in [*parts, *others]
    ]
    return b"".join(lines) + f"--{BOUNDARY}--\r\n".encode()


def ask(port, path, body=None, host=None, chunked=False, **headers):
    """(status, headers, body) of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    headers = {"Host": host or f"127.0.0.1:{port}", **{name.replace("_", "-"): x for name, x in headers.items()}}
    if body is not None:
        headers["Content-Type"] = f"multipart/form-data; boundary={BOUNDARY}"
    content = iter([body[i : i + 1_000_000] for i in range(0, len(body), 1_000_000)]) if chunked else body
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it answers before it has read everything
        connection.request("GET" if body is None else "POST", path, content, headers, encode_chunked=chunked)
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, response.headers, content


def test_answers_over_the_network_are_those_of_answers(port, answers):
    picture, labels = EXAMPLE.read_bytes(), ["a red heart", "a blue heart"]
    for host in (None, f"localhost:{port}", f"[::1]:{port}", "LOCALHOST"):
        status, _, body = ask(port, "/answer", form(), host)
        assert status == 200 and json.loads(body) == answers.answer(picture, labels)
    status, _, body = ask(port, "/explanation", form(labels="a red heart"))
    assert status == 200 and json.loads(body) == answers.explanation(picture, "a red heart")
    assert json.loads(ask(port, "/about")[2]) == answers.about()


def test_files_are_sent_with_headers_that_keep_others_out(port):
    for path, (file, kind) in server.FILES.items():
        status, headers, body = ask(port, path)
        assert status == 200 and headers.get_content_type() == kind and body == file.read_bytes()
        assert headers["Content-Security-Policy"].startswith("default-src 'self'; ")
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff" and headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin" and "server" not in headers


def test_the_page_names_no_other_host_and_has_nothing_inline():
    for path in server.STATIC.iterdir():
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")  # a name, never fetched
        assert not re.search(r"https?:|['\"(]//|@import|data:|eval\(|innerHTML", text), path.name
    html = (server.STATIC / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<style|\bstyle=|\son\w+=|<script(?! type=\"module\" src=)", html)
    assert {*server.STATIC.iterdir()} == {path for path, _ in server.FILES.values()} - {EXAMPLE}


@pytest.mark.parametrize(
    "path", ["/answers.py", "/static/play.js", "/../answers.py", "/%2e%2e/answers.py", "//etc/passwd"]
)
def test_no_other_file_is_sent(path, port):
    assert ask(port, path)[0] == 404


def test_no_request_opens_a_file(port):
    """Python reports every file that it opens, in any thread."""
    names = [str(EXAMPLE), "server.py", "/etc/passwd"]
    bodies = [form(), form(picture=b""), *(form(name.encode(), name) for name in names)]
    opened, watching = [], threading.Event()

    def audit(event, arguments):
        if watching.is_set() and event in ("open", "os.listdir", "os.scandir", "subprocess.Popen", "os.system"):
            opened.append(arguments)

    def ask_everything():
        for path in (*server.FILES, "/about", *(f"/{name}" for name in names)):
            ask(port, path)
        for path in ("/answer", "/explanation"):
            for body in bodies:
                ask(port, path, body)

    ask_everything()  # modules are imported
    sys.addaudithook(audit)
    watching.set()
    ask_everything()
    watching.clear()
    assert opened == []


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "127.0.0.2", "a b"])
def test_other_names_of_this_host_are_refused(host, port):
    """DNS rebinding: a page of evil.example whose name leads to 127.0.0.1."""
    for path, body in (("/", None), ("/about", None), ("/answer", form())):
        status, headers, answer = ask(port, path, body, host)
        assert status == 400 and b"miniclip" not in answer and headers["X-Content-Type-Options"] == "nosniff"


OTHERS = [("Origin", "http://evil.example"), ("Origin", "null"), ("Origin", "http://127.0.0.1:1")]


@pytest.mark.parametrize(("name", "value"), [*OTHERS, ("Sec_Fetch_Site", "cross-site")])
def test_pages_of_other_sites_are_refused(name, value, port):
    status, _, body = ask(port, "/answer", form(), **{name: value})
    assert status == 403 and json.loads(body) == {"error": "this page answers only itself"}


def test_the_page_itself_may_ask(port):
    assert ask(port, "/answer", form(), Origin=f"http://127.0.0.1:{port}", Sec_Fetch_Site="same-origin")[0] == 200


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (form(picture=b"no picture"), 400, "the picture cannot be read: this page takes PNG"),
        (form(picture=b""), 400, "the picture cannot be read"),
        (form(labels=" \n"), 400, "there is no label: type at least one"),
        (form(labels="star\n" * 65), 400, "there are 65 labels"),
        (form(labels="star " * 40), 400, "has 40 tokens, the model reads 30"),
        (form(labels="x" * 2_000_000), 400, "exceeded maximum size"),
        (form(picture=None), 400, "a request has a file named picture, and a text named labels"),
        (form(labels=None), 400, "a request has a file named picture"),
        (form(picture=None, others=[('name="picture"', b"/etc/passwd")]), 400, "Too many fields"),
        (form(others=[('name="another"; filename="a"', b"")]), 400, "Too many files"),
        (b"no form", 400, ""),
    ],
)  # fmt: skip
def test_bad_requests_get_one_sentence(body, status, said, port):
    found, _, answer = ask(port, "/answer", body)
    assert found == status and said in json.loads(answer)["error"]
    assert ask(port, "/explanation", body)[0] == status


@pytest.mark.parametrize("chunked", [False, True])
def test_bodies_are_limited(chunked, port):
    assert ask(port, "/answer", form(picture=bytes(BYTES - 1)), chunked=chunked)[0] == 400  # read, and no picture
    status, _, body = ask(port, "/answer", form(picture=bytes(BYTES + 200_000)), chunked=chunked)
    assert status == 413 and json.loads(body) == {"error": "the picture is too large: this page takes 20,000,000 bytes"}


class Slow:
    """Answers that wait until they may go, and count how many compute at once."""

    def __init__(self):
        self.go, self.now, self.most, self.ended = threading.Event(), 0, 0, 0

    def about(self):
        return {}

    def answer(self, picture, labels):
        self.now += 1
        self.most = max(self.most, self.now)
        self.go.wait(20)
        self.now, self.ended = self.now - 1, self.ended + 1
        return {"labels": labels}

    def explanation(self, picture, label):
        raise RuntimeError("a secret")


def test_one_request_computes_at_a_time_and_the_server_stays_responsive(served):
    slow, found = Slow(), queue.Queue()
    with served(slow) as port:
        threads = [
            threading.Thread(target=lambda: found.put(ask(port, "/answer", form())[0]))
            for _ in range(server.WAITING + 3)
        ]
        for thread in threads:
            thread.start()
        assert [found.get(timeout=20) for _ in range(3)] == [503] * 3  # three too many
        assert ask(port, "/")[0] == 200
        with socket.create_connection(("127.0.0.1", port), timeout=10) as waiting:  # its body is not even read
            waiting.sendall(b"POST /answer HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000000\r\n\r\n")
            assert waiting.recv(100).startswith(b"HTTP/1.1 503")
        assert slow.ended == 0 and found.empty()
        slow.go.set()
        for thread in threads:
            thread.join()
    assert [*found.queue] == [200] * server.WAITING and slow.most == server.COMPUTING == 1


def test_a_fault_of_ours_is_not_shown(served, capsys):
    with served(Slow()) as port:
        status, _, body = ask(port, "/explanation", form())
    assert status == 500 and b"secret" not in body and "a secret" in capsys.readouterr().err


# -------------------------------------------------------------------------------------- hosts and ports


def test_only_loopback_needs_no_warning():
    for host in ("127.0.0.1", "127.8.0.1", "::1", "localhost"):
        assert server.is_loopback(host)
    for host in ("0.0.0.0", "::", "192.168.1.5", "example.com"):
        assert not server.is_loopback(host)
    assert server.names("127.0.0.1") == [*server.LOCAL, "127.0.0.1"]
    assert server.names("192.168.1.5") == [*server.LOCAL, "192.168.1.5"]
    assert "[fe80::1]" in server.names("fe80::1") and "*" not in server.names("0.0.0.0")


@pytest.mark.parametrize(
    ("reached", "host", "status"),
    [
        ("192.168.1.5", "192.168.1.5:8765", 200),
        ("2001:db8::5", "[2001:db8::5]:8765", 200),
        ("fe80::5%eth0", "[fe80::5]:8765", 200),
        ("192.168.1.5", "192.168.1.6:8765", 400),
        ("192.168.1.5", "192.168.1.5.evil.example", 400),
        ("192.168.1.5", "evil.example", 400),
        ("192.168.1.5", "localhost", 200),
        ("192.168.1.5", socket.gethostname(), 200),
    ],
)
def test_at_all_addresses_the_one_that_a_visitor_has_reached_is_a_name(reached, host, status):
    scope = {"type": "http", "method": "GET", "path": "/about", "scheme": "http", "server": (reached, 8765)}
    sent = []

    async def send(message):
        sent.append(message)

    page = server.application(Slow(), server.names("0.0.0.0"))
    anyio.run(page, {**scope, "headers": [(b"host", host.encode())]}, None, send)
    assert sent[0]["status"] == status


@pytest.mark.parametrize("host", ["127.0.0.1", "no.such.host.invalid"])
def test_ports_and_hosts_that_cannot_be_used_are_named(host):
    with server.listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=rf"the page cannot be at {host}, port {port}: .*choose another --port"):
            server.listen(host, port)
    with pytest.raises(InputError, match="the port is 70000, expected 0 to 65535"):
        server.listen(host, 70_000)


def command(*arguments, **environment):
    process = [sys.executable, "-m", "miniclip", "play", "--port", "0", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(process, **pipes, env={**os.environ, **environment})


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_the_command_serves_until_ctrl_c(host, answers):
    process = command("--host", host)
    try:
        address = process.stdout.readline().split()[0]
        visited, port = re.fullmatch(r"http://([\d.]+):(\d+)/", address).groups()
        assert (visited == host) == (host == "127.0.0.1")  # 0.0.0.0 is no address that a visitor could use
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{address}about") as about:
            assert json.load(about) == answers.about()
        assert json.loads(ask(port, "/about")[2]) == answers.about()
        assert ask(port, "/about", host="evil.example")[0] == 400
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0
    assert ("There is no password" in said) == (host == "0.0.0.0") and len(said.splitlines()) == (host == "0.0.0.0")


def test_without_the_extra_it_says_what_to_install(tmp_path):
    (tmp_path / "uvicorn.py").write_text("raise ImportError('not here')")
    _, said = (process := command(PYTHONPATH=str(tmp_path))).communicate(timeout=30)
    assert process.returncode == 1
    assert re.fullmatch(
        r"miniclip: the page needs starlette, uvicorn and python-multipart: .*pip install .*play.*\n", said
    )
