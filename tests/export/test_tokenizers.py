"""The tokenizer.json of an exported model is the one that transformers writes, and makes our ids."""

# ruff: noqa: F811  fixtures are imported, and are arguments of the same name

import json

import pytest
import tokenizers
import transformers
from small_vocabularies import directories  # noqa: F401

from miniclip import Tokenizer
from miniclip.families import named
from miniclip.tokenizers.added import AddedToken, WithAddedTokens
from miniclip.tokenizers.wordpiece import WordPiece

TEXTS = ["a photo of a red cat", "The  CAT's\tmat, 3 dogs!", "日本語 café", "<|endoftext|> a", "", "xyzzy [SEP] a"]
CASES = {"clip": ("CLIP", "CLIPTokenizer", "clip"), "align": ("Bert", "BertTokenizer", "align")}


def tokenizer_of(family, directory, vocab_size=None):
    return named(family).huggingface.load_tokenizer(directory, vocab_size)


def written(family, tokenizer):
    return json.loads(json.dumps(named(family).huggingface.tokenizer_json(tokenizer)))


@pytest.mark.parametrize("case", CASES)
def test_the_file_is_that_of_transformers(case, directories, tmp_path):
    kind, name, family = CASES[case]
    getattr(transformers, name).from_pretrained(directories[kind]).save_pretrained(tmp_path)
    theirs = json.loads((tmp_path / "tokenizer.json").read_text())
    if kind == "CLIP":
        theirs["model"]["merges"] = [" ".join(pair) for pair in theirs["model"]["merges"]]  # both forms are read
        del theirs["model"]["ignore_merges"]  # false, the default; older versions do not have it
    assert written(family, tokenizer_of(family, directories[kind])) == theirs


@pytest.mark.parametrize("case", CASES)
def test_the_file_makes_our_ids(case, directories):
    kind, _, family = CASES[case]
    ours = tokenizer_of(family, directories[kind])
    start, end = (ours.start_id, ours.end_id)
    theirs = tokenizers.Tokenizer.from_str(json.dumps(written(family, ours)))
    for text in TEXTS:
        assert theirs.encode(text).ids == [start, *ours.encode(text), end]


def test_added_tokens_are_in_the_file(directories):
    for case, (kind, _, family) in CASES.items():
        plain = tokenizer_of(family, directories[kind])
        ours = WithAddedTokens(plain, [AddedToken("<pet>"), AddedToken("[A]", single_word=True, normalized=False)])
        theirs = tokenizers.Tokenizer.from_str(json.dumps(written(family, ours)))
        for text in ("a <pet> cat", "a<pet>[A]cat [A]"):
            assert theirs.encode(text).ids == [ours.start_id, *ours.encode(text), ours.end_id], case
        assert theirs.token_to_id("<pet>") == len(plain)


def test_the_official_vocabulary(tokenizer):
    theirs = tokenizers.Tokenizer.from_str(json.dumps(written("clip", tokenizer)))
    assert isinstance(tokenizer, Tokenizer) and theirs.get_vocab_size() == 49408
    for text in ("Hello World!", "a photo of a cat's café, 2 €", "🙂🙂"):
        assert theirs.encode(text).ids == [49406, *tokenizer.encode(text), 49407]


def test_a_vocabulary_with_capitals():
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "A", "a", "é"]
    ours = WordPiece(pieces, lower_case=False, strip_accents=False)
    theirs = tokenizers.Tokenizer.from_str(json.dumps(written("align", ours)))
    assert theirs.encode("A a é").ids == [2, 5, 6, 7, 3] == [ours.start_id, *ours.encode("A a é"), ours.end_id]
