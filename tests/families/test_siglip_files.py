"""SigLIP's files: transformers and miniclip read each other's; what does not fit is refused by name."""

# ruff: noqa: F811  fixtures are imported, and are arguments of the same name

import json
import shutil

import numpy as np
import pytest
import torch
from siglip_models import SIZES, TEXT, VISION, batch, forward, pair, small  # noqa: F401
from transformers import SiglipConfig, SiglipModel, SiglipTextModel, SiglipVisionModel

import miniclip
from miniclip import checkpoints, families, params
from miniclip.checkpoints import huggingface
from miniclip.checkpoints.convert import convert
from miniclip.families.siglip.config import SIGLIP_BASE, SigLIPConfig, SigLIPTextConfig, SigLIPVisionConfig
from miniclip.families.siglip.huggingface import config_from
from miniclip.families.siglip.model import SigLIP
from miniclip.formats import read


def test_every_canonical_name_is_hit_exactly_once(small):
    config, flat, _ = huggingface.load(small, lambda file, part: read(file))
    assert sorted(flat) == sorted(params.flatten(config.shapes()))


def test_an_empty_configuration_is_the_base_model():
    assert config_from({"model_type": "siglip"}) == SIGLIP_BASE
    theirs = SiglipConfig()
    for tower, kind in ((theirs.vision_config, "siglip_vision_model"), (theirs.text_config, "siglip_text_model")):
        assert config_from({**tower.to_dict(), "model_type": kind}) == config_from({"model_type": kind})


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
def test_transformers_loads_what_we_write_and_computes_the_same(pair, weights, tmp_path, relative_error, same_tree):
    official, directory = pair
    config, tree, _ = checkpoints.load(directory)
    huggingface.save(tmp_path / "m", config, tree)
    if weights != "model.safetensors":
        torch.save(SiglipModel.from_pretrained(tmp_path / "m").state_dict(), tmp_path / "m" / weights)
        (tmp_path / "m" / "model.safetensors").unlink()
    again, loading = SiglipModel.from_pretrained(tmp_path / "m", output_loading_info=True)
    assert not any(loading.values())
    images, tokens, _ = batch(official.config)
    theirs, expected = forward(again.eval(), images, tokens), forward(official, images, tokens)
    assert relative_error(theirs.logits_per_image.numpy(), expected.logits_per_image.numpy()) < 1e-5
    found, same, _ = checkpoints.load(tmp_path / "m")
    assert found == config and same_tree(same, tree)


def test_transformers_own_arrays_come_back_bit_for_bit(small, tmp_path):
    convert(small, tmp_path / "m.safetensors", "miniclip")
    convert(tmp_path / "m.safetensors", tmp_path / "again", "hf")
    before, after = (read(path / "model.safetensors")[0] for path in (small, tmp_path / "again"))
    assert before.keys() == after.keys()
    assert all(np.array_equal(x, after[name]) and x.shape == after[name].shape for name, x in before.items())


def test_one_file_of_ours_has_the_whole_model(small, tmp_path, same_tree):
    config, tree, _ = checkpoints.load(small)
    checkpoints.save(tmp_path / "m.safetensors", config, tree)
    found, same, _ = checkpoints.load(tmp_path / "m.safetensors")
    assert found == config and same_tree(same, tree)
    model, preprocess = miniclip.load(tmp_path / "m.safetensors")
    assert isinstance(model, SigLIP) and preprocess.settings.resize == "squash"


@pytest.mark.parametrize(
    ("to", "message"),
    [("openai", "cannot express siglip models"), ("open_clip", "only timm's image towers, and none .* image_size 30")],
)
def test_other_libraries_do_not_have_it(small, to, message, tmp_path):
    with pytest.raises(miniclip.InputError, match=message):
        convert(small, tmp_path / "m", to)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_scale_and_bias_stay_float32(small, dtype, tmp_path):
    SiglipModel.from_pretrained(small, dtype=getattr(torch, dtype)).save_pretrained(tmp_path / "m")
    model, _ = miniclip.load(tmp_path / "m", "torch", dtype=dtype)
    assert str(model.params["text"]["head"]["weight"].dtype) == f"torch.{dtype}"
    assert model.logit_scale.dtype == model.logit_bias.dtype == torch.float32
    images, tokens, _ = batch(SiglipConfig(**SIZES["small"]))
    assert model(torch.from_numpy(images), tokens)[0].dtype == torch.float32


@pytest.mark.parametrize("kind", [SiglipVisionModel, SiglipTextModel])
def test_towers_alone(kind, small, tmp_path, relative_error):
    official = kind.from_pretrained(small).eval()
    official.save_pretrained(tmp_path / "m")
    model, preprocess = miniclip.load(tmp_path / "m")
    images, tokens, _ = batch(SiglipConfig(**SIZES["small"]))
    inputs = torch.from_numpy(images if kind is SiglipVisionModel else tokens)
    with torch.no_grad():
        theirs = official(inputs).pooler_output
    ours = model.encode_image(images) if kind is SiglipVisionModel else model.encode_text(tokens)
    assert (preprocess is None) == (kind is SiglipTextModel)
    assert relative_error(ours, theirs.numpy()) < 1e-5
    huggingface.save(tmp_path / "again", model.config, model.params)
    again, loading = kind.from_pretrained(tmp_path / "again", output_loading_info=True)
    assert not any(loading.values())
    with torch.no_grad():
        assert relative_error(again.eval()(inputs).pooler_output.numpy(), theirs.numpy()) < 1e-5


def test_one_tower_of_a_whole_model(small):
    whole, _ = miniclip.load(small)
    images, tokens, _ = batch(SiglipConfig(**SIZES["small"]))
    visual, text = (miniclip.load(small, tower=tower)[0] for tower in ("visual", "text"))
    np.testing.assert_array_equal(visual.encode_image(images), whole.encode_image(images))
    np.testing.assert_array_equal(text.encode_text(tokens), whole.encode_text(tokens))
    with pytest.raises(miniclip.InputError, match="no logit_scale"):
        text.logits(np.ones((1, 40)), np.ones((1, 40)))
    with pytest.raises(miniclip.InputError, match="no logit_bias"):
        _ = visual.logit_bias


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "siglip9"}, "model_type is 'siglip9', expected one of clip, .*siglip"),
        ({"text_config": {**TEXT, "projection_size": 20}}, "embed_dim is 20, but .* 40 wide"),
        ({"text_config": {**TEXT, "projection_size": "wide"}}, "embed_dim is 'wide', expected a positive integer"),
        ({"text_config": {**TEXT, "hidden_size": 50}}, "width 50 cannot be shared by 4 heads"),
        ({"vision_config": {**VISION, "vision_use_head": False}}, "vision_use_head is False"),
        ({"vision_config": {**VISION, "patch_size": 31}}, "patches of 31 pixels do not fit"),
        ({"vision_config": {**VISION, "image_size": "large"}}, "image_size is 'large'"),
        ({"vision_config": {**VISION, "hidden_act": "mish"}}, "activation is 'mish'"),
        ({"vision_config": 7}, "not the configuration"),
    ],
)
def test_configurations_that_do_not_fit_are_refused_by_name(change, message, small, tmp_path):
    shutil.copytree(small, tmp_path / "m")
    path = tmp_path / "m" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(miniclip.InputError, match=rf"m/config\.json: .*{message}"):
        miniclip.load(tmp_path / "m")


def test_configurations_survive_json():
    sizes = {"width": 4, "layers": 1, "heads": 2, "mlp_width": 8}
    for config in (
        SigLIPConfig(SigLIPVisionConfig((64, 96), 16, **sizes), None, 4),
        SigLIPConfig(None, SigLIPTextConfig(8, 9, **sizes), 6),
        SIGLIP_BASE,
    ):
        assert families.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_pictures_that_are_not_square_are_kept_by_our_files_alone(small, tmp_path):
    config, tree, _ = checkpoints.load(small, image_size=(48, 40))
    checkpoints.save(tmp_path / "m.safetensors", config, tree)
    assert checkpoints.load(tmp_path / "m.safetensors")[0] == config
    with pytest.raises(miniclip.InputError, match="only square pictures"):
        huggingface.save(tmp_path / "m", config, tree)
