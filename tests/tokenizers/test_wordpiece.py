"""WordPiece against transformers' BertTokenizer, on a vocabulary made here."""

import pickle
import string
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import BertTokenizer

from miniclip import InputError
from miniclip.tokenizers.bert_unicode import CHANGED, LOWER, STARTERS, UNASSIGNED
from miniclip.tokenizers.wordpiece import WordPiece, normalize, split, word_spans, words

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [
    "red",
    "circle",
    "un",
    "aff",
    "able",
    "élan",
    "elan",
    "straße",
    "strasse",
    "中",
    "σ",
    "ς",
    "don",
    "...",
    "n't",
    "'s",
    "?!",
    "##",
    "i",
]
LETTERS = string.ascii_lowercase + string.digits + string.punctuation + "äßéñσж日本語한글गि"
PIECES = [*SPECIAL, *LETTERS, *(f"##{c}" for c in LETTERS), *WORDS, *(f"##{w}" for w in WORDS)]
PIECES = list(dict.fromkeys(PIECES))


@pytest.fixture(scope="module")
def theirs():
    return BertTokenizer(vocab={piece: id for id, piece in enumerate(PIECES)})


@pytest.fixture(scope="module")
def ours():
    return WordPiece(PIECES)


def encoded(tokenizer, text):
    return tokenizer.encode(text, add_special_tokens=False)


ANY = st.characters(exclude_categories=["Cs"])
ODD = sorted(UNASSIGNED | STARTERS | LOWER.keys() | CHANGED.keys())
RARE = st.sampled_from([*ODD, "\u302e", "\u0345", "Σ", "İ"])
FAMILIAR = st.sampled_from([*LETTERS, *LETTERS.upper(), *" \t\n\u00a0\u2028\0\ufffd\u200b\u0301", *SPECIAL, *WORDS])


@given(text=st.lists(st.one_of(ANY, RARE, FAMILIAR, FAMILIAR)).map("".join))
def test_any_text_is_encoded_as_in_transformers(ours, theirs, text):
    assert ours.encode(text) == encoded(theirs, text)


def test_every_character_is_cut_and_cleaned_as_in_transformers(theirs):
    normalizer, splitter = theirs.backend_tokenizer.normalizer, theirs.backend_tokenizer.pre_tokenizer
    for c in map(chr, range(0x110000)):
        if unicodedata.category(c) != "Cs":
            text = f"q{c}b{c}{c} {c}"
            assert split(text) == [word for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))], (
                ascii(c)
            )


@given(marks=st.text(RARE, min_size=2, max_size=4))
def test_marks_keep_the_order_that_they_have_in_transformers(theirs, marks):
    normalizer, splitter = theirs.backend_tokenizer.normalizer, theirs.backend_tokenizer.pre_tokenizer
    text = f"q{marks}"
    assert split(text) == [word for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("A RED Circle", ["a", "red", "circle"]),
        ("unaffable", ["un", "##aff", "##able"]),
        ("Élan!", ["elan", "!"]),
        ("don't", ["don", "'", "t"]),
        ("中中", ["中", "中"]),
        ("red\u200bcircle\0", ["red", "##circle"]),
        ("[MASK]red[mask]", ["[MASK]", "red", "[", "m", "##a", "##s", "##k", "]"]),
        ("♥", ["[UNK]"]),
        ("r" * 101, ["[UNK]"]),
        ("", []),
    ],
)
def test_worked_examples(ours, theirs, text, pieces):
    assert [ours.decoder[id] for id in ours.encode(text)] == pieces
    assert ours.encode(text) == encoded(theirs, text)


def test_the_longest_word_has_a_hundred_characters(ours, theirs):
    for text in ("r" * 100, "é" * 100):
        assert len(ours.encode(text)) == 100
        assert ours.encode(text) == encoded(theirs, text)


@given(ids=st.lists(st.integers(0, len(PIECES) - 1)))
def test_decoding_equals_transformers(ours, theirs, ids):
    assert ours.decode(ids) == theirs.backend_tokenizer.decode(ids, skip_special_tokens=False)


def test_batches_are_laid_out_as_in_transformers(ours, theirs):
    texts = ["a red circle", "", "unaffable [SEP] élan, vital"]
    expected = theirs(texts, padding="max_length", max_length=16, return_tensors="np")["input_ids"]
    tokens = ours.tokenize(texts, 16)
    assert tokens.dtype == np.int32
    np.testing.assert_array_equal(tokens, expected)
    cut = theirs(texts, padding="max_length", max_length=5, truncation=True, return_tensors="np")["input_ids"]
    np.testing.assert_array_equal(ours.tokenize(texts, 5, truncate=True), cut)
    with pytest.raises(InputError, match=r"text 0 has 5 tokens.* 4"):
        ours.tokenize(texts, 4)


def test_padding_has_the_id_of_the_vocabulary():
    tokenizer = WordPiece(["[CLS]", "[SEP]", "a", "[UNK]", "[PAD]"])
    np.testing.assert_array_equal(tokenizer.tokenize(["a", "a b"], 5), [[0, 2, 1, 4, 4], [0, 2, 3, 1, 4]])


def test_a_vocabulary_is_read_as_transformers_reads_it_and_written_back(ours, theirs, tmp_path):
    ours.save(tmp_path / "vocab.txt")
    loaded = WordPiece.load(tmp_path / "vocab.txt")
    assert loaded.encoder == ours.encoder == BertTokenizer.from_pretrained(tmp_path).get_vocab() and len(loaded) == len(
        PIECES
    )
    assert pickle.loads(pickle.dumps(loaded)).encode("a red circle") == ours.encode("a red circle")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[PAD]\n[UNK]\nred\n", r"vocab\.txt: .* there is no \[CLS\], \[SEP\]"),
        (b"\xff\xfe", r"vocab\.txt: cannot be read as a vocabulary of word pieces"),
        (b"", r"vocab\.txt: .* there is no \[PAD\]"),
    ],
)
def test_a_file_that_is_not_a_vocabulary_is_refused_by_name(content, message, tmp_path):
    (tmp_path / "vocab.txt").write_bytes(content)
    with pytest.raises(InputError, match=message):
        WordPiece.load(tmp_path / "vocab.txt")
    with pytest.raises(InputError, match=r"no\.txt: cannot be read"):
        WordPiece.load(tmp_path / "no.txt")


@given(text=st.lists(FAMILIAR).map("".join))
def test_words_and_their_places_are_the_same(text):
    clean = normalize(text)
    assert [clean[start:end] for start, end in word_spans(clean)] == words(clean)


def test_options_are_kept_by_copies_and_in_our_files():
    cased, usual = WordPiece([*PIECES, "Red"], lower_case=False), WordPiece(PIECES)
    for copied in (cased, pickle.loads(pickle.dumps(cased)), WordPiece.from_lines(cased.lines())):
        assert copied.encode("Red red") == [len(PIECES), PIECES.index("red")] and copied.options == cased.options
    assert usual.lines() == PIECES and WordPiece.from_lines(PIECES).options == usual.options
    for first in ('{"lower_case": ', '{"upper_case": false}'):
        with pytest.raises(InputError, match="not the lines of a vocabulary of word pieces"):
            WordPiece.from_lines([first, *PIECES])


def test_unknown_ids_are_refused(ours):
    with pytest.raises(InputError, match=f"no token id {len(PIECES)}"):
        ours.decode([len(PIECES)])
