"""What each token of a batch was in its text, and rows of what does not fit, against transformers."""

# ruff: noqa: F811  fixtures are imported, and are arguments of the same name

import copy
import pickle

import numpy as np
import pytest
import transformers
from hypothesis import given
from hypothesis import strategies as st
from small_vocabularies import directories  # noqa: F401

from miniclip import InputError, hf


@pytest.fixture(scope="module", params=["CLIP", "Bert"])
def tokenizers(request, directories):
    """(ours, theirs)"""
    name = f"{request.param}Tokenizer"
    return [getattr(module, name).from_pretrained(directories[request.param]) for module in (hf, transformers)]


WORDS = st.lists(st.sampled_from(["a", "cats", "sat,", "日本語", "caf!é", "the"]), min_size=1, max_size=7)
TEXT = WORDS.map(" ".join)


@pytest.mark.filterwarnings("ignore:.max_length. is ignored")
@given(
    pairs=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=3),
    form=st.sampled_from(["texts", "pairs", "two lists", "words", "pairs of words"]),
    truncation=st.sampled_from([False, "longest_first", "only_first", "only_second"]),
    sides=st.tuples(*[st.sampled_from(["left", "right"])] * 2),
    padding=st.sampled_from([False, True, "max_length"]),
    max_length=st.integers(7, 30),
    stride=st.integers(0, 1),
    add_special_tokens=st.booleans(),
)
def test_rows_are_those_of_transformers(tokenizers, pairs, form, truncation, sides, padding, **options):
    ours, theirs = tokenizers
    for tokenizer in tokenizers:
        tokenizer.padding_side, tokenizer.truncation_side = sides
    texts = [first for first, _ in pairs]
    inputs = {
        "texts": (texts,),
        "pairs": (pairs,),
        "two lists": (texts, [second for _, second in pairs]),
        "words": ([text.split() for text in texts],),
        "pairs of words": ([tuple(text.split() for text in pair) for pair in pairs],),
    }[form]
    options |= {"truncation": truncation, "padding": padding, "return_overflowing_tokens": True}
    options |= {"return_offsets_mapping": True, "return_special_tokens_mask": True, "return_length": True}
    options["is_split_into_words"] = "words" in form
    try:
        found = ours(*inputs, **options)
    except InputError as error:  # tokenizers panics, or says that a sequence is too short
        assert "would leave nothing of a text" in str(error) or "stride is 1" in str(error)
        return
    expected = theirs(*inputs, **options)
    assert dict(found) == dict(expected)
    for row, other in zip(found.encodings, expected.encodings):
        for name in ("ids", "tokens", "word_ids", "sequence_ids", "offsets", "attention_mask", "special_tokens_mask"):
            assert getattr(row, name) == getattr(other, name), name


def test_places_are_found_as_in_transformers(tokenizers):
    ours, theirs = tokenizers
    for tokenizer in tokenizers:
        tokenizer.padding_side = tokenizer.truncation_side = "right"
    first, second = ["a cats sat", "the Café!"], ["日本語 cat", "a"]
    found, expected = ours(first, second, padding=True), theirs(first, second, padding=True)
    assert found.is_fast and found.n_sequences == expected.n_sequences == 2 and found.data == expected.data
    assert found[0].ids == expected[0].ids and found[:1][0].ids == expected[:1][0].ids
    for row in range(2):
        length = len(found["input_ids"][row])
        for name in ("tokens", "word_ids", "sequence_ids"):
            assert getattr(found, name)(row) == getattr(expected, name)(row)
        for name in ("token_to_sequence", "token_to_word", "token_to_chars"):
            for token in range(length):
                assert getattr(found, name)(row, token) == getattr(expected, name)(row, token), name
        for text in range(2):
            for name in ("word_to_tokens", "char_to_token", "char_to_word"):
                for place in range(4):
                    both = [getattr(x, name)(row, place, sequence_index=text) for x in (found, expected)]
                    assert both[0] == both[1], name
            assert found.word_to_chars(row, 0, text) == expected.word_to_chars(row, 0, text)
    alone, other = ours("a cats"), theirs("a cats")
    assert alone.char_to_token(3) == other.char_to_token(3) and alone.word_to_tokens(1) == other.word_to_tokens(1)
    for copied in (copy.deepcopy(alone), pickle.loads(pickle.dumps(alone))):
        assert copied == alone and copied.word_ids() == other.word_ids()
    arrays = ours("a cats").convert_to_tensors("np", prepend_batch_axis=True)
    np.testing.assert_array_equal(arrays["input_ids"], theirs("a cats", return_tensors="np")["input_ids"])
    with pytest.raises(InputError, match="there is no row 2, the batch has 2"):
        found.word_to_tokens(2, 0)


def test_places_are_those_of_the_tokenizer_that_encoded(tokenizers):
    ours = copy.deepcopy(tokenizers[0])
    found = ours("a cats")
    ours.add_tokens("cat")
    with pytest.raises(InputError, match="tokens were added to the tokenizer after this text: encode it again"):
        found.word_ids()


def test_repaired_texts_have_the_places_of_what_was_repaired():
    tokenizer = hf.CLIPTokenizer()
    for text, places in (
        ("a  “Cat”", [(0, 1), (3, 4), (4, 7), (7, 8)]),  # typographic quotes become plain ones
        ("schÃ¶n &lt;", [(0, 3), (3, 5), (5, 6), (7, 11)]),
        ("İ cat", [(0, 1), (0, 1), (2, 5)]),  # its lower case has two characters
    ):
        found = tokenizer(text, return_offsets_mapping=True, add_special_tokens=False)
        assert found["offset_mapping"] == places and found["input_ids"] == tokenizer.tokenizer.tokenizer.encode(text)


def test_names_of_transformers_4_call_the_same(tokenizers):
    ours, theirs = tokenizers
    texts = ["a cat", "the dogs sat"]
    assert ours.encode_plus(texts[0], texts[1]) == ours(*texts) and ours.batch_encode_plus(texts) == ours(texts)
    assert ours.batch_encode_plus([tuple(texts)]) == ours([tuple(texts)])
    first, second = (theirs.encode(text, add_special_tokens=False) for text in texts)
    for ids, given_texts in (((first,), texts[:1]), ((first, second), texts)):
        options = {"truncation": "only_first", "max_length": 20, "padding": "max_length"}
        assert dict(ours.prepare_for_model(*ids, **options)) == dict(theirs(*given_texts, **options))
    assert ours.tokenize(*texts, add_special_tokens=True) == theirs.tokenize(*texts, add_special_tokens=True)
    assert ours.convert_tokens_to_string(ours.tokenize("the dogs")) == "the dogs"
    for name in ("max_len_single_sentence", "max_len_sentences_pair", "pad_token_type_id", "is_fast"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert "vocab_size" in repr(ours) and bool(ours) and ours.vocab == theirs.vocab


@given(
    first=st.lists(st.integers(0, 9), max_size=9),
    second=st.none() | st.lists(st.integers(0, 9), max_size=9),
    count=st.integers(0, 9),
    strategy=st.sampled_from(["longest_first", "only_first", "only_second"]),
    stride=st.integers(0, 2),
    side=st.sampled_from(["left", "right"]),
)
def test_sequences_are_truncated_as_by_transformers(tokenizers, first, second, count, side, **options):
    from transformers.tokenization_python import PythonBackend

    ours = tokenizers[0]
    count = min(count, len(first), len(second) if second else 9)  # beyond, transformers counts from the other end
    arguments = (first, second, count, options["strategy"], options["stride"])
    theirs = type("Theirs", (), {"truncation_side": side})()
    ours.truncation_side = side
    if options["strategy"] == "only_second" and not second:
        return
    expected = PythonBackend.truncate_sequences(theirs, *arguments)
    assert ours.truncate_sequences(*arguments) == expected


def test_long_texts_are_reported_once(tokenizers, caplog):
    ours = copy.deepcopy(tokenizers[0])
    ours.model_max_length = 5
    for _ in range(2):
        ours("a cat sat on the mat")
    assert [record.name for record in caplog.records] == ["miniclip.hf"] and "pass truncation=True" in caplog.text
    caplog.clear()
    copy.deepcopy(tokenizers[0])("a cat sat on the mat" * 9, verbose=False)
    assert not caplog.records


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (None, "there are no input_ids to pad, only NoneType"),
        ({"attention_mask": [[1]]}, "there are no input_ids to pad, only attention_mask"),
        ({"input_ids": [[1, 2], None]}, "input_ids is None of type NoneType, expected a list of token ids"),
        ({"input_ids": [[1], [1.5]]}, "expected a list of token ids"),
        ({"input_ids": [[1, 2]], "attention_mask": [[1]]}, "attention_mask has rows of other lengths than input_ids"),
        ({"input_ids": [[1, 2]], "attention_mask": []}, "attention_mask has not as many rows as input_ids"),
        ([{"input_ids": [1]}, None], "the rows to pad are not dicts with the same names"),
        ({"input_ids": "ab"}, "input_ids is 'ab', expected rows of token ids"),
    ],
    ids=str,
)
def test_rows_that_cannot_be_padded_are_refused(tokenizers, rows, message):
    with pytest.raises(InputError, match=message):
        tokenizers[0].pad(rows)


def test_arrays_are_padded_to_arrays(tokenizers):
    for kind in ("np", "pt"):
        rows = [tokenizer("a cat", return_tensors=kind) for tokenizer in tokenizers]
        options = {"padding": "max_length", "max_length": 12}
        found, expected = (x.pad({**row}, **options) for x, row in zip(tokenizers, rows))
        assert {name: type(x) for name, x in found.items()} == {name: type(x) for name, x in expected.items()}
        assert all((found[name] == expected[name]).all() for name in expected)
