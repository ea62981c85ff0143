"""A download that is cut off is resumed, and the file is right or does not exist, whatever servers do."""

# ruff: noqa: F811  fixtures are imported, and are arguments of the same name

import socket
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
from downloads import arrived, get, impatient, left_part, refused, server  # noqa: F401
from hypothesis import given
from hypothesis import strategies as st
from scripted_server import CONTENT, OTHER, Answer, N, Server, expected, files_in, sha256

from miniclip import InputError
from miniclip.fetch import download, network
from miniclip.fetch.download import Expected, fetch

pytestmark = pytest.mark.usefixtures("impatient")


# ------------------------------------------------------------------------------------------------------ cut and resumed


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


# ------------------------------------------------------------------------------------------------------- random servers

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
