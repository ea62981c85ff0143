"""Fixtures of the tests of downloads: a download from a scripted server, and checks of what it leaves."""

import os

import pytest
from scripted_server import CONTENT, Server, expected, files_in

from miniclip import InputError
from miniclip.fetch import download, network
from miniclip.fetch.download import fetch

VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "MINICLIP_OFFLINE", "REQUEST_METHOD")


@pytest.fixture
def impatient(monkeypatch):
    """Downloads without proxies and own certificates, and with short timeouts."""
    for name in (*VARIABLES, *(name for name in os.environ if name.lower().endswith("_proxy"))):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(network, "TIMEOUT", 0.3)
    monkeypatch.setattr(download, "PAUSE", 0)
    monkeypatch.setattr(download, "CONNECTIONS", 9)


@pytest.fixture
def server():
    with Server() as server:
        yield server


@pytest.fixture
def get(server, tmp_path):
    """get(answer, ...) downloads /file to cache/file; the server sends these answers."""

    def get(*script, like=None, **options):
        server.script["/file"] = list(script)
        return fetch([f"{server.url}/file"], tmp_path / "cache" / "file", like or expected(), **options)

    return get


@pytest.fixture
def refused(get, server, tmp_path):
    """refused(answer, ..., reason=) checks that `get` fails with a one-line error, and leaves only the files `left`."""

    def refused(*script, reason, left=(), **options):
        with pytest.raises(InputError) as error:
            get(*script, **options)
        message = str(error.value)
        assert reason in message and f"{server.url}/file" in message and "\n" not in message
        assert files_in(tmp_path) == [f"cache/{name}" for name in left]
        return message

    return refused


def left_part(tmp_path, content):
    (tmp_path / "cache").mkdir(exist_ok=True)
    (tmp_path / "cache" / "file.part").write_bytes(content)


@pytest.fixture
def arrived(tmp_path):
    """Check that the file is complete, and that there is no other."""

    def arrived(content=CONTENT):
        assert files_in(tmp_path) == ["cache/file"]
        assert (tmp_path / "cache" / "file").read_bytes() == content

    return arrived
