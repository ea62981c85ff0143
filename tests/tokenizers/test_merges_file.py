"""Files of merges: saved, loaded, and refused by name."""

import gzip

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st
from texts import FIXED, TEXTS

from miniclip import InputError, Tokenizer


@pytest.mark.parametrize("name", ["merges.txt", "merges.txt.gz"])
@given(texts=st.lists(TEXTS, max_size=4))
def test_load_inverts_save(tmp_path_factory, name, texts):
    path = tmp_path_factory.mktemp("vocabulary") / name
    tokenizer = Tokenizer.train(texts * 2, FIXED + 40)
    tokenizer.save(path)
    assert (path.read_bytes()[:2] == b"\x1f\x8b") == name.endswith(".gz")
    for loaded in (Tokenizer.load(path), Tokenizer.load(str(path), len(tokenizer))):
        assert loaded.merges == tokenizer.merges and loaded.encoder == tokenizer.encoder


def test_saving_twice_gives_the_same_bytes(tmp_path, monkeypatch):
    tokenizer = Tokenizer.train(["low lower lowest"], 1000)
    tokenizer.save(tmp_path / "a.gz")
    monkeypatch.setattr("time.time", lambda: 2e9)  # gzip would write the time into its header
    tokenizer.save(tmp_path / "b.gz")
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


def test_the_official_file_has_more_merges_than_the_models_use(official_vocabulary, tokenizer):
    everything = Tokenizer.load(official_vocabulary)
    assert len(everything.merges) == 262144
    assert everything.merges[:48894] == tokenizer.merges


def test_a_hugging_face_file_of_merges_loads(tmp_path, tokenizer):
    # merges.txt of openai/clip-vit-base-patch32: "#version: 0.2", then the same merges, not gzipped.
    lines = ["#version: 0.2", *map(" ".join, tokenizer.merges)]
    (tmp_path / "merges.txt").write_text("\n".join(lines), encoding="utf-8")
    assert Tokenizer.load(tmp_path / "merges.txt", 49408).encoder == tokenizer.encoder


GOOD = gzip.compress(b"#version: 0.2\n" + b"".join(b"%c %c\n" % (x, y) for x in b"abcdefgh" for y in b"abcdefgh"))


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(GOOD[:-30], id="cut off"),
        pytest.param(GOOD[:-8] + bytes(8), id="wrong checksum"),
        pytest.param(GOOD[:20] + b"\xff" * 20 + GOOD[40:], id="damaged"),
        pytest.param(GOOD[:2], id="gzip's first two bytes"),
        pytest.param(b"\x1f\x8b" + bytes(100), id="not gzip after all"),
        pytest.param(b"\x89PNG\r\n\x1a\n\xff\xfe", id="a picture"),
        pytest.param(b"# Title\n\nOnce upon a time\nthere was\n", id="prose"),
        pytest.param(b"#version: 0.2\na b\nab c\nabc\n", id="one symbol"),
        pytest.param(b"#version: 0.2\na b\nab c d\n", id="three symbols"),
        pytest.param(b"#version: 0.2\na b\nxyz c\n", id="a symbol from nowhere"),
        pytest.param(b'{"a": 1}', id="JSON"),
        pytest.param(b"", id="empty"),
    ],
)
def test_a_file_that_is_not_a_vocabulary_is_named(tmp_path, content):
    path = tmp_path / "merges.txt.gz"
    path.write_bytes(GOOD)
    assert len(Tokenizer.load(path)) == FIXED + 64  # the file that the others are made from
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"merges\.txt\.gz: ") as error:
        Tokenizer.load(path)
    assert str(path) in str(error.value)


def test_the_pair_that_is_wrong_is_named(tmp_path):
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b\nab c d\n")
    with pytest.raises(InputError, match="'ab c d' is not a pair of known symbols"):
        Tokenizer.load(tmp_path / "merges.txt")


def test_a_file_that_is_missing_is_named(tmp_path):
    for path in (tmp_path / "absent.txt", tmp_path):
        with pytest.raises(InputError, match=f"^{regex.escape(str(path))}: "):
            Tokenizer.load(path)


def test_a_file_with_too_few_merges_is_named(tmp_path):
    path = tmp_path / "merges.txt"
    Tokenizer([("a", "b"), ("ab", "c")]).save(path)
    assert len(Tokenizer.load(path, FIXED + 2)) == FIXED + 2
    with pytest.raises(InputError, match=f"{FIXED + 3}") as error:
        Tokenizer.load(path, FIXED + 3)
    assert str(path) in str(error.value)


def test_a_size_without_room_for_the_bytes_is_refused(tmp_path):
    Tokenizer([("a", "b"), ("ab", "c")]).save(tmp_path / "merges.txt")
    with pytest.raises(InputError, match="513"):
        Tokenizer.load(tmp_path / "merges.txt", 513)
