"""Between us and a file: redirects, proxies, certificates, and answers that are read into memory."""

# ruff: noqa: F811  fixtures are imported, and are arguments of the same name

import base64
import contextlib
import http.client
import select
import shutil
import socket
import ssl
import subprocess
import time
from types import SimpleNamespace

import pytest
from downloads import arrived, get, impatient, refused, server  # noqa: F401
from scripted_server import CONTENT, Answer, Server, expected, files_in, unused_port

from miniclip import InputError
from miniclip.fetch import download
from miniclip.fetch.download import fetch

pytestmark = pytest.mark.usefixtures("impatient")

# -------------------------------------------------------------------------------------------------------- redirects


def to(url):
    return b"HTTP/1.0 302 Found\r\nLocation: %b\r\n\r\n" % url.encode()


def test_a_redirect_is_followed_with_its_range(get, arrived, server):
    server.script["/there"] = [Answer(cut=300_000), Answer()]
    get(to("/there"))
    arrived()
    assert server.ranges == [None, None, "bytes=300000-", "bytes=300000-"]


def test_authorization_stays_with_its_host(get, arrived, server):
    secret = {"Authorization": "Bearer secret"}
    with Server() as other:
        server.script["/same"] = [to(f"{other.url}/there")]
        other.script["/there"] = [Answer()]
        get(to("/same"), headers=secret)
        arrived()
        assert [token for _, _, token in server.asked] == ["Bearer secret"] * 2
        assert other.asked == [("/there", None, None)]


def test_authorization_stays_with_its_host_through_a_proxy(tmp_path, monkeypatch):
    with Server() as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://ann:secret@127.0.0.1:{proxy.server_port}")
        proxy.script = {"http://a.test/file": [to("http://b.test/file")], "http://b.test/file": [Answer()]}
        fetch(["http://a.test/file"], tmp_path / "file", expected(), headers={"Authorization": "Bearer secret"})
        assert [token for _, _, token in proxy.asked] == ["Bearer secret", None]
        assert proxy.headers["Proxy-Authorization"]


def test_a_proxy_s_password_stays_with_the_proxy(server, tmp_path, monkeypatch):
    with Server() as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://ann:secret@127.0.0.1:{proxy.server_port}")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        proxy.script["http://a.test/file"] = [to(f"{server.url}/file")]
        server.script["/file"] = [Answer()]
        fetch(["http://a.test/file"], tmp_path / "file", expected())
        assert proxy.headers["Proxy-Authorization"] and not server.headers["Proxy-Authorization"]


# ---------------------------------------------------------------------------------------------------------- proxies


def forward(handler):
    """A proxy's answer to http: it asks the server itself."""
    seen = handler.headers.get("Proxy-Authorization")
    handler.server.seen = seen and base64.b64decode(seen.removeprefix("Basic ")).decode()
    host, _, path = handler.path.removeprefix("http://").partition("/")
    connection = http.client.HTTPConnection(host)
    connection.request("GET", f"/{path}")
    response = connection.getresponse()
    Answer(response.read(), ranges=False, status=response.status).give(handler)
    connection.close()


def tunnel(handler):
    """A proxy's answer to https: it forwards all bytes."""
    host, port = handler.path.split(":")
    with socket.create_connection((host, int(port))) as there:
        handler.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n")
        ends = {handler.connection: there, there: handler.connection}
        while True:
            for end in select.select(list(ends), [], [])[0]:
                data = end.recv(1 << 16)
                if not data:
                    return
                ends[end].sendall(data)


@pytest.fixture
def proxy(server, monkeypatch):
    with Server() as proxy:
        proxy.script[f"{server.url}/file"] = [forward]
        proxy.tunnel = tunnel
        for variable in ("HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(variable, f"http://ann:secret@127.0.0.1:{proxy.server_port}")
        yield proxy


def test_a_proxy_is_used(get, arrived, proxy):
    get(Answer())
    arrived()
    assert len(proxy.asked) == 1 and proxy.seen == "ann:secret"


def test_a_proxy_is_left_out_where_no_proxy_says_so(get, arrived, proxy, tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    get(Answer())
    arrived()
    assert proxy.asked == []
    with pytest.raises(InputError) as error:
        fetch([f"http://127.0.0.1:{unused_port()}/file"], tmp_path / "file", expected())
    assert "refused" in str(error.value) and "proxy" not in str(error.value)


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy"])
@pytest.mark.parametrize("prefix", ["http://ann:secret@", "ann:secret@", "http://"])
def test_a_proxy_that_wants_a_password_is_named(refused, proxy, server, monkeypatch, variable, prefix):
    monkeypatch.delenv("HTTP_PROXY")
    monkeypatch.setenv(variable, f"{prefix}127.0.0.1:{proxy.server_port}")
    proxy.script[f"{server.url}/file"] = [Answer(status=407)]
    message = refused(Answer(), reason=f"{proxy.server_port} (from {variable}) needs a name and a password")
    assert "secret" not in message


@pytest.mark.parametrize("url", ["http://a.test/file", "https://a.test/file"])
def test_a_proxy_that_does_not_speak_http_is_named(tmp_path, monkeypatch, url):
    variable = f"{url.partition(':')[0]}_proxy"
    monkeypatch.setenv(variable, f"socks5h://ann:secret@127.0.0.1:{unused_port()}")
    reason = rf"the proxy socks5h://127.0.0.1:\d+ \(from {variable}\) uses socks5h, but .* only http proxies"
    with pytest.raises(InputError, match=reason) as error:
        fetch([url], tmp_path / "file", expected())
    assert "secret" not in str(error.value)


def test_a_proxy_that_is_not_there_is_named_with_its_variable(refused, monkeypatch):
    port = unused_port()
    monkeypatch.setenv("HTTP_PROXY", f"http://ann:secret@127.0.0.1:{port}")
    message = refused(
        Answer(), reason=f"the proxy http://127.0.0.1:{port} (from HTTP_PROXY) cannot be reached: Connection refused"
    )
    assert "secret" not in message


@pytest.mark.parametrize(
    "answer, reason",
    [
        (b"HTTP/1.0 407 Proxy Authentication Required\r\n\r\n", r"\(from HTTPS_PROXY\) needs a name and a password"),
        (b"HTTP/1.0 403 Forbidden\r\n\r\n", r"\(from HTTPS_PROXY\) blocks the connection: .*403 Forbidden"),
    ],
)
def test_a_proxy_that_opens_no_tunnel_is_named(proxy, tmp_path, answer, reason):
    proxy.tunnel = lambda handler: handler.wfile.write(answer)
    with pytest.raises(InputError, match=reason) as error:
        fetch(["https://example.org/file"], tmp_path / "file", expected())
    assert "secret" not in str(error.value) and files_in(tmp_path) == []


# ------------------------------------------------------------------------------------------------------ certificates


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """The PEM file of a self-signed certificate for 127.0.0.1, with its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed: no certificate can be made to try https with")
    directory = tmp_path_factory.mktemp("authority")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=127.0.0.1"
    command += " -addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out certificate.pem"
    subprocess.run(command.split(), cwd=directory, check=True, capture_output=True)
    return directory / "certificate.pem"


@pytest.fixture
def secure(authority, tmp_path):
    """An https server with /file."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority, authority.with_name("key.pem"))
    with Server(context) as server:
        server.script["/file"] = [Answer()]
        yield server


def test_a_certificate_without_a_known_authority_is_refused(secure, tmp_path):
    with pytest.raises(InputError, match=r"certificate is not trusted .*set SSL_CERT_FILE to its PEM") as error:
        fetch([f"{secure.url}/file"], tmp_path / "file", expected())
    assert f"{secure.url}/file" in str(error.value) and files_in(tmp_path) == [] == secure.asked


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_a_certificate_is_accepted_from_the_authority_that_a_variable_names(
    secure, authority, tmp_path, monkeypatch, variable
):
    monkeypatch.setenv("CURL_CA_BUNDLE", "/nowhere")  # the first that is set counts
    monkeypatch.setenv(variable, str(authority))
    fetch([f"{secure.url}/file"], tmp_path / "file", expected())
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_directory_of_authorities_is_accepted(secure, authority, tmp_path, monkeypatch):
    digest = subprocess.run(
        ["openssl", "x509", "-hash", "-noout", "-in", str(authority)], capture_output=True, check=True, text=True
    ).stdout.strip()
    (tmp_path / "authorities").mkdir()
    shutil.copy(authority, tmp_path / "authorities" / f"{digest}.0")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "authorities"))
    fetch([f"{secure.url}/file"], tmp_path / "file", expected())


@pytest.mark.parametrize("content, reason", [(None, "No such file"), (b"no PEM", "PEM format"), (b"", "PEM format")])
def test_a_wrong_file_of_authorities_is_named(secure, tmp_path, monkeypatch, content, reason):
    path = tmp_path / "authorities.pem"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    for look in (lambda: fetch([f"{secure.url}/file"], tmp_path / "file", expected()), lambda: network_read(secure)):
        with pytest.raises(InputError, match=f"SSL_CERT_FILE names .*authorities.pem.*{reason}"):
            look()
    assert not (tmp_path / "file").exists()


def network_read(server):
    return download.read(f"{server.url}/file")


def test_a_redirect_from_https_to_http_is_refused(secure, server, authority, tmp_path, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    server.script["/file"] = [Answer()]
    secure.script["/file"] = [to(f"{server.url}/file")]
    with pytest.raises(InputError, match=f"redirects from https to {server.url}/file, which is not followed"):
        fetch([f"{secure.url}/file"], tmp_path / "file", expected())
    assert server.asked == [] and files_in(tmp_path) == []


def test_a_redirect_from_http_to_https_is_followed(secure, get, arrived, authority, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    get(to(f"{secure.url}/file"))
    arrived()


def test_a_proxy_tunnels_https(secure, proxy, authority, tmp_path, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    secure.script["/file"] = [Answer(cut=300_000), Answer()]
    fetch([f"{secure.url}/file"], tmp_path / "file", expected())
    assert (tmp_path / "file").read_bytes() == CONTENT and proxy.asked == []


# ------------------------------------------------------------------------------------------------------ in memory


def test_an_answer_is_read_into_memory(server):
    server.script["/file"] = [Answer()]
    assert download.read(f"{server.url}/file", headers={"Authorization": "Bearer secret"}) == CONTENT
    assert server.asked == [("/file", None, "Bearer secret")]


@pytest.mark.parametrize(
    "answer, reason",
    [
        (Answer(status=404), "HTTP 404 Not Found: no such model"),
        (Answer(status=416), "HTTP 416"),
        (Answer(CONTENT * 17, headers={"Content-Length": None}), "longer than 16777216 bytes"),
        (Answer(stall=300_000), "nothing came for 0.3 seconds"),
        (Answer(cut=300_000), "cut off"),
    ],
)
def test_an_answer_that_cannot_be_read_is_an_error(server, answer, reason):
    server.script["/file"] = [answer]
    with pytest.raises(InputError, match=reason) as error:
        download.read(f"{server.url}/file", explain={404: "no such model"})
    assert f"{server.url}/file: " in str(error.value)


def test_an_answer_in_small_pieces_takes_no_longer(monkeypatch):
    pieces = iter(4000 * [bytes(4000)])
    monkeypatch.setattr(download, "ask", lambda *_: contextlib.nullcontext(SimpleNamespace(length=None)))
    monkeypatch.setattr(download, "next_block", lambda _: next(pieces, b""))
    begin = time.process_time()
    assert len(download.read("http://a.test/file")) == 16_000_000
    assert time.process_time() - begin < 1
