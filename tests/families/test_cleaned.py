"""OpenCLIP's tokenizers from transformers (its HFTokenizer), on vocabularies made here."""

# ruff: noqa: F811  fixtures are imported, and are arguments of the same name

import importlib.util
import json
import pickle
import string
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from siglip_vocabularies import gemma_directory, sentencepiece, spiece_directory  # noqa: F401
from small_vocabularies import directories  # noqa: F401
from transformers import BertTokenizer, T5Tokenizer, XLMRobertaTokenizer

from miniclip import InputError, checkpoints, params
from miniclip.families import cleaned_files
from miniclip.families.siglip.config import SigLIPConfig, SigLIPTextConfig
from miniclip.tokenizers.cleaned import CLEAN, Cleaned

KINDS = ("SigLIP", "SigLIP 2", "SigLIP 2, transformers 5", "CLIPA", "MetaCLIP 2")
OPTIONS = {"CLIPA": {"strip_sep_token": True}, "MetaCLIP 2": {}}  # the others clean texts
ANY = st.characters(exclude_categories=["Cs"])
WHOLE = ["</s>", "<unk>", "<pad>", "[SEP]", "[PAD]", "&amp;", "â€™", "cat", "dog"]
FAMILIAR = st.sampled_from([*string.printable, *"▁éßİ日本語\u00a0\u2028", *WHOLE, " a", "_"])
TEXTS = st.lists(st.one_of(ANY, FAMILIAR, FAMILIAR)).map("".join)
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("open_clip") is None, reason="pip install --no-deps open_clip_torch"
)


@pytest.fixture(scope="module")
def openclips():
    """OpenCLIP's tokenizer.py: the package itself would import torchvision."""
    path = Path(importlib.util.find_spec("open_clip").origin).with_name("tokenizer.py")
    spec = importlib.util.spec_from_file_location("open_clip_tokenizer", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def saved(tmp_path_factory, spiece_directory, gemma_directory, directories):
    """{kind: (a directory that transformers wrote, the number of ids that its model has)}."""
    base = tmp_path_factory.mktemp("cleaned")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        t5 = T5Tokenizer.from_pretrained(spiece_directory, pad_token="</s>")
        made = {
            "SigLIP": t5,
            "CLIPA": BertTokenizer.from_pretrained(directories["Bert"]),
            "MetaCLIP 2": XLMRobertaTokenizer([("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *LETTERS]),
        }
        for kind, tokenizer in made.items():
            tokenizer.save_pretrained(base / kind)
    found = {kind: (base / kind, len(tokenizer)) for kind, tokenizer in made.items()}
    found["SigLIP"] = base / "SigLIP", len(t5) - 100  # the model has no rows for <extra_id_0> to <extra_id_99>
    for kind, name in (("SigLIP 2", "GemmaTokenizer"), ("SigLIP 2, transformers 5", "Siglip2Tokenizer")):
        found[kind] = gemma_directory[name], 1000
    return found


LETTERS = [(f"▁{x}", -3.0 - i / 10) for i, x in enumerate("abcdefgst")]
LETTERS += [(x, -5.0 - i / 10) for i, x in enumerate([*string.ascii_letters, *"!,日é▁", "at"])]


@pytest.fixture(scope="module", params=KINDS)
def pair(request, saved, openclips):
    """(ours, OpenCLIP's)."""
    directory, ids = saved[request.param]
    options = OPTIONS.get(request.param, {"clean": "canonicalize"})
    text_cfg = {"hf_tokenizer_name": "owner/name", "tokenizer_kwargs": options}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = openclips.HFTokenizer(str(directory), context_length=16, **options)
    ours = cleaned_files.of_open_clip(directory, text_cfg, ids)
    assert len(ours) <= ids
    return ours, theirs


@given(texts=st.lists(TEXTS, min_size=1, max_size=3), length=st.integers(3, 20))
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_any_texts_become_the_tokens_of_openclip(pair, texts, length):
    ours, theirs = pair
    np.testing.assert_array_equal(ours.tokenize(texts, length, truncate=True), theirs(texts, length).numpy())


@given(text=TEXTS)
def test_texts_are_cleaned_as_in_openclip(openclips, text):
    for name in filter(None, CLEAN):
        assert CLEAN[name](text) == openclips.get_clean_fn(name)(text)


def test_a_tokenizer_survives_our_own_file_a_copy_and_openclips_directory(pair, openclips, tmp_path):
    ours, theirs = pair
    text = SigLIPTextConfig(16, len(ours) + 3, 4, 1, 2, 8)
    config = SigLIPConfig(None, text, 4)
    tree = params.tree_map(lambda shape: np.zeros(shape, np.float32), config.shapes())
    checkpoints.save(tmp_path / "m.safetensors", config, tree, tokenizer=ours)
    cleaned_files.save_tokenizer(tmp_path, ours)
    text_cfg = cleaned_files.settings_of(ours)
    written = openclips.HFTokenizer(str(tmp_path), context_length=16, **text_cfg["tokenizer_kwargs"])
    texts = ["A red_Cat, 3 [SEP] cats!", "", "日本語 café"]
    for again in (
        checkpoints.load(tmp_path / "m.safetensors")[2],
        pickle.loads(pickle.dumps(ours)),
        cleaned_files.of_open_clip(tmp_path, text_cfg, 1000),
    ):
        assert type(again) is Cleaned and again.options == ours.options
        np.testing.assert_array_equal(again.tokenize(texts, 16, truncate=True), theirs(texts).numpy())
    np.testing.assert_array_equal(written(texts).numpy(), theirs(texts).numpy())


def test_clipas_rows_have_no_separator(saved):
    directory, ids = saved["CLIPA"]
    text_cfg = {"hf_tokenizer_name": "x", "tokenizer_kwargs": OPTIONS["CLIPA"]}
    ours = cleaned_files.of_open_clip(directory, text_cfg, ids)
    row = [ours.encoder[token] for token in ("[CLS]", "a", "cat")]
    assert ours.tokenize("a cat", 6)[0].tolist() == [*row, 0, 0, 0]


def test_a_gemmas_rows_are_padded_on_the_left_unless_its_file_says_otherwise(saved, openclips, tmp_path):
    for file in saved["SigLIP 2"][0].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = tmp_path / "tokenizer_config.json"
    source = json.loads(config.read_text())
    del source["padding_side"]
    config.write_text(json.dumps(source))
    theirs = openclips.HFTokenizer(str(tmp_path), context_length=16)("a cat").numpy()
    ours = cleaned_files.of_open_clip(tmp_path, {"hf_tokenizer_name": "x"}, 1000)
    assert theirs[0, 0] == ours.pad_id
    np.testing.assert_array_equal(ours.tokenize("a cat", 16), theirs)


def test_a_tokenizer_that_is_not_here_is_none_and_a_damaged_one_is_refused(saved, tmp_path):
    directory, ids = saved["SigLIP"]
    assert cleaned_files.of_open_clip(directory, {}, ids) is None  # OpenAI's
    for more in ({"tokenizer_mode": "clips"}, {"tokenizer_kwargs": {"language": "fr"}}):
        assert cleaned_files.of_open_clip(directory, {"hf_tokenizer_name": "x", **more}, ids) is None
    text_cfg = {"hf_tokenizer_name": "x", "tokenizer_kwargs": {"clean": "canonicalize"}}
    assert cleaned_files.of_open_clip(tmp_path, text_cfg, ids) is None
    content = (directory / "tokenizer.json").read_text()
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(InputError, match=r"tokenizer\.json: tokenizer_config\.json names no pad_token"):
        cleaned_files.of_open_clip(tmp_path, text_cfg, ids)
    (tmp_path / "tokenizer_config.json").write_text('{"pad_token": "<nothing>"}')
    with pytest.raises(InputError, match=r"tokenizer\.json: the vocabulary has no <nothing>"):
        cleaned_files.of_open_clip(tmp_path, text_cfg, ids)
    (tmp_path / "tokenizer_config.json").write_text('{"pad_token": "</s>"}')
    with pytest.raises(InputError, match=r"tokenizer\.json: clean is 'no', expected one of whitespace"):
        cleaned_files.of_open_clip(tmp_path, {**text_cfg, "tokenizer_kwargs": {"clean": "no"}}, ids)
    (tmp_path / "tokenizer.json").write_text(json.dumps({**json.loads(content), "model": {"type": "?", "vocab": {}}}))
    with pytest.raises(InputError, match=r"tokenizer\.json: not the content of a tokenizer\.json"):
        cleaned_files.of_open_clip(tmp_path, text_cfg, ids)


def test_what_cannot_be_encoded_or_decoded_is_refused(pair):
    ours, theirs = pair
    assert ours.tokenize("\ud800", 16).tolist() == theirs("\ud800").tolist()  # repaired
    with pytest.raises(InputError, match="there is no token id 99999"):
        ours.decode([99999])
    with pytest.raises(InputError, match=r"text 0 has \d+ tokens.* is 4; shorten it"):
        ours.tokenize("a photo of a red cat and a dog", 4)
    assert "cat" in ours.decode(ours.encode("a cat"))
