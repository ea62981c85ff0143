"""Many texts at once get the ids that each gets alone, and the official ones."""

import html
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import ftfy
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from small_vocabularies import CORPUS
from small_vocabularies import PIECES as WORD_PIECES
from texts import FIXED, PIECES, TEXTS

from miniclip import InputError, Tokenizer
from miniclip.bench import captions
from miniclip.tokenizer import END, START, clean, spell
from miniclip.tokenizers import CALM, Cache, merging, repair
from miniclip.tokenizers.added import AddedToken, WithAddedTokens
from miniclip.tokenizers.renumbered import Renumbered
from miniclip.tokenizers.wordpiece import WordPiece


@pytest.fixture
def at_once(monkeypatch):
    """Also few words and few texts are merged at once."""
    for name in ("FEW_TEXTS", "FEW", "MANY"):
        monkeypatch.setattr(merging, name, 0)


@pytest.fixture(scope="module")
def shared(tokenizer):
    """A copy of `tokenizer` for tests that empty its caches."""
    return Tokenizer(tokenizer.merges)


def merged(tokenizer, words):
    """The ids of each word, merged all at once."""
    return [[*map(ord, ids)] for ids in tokenizer._words.many(words)]


def one_by_one(tokenizer, words):
    return [[*tokenizer._merge_word(spell(word))] for word in words]


# ------------------------------------------------------------------------------------------- equal to the readable loop


@st.composite
def tokenizers(draw):
    """A Tokenizer with merges in any order, also before those that they are made from, or twice; of few letters."""
    symbols = ["a", "b", "Ã", "©", "a</w>", "b</w>", "©</w>", "<", "/", "w", ">", ">" + "</w>"]
    merges = []
    for _ in range(draw(st.integers(0, 30))):
        left, right = draw(st.sampled_from(symbols)), draw(st.sampled_from(symbols))
        merges.append((left, right))
        symbols.append(left + right)
    return Tokenizer(
        draw(st.permutations(merges + draw(st.lists(st.sampled_from(merges), max_size=3)) if merges else []))
    )


WORDS = st.lists(st.text("abé</w>", min_size=1, max_size=25) | st.sampled_from([START, END]), max_size=40)


@pytest.mark.usefixtures("at_once")
@settings(max_examples=300)
@given(tokenizer=tokenizers(), words=WORDS)
@example(tokenizer=Tokenizer([]), words=["ab"] * 3)
@example(tokenizer=Tokenizer([("a", "a")]), words=["a" * n for n in range(1, 12)])  # pairs overlap
@example(tokenizer=Tokenizer([("a", "a"), ("aa", "aa"), ("aa", "a</w>")]), words=["a" * n for n in range(1, 12)])
@example(tokenizer=Tokenizer([("b", "b"), ("a", "b"), ("ab", "ab")]), words=["abab", "abba", "babab", "bb"])
@example(tokenizer=Tokenizer([("ab", "a"), ("a", "b")]), words=["abab", "aba", "b"])  # the better pair comes later
@example(tokenizer=Tokenizer([("aa", "a"), ("a", "a")]), words=["a" * n for n in range(1, 12)])  # all of a pair first
@example(tokenizer=Tokenizer([("a", "b"), ("b", "a"), ("a", "b")]), words=["abab", "bab"])  # the last rank counts
@example(tokenizer=Tokenizer([("a", "b"), ("ab", "a"), ("b", "a"), ("a", "ba")]), words=["aba", "bab"])  # one string
@example(tokenizer=Tokenizer([]), words=[])
@example(tokenizer=Tokenizer([]), words=[START, END])
def test_words_are_merged_at_once_as_one_by_one(tokenizer, words):
    assert merged(tokenizer, words) == one_by_one(tokenizer, words)


@pytest.mark.usefixtures("at_once")
def test_words_of_captions_are_merged_at_once_as_one_by_one(tokenizer):
    words = sorted({word for text in captions.make(500, tokenizer) for word in clean(text).split()})
    words += ["a" * 3000, "hello" * 300, "é" * 100, "".join(map(chr, range(161, 1000)))]
    assert merged(tokenizer, words) == one_by_one(tokenizer, words)


@pytest.mark.usefixtures("at_once")
def test_ids_can_be_surrogates(official_vocabulary):
    tokenizer = Tokenizer.load(official_vocabulary)  # all merges of the file: ids reach 262,657
    words = [tokenizer.decoder[id].removesuffix("</w>") for id in range(0xD7F0, 0xE010)]
    words = [word for word in words if word.isascii()] + ["photographs"]
    ids = merged(tokenizer, words)
    assert ids == one_by_one(tokenizer, words) and any(0xD800 <= x < 0xE000 for row in ids for x in row)
    tokenizer._words.update(zip(words, ["".join(map(chr, row)) for row in ids]))
    assert tokenizer.encode_batch(words) == [tokenizer.encode(word) for word in words]


# ------------------------------------------------------------------------------------------------ equal to the official


@pytest.mark.usefixtures("at_once")
@settings(max_examples=200)
@given(texts=st.lists(TEXTS, max_size=6))
@example(texts=[])
@example(texts=["", " ", "\n", ""])
@example(texts=["a\0b", "\0", " \0 ", "\1", "a \1 b", "&#0;", "&#1;", "&amp;#0; \0"])  # the marks
@example(texts=["ΑΣ", "ΑΣ Β", "ΣΑΣ\0", "ας"])  # a final sigma has a small letter of its own
@example(texts=["<|endoftext|>", "a <|startoftext|> b", "!<|ENDOFTEXT|>"])
@example(texts=["a" * 500, "日本" * 50, "x" * 65, "1234567890" * 9])
@example(texts=PIECES)
def test_many_texts_are_encoded_as_by_the_official_tokenizer(shared, official_tokenizer, texts):
    shared._words.clear()
    shared._pieces.clear()
    expected = [official_tokenizer.encode(text) for text in texts]
    assert shared.encode_batch(texts) == expected  # nothing is known
    assert shared.encode_batch(texts) == expected  # all is known
    assert [shared.encode(text) for text in texts] == expected


def test_captions_are_encoded_as_by_the_official_tokenizer(tokenizer, official_tokenizer, monkeypatch):
    monkeypatch.setattr(merging, "CHARACTERS", 20_000)  # several parts, in which more and more words are known
    texts = captions.make(1500, tokenizer)
    fresh = Tokenizer(tokenizer.merges)
    assert fresh.encode_batch(iter(texts)) == [official_tokenizer.encode(text) for text in texts]
    assert "_tables" in vars(fresh._words.many)  # they were merged at once


@given(text=TEXTS)
@example(text="\0\1&#0;&#1;&amp;#0;&amp;#1;&#x1;\x1b[1m\0")
def test_clean_texts_have_none_of_the_marks(text):
    assert not {merging.TEXT_END, merging.PIECE_END} & {*clean(text)}


CALM_CHARACTERS = [chr(i) for i in range(0x110000) if CALM.fullmatch(chr(i))]
OFTEN_WRONG = [x for x in CALM_CHARACTERS if "\x80" < x < "\u0460" or "\u2000" < x < "\u2200"]


def official_repair(text):
    return html.unescape(html.unescape(ftfy.fix_text(text)))


@settings(max_examples=1000)
@given(st.lists(st.sampled_from(OFTEN_WRONG) | st.sampled_from(CALM_CHARACTERS) | st.sampled_from("aA1 .ÂÃ&\n’")))
def test_calm_texts_are_repaired_as_by_ftfy(characters):
    text = "".join(characters)
    assert repair(text) == official_repair(text)


@pytest.mark.parametrize("before", ["1\n", "1" * 1_000_000], ids=["line", "million"])
def test_a_part_of_a_text_is_repaired_as_by_ftfy(before):
    text = before + "Ã b"
    assert repair(text) == official_repair(text) == before + "à b"


def test_calm_characters_are_as_they_were():
    for i in range(0, len(CALM_CHARACTERS), 50):  # a space between, so that none can be wrong because of its neighbours
        text = " ".join(CALM_CHARACTERS[i : i + 50])
        assert ftfy.is_bad(text) or official_repair(text) == text


# --------------------------------------------------------------------------------------------------- other tokenizers


@pytest.fixture(scope="module")
def others():
    """{name: a tokenizer of another kind}."""
    small = Tokenizer.train(CORPUS, FIXED + 40)
    numbers = {token: 1000 - id for id, token in small.decoder.items()}
    words = WordPiece(dict.fromkeys(WORD_PIECES))
    return {
        "renumbered": Renumbered(small, numbers),
        "added": WithAddedTokens(small, [AddedToken("<cat>"), AddedToken("red", single_word=True)]),
        "nothing added": WithAddedTokens(small),
        "added to a renumbered one": WithAddedTokens(Renumbered(small, numbers), [AddedToken("<cat>")]),
        "word pieces": words,
        "added to word pieces": WithAddedTokens(words, [AddedToken("<cat>")]),
    }


@pytest.mark.usefixtures("at_once")
@given(texts=st.lists(TEXTS | st.sampled_from(["a red <cat>", *CORPUS]), max_size=5))
def test_other_tokenizers_encode_many_texts_as_one_by_one(others, texts):
    for tokenizer in others.values():
        rows = [tokenizer.encode(text) for text in texts]
        assert tokenizer.encode_batch(texts) == rows
        batch = tokenizer.tokenize(texts, context_length=2000)
        assert [[*row[1 : 1 + len(ids)]] for row, ids in zip(batch.tolist(), rows)] == rows


@pytest.mark.parametrize("texts, message", [(5, "texts is of type int"), (b"a", "texts is of type bytes")])
def test_what_is_no_text_is_refused(tokenizer, others, texts, message):
    for each in (tokenizer, *others.values()):
        with pytest.raises(InputError, match=message):
            each.encode_batch(texts)
        with pytest.raises(InputError, match="text 1 is of type NoneType, expected str"):
            each.encode_batch(["a", None])
        assert each.encode_batch("a cat") == [each.encode("a cat")]  # one text, not five


# ------------------------------------------------------------------------------------------------------ time and memory


def test_few_words_are_merged_one_by_one(tokenizer):
    fresh = Tokenizer(tokenizer.merges)
    fresh.encode_batch(captions.make(100, tokenizer))
    assert "_tables" not in vars(fresh._words.many)  # making them takes longer


def test_parts_have_few_characters(monkeypatch):
    monkeypatch.setattr(merging, "CHARACTERS", 10)
    texts = ["a" * 4, "b" * 4, "c" * 4, "d" * 30, "", "e"]
    assert [*merging.parts(texts)] == [texts[:3], texts[3:4], texts[4:]]


def test_new_texts_are_computed_at_once_and_kept_but_not_without_end():
    asked = []
    cache = Cache(len, lambda texts: asked.append(texts) or [*map(len, texts)], size=3)
    assert cache.all(["dog", "a", "dog", "bird"]) == [3, 1, 3, 4] and asked == [["dog", "a", "bird"]]
    assert cache.all(["a", "bird"]) == [1, 4] and len(asked) == 1
    long = "a" * (Cache.LONGEST + 1)
    assert cache.all([long, "a", "bee"]) == [65, 1, 3] and asked[1:] == [[long, "bee"]]
    assert [*cache] == ["bee"]  # emptied, because it was full
    assert cache.all([*"abcdefg"]) == [1] * 7 and len(cache) == 3


def test_memory_of_a_tokenizer_stays_small(tokenizer, monkeypatch):
    fresh = Tokenizer(tokenizer.merges)
    fresh._words.size = fresh._pieces.size = 100
    texts = captions.make(300, tokenizer)
    assert fresh.encode_batch(texts) == [tokenizer.encode(text) for text in texts]
    assert 0 < len(fresh._pieces) <= 100 and 0 < len(fresh._words) <= 100


@pytest.mark.usefixtures("at_once")
def test_threads_that_encode_many_texts_get_what_one_gets(tokenizer):
    fresh = Tokenizer(tokenizer.merges)
    fresh._words.size = fresh._pieces.size = 500  # they are emptied while other threads read them
    batches = [captions.make(100, tokenizer, seed) for seed in range(12)]
    with ThreadPoolExecutor(4) as threads:
        assert [*threads.map(fresh.encode_batch, batches)] == [[*map(tokenizer.encode, batch)] for batch in batches]


def test_each_pair_has_a_slot(tokenizer):
    merger = Tokenizer(tokenizer.merges)._words.many
    _, _, slots, _ = merger._tables
    assert Counter(slots.tolist()) == {**dict.fromkeys(range(48894), 1), 48894: len(slots) - 48894}
    pairs = np.array([[tokenizer.encoder[symbol] for symbol in pair] for pair in tokenizer.merges])
    assert (merger._pairs(*pairs.T) == np.arange(48894)).all()
    unknown = np.random.default_rng(0).integers(0, 49408, (2, 10_000))
    known = {(a, b): i for i, (a, b) in enumerate(pairs.tolist())}
    assert merger._pairs(*unknown).tolist() == [known.get(pair, 48894) for pair in zip(*unknown.tolist())]
