"""SigLIP's and SigLIP 2's tokenizers against transformers', on vocabularies made here."""

# ruff: noqa: F811  fixtures are imported, and are arguments of the same name

import json
import pickle
import string
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from siglip_vocabularies import gemma_directory, sentencepiece, spiece_directory  # noqa: F401
from transformers import GemmaTokenizer, Siglip2Tokenizer, SiglipTokenizer

from miniclip import InputError, checkpoints, hf, params
from miniclip.families.siglip import tokenizer_files
from miniclip.families.siglip.config import SigLIPConfig, SigLIPTextConfig
from miniclip.tokenizers.gemma import Gemma
from miniclip.tokenizers.sentencepieces import SentencePiece, canonicalize

ANY = st.characters(exclude_categories=["Cs"])
FAMILIAR = st.sampled_from(
    [*string.printable, *"▁éßİ日本語\u00a0\u2028", "</s>", "<unk>", "<pad>", "<eos>", "<bos>", "cat", " a"]
)
SPECIAL = st.sampled_from(["</s>", "<unk>", " </s> ", "<eos>", " <bos>", "<pad>", "▁", " "])
TEXTS = st.lists(st.one_of(ANY, FAMILIAR, FAMILIAR, SPECIAL)).map("".join)


@pytest.fixture(scope="module")
def pieces(spiece_directory):
    """(ours, transformers') for SigLIP."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = SiglipTokenizer.from_pretrained(spiece_directory)
    return tokenizer_files.load_tokenizer(spiece_directory, None), theirs


@pytest.fixture(scope="module", params=[GemmaTokenizer, Siglip2Tokenizer], ids=["Gemma", "Siglip2"])
def pairs(request, gemma_directory):
    """(ours, transformers') for SigLIP 2."""
    directory = gemma_directory[request.param.__name__]
    return tokenizer_files.load_tokenizer(directory, None), request.param.from_pretrained(directory)


# ---------------------------------------------------------------------------------------------------- SentencePiece


@given(text=TEXTS)
def test_any_text_is_encoded_by_sentencepiece_as_in_transformers(pieces, text):
    ours, theirs = pieces
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a text that ends with </s>
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False)
        assert ours.row(ours.encode(text)) == theirs.encode(text)


@given(texts=st.lists(TEXTS, min_size=1, max_size=3), length=st.integers(2, 9))
def test_batches_of_sentencepiece_are_laid_out_as_in_transformers(pieces, texts, length):
    ours, theirs = pieces
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = theirs(texts, padding="max_length", max_length=length, truncation=True, return_tensors="np")
    np.testing.assert_array_equal(ours.tokenize(texts, length, truncate=True), expected["input_ids"])


@given(data=st.data())
def test_decoding_by_sentencepiece_equals_transformers(pieces, data):
    ours, theirs = pieces
    ids = data.draw(st.lists(st.one_of(st.integers(0, len(ours) - 1), st.integers(0, 3))))  # the first are special
    assert ours.decode(ids) == theirs.decode(ids)


@pytest.mark.parametrize(
    ("text", "clean"), [("A T-shirt!", "a tshirt"), ("traffic_light", "trafficlight"), (" a\t\n b ", "a b"), ("?!", "")]
)
def test_texts_are_cleaned(text, clean):
    assert canonicalize(text) == clean


def test_a_text_that_is_too_long_is_refused_and_a_row_ends_with_the_end(pieces):
    ours, _ = pieces
    with pytest.raises(InputError, match=r"text 1 has \d+ tokens.* is 4; shorten it"):
        ours.tokenize(["a", "a photo of a red cat and a dog"], 4)
    rows = ours.tokenize(["", "a"])
    assert rows.shape == (2, 64) and rows.dtype == np.int32 and set(rows[0]) == {ours.end_id}
    with pytest.raises(InputError, match="context_length is 1, expected a whole number from 2"):
        ours.tokenize("a", 1)
    with pytest.raises(InputError, match="texts is of type int"):
        ours.tokenize(3)


def test_a_sentencepiece_model_survives_our_file_and_a_copy(pieces, tmp_path):
    ours, _ = pieces
    ours.save(tmp_path / "spiece.model")
    capitals = SentencePiece(ours.model, lower_case=False)
    for kept, same in ((ours, SentencePiece.load(tmp_path / "spiece.model")), (capitals, capitals)):
        for again in (same, pickle.loads(pickle.dumps(same)), SentencePiece.from_lines(kept.lines())):
            assert again.encode("A red Cat, 3") == kept.encode("A red Cat, 3") and again.encoder == kept.encoder
    assert capitals.encode("A red Cat") != ours.encode("A red Cat")


def test_files_that_are_no_sentencepiece_model_are_refused(pieces, tmp_path):
    (tmp_path / "spiece.model").write_bytes(b"\x00\xffno model")
    with pytest.raises(InputError, match=r"spiece\.model: cannot be read as a SentencePiece model"):
        SentencePiece.load(tmp_path / "spiece.model")
    with pytest.raises(InputError, match=r"no\.model: cannot be read"):
        SentencePiece.load(tmp_path / "no.model")
    with pytest.raises(InputError, match="there is no <padding>"):
        SentencePiece(pieces[0].model, pad="<padding>")
    with pytest.raises(InputError, match="there is no token id"):
        pieces[0].decode([len(pieces[0])])
    with pytest.raises(InputError, match="a character that is no text"):
        pieces[0].encode("\ud800")


# --------------------------------------------------------------------------------------------------------------- Gemma


@given(text=TEXTS)
def test_any_text_is_encoded_by_gemma_as_in_transformers(pairs, text):
    ours, theirs = pairs
    assert ours.encode(text) == theirs.encode(text, add_special_tokens=False)
    assert ours.row(ours.encode(text)) == theirs.encode(text)


@given(texts=st.lists(TEXTS, min_size=1, max_size=3), length=st.integers(3, 9))
def test_batches_of_gemma_are_laid_out_as_in_transformers(pairs, texts, length):
    ours, theirs = pairs
    expected = theirs(texts, padding="max_length", max_length=length, truncation=True, return_tensors="np")
    np.testing.assert_array_equal(ours.tokenize(texts, length, truncate=True), expected["input_ids"])


@given(data=st.data())
def test_decoding_by_gemma_equals_transformers(pairs, data):
    ours, theirs = pairs
    ids = data.draw(st.lists(st.one_of(st.integers(0, len(ours) - 1), st.integers(0, 4))))
    assert ours.decode(ids) == theirs.decode(ids)
    assert ours.join([ours.decoder[id] for id in ids]) == theirs.convert_tokens_to_string(
        theirs.convert_ids_to_tokens(ids)
    )


def test_a_gemma_survives_our_file_and_a_copy(pairs):
    ours, _ = pairs
    for again in (pickle.loads(pickle.dumps(ours)), Gemma.from_lines("\n".join(ours.lines()).split("\n"))):
        assert again.encode("A Red cat") == ours.encode("A Red cat") and again.options == ours.options


@pytest.mark.parametrize("ends", [("add_bos_token",), ("add_bos_token", "add_eos_token"), ()], ids=len)
def test_a_row_has_the_ends_that_its_file_says(gemma_directory, tmp_path, ends):
    theirs = GemmaTokenizer.from_pretrained(gemma_directory["GemmaTokenizer"])
    for name in ("add_bos_token", "add_eos_token"):
        setattr(theirs, name, name in ends)
    theirs.save_pretrained(tmp_path)
    ours = tokenizer_files.load_tokenizer(tmp_path, None)
    assert ours.start == [ours.start_id] * ("add_bos_token" in ends)
    assert ours.end == [ours.end_id] * ("add_eos_token" in ends)
    for again in (theirs, GemmaTokenizer.from_pretrained(tmp_path)):
        assert again.encode("a cat") == ours.row(ours.encode("a cat"))
    assert len(ours.tokenize("a" * 9, 5, truncate=True)[0]) == 5


def test_a_row_begins_as_the_vocabulary_says_also_if_settings_name_another_token(gemma_directory, tmp_path):
    theirs = GemmaTokenizer.from_pretrained(gemma_directory["GemmaTokenizer"])
    theirs.add_bos_token = True
    theirs.save_pretrained(tmp_path)
    config = tmp_path / "tokenizer_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "bos_token": "<mask>"}))
    expected = GemmaTokenizer.from_pretrained(tmp_path).encode("a cat")
    ours = tokenizer_files.load_tokenizer(tmp_path, None)
    assert ours.row(ours.encode("a cat")) == expected
    assert hf.GemmaTokenizer.from_pretrained(tmp_path)("a cat")["input_ids"] == expected


def test_what_is_no_gemma_is_refused(gemma_directory, tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match=r"tokenizer\.json: not the content of a tokenizer\.json"):
        tokenizer_files.load_tokenizer(tmp_path, None)
    with pytest.raises(InputError, match="the vocabulary has no <fill>"):
        Gemma((gemma_directory["GemmaTokenizer"] / "tokenizer.json").read_text(), pad="<fill>")
    ours = tokenizer_files.load_tokenizer(gemma_directory["GemmaTokenizer"], None)
    with pytest.raises(InputError, match="there is no token id 99999"):
        ours.decode([99999])
    with pytest.raises(InputError, match="a character that is no text"):
        ours.encode("\ud800")


# --------------------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("kind", ["SiglipTokenizer", "GemmaTokenizer", "Siglip2Tokenizer"])
def test_transformers_reads_what_we_write(kind, spiece_directory, gemma_directory, tmp_path):
    ours = tokenizer_files.load_tokenizer(spiece_directory if kind[6] == "T" else gemma_directory[kind], None)
    tokenizer_files.save_tokenizer(tmp_path, ours, 16)
    theirs = {x.__name__: x for x in (SiglipTokenizer, GemmaTokenizer, Siglip2Tokenizer)}[kind].from_pretrained(
        tmp_path
    )
    again = tokenizer_files.load_tokenizer(tmp_path, None)
    for text in ("A red Cat, 3", "", "日本語 café"):
        found = theirs(text, padding="max_length")
        assert list(found) == ["input_ids"] and found["input_ids"] == ours.tokenize(text, 16)[0].tolist()
        assert again.tokenize(text, 16).tolist() == ours.tokenize(text, 16).tolist()


def test_tokens_that_settings_add_are_refused(spiece_directory, tmp_path):
    (tmp_path / "spiece.model").write_bytes((spiece_directory / "spiece.model").read_bytes())
    (tmp_path / "tokenizer_config.json").write_text('{"additional_special_tokens": ["<new>"]}')
    with pytest.raises(InputError, match=r"spiece\.model: its settings add the token '<new>'"):
        tokenizer_files.load_tokenizer(tmp_path, None)
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": "no"}')
    with pytest.raises(InputError, match="do_lower_case is 'no'"):
        tokenizer_files.load_tokenizer(tmp_path, None)


def test_a_directory_without_a_vocabulary_has_no_tokenizer(tmp_path):
    assert tokenizer_files.load_tokenizer(tmp_path, None) is None


def test_our_own_file_keeps_either_tokenizer(pieces, pairs, tmp_path):
    for i, ours in enumerate((pieces[0], pairs[0])):
        text = SigLIPTextConfig(8, len(ours) + 3, 4, 1, 2, 8)  # the table of tokens may have more rows
        config = SigLIPConfig(None, text, 4)
        tree = params.tree_map(lambda shape: np.zeros(shape, np.float32), config.shapes())
        checkpoints.save(tmp_path / f"{i}.safetensors", config, tree, tokenizer=ours)
        again = checkpoints.load(tmp_path / f"{i}.safetensors")[2]
        assert type(again) is type(ours) and again.encode("A red cat") == ours.encode("A red cat")
