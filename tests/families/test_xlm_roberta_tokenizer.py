"""XLM-RoBERTa's tokenizer against transformers', on vocabularies made here."""

# ruff: noqa: F811  fixtures are imported, and are arguments of the same name

import json
import pickle
import string
import warnings

import numpy as np
import pytest
import transformers
from hypothesis import given
from hypothesis import strategies as st
from xlm_roberta_vocabularies import KINDS, sentencepiece_bytes, xlm_roberta_directories  # noqa: F401

from miniclip import InputError, hf
from miniclip.families.multilingual import xlm_roberta_files
from miniclip.tokenizers.xlm_roberta import XLMRoberta

ANY = st.characters(exclude_categories=["Cs"])
FAMILIAR = st.sampled_from([*string.printable, *"▁éßİﬁ㌔日本語の猫кошقطة빨बि\u00a0\u2028\u3000\u200b\x00", "cat", " a"])
SPECIAL = st.sampled_from(
    ["<s>", "</s>", " </s> ", "<unk>", "<pad>", " <mask>", "<mask> ", "▁", " ", "e\u0301", "▁cat"]
)
TEXTS = st.lists(st.one_of(ANY, FAMILIAR, FAMILIAR, SPECIAL)).map("".join)
LINES = ["a photo of a red cat", "deux chiens rouges!", "日本語の猫", "красная кошка, <mask>", "قطة", ""]


@pytest.fixture(scope="module", params=KINDS)
def pair(request, xlm_roberta_directories):
    """(the directory, our tokenizer of it, transformers')"""
    directory = xlm_roberta_directories[request.param]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = transformers.XLMRobertaTokenizer.from_pretrained(directory)
    return directory, xlm_roberta_files.load_tokenizer(directory), theirs


@given(text=TEXTS)
def test_any_text_is_encoded_as_in_transformers(pair, text):
    _, ours, theirs = pair
    assert ours.encode(text) == theirs.encode(text, add_special_tokens=False)
    assert ours.row(ours.encode(text)) == theirs.encode(text)


@given(texts=st.lists(TEXTS, min_size=1, max_size=3), length=st.integers(3, 9))
def test_batches_are_laid_out_as_in_transformers(pair, texts, length):
    _, ours, theirs = pair
    expected = theirs(texts, padding="max_length", max_length=length, truncation=True, return_tensors="np")
    np.testing.assert_array_equal(ours.tokenize(texts, length, truncate=True), expected["input_ids"])


@given(data=st.data())
def test_decoding_equals_transformers(pair, data):
    _, ours, theirs = pair
    ids = data.draw(st.lists(st.integers(0, len(ours) - 1)))
    assert ours.decode(ids) == theirs.decode(ids)
    tokens = [ours.decoder[id] for id in ids]
    assert ours.join(tokens) == theirs.convert_tokens_to_string(tokens)


def test_the_ids_of_special_tokens_are_fairseqs(pair):
    _, ours, theirs = pair
    assert [ours.decoder[id] for id in (0, 1, 2, 3, len(ours) - 1)] == ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    assert (ours.start_id, ours.pad_id, ours.end_id) == (0, 1, 2) and len(ours) == len(theirs)
    assert ours.encoder == theirs.get_vocab()


def test_it_survives_our_file_and_a_copy(pair):
    _, ours, _ = pair
    for again in (pickle.loads(pickle.dumps(ours)), XLMRoberta.from_lines("\n".join(ours.lines()).split("\n"))):
        assert type(again) is XLMRoberta and again.options == ours.options
        assert again.encode_batch(LINES) == ours.encode_batch(LINES)


# ----------------------------------------------------------------------------------------------------- miniclip.hf


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"padding": True},
        {"padding": "max_length", "max_length": 9, "truncation": True},
        {"add_special_tokens": False, "truncation": True, "max_length": 3},
        {"padding": True, "padding_side": "left", "return_special_tokens_mask": True},
        {"return_offsets_mapping": True, "return_token_type_ids": True},
    ],
    ids=str,
)
def test_calls_are_answered_as_by_transformers(pair, options):
    directory, _, theirs = pair
    ours = hf.XLMRobertaTokenizer.from_pretrained(directory)
    for texts in (LINES, LINES[0], "", [("a cat", "deux chiens <mask>")]):
        assert dict(ours(texts, **options)) == dict(theirs(texts, **options))


def test_names_of_tokens_are_transformers(pair, tmp_path):
    directory, _, theirs = pair
    ours = hf.XLMRobertaTokenizerFast.from_pretrained(directory)
    assert ours.special_tokens_map == {name: str(x) for name, x in theirs.special_tokens_map.items()}
    for name in ("bos", "eos", "sep", "cls", "pad", "unk", "mask"):
        assert getattr(ours, f"{name}_token_id") == getattr(theirs, f"{name}_token_id"), name
    assert (ours.model_max_length, ours.padding_side, len(ours)) == (16, theirs.padding_side, len(theirs))
    ids = theirs(LINES[3])["input_ids"]
    for skip in (False, True):
        assert ours.decode(ids, skip_special_tokens=skip) == theirs.decode(ids, skip_special_tokens=skip)
    assert ours.convert_ids_to_tokens(ids) == theirs.convert_ids_to_tokens(ids)


def test_each_reads_what_the_other_writes(pair, tmp_path):
    directory, _, theirs = pair
    ours = hf.XLMRobertaTokenizer.from_pretrained(directory)
    ours.save_pretrained(tmp_path / "ours")
    theirs.save_pretrained(tmp_path / "theirs")
    for again in (type(theirs).from_pretrained(tmp_path / "ours"), type(ours).from_pretrained(tmp_path / "theirs")):
        assert dict(again(LINES, padding="max_length")) == dict(theirs(LINES, padding="max_length"))
        assert again.padding_side == theirs.padding_side and again.model_max_length == 16


@pytest.mark.parametrize("kind", ["sentencepiece", "tokenizer.json"])
def test_a_tokenizer_is_loaded_from_a_file_alone(kind, xlm_roberta_directories, tmp_path):
    (file,) = (path for path in xlm_roberta_directories[kind].iterdir() if path.name != "tokenizer_config.json")
    whole, alone = xlm_roberta_files.load_tokenizer(file.parent), XLMRoberta.load(file)
    assert alone.encode_batch(LINES) == whole.encode_batch(LINES) and alone.content == whole.content
    (tmp_path / file.name).write_bytes(b"no vocabulary")
    for path in (tmp_path / file.name, tmp_path / "nothing.json"):
        with pytest.raises(InputError, match=rf"{path.name}: not the vocabulary of an XLM-RoBERTa"):
            XLMRoberta.load(path)


def test_a_tokenizer_is_made_of_a_file(xlm_roberta_directories):
    model = xlm_roberta_directories["sentencepiece"] / "sentencepiece.bpe.model"
    file = xlm_roberta_directories["tokenizer.json"] / "tokenizer.json"
    made = [hf.XLMRobertaTokenizer(model), hf.XLMRobertaTokenizer(tokenizer_file=file)]
    assert [x("a red cat")["input_ids"] for x in made] == [made[0]("a red cat")["input_ids"]] * 2
    with pytest.raises(InputError, match=r"of its own: give the path of tokenizer\.json or sentencepiece\.bpe\.model"):
        hf.XLMRobertaTokenizer()
    with pytest.raises(InputError, match=r"nothing: there is no tokenizer\.json or sentencepiece\.bpe\.model here"):
        hf.XLMRobertaTokenizer("nothing")


# ------------------------------------------------------------------------------------------------------- bad input


def test_damaged_files_are_refused(sentencepiece_bytes, tmp_path):
    model, file = tmp_path / "sentencepiece.bpe.model", tmp_path / "tokenizer.json"
    for data in (b"", b"no model", sentencepiece_bytes[:-1], sentencepiece_bytes[:40], b"\x08" + b"\xff" * 20):
        model.write_bytes(data)
        with pytest.raises(InputError, match=r"sentencepiece\.bpe\.model: not the vocabulary of an XLM-RoBERTa: "):
            xlm_roberta_files.load_tokenizer(tmp_path)
    for content in ("{", "[]", "{}", '{"model": {"type": "BPE", "vocab": {}}}', '{"model": {"vocab": [["a", 0.0]]}}'):
        file.write_text(content)
        with pytest.raises(InputError, match=r"tokenizer\.json: "):
            xlm_roberta_files.load_tokenizer(tmp_path)


def test_tokens_that_settings_add_are_refused(sentencepiece_bytes, tmp_path):
    (tmp_path / "sentencepiece.bpe.model").write_bytes(sentencepiece_bytes)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"additional_special_tokens": ["<new>"]}))
    with pytest.raises(InputError, match="its settings add the token '<new>'"):
        xlm_roberta_files.load_tokenizer(tmp_path)


def test_texts_that_are_none_are_refused(pair):
    _, ours, _ = pair
    with pytest.raises(InputError, match="a character that is no text"):
        ours.encode("\ud800")
    with pytest.raises(InputError, match="there is no token id 99999"):
        ours.decode([99999])


def test_a_directory_without_a_vocabulary_has_no_tokenizer(tmp_path):
    assert xlm_roberta_files.load_tokenizer(tmp_path) is None
