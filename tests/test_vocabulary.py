"""Where the vocabulary is looked for, and that a file is fetched or written whole or not at all."""

import contextlib
import hashlib
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from miniclip import InputError, Tokenizer, vocabulary, weights
from miniclip.checkpoints import hub
from miniclip.files import atomic, write_atomically

NAME = "bpe_simple_vocab_16e6.txt.gz"
CONTENT = b"what the server has\n" * 100_000  # 2 MB: read in several pieces


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """A machine without the vocabulary: an empty cache, no variable, no `clip` package."""
    for name in ("MINICLIP_VOCAB", "MINICLIP_OFFLINE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MINICLIP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(sys.modules, "clip", None)  # Python's sign for: there is no such package
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path


@pytest.fixture
def put(nowhere, monkeypatch):
    """Makes a file for one of the places that `find` looks at, and returns its path."""

    def put(place):
        directory = {"package": nowhere / "site" / "clip", "cache": nowhere / "cache"}.get(place, nowhere / place)
        directory.mkdir(parents=True)
        (directory / NAME).write_text(place)
        if place == "package":
            (directory / "__init__.py").write_text("raise AssertionError('imported, though only its place is wanted')")
            monkeypatch.delitem(sys.modules, "clip")
            monkeypatch.syspath_prepend(nowhere / "site")
        if place == "variable":
            monkeypatch.setenv("MINICLIP_VOCAB", str(directory / NAME))
        return directory / NAME

    return put


@pytest.fixture
def server(nowhere):
    """A server on this machine: `server.answers` are its pages, `server.asked` the paths that it was asked for."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.asked.append(self.path)
            with contextlib.suppress(ConnectionError):  # whoever asked may have seen enough before the end
                self.wfile.write(self.server.answers.get(self.path, b"HTTP/1.0 404 Not Found\r\n\r\n"))

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.answers, server.asked = {}, []
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def page(content, length=None):
    """The answer of a server that has the file; `length` if it promises another than it sends."""
    head = f"HTTP/1.0 200 OK\r\nContent-Length: {len(content) if length is None else length}\r\n\r\n"
    return head.encode() + content


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def files_in(directory):
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if not path.is_dir())


# ------------------------------------------------------------------------------------- where it is looked for


PLACES = ["explicit", "variable", "cache", "package"]


@pytest.mark.parametrize("first", range(len(PLACES) + 1))
def test_the_first_place_that_has_the_vocabulary_wins(put, first):
    paths = {place: put(place) for place in PLACES[first:]}  # all the places after it have one too
    assert vocabulary.find(paths.get("explicit")) == (paths[PLACES[first]] if paths else None)


@pytest.mark.parametrize("place", PLACES)
def test_each_place_alone_is_found(put, place):
    path = put(place)
    assert vocabulary.find(str(path) if place == "explicit" else None) == path


def test_a_clip_package_without_the_file_is_passed_over(put):
    put("package").unlink()
    assert vocabulary.find() is None


def test_a_clip_module_that_is_no_package_is_passed_over(nowhere, monkeypatch):
    (nowhere / "clip.py").write_text("raise AssertionError('imported, though only its place is wanted')")
    monkeypatch.delitem(sys.modules, "clip")
    monkeypatch.syspath_prepend(nowhere)
    assert vocabulary.find() is None


def test_a_file_that_was_named_and_is_absent_is_an_error_whatever_else_there_is(put, nowhere, monkeypatch):
    for place in ("cache", "package"):
        put(place)
    absent = nowhere / "absent.txt.gz"
    for path in (absent, nowhere):  # a directory is no file either
        with pytest.raises(InputError, match="no such file") as error:
            vocabulary.find(path)
        assert str(path) in str(error.value)
    monkeypatch.setenv("MINICLIP_VOCAB", str(absent))
    for look in (vocabulary.find, vocabulary.official_tokenizer):
        with pytest.raises(InputError, match=r"\$MINICLIP_VOCAB") as error:
            look()
        assert str(absent) in str(error.value)


@pytest.mark.parametrize(
    "variables, expected",
    [
        ({"MINICLIP_CACHE": "/a", "XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/a"),
        ({"XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/b/miniclip"),
        ({"HOME": "/c"}, "/c/.cache/miniclip"),
        ({"MINICLIP_CACHE": "", "XDG_CACHE_HOME": "", "HOME": "/c"}, "/c/.cache/miniclip"),  # set, but to nothing
    ],
)
def test_the_cache_is_where_the_variables_say(monkeypatch, variables, expected):
    for name in ("MINICLIP_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert hub.cache_directory().as_posix() == expected


def test_the_manifest_describes_the_file_that_the_official_package_installs(official_vocabulary):
    entry = weights.manifest()["vocabulary"]
    assert entry["file"] == official_vocabulary.name
    assert entry["sha256"] == sha256(official_vocabulary.read_bytes())
    assert entry["url"].startswith("https://github.com/openai/CLIP/") and entry["url"].endswith(f"/clip/{NAME}")


def test_the_installed_package_is_enough(nowhere, monkeypatch, official_tokenizer):
    monkeypatch.delitem(sys.modules, "clip")
    monkeypatch.setenv("MINICLIP_OFFLINE", "1")
    tokenizer = vocabulary.official_tokenizer()
    assert tokenizer.encoder == official_tokenizer.encoder
    assert vocabulary.official_tokenizer() is tokenizer  # read once


# ----------------------------------------------------------------------------------------------- fetched


def manifest_of(server, content, monkeypatch):
    entry = {"file": NAME, "url": f"{server.url}/vocabulary.gz", "sha256": sha256(content)}
    monkeypatch.setattr(vocabulary, "manifest", lambda: {"vocabulary": entry})


def test_a_vocabulary_that_is_nowhere_is_fetched_once(server, nowhere, monkeypatch, official_vocabulary):
    content = official_vocabulary.read_bytes()
    manifest_of(server, content, monkeypatch)
    server.answers["/vocabulary.gz"] = page(content)
    tokenizer = vocabulary.official_tokenizer()
    assert tokenizer.encode("Hello World!") == [3306, 1002, 256]  # as in the official notebook
    assert files_in(nowhere) == [f"cache/{NAME}"] and (nowhere / "cache" / NAME).read_bytes() == content
    vocabulary.official_tokenizer()
    monkeypatch.setenv("MINICLIP_OFFLINE", "1")  # forbids fetching, not finding
    assert vocabulary.find() == nowhere / "cache" / NAME
    vocabulary.official_tokenizer()
    assert server.asked == ["/vocabulary.gz"]


def test_a_vocabulary_that_is_found_is_not_fetched(server, nowhere, monkeypatch):
    manifest_of(server, b"", monkeypatch)
    merges = Tokenizer([("a", "b")])
    merges.save(nowhere / "few.txt")
    with pytest.raises(InputError, match="1 merges, but 49408 ids need 48894"):
        vocabulary.official_tokenizer(nowhere / "few.txt")
    assert server.asked == []


def test_offline_nothing_is_asked_of_the_network(server, nowhere, monkeypatch):
    manifest_of(server, CONTENT, monkeypatch)
    server.answers["/vocabulary.gz"] = page(CONTENT)
    monkeypatch.setenv("MINICLIP_OFFLINE", "1")
    with pytest.raises(InputError, match="MINICLIP_OFFLINE=1") as error:
        vocabulary.official_tokenizer()
    assert f"{server.url}/vocabulary.gz" in str(error.value) and NAME in str(error.value)
    assert server.asked == [] and files_in(nowhere) == []


def test_fetch_writes_what_the_server_has(server, nowhere):
    server.answers["/file"] = page(CONTENT)
    path = nowhere / "some" / "where" / "file"  # directories are made on the way
    assert hub.fetch(f"{server.url}/file", str(path), sha256(CONTENT)) == path
    assert path.read_bytes() == CONTENT and files_in(nowhere) == ["some/where/file"]


def test_fetch_does_without_a_length(server, nowhere):
    server.answers["/file"] = b"HTTP/1.0 200 OK\r\n\r\n" + CONTENT
    hub.fetch(f"{server.url}/file", nowhere / "file", sha256(CONTENT))
    assert (nowhere / "file").read_bytes() == CONTENT


BAD_ANSWERS = [
    pytest.param(page(CONTENT + b"!"), "SHA-256", id="another file"),
    pytest.param(page(b""), "SHA-256", id="nothing"),
    pytest.param(page(CONTENT[:-9], len(CONTENT)), "cut off|fetched", id="cut off"),
    pytest.param(b"HTTP/1.0 404 Not Found\r\n\r\n" + CONTENT, "Not Found", id="404"),
    pytest.param(b"HTTP/1.0 500 Out of order\r\n\r\n", "Out of order", id="500"),
    pytest.param(b"HTTP/1.0 302 Found\r\nLocation: /file\r\n\r\n", "redirect", id="in circles"),
    pytest.param(b"", "without response", id="no answer"),
    pytest.param(b"220 mail.example.org ready\r\n", "fetched", id="not HTTP"),
    pytest.param(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffff\r\n" + CONTENT,
        "fetched",
        id="chunk cut off",
    ),
    pytest.param(page(CONTENT, "many"), "fetched", id="length not a number"),
]


@pytest.mark.parametrize("answer, reason", BAD_ANSWERS)
def test_what_cannot_be_fetched_whole_is_named_and_leaves_nothing_behind(server, nowhere, answer, reason):
    server.answers["/file"] = answer
    url = f"{server.url}/file"
    with pytest.raises(InputError, match=reason) as error:
        hub.fetch(url, nowhere / "cache" / "file", sha256(CONTENT))
    assert url in str(error.value) and server.asked[0] == "/file"
    assert files_in(nowhere) == []
    assert getattr(error.value.__cause__, "closed", True)  # an HTTPError is an open connection too


def test_a_wrong_checksum_says_what_was_found_and_what_was_expected(server, nowhere):
    server.answers["/file"] = page(b"something else")
    with pytest.raises(InputError) as error:
        hub.fetch(f"{server.url}/file", nowhere / "file", sha256(CONTENT))
    assert sha256(b"something else") in str(error.value) and sha256(CONTENT) in str(error.value)


def test_a_server_that_cannot_be_reached_is_named(nowhere):
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}/file"  # closed again below, so that nobody listens
    with pytest.raises(InputError, match="cannot be fetched") as error:
        hub.fetch(url, nowhere / "cache" / "file", sha256(CONTENT))
    assert url in str(error.value) and files_in(nowhere) == []


def test_a_failed_fetch_leaves_the_file_that_was_there(server, nowhere):
    (nowhere / "file").write_bytes(b"old")
    server.answers["/file"] = page(b"something else")
    with pytest.raises(InputError):
        hub.fetch(f"{server.url}/file", nowhere / "file", sha256(CONTENT))
    assert (nowhere / "file").read_bytes() == b"old" and files_in(nowhere) == ["file"]


def test_a_cache_that_cannot_be_made_is_named(server, nowhere):
    (nowhere / "cache").write_text("a file where a directory should be")
    with pytest.raises(InputError) as error:
        hub.fetch(f"{server.url}/file", nowhere / "cache" / "deep" / "file", sha256(CONTENT))
    assert str(nowhere / "cache" / "deep") in str(error.value) and server.asked == []


# ------------------------------------------------------------------------------- written whole or not at all


def test_the_new_content_replaces_the_old_when_the_block_ends(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with atomic(path) as temporary:
        temporary.write_bytes(b"new")
        assert path.read_bytes() == b"old"  # what a reader sees meanwhile
        assert temporary.parent == tmp_path  # a rename is atomic only within a file system
    assert path.read_bytes() == b"new" and files_in(tmp_path) == ["file"]
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("error", [RuntimeError, InputError, KeyboardInterrupt, OSError])
@pytest.mark.parametrize("before", [["file"], []])
def test_an_error_in_the_block_leaves_everything_as_it_was(tmp_path, error, before):
    path = tmp_path / "file"
    for name in before:
        (tmp_path / name).write_bytes(b"old")
    expected = InputError if error is OSError else error  # the disk is full, say: the path is named
    with pytest.raises(expected, match="why"), atomic(path) as temporary:
        temporary.write_bytes(b"half of the n")
        raise error(*([28] if error is OSError else []), "why")
    assert files_in(tmp_path) == before
    assert all((tmp_path / name).read_bytes() == b"old" for name in before)


def test_an_error_of_the_disk_names_the_file_and_the_reason(tmp_path):
    with pytest.raises(InputError, match="No space left") as error, atomic(tmp_path / "file"):
        raise OSError(28, "No space left on device")
    assert str(tmp_path / "file") in str(error.value)


def test_a_path_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "directory").mkdir()
    (tmp_path / "plain").write_bytes(b"old")
    for path in (tmp_path / "absent" / "file", tmp_path / "directory", tmp_path / "plain" / "file"):
        with pytest.raises(InputError, match="cannot be written") as error:
            write_atomically(path, b"new")
        assert str(path) in str(error.value)
    assert files_in(tmp_path) == ["plain"]


def test_write_atomically_writes_the_bytes(tmp_path):
    for content in (b"a\r\n\x00\xff", b""):
        write_atomically(str(tmp_path / "file"), content)
        assert (tmp_path / "file").read_bytes() == content
