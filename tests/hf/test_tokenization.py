"""miniclip.hf's tokenizers against transformers' classes of the same names."""

# ruff: noqa: F811  fixtures are imported, and are arguments of the same name

import json

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from small_vocabularies import PIECES, directories  # noqa: F401

from miniclip import InputError, hf


@pytest.fixture(scope="module", params=["CLIP", "Bert"])
def tokenizers(request, directories):
    """(ours, theirs)"""
    name = f"{request.param}Tokenizer"
    return [getattr(module, name).from_pretrained(directories[request.param]) for module in (hf, transformers)]


def plain(encoding):
    return {name: x.tolist() if hasattr(x, "tolist") else x for name, x in encoding.items()}


TEXTS = ["a photo of cats", "dogs", "the cat sat, on the red mat and the mat sat on a dog", ""]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"padding": True},
        {"padding": "longest", "pad_to_multiple_of": 4},
        {"padding": "max_length", "max_length": 9, "truncation": True},
        {"padding": "max_length", "max_length": 30},
        {"truncation": True, "max_length": 5},
        {"max_length": 6},
        {"truncation": "only_first", "max_length": 7, "padding": True},
        {"add_special_tokens": False, "padding": True},
        {"add_special_tokens": False, "truncation": True, "max_length": 3},
        {"padding": True, "return_attention_mask": False},
        {"padding": True, "return_token_type_ids": True, "return_special_tokens_mask": True, "return_length": True},
    ],
    ids=str,
)
def test_batches_are_encoded_as_by_transformers(tokenizers, options):
    ours, theirs = tokenizers
    assert plain(ours(TEXTS, **options)) == plain(theirs(TEXTS, **options))
    for one in TEXTS:
        assert plain(ours(one, **options)) == plain(theirs(one, **options))
        if "return_length" not in options:
            assert ours.encode(one, **options) == theirs.encode(one, **options)
    if len({len(row) for row in ours(TEXTS, **options).input_ids}) == 1:
        for kind, expected in (("np", np.ndarray), ("pt", torch.Tensor)):
            x, y = ours(TEXTS, **options, return_tensors=kind), theirs(TEXTS, **options, return_tensors=kind)
            assert plain(x) == plain(y) and {type(v) for v in x.values()} == {expected}
            assert x.input_ids.dtype == y.input_ids.dtype and list(x) == list(y)


@pytest.mark.filterwarnings("ignore:.max_length. is ignored")
@given(
    texts=st.lists(st.tuples(st.text("abc ,", max_size=12), st.text("cat s", max_size=12)), min_size=1, max_size=3),
    max_length=st.integers(5, 20),  # if no token of a text fits, transformers leaves out special tokens as well
    strategy=st.sampled_from(["longest_first", True, False]),
    padding=st.sampled_from([False, True, "max_length"]),
)
def test_pairs_of_texts_are_encoded_as_by_transformers(tokenizers, texts, max_length, strategy, padding):
    ours, theirs = tokenizers
    options = {"max_length": max_length, "truncation": strategy, "padding": padding, "return_token_type_ids": True}
    options["return_special_tokens_mask"] = True
    first, second = map(list, zip(*texts))
    assert plain(ours(first, second, **options)) == plain(theirs(first, second, **options))
    if second[0]:  # transformers treats an empty second text as none, unless it is in a list
        assert plain(ours(first[0], second[0], **options)) == plain(theirs(first[0], second[0], **options))


def test_one_of_two_texts_is_cut(tokenizers):
    ours, theirs = tokenizers
    for strategy in ("only_first", "only_second"):
        options = {"truncation": strategy, "max_length": 14}
        texts = ("red cats on mats", "a dog") if strategy == "only_first" else ("a dog", "red cats on mats")
        assert plain(ours(*texts, **options)) == plain(theirs(*texts, **options))
        with pytest.raises(
            InputError, match=f"max_length is 5: too short, truncation='{strategy}' would leave nothing"
        ):
            ours("a cat sat", "the cat sat", truncation=strategy, max_length=5)


@given(ids=st.lists(st.integers(0, 57)), skip=st.booleans())
def test_ids_are_decoded_as_by_transformers(tokenizers, ids, skip):
    ours, theirs = tokenizers
    ids = [id + (97 if ours.family.__name__.endswith("clip") else 0) for id in ids]  # no parts of UTF-8 characters
    assert ours.decode(ids, skip_special_tokens=skip) == theirs.decode(ids, skip_special_tokens=skip)


def test_batches_are_decoded(tokenizers):
    ours, theirs = tokenizers
    rows = ours(TEXTS, padding=True, return_tensors="pt").input_ids
    for skip in (True, False):
        expected = theirs.batch_decode(rows, skip_special_tokens=skip)
        assert ours.batch_decode(rows, skip_special_tokens=skip) == expected
        assert ours.decode(rows.numpy(), skip_special_tokens=skip) == expected
    assert ours.decode(rows[0, 1]) == theirs.decode(rows[0, 1])
    with pytest.raises(InputError, match="there is no token id 9999"):
        ours.batch_decode([[9999]])


def test_tokens_ids_and_special_ones_are_transformers(tokenizers):
    ours, theirs = tokenizers
    tokens = ours.tokenize("a photo of cats")
    assert tokens == theirs.tokenize("a photo of cats")
    assert ours.convert_tokens_to_ids(tokens) == theirs.convert_tokens_to_ids(tokens)
    assert ours.convert_tokens_to_ids("no such token") == theirs.convert_tokens_to_ids("no such token")
    assert ours.convert_ids_to_tokens([5, 7]) == theirs.convert_ids_to_tokens([5, 7])
    assert ours.convert_ids_to_tokens(5) == theirs.convert_ids_to_tokens(5)
    assert ours.get_vocab() == theirs.get_vocab()
    for name in ("vocab_size", "model_max_length", "pad_token_id", "padding_side", "special_tokens_map"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert sorted(ours.all_special_ids) == sorted(theirs.all_special_ids) and len(ours) == len(theirs)
    assert list(ours.model_input_names) == theirs.model_input_names
    for role, token in theirs.special_tokens_map.items():
        assert (getattr(ours, role), getattr(ours, f"{role}_id")) == (token, theirs.convert_tokens_to_ids(token))


def test_rows_are_built_and_masked_as_by_transformers(tokenizers):
    """transformers 5 removed its methods for this; a call of its tokenizers still gives the same rows."""
    ours, theirs = tokenizers
    first, second = (theirs.encode(text, add_special_tokens=False) for text in ("a cat", "the dogs"))
    options = {"return_token_type_ids": True, "return_special_tokens_mask": True}
    for ids, texts in (((first,), ("a cat",)), ((first, second), ("a cat", "the dogs"))):
        expected = theirs(*texts, **options)
        assert ours.build_inputs_with_special_tokens(*ids) == expected["input_ids"]
        assert ours.create_token_type_ids_from_sequences(*ids) == expected["token_type_ids"]
        assert ours.get_special_tokens_mask(*ids) == expected["special_tokens_mask"]
        row = expected["input_ids"] + [theirs.pad_token_id]
        mask = theirs.get_special_tokens_mask(row, already_has_special_tokens=True)
        assert ours.get_special_tokens_mask(row, already_has_special_tokens=True) == mask
        assert ours.num_special_tokens_to_add(len(ids) == 2) == theirs.num_special_tokens_to_add(len(ids) == 2)


def test_rows_are_padded_later(tokenizers):
    ours, theirs = tokenizers
    rows = [ours("a cat"), ours("the dogs sat")]
    for options in ({}, {"padding": "max_length", "max_length": 20}, {"return_tensors": "np"}):
        for given_rows in (rows, {name: [row[name] for row in rows] for name in rows[0]}):
            found, expected = ours.pad(given_rows, **options), theirs.pad(given_rows, **options)
            assert {name: np.asarray(x).tolist() for name, x in found.items()} == {
                name: np.asarray(x).tolist() for name, x in expected.items()
            }


def test_rows_are_padded_on_the_side_that_is_asked_for(tokenizers, tmp_path):
    ours, theirs = (type(tokenizer).from_pretrained(tokenizers[1].name_or_path) for tokenizer in tokenizers)
    for tokenizer in (ours, theirs):
        tokenizer.padding_side = "left"
    assert plain(ours(TEXTS, padding=True)) == plain(theirs(TEXTS, padding=True))
    theirs.save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**settings, "padding_side": "left"}))
    assert plain(type(ours).from_pretrained(tmp_path)(TEXTS, padding=True)) == plain(theirs(TEXTS, padding=True))
    assert plain(ours(TEXTS, padding=True, padding_side="right")) == plain(
        theirs(TEXTS, padding=True, padding_side="right")
    )
    (tmp_path / "tokenizer_config.json").write_text('{"padding_side": "nonsense"}')
    with pytest.raises(InputError, match="padding_side is 'nonsense', expected one of 'right', 'left'"):
        type(ours).from_pretrained(tmp_path)


def test_texts_are_cut_on_the_side_that_is_asked_for(tokenizers, tmp_path):
    directory, options = tokenizers[1].name_or_path, {"truncation": True, "max_length": 5}
    ours, theirs = (type(x).from_pretrained(directory, truncation_side="left") for x in tokenizers)
    expected = plain(theirs(TEXTS, **options))
    assert plain(ours(TEXTS, **options)) == expected != plain(tokenizers[1](TEXTS, **options))
    ours.save_pretrained(tmp_path)
    assert plain(type(theirs).from_pretrained(tmp_path)(TEXTS, **options)) == expected
    ours.truncation_side = "right"
    assert plain(ours(TEXTS, **options)) == plain(tokenizers[1](TEXTS, **options))


def test_one_row_is_padded_and_decoded_alone(tokenizers):
    ours, theirs = tokenizers
    row = ours("a cat")["input_ids"]
    options = {"padding": "max_length", "max_length": 9}
    assert plain(ours.pad({"input_ids": row}, **options)) == plain(theirs.pad({"input_ids": row}, **options))
    for ids in (row, [], [row]):
        assert ours.batch_decode(ids) == theirs.batch_decode(ids)
    assert ours([], return_tensors="np").input_ids.dtype == np.int64


CASED = [*dict.fromkeys([*PIECES, *"ABCÉé中人", "Cat", "##É", "##人"])]


@pytest.mark.parametrize(
    "options",
    [
        {"do_lower_case": False},
        {"do_lower_case": False, "strip_accents": True},
        {"strip_accents": False},
        {"tokenize_chinese_chars": False},
    ],
    ids=str,
)
def test_vocabularies_with_capitals_accents_and_chinese_words_are_read_and_saved(options, tmp_path):
    vocab = {piece: id for id, piece in enumerate(CASED)}
    theirs, texts = transformers.BertTokenizer(vocab=vocab, **options), ["Cat cat ÉÉ é A", "中人 a中"]
    theirs.save_pretrained(tmp_path / "theirs")
    for ours in (hf.BertTokenizer(vocab, **options), hf.BertTokenizer.from_pretrained(tmp_path / "theirs")):
        assert ours(texts)["input_ids"] == theirs(texts)["input_ids"] != hf.BertTokenizer(vocab)(texts)["input_ids"]
        ours.save_pretrained(tmp_path / "ours")
        again = (type(x).from_pretrained(tmp_path / "ours") for x in (ours, theirs))
        assert [x(texts)["input_ids"] for x in again] == [theirs(texts)["input_ids"]] * 2
    if "strip_accents" not in options:
        (tmp_path / "theirs" / "tokenizer_config.json").unlink()  # transformers 5 then forgets the options
        assert hf.BertTokenizer.from_pretrained(tmp_path / "theirs")(texts)["input_ids"] == theirs(texts)["input_ids"]


def test_vocabularies_are_saved_for_transformers(tokenizers, tmp_path):
    ours, theirs = tokenizers
    written = ours.save_pretrained(tmp_path / "m")
    again = type(theirs).from_pretrained(tmp_path / "m")
    assert all((tmp_path / "m").samefile(path.rpartition("/")[0]) for path in written)
    assert plain(again(TEXTS)) == plain(theirs(TEXTS)) == plain(type(ours).from_pretrained(tmp_path / "m")(TEXTS))
    theirs.save_pretrained(tmp_path / "theirs")  # one file, tokenizer.json
    assert plain(type(ours).from_pretrained(tmp_path / "theirs")(TEXTS)) == plain(theirs(TEXTS))
    files = ours.save_vocabulary(str(tmp_path), "small")
    assert [path.rpartition("/")[2] for path in files] == (
        ["small-vocab.json", "small-merges.txt"] if len(files) == 2 else ["small-vocab.txt"]
    )
    assert plain(type(ours)(*files)(TEXTS)) == plain(ours(TEXTS))


def test_clip_s_tokens_are_openai_s(official_tokenizer):
    ours = hf.CLIPTokenizer()
    assert hf.CLIPTokenizerFast is hf.CLIPTokenizer and hf.BertTokenizerFast is hf.BertTokenizer
    for text in ("“quoted”", "a &amp; b", "schÃ¶n", "it's 12 o'clock"):
        assert ours.encode(text, add_special_tokens=False) == official_tokenizer.encode(text)
    assert ours("a photo", padding="max_length", max_length=6).input_ids == [49406, 320, 1125, 49407, 49407, 49407]


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((["a", "b c"],), {"return_tensors": "np"}, "input_ids has rows of different lengths: pass padding=True"),
        (("a",), {"return_tensors": "mx"}, "return_tensors is 'mx', expected 'np', 'pt', 'tf' or None"),
        ((7,), {}, "text is 7 of type int, expected a str or a list of str"),
        ((None,), {}, "text is missing"),
        (((x for x in "ab"),), {}, "text is .* of type generator, expected a str or a list of str"),
        ((["a", 7],), {}, "text is 7 of type int in row 1, expected a str"),
        (([["a", "b", "c"]],), {}, "text is .* of type list in row 0, expected a str or a list of str"),
        (("a",), {"is_split_into_words": True}, "text is 'a' of type str, expected a list of words"),
        (("a",), {"max_length": "long"}, "max_length is 'long', expected a whole number"),
        (("a",), {"text_target": "b"}, "takes no text_target"),
        (("a",), {"padding": ["wide"]}, "padding is .*, expected one of False"),
        (
            ("a b c d",),
            {"truncation": True, "max_length": 5, "stride": 3},
            "stride is 3, expected less than the 3 tokens",
        ),
        ((["a"], ["b", "c"]), {}, "text_pair has not as many texts as text"),
        (("a",), {"padding": "wide"}, "padding is 'wide', expected one of False"),
        (("a",), {"truncation": "middle"}, "truncation is 'middle', expected one of"),
        (("a b c",), {"truncation": True, "max_length": 1}, "max_length is 1: too short"),
    ],
)
def test_what_cannot_be_encoded_is_refused(tokenizers, arguments, options, message):
    with pytest.raises(InputError, match=message):
        tokenizers[0](*arguments, **options)


def test_vocabularies_that_are_none_are_refused(directories, tmp_path):
    with pytest.raises(InputError, match="has no vocabulary for a CLIPTokenizer"):
        hf.CLIPTokenizer.from_pretrained(tmp_path)
    with pytest.raises(InputError, match="BertTokenizer has no vocabulary of its own: give vocab_file"):
        hf.BertTokenizer()
    (tmp_path / "vocab.json").write_text('{"a": 1}')
    with pytest.raises(InputError, match=r"vocab\.json: does not fit the merges: the vocabulary has no '<.startoftext"):
        hf.CLIPTokenizer(tmp_path / "vocab.json", directories["CLIP"] / "merges.txt")
