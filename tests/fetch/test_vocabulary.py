"""Where the vocabulary is looked for; how it is fetched is in test_manifest.py."""

import sys

import pytest

import miniclip
from miniclip import InputError, Tokenizer
from miniclip.fetch import vocabulary

NAME = "bpe_simple_vocab_16e6.txt.gz"


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """A machine without the vocabulary: an empty cache, no variable, no `clip` package."""
    for name in ("MINICLIP_VOCAB", "MINICLIP_OFFLINE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MINICLIP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(sys.modules, "clip", None)  # for Python this means that the package does not exist
    return tmp_path


@pytest.fixture
def put(nowhere, monkeypatch):
    """A function that creates a file in one of the places of `find`, and returns its path."""

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


PLACES = ["explicit", "variable", "cache", "package"]


@pytest.mark.parametrize("first", range(len(PLACES) + 1))
def test_the_first_place_that_has_the_vocabulary_wins(put, first):
    paths = {place: put(place) for place in PLACES[first:]}  # all the places after it have one too
    assert vocabulary.find(paths.get("explicit")) == (paths[PLACES[first]] if paths else None)


@pytest.mark.parametrize("place", PLACES)
def test_each_place_alone_is_found(put, place):
    path = put(place)
    assert vocabulary.find(str(path) if place == "explicit" else None) == path


def test_an_installed_package_is_found_although_its_name_is_taken(put, monkeypatch):
    """As after sys.modules["clip"] = miniclip.clip, by which a program for OpenAI's package runs unchanged."""
    path = put("package")
    monkeypatch.setitem(sys.modules, "clip", miniclip.clip)
    assert vocabulary.find() == path


def test_a_clip_package_without_the_file_is_ignored(put):
    put("package").unlink()
    assert vocabulary.find() is None


def test_a_clip_module_that_is_not_a_package_is_ignored(nowhere, monkeypatch):
    (nowhere / "clip.py").write_text("raise AssertionError('imported, though only its place is wanted')")
    monkeypatch.delitem(sys.modules, "clip")
    monkeypatch.syspath_prepend(nowhere)
    assert vocabulary.find() is None


def test_a_named_file_that_is_missing_is_an_error_even_if_another_place_has_one(put, nowhere, monkeypatch):
    for place in ("cache", "package"):
        put(place)
    absent = nowhere / "absent.txt.gz"
    for path in (absent, nowhere):  # a directory is not a file either
        with pytest.raises(InputError, match="no such file") as error:
            vocabulary.find(path)
        assert str(path) in str(error.value)
    monkeypatch.setenv("MINICLIP_VOCAB", str(absent))
    for look in (vocabulary.find, vocabulary.official_tokenizer):
        with pytest.raises(InputError, match=r"\$MINICLIP_VOCAB") as error:
            look()
        assert str(absent) in str(error.value)


def test_the_installed_package_is_enough(nowhere, monkeypatch, official_tokenizer):
    monkeypatch.delitem(sys.modules, "clip")
    monkeypatch.setenv("MINICLIP_OFFLINE", "1")
    tokenizer = vocabulary.official_tokenizer()
    assert tokenizer.encoder == official_tokenizer.encoder
    assert vocabulary.official_tokenizer() is tokenizer  # read once


def test_a_vocabulary_that_is_found_is_not_fetched(nowhere, monkeypatch):
    monkeypatch.setattr(vocabulary, "fetch", None)
    merges = Tokenizer([("a", "b")])
    merges.save(nowhere / "few.txt")
    with pytest.raises(InputError, match="1 merges, but 49408 ids need 48894"):
        vocabulary.official_tokenizer(nowhere / "few.txt")
