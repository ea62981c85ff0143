"""A vocab.json that numbers CLIP's tokens in another order, or has only some of them."""

# ruff: noqa: F811  fixtures are imported, and are arguments of the same name

import json
import pickle
import shutil

import pytest
import transformers
from hypothesis import given
from hypothesis import strategies as st
from small_vocabularies import directories  # noqa: F401

from miniclip import InputError, hf
from miniclip.families.clip import huggingface
from miniclip.tokenizer import clean

TEXTS = ["a cat! sat!!", "reds", "!"]


def both(directory):
    """(ours, theirs)"""
    return [module.CLIPTokenizer.from_pretrained(directory) for module in (hf, transformers)]


def ids(tokenizer, texts):
    return tokenizer(texts, padding=True)["input_ids"]


SMALL = [
    "l",
    "o",
    "w",
    "e",
    "r",
    "s",
    "t",
    "i",
    "d",
    "n",
    "lo",
    "l</w>",
    "w</w>",
    "r</w>",
    "t</w>",
    "low</w>",
    "er</w>",
]
SMALL = [*SMALL, "lowest</w>", "newer</w>", "wider", "<unk>", "<|startoftext|>", "<|endoftext|>"]


@given(text=st.text("lowerstidn x!é ", max_size=20))
def test_a_vocab_json_with_other_ids_is_honoured(text):
    vocab = {token: id for id, token in enumerate(SMALL)}
    merges = [("l", "o"), ("lo", "w</w>"), ("e", "r</w>")]
    for options in ({}, {"unk_token": "<unk>"}):
        ours, theirs = (module.CLIPTokenizer(vocab=vocab, merges=merges, **options) for module in (hf, transformers))
        if clean(text) == text:
            assert dict(ours(text, return_offsets_mapping=True)) == dict(theirs(text, return_offsets_mapping=True))
            assert ours.tokenize(text) == theirs.tokenize(text)
            assert ours.decode(ours.encode(text)) == theirs.decode(theirs.encode(text))


def test_other_ids_are_read_saved_and_refused(directories, tmp_path):
    shutil.copytree(directories["CLIP"], tmp_path / "t")
    vocab = json.loads((tmp_path / "t" / "vocab.json").read_text())
    other = {token: len(vocab) - 1 - id for token, id in vocab.items()}
    (tmp_path / "t" / "vocab.json").write_text(json.dumps(other))
    ours, theirs = both(tmp_path / "t")
    assert ids(ours, TEXTS) == ids(theirs, TEXTS) != ids(hf.CLIPTokenizer.from_pretrained(directories["CLIP"]), TEXTS)
    ours.save_pretrained(tmp_path / "again")
    theirs.save_pretrained(tmp_path / "theirs")
    for directory in ("again", "theirs"):
        assert [ids(x, TEXTS) for x in both(tmp_path / directory)] == [ids(theirs, TEXTS)] * 2
    tokenizer = pickle.loads(pickle.dumps(huggingface.load_tokenizer(tmp_path / "t", None)))
    assert tokenizer.tokenize("a cat", 30)[0, : len(ours.encode("a cat"))].tolist() == ours.encode("a cat")
    assert tokenizer.decode(ours.encode("a cat")) == "<|startoftext|>a cat <|endoftext|>"
    with pytest.raises(InputError, match="ids of its own, which only transformers' files can express"):
        tokenizer.lines()
    with pytest.raises(InputError, match="there is no token id 9999"):
        tokenizer.decode([9999])
    for wrong, message in (
        ({"a": 1, "b": 1}, "two tokens of the vocabulary have the same id"),
        ({"a": "1"}, "with whole numbers"),
        ({token: id for token, id in vocab.items() if token != "ca"}, "has no"),
    ):
        with pytest.raises(InputError, match=message):
            hf.CLIPTokenizer(wrong, directories["CLIP"] / "merges.txt")
