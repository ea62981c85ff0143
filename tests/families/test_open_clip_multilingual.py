"""OpenCLIP's models with a RoBERTa for texts, against OpenCLIP with transformers' text towers of few blocks and ids."""

# ruff: noqa: F811  fixtures are imported, and are arguments of the same name

import importlib.util
import json
import math
import shutil
from unittest import mock

import numpy as np
import pytest
import transformers
from open_clip_models import BASE, ROBERTAS, VISION, arrays, check_written, few_blocks, official, save
from xlm_roberta_vocabularies import sentencepiece_bytes, xlm_roberta_directories  # noqa: F401

import miniclip
from miniclip import checkpoints, params
from miniclip.checkpoints import open_clip
from miniclip.checkpoints.convert import convert
from miniclip.families.multilingual import bases
from miniclip.families.multilingual.config import MultilingualConfig
from miniclip.weights import open_clip_names

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("open_clip") is None, reason="pip install --no-deps open_clip_torch"
)
PAD, IDS = 1, 1000


def test_sizes_that_no_file_states_are_openclips():
    """The millions of parameters of its text towers, in its docs/model_profile.csv."""
    published = {"xlm-roberta-base-ViT-B-32": 278.27, "xlm-roberta-large-ViT-H-14": 560.94, "roberta-ViT-B-32": 124.87}
    for name, millions in published.items():
        config = open_clip.config_from(open_clip_names()["models"][name])
        shapes = params.flatten({"text": config.shapes()["text"]}).values()
        assert round(sum(map(math.prod, shapes)) / 1e6, 2) == millions


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """{name: (directory that OpenCLIP wrote, its inputs and features)}, with texts of several lengths, padded."""
    found = save(tmp_path_factory.mktemp("open_clip"), ROBERTAS)
    tasks = []
    for name, (directory, batch) in found.items():
        T = batch["tokens"].shape[1]
        tokens = np.random.default_rng(0).integers(2, IDS, (6, T))
        tokens = np.where(np.arange(T) < np.array([1, 2, 7, 16, T - 1, T])[:, None], tokens, PAD)
        tokens[3, [4, 5, 9]] = PAD  # within a text: no token sees it, and it has no position
        np.savez(directory.with_suffix(".npz"), images=batch["images"], tokens=tokens)
        tasks.append(["load", str(directory), None, str(directory.with_suffix(".npz")), name])
    official(tasks, transformers=True)
    with few_blocks():
        yield {name: (directory, arrays(directory.with_suffix(".npz"))) for name, (directory, _) in found.items()}


@pytest.mark.parametrize("name", ROBERTAS)
def test_features_are_openclips(name, saved, relative_error):
    directory, batch = saved[name]
    for path in (directory, *(directory / file for file in open_clip.WEIGHTS)):
        model = miniclip.load(path, "numpy")[0]
        assert type(model.config) is MultilingualConfig
        assert relative_error(model.encode_image(batch["images"]), batch["image"]) < 1e-5
        assert relative_error(model.encode_text(batch["tokens"]), batch["text"]) < 1e-5
    assert model.config.text.activation == "gelu"  # whatever the image tower's is
    assert model.config.text.text_length == {"linear": 40}.get(name, 77)


def test_openclip_loads_what_we_write(saved, tmp_path, relative_error):
    check_written(saved, tmp_path, relative_error, transformers=True)


@pytest.mark.parametrize("name", ROBERTAS)
def test_our_own_file_keeps_a_model(name, saved, tmp_path):
    directory, batch = saved[name]
    convert(directory, tmp_path / "m.safetensors", "miniclip")
    ours, again = (miniclip.load(path, "numpy")[0] for path in (directory, tmp_path / "m.safetensors"))
    assert again.config == ours.config
    np.testing.assert_array_equal(again.encode_text(batch["tokens"]), ours.encode_text(batch["tokens"]))


def test_texts_become_the_tokens_of_the_files_beside_it(saved, xlm_roberta_directories, tmp_path):
    directory = shutil.copytree(saved["mlp"][0], tmp_path / "m")
    theirs = transformers.XLMRobertaTokenizer.from_pretrained(xlm_roberta_directories["tokenizer.json"])
    theirs.save_pretrained(directory)
    texts = ["a photo of a red cat", " un  chat rouge &amp; noir", "красная кошка", "日本語の猫", ""]
    clean = ["a photo of a red cat", "un chat rouge & noir", *texts[2:]]  # as OpenCLIP's HFTokenizer does
    expected = theirs(clean, padding="max_length", max_length=77, return_tensors="np")["input_ids"]
    convert(directory, tmp_path / "m.safetensors", "miniclip")
    convert(directory, tmp_path / "again", "open_clip")
    for path in (directory, tmp_path / "m.safetensors", tmp_path / "again"):
        np.testing.assert_array_equal(miniclip.load(path, "numpy")[0].tokenize(texts), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hf_model_name": "google/mt5-base"}, "its text tower is transformers' 'google/mt5-base', and miniclip knows"),
        ({"hf_pooler_type": "cls_pooler"}, "hf_pooler_type is 'cls_pooler', expected one of mean_pooler, cls_last"),
        ({"hf_proj_type": "conv"}, "hf_proj_type is 'conv', expected one of mlp, linear, None"),
        ({"hf_proj_type": None}, "embed_dim is 16, but the texts' features are 768 wide"),
        ({"text_mask": "first"}, "setting text_mask = 'first'"),
    ],
)
def test_settings_that_we_do_not_have_are_refused_by_name(change, message, saved, tmp_path):
    source = {"embed_dim": 16, "vision_cfg": VISION, "text_cfg": {**BASE, **change}}
    (tmp_path / open_clip.WEIGHTS[1]).write_bytes((saved["mlp"][0] / open_clip.WEIGHTS[1]).read_bytes())
    (tmp_path / open_clip.CONFIG).write_text(json.dumps({"model_cfg": source}))
    with pytest.raises(miniclip.InputError, match=message):
        miniclip.load(tmp_path)


def test_a_text_tower_that_openclip_does_not_have_is_not_written(saved, tmp_path):
    config, tree, _ = checkpoints.load(saved["mlp"][0])
    with mock.patch.dict(bases.SIZES):
        del bases.SIZES["xlm-roberta-base"], bases.SIZES["roberta-base"]
        with pytest.raises(miniclip.InputError, match="OpenCLIP has the text towers xlm-roberta-large, "):
            open_clip.save(tmp_path / "m", config, tree)
