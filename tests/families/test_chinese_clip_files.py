"""Files of Chinese-CLIP and AltCLIP: transformers and miniclip read each other's, also those of older versions."""

# ruff: noqa: F811  fixtures are imported, and are arguments of the same name

import json
import re
import shutil

import hf_models
import numpy as np
import pytest
import torch
import transformers
from chinese_clip_models import alt, pair, small  # noqa: F401

import miniclip
from miniclip import checkpoints, families, params
from miniclip.checkpoints import huggingface
from miniclip.checkpoints.convert import convert
from miniclip.config import ResNetConfig, VisionConfig
from miniclip.families.bert import BertConfig
from miniclip.families.multilingual.config import MultilingualConfig
from miniclip.formats import read

KINDS = {"chinese_clip": "ChineseCLIP", "altclip": "AltCLIP"}
# From the names of transformers 5.23's modules to those in files, of AltCLIP.
OLDER = {
    "5": [(r"encoder\.layers\.", "encoder.layer.")],  # what 5.23 writes
    "4": [(r"roberta\.encoder\.layers\.", "roberta.encoder.layer."), ("^vision_model", "vision_model.vision_model")],
    "modules": [],
}


def kind_of(model):
    return KINDS[model.config.model_type]


def test_every_canonical_name_is_hit_exactly_once(pair):
    config, flat, _ = huggingface.load(pair[1], lambda file, part: read(file))
    assert sorted(flat) == sorted(params.flatten(config.shapes()))


@pytest.mark.parametrize("version", OLDER)
def test_altclips_files_of_every_version_are_the_same_model(version, alt, tmp_path, same_tree):
    shutil.copytree(alt, tmp_path / "m")
    state = transformers.AltCLIPModel.from_pretrained(alt).state_dict()
    for old, new in OLDER[version]:
        state = {re.sub(old, new, name): x for name, x in state.items()}
    state |= {"text_model.roberta.embeddings.position_ids": torch.arange(20)[None]} if version == "4" else {}
    (tmp_path / "m" / "model.safetensors").unlink()
    torch.save(state, tmp_path / "m" / "pytorch_model.bin")
    expected, (config, tree, _) = checkpoints.load(alt), checkpoints.load(tmp_path / "m")
    assert config == expected[0] and same_tree(tree, expected[1])


def test_transformers_loads_what_we_write_and_computes_the_same(pair, tmp_path, relative_error, same_tree):
    official, directory = pair
    config, tree, _ = checkpoints.load(directory)
    huggingface.save(tmp_path / "m", config, tree)
    kind = getattr(transformers, f"{kind_of(official)}Model")
    again, loading = kind.from_pretrained(tmp_path / "m", output_loading_info=True)
    assert not any(loading.values())
    inputs = hf_models.batch(official.config)
    with torch.no_grad():
        theirs, expected = again.eval()(**inputs), official(**inputs)
    assert relative_error(theirs.logits_per_image.numpy(), expected.logits_per_image.numpy()) < 1e-5
    found, same, _ = checkpoints.load(tmp_path / "m")
    assert found == config and same_tree(same, tree)


def test_one_file_of_ours_has_the_whole_model(pair, tmp_path, same_tree):
    config, tree, _ = checkpoints.load(pair[1])
    checkpoints.save(tmp_path / "m.safetensors", config, tree)
    found, same, _ = checkpoints.load(tmp_path / "m.safetensors")
    assert found == config and same_tree(same, tree)


@pytest.mark.parametrize("part", ["Text", "Vision"])
def test_towers_alone(pair, part, tmp_path, relative_error):
    official, directory = pair
    inputs = hf_models.of_tower(hf_models.batch(official.config), part)
    tower = official.text_model if part == "Text" else official.vision_model
    tower.save_pretrained(tmp_path / "m")
    whole = miniclip.load(directory)[0]
    for path, options in ((tmp_path / "m", {}), (directory, {"tower": {"Text": "text", "Vision": "visual"}[part]})):
        model, preprocess = miniclip.load(path, **options)
        assert (preprocess is None) == (part == "Text")
        if part == "Text":
            found, projected = (x.encode_text(inputs["input_ids"].numpy()) for x in (model, whole))
        else:
            found, projected = (x.encode_image(inputs["pixel_values"].numpy()) for x in (model, whole))
        with torch.no_grad():
            output = tower(**inputs)
        alone = output.last_hidden_state[:, 0] if part == "Text" else output.pooler_output
        assert relative_error(found, projected if options else alone.numpy()) < 1e-5
    model, _ = miniclip.load(tmp_path / "m")
    huggingface.save(tmp_path / "again", model.config, model.params)
    # an image tower alone is written as Chinese-CLIP's
    kind = "ChineseCLIP" if part == "Vision" else kind_of(official)
    again, loading = getattr(transformers, f"{kind}{part}Model").from_pretrained(
        tmp_path / "again", output_loading_info=True
    )
    pooler = {"pooler.dense.weight", "pooler.dense.bias"} if kind == "ChineseCLIP" and part == "Text" else set()
    assert loading.pop("missing_keys") == pooler and not any(loading.values())
    with torch.no_grad():
        same = again.eval()(**inputs).last_hidden_state
        assert relative_error(same.numpy(), tower(**inputs).last_hidden_state.numpy()) < 1e-5


def test_a_text_tower_with_a_pooler_keeps_it(tmp_path):
    torch.manual_seed(0)
    config = transformers.ChineseCLIPTextConfig(**hf_models.TEXT)
    transformers.ChineseCLIPTextModel(config).save_pretrained(tmp_path / "m")
    model, _ = miniclip.load(tmp_path / "m")
    assert model.config.text.pooler
    huggingface.save(tmp_path / "again", model.config, model.params)
    _, loading = transformers.ChineseCLIPTextModel.from_pretrained(tmp_path / "again", output_loading_info=True)
    assert not any(loading.values())


def test_what_older_files_say_twice_is_taken_as_by_transformers(alt, tmp_path):
    shutil.copytree(alt, tmp_path / "m")
    path = tmp_path / "m" / "config.json"
    source = json.loads(path.read_text())
    source |= {"text_config_dict": source["text_config"], "text_config": {**source["text_config"], "hidden_size": 96}}
    path.write_text(json.dumps(source))
    assert miniclip.load(tmp_path / "m")[0].config == miniclip.load(alt)[0].config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"projection_dim": 20}, r"text.projection.weight .*\(4, 36\)"),
        ({"text_config": {**hf_models.TEXT, "project_dim": 0}}, "hidden_width is 0"),
        ({"text_config": {**hf_models.TEXT, "max_position_embeddings": 2}}, "context_length is 0"),
        ({"text_config": {**hf_models.TEXT, "pad_token_id": -1}}, "pad_token_id is -1"),
        ({"text_config": {**hf_models.TEXT, "hidden_size": 65}}, "width 65 cannot be shared"),
        ({"vision_config": {**hf_models.VISION, "hidden_act": "mish"}}, "activation is 'mish'"),
        ({"vision_config": 7}, "not the configuration"),
    ],
)
def test_configurations_that_do_not_fit_are_refused_by_name(change, message, alt, tmp_path):
    shutil.copytree(alt, tmp_path / "m")
    path = tmp_path / "m" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(miniclip.InputError, match=rf"(?s)/m.*{message}"):
        miniclip.load(tmp_path / "m")


BERT = {"context_length": 8, "vocab_size": 9, "width": 4, "layers": 1, "heads": 2, "mlp_width": 8, "pooler": False}


@pytest.mark.parametrize(
    ("visual", "text", "message"),
    [
        (ResNetConfig(32, 2, (1, 1, 1, 1), 2), {"head": "linear"}, "have only Vision Transformers for square pictures"),
        (VisionConfig((16, 8), 8, 4, 1, 2, 8), {"head": "linear"}, "have only Vision Transformers for square pictures"),
        (None, {"head": "linear", "pool": "mean"}, "has no model with these texts, the mean of their tokens"),
        (None, {"head": "bias"}, "cannot express .*text.head bias, not linear"),
        (None, {"head": "linear", "first_position": 1}, "cannot express .*text.first_position 1, not 0"),
        (None, {"head": "norm", "hidden_width": 4}, "cannot express .*text.first_position 0, not 1"),
        (None, {"head": "linear", "longest_text": 7}, "cannot express .*text.longest_text 7, not 52"),
    ],
)
def test_models_that_transformers_does_not_have_are_not_written(visual, text, message, tmp_path):
    config = MultilingualConfig(visual, BertConfig(**{**BERT, **text}), 4 if visual else None)
    tree = params.tree_map(lambda shape: np.zeros(shape, np.float32), config.shapes())
    with pytest.raises(miniclip.InputError, match=message):
        huggingface.save(tmp_path / "m", config, tree)
    assert not (tmp_path / "m").exists()


def test_configurations_survive_json(pair):
    config = miniclip.load(pair[1])[0].config
    for each in (config, MultilingualConfig(ResNetConfig(32, 2, (1, 1, 1, 1), 2), config.text, 160)):
        assert families.from_dict(json.loads(json.dumps(each.to_dict()))) == each


def test_converted_directories_have_everything(small, tmp_path):
    assert convert(small, tmp_path / "m", "hf") is None
    names = ["config.json", "model.safetensors", "preprocessor_config.json", "tokenizer_config.json", "vocab.txt"]
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == names
    processor = transformers.ChineseCLIPProcessor.from_pretrained(tmp_path / "m")
    inputs = processor(text=["一只猫"], images=np.zeros((9, 8, 3), np.uint8), return_tensors="np")
    model, preprocess = miniclip.load(tmp_path / "m")
    np.testing.assert_array_equal(inputs["input_ids"], model.tokenize(["一只猫"])[:, :5])
    assert processor.tokenizer.model_max_length == 20  # as many as fit, and at most 52
    np.testing.assert_allclose(inputs["pixel_values"], preprocess([np.zeros((9, 8, 3), np.uint8)]), atol=1e-6)
