"""Tokens that are added to a vocabulary: texts without them keep their ids, and every id has its place."""

import copy
import functools
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from texts import PIECES, TEXTS

from miniclip import InputError
from miniclip.tokenizers.added import AddedToken, WithAddedTokens
from miniclip.tokenizers.renumbered import Renumbered
from miniclip.tokenizers.wordpiece import WordPiece

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789!<>|&;'日本"
WORD_PIECES = WordPiece(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{x}" for x in LETTERS), "cat"])
TOKENS = [
    AddedToken("<my-cat>"),
    AddedToken("Photo", single_word=True),
    AddedToken("cat", normalized=False),
    AddedToken("ing", lstrip=True, rstrip=True, normalized=False),
]


@functools.cache
def with_added(plain, tokens):
    return WithAddedTokens(plain, tokens)


TEXT = TEXTS | st.lists(st.sampled_from([*PIECES, "<my-cat>", "[MASK]"])).map("".join)


@given(text=TEXT)
def test_without_added_tokens_the_ids_are_the_tokenizer_s_own(tokenizer, text):
    for plain in (tokenizer, WORD_PIECES):
        special = ("<|startoftext|>", "<|endoftext|>") if plain is tokenizer else ("[PAD]", "[MASK]")
        wrapped = with_added(plain, tuple(AddedToken(x, normalized=False, special=True) for x in special))
        assert not wrapped.changes_ids and wrapped.encode(text) == plain.encode(text)
        assert wrapped.decode(plain.encode(text)) == plain.decode(plain.encode(text))
        assert wrapped.LINES == plain.LINES and len(wrapped) == len(plain)


@given(text=TEXT, tokens=st.lists(st.sampled_from(TOKENS), unique=True))
def test_every_id_has_its_place_in_the_text(tokenizer, text, tokens):
    for plain in (tokenizer, WORD_PIECES):
        spans = (wrapped := with_added(plain, tuple(sorted(tokens, key=str)))).spans(text)
        assert [span.id for span in spans] == wrapped.encode(text)
        places = [(span.start, span.end) for span in spans]
        assert all(0 <= start <= end <= len(text) for start, end in places) and places == sorted(places)
        words = [span.word for span in spans]
        assert words == sorted(words)


def test_texts_between_added_tokens_are_encoded_by_themselves(tokenizer):
    wrapped = WithAddedTokens(tokenizer, TOKENS[:2])
    size = len(tokenizer)
    assert wrapped.encode("a <my-cat>, a PHOTO") == [320, size, 267, 320, size + 1]
    parts = WithAddedTokens(tokenizer, TOKENS[1:]).encode("photos cats")  # "cat" is one of the vocabulary
    assert parts == [*tokenizer.encode("photos"), tokenizer.encoder["cat"], *tokenizer.encode("s")]
    assert wrapped.encode("no such token!") == tokenizer.encode("no such token!")
    longer = WithAddedTokens(tokenizer, [*TOKENS[:2], AddedToken("<my-cat>s")])
    assert longer.encode("<my-cat>s <my-cat>") == [size + 2, size]
    assert wrapped.decode([320, size, 320]) == "a <my-cat>a "
    assert wrapped.tokenize("<my-cat>", 4).tolist() == [[tokenizer.start_id, size, tokenizer.end_id, 0]]
    for again in (copy.deepcopy(wrapped), pickle.loads(pickle.dumps(wrapped))):
        assert again.encode("a <my-cat>") == [320, size]
    with pytest.raises(InputError, match=f"there is no token id {size + 9}"):
        wrapped.decode([size + 9])
    assert WithAddedTokens(tokenizer).lines() == tokenizer.lines()
    with pytest.raises(InputError, match="added tokens, which only transformers' files can express"):
        wrapped.lines()


def test_tokens_are_added_once_and_can_change():
    wrapped = WithAddedTokens(WORD_PIECES)
    assert wrapped.add([AddedToken("new"), AddedToken("new"), AddedToken(""), AddedToken("cat")]) == 2
    assert wrapped.encoder["new"] == len(WORD_PIECES) and wrapped.encoder["cat"] == WORD_PIECES.encoder["cat"]
    assert wrapped.add([AddedToken("new", special=True)]) == 1 and len(wrapped) == len(WORD_PIECES) + 1
    for wrong in (7, None, {"lstrip": True}, {"content": "x", "special": "yes"}, object()):
        with pytest.raises(InputError, match="is not a token, expected a str or an AddedToken"):
            AddedToken.of(wrong)


@pytest.fixture(scope="module")
def other(tokenizer):
    return Renumbered(tokenizer, {token: len(tokenizer) - 1 - id for token, id in tokenizer.encoder.items()})


@given(text=TEXT)
def test_renumbered_tokens_are_the_same_with_other_ids(tokenizer, other, text):
    last = len(tokenizer) - 1
    assert [last - id for id in other.encode(text)] == tokenizer.encode(text)
    assert other.decode(other.encode(text)) == tokenizer.decode(tokenizer.encode(text))
