"""miniclip.hf's models are saved for transformers, and loaded from it and from other sources."""

# ruff: noqa: F811  fixtures are imported, and are arguments of the same name

import re

import pytest
import torch
import transformers
from hf_models import (  # noqa: F401
    ALIGN,
    ALT,
    CHINESE,
    CLIP,
    ONE,
    SIGLIP,
    SIGLIP2,
    TOWERS,
    batch,
    clip,
    compare,
    of_tower,
    saved,
)

import miniclip
from miniclip import hf


def test_what_we_save_transformers_loads_and_agrees(saved, tmp_path, relative_error):
    family, theirs, directory = saved
    inputs = batch(theirs.config)
    for name in [f"{family}Model", *TOWERS[family]]:
        ours = getattr(hf, name).from_pretrained(directory)
        ours.save_pretrained(tmp_path / name)
        again, report = getattr(transformers, name).from_pretrained(tmp_path / name, output_loading_info=True)
        if name == "ChineseCLIPTextModel":  # of a whole model: transformers draws its pooler at random
            assert {key.partition(".")[0] for key in report["missing_keys"]} == {"pooler"}
            again.pooler, report["missing_keys"] = None, None
        assert not any(report.values())
        tower = next((of_tower(inputs, tower) for tower in ONE if tower in name), inputs)
        with torch.no_grad():
            compare(ours(**tower), again.eval()(**tower), relative_error)
        ours.save_pretrained(tmp_path / name)  # overwrites the files, as in transformers
        same = getattr(hf, name).from_pretrained(tmp_path / name)
        for x, y in zip(same(**tower).to_tuple(), ours(**tower).to_tuple()):
            assert torch.equal(x[0], y[0])


@pytest.mark.parametrize("family", ["CLIP", "Align"])
def test_random_weights_are_a_model_of_transformers(family, tmp_path, relative_error):
    sizes = (
        CLIP["end of text by id"]
        if family == "CLIP"
        else {
            **ALIGN["small"],
            **{
                f"{tower}_config": {**ALIGN["small"][f"{tower}_config"], "initializer_range": 0.3}
                for tower in ("text", "vision")
            },
        }
    )
    config = getattr(hf, f"{family}Config")(**sizes)
    ours = getattr(hf, f"{family}Model")(config)
    ours.save_pretrained(tmp_path / "m")
    theirs, report = getattr(transformers, f"{family}Model").from_pretrained(tmp_path / "m", output_loading_info=True)
    assert not any(report.values())
    if family == "CLIP":
        assert ours.num_parameters() == theirs.num_parameters()
    inputs = batch(theirs.config)
    with torch.no_grad():
        compare(ours(**inputs), theirs.eval()(**inputs), relative_error)
    weights = theirs.text_model.state_dict()
    name = next(
        name for name in weights if name.endswith("mlp.fc1.weight") or name.endswith("intermediate.dense.weight")
    )
    assert weights[name].std().item() == pytest.approx(0.3 if family == "Align" else (2 * 48) ** -0.5, rel=0.1)
    scale = "logit_scale" if family == "CLIP" else "temperature"
    assert getattr(theirs, scale).item() == pytest.approx(getattr(theirs.config, f"{scale}_init_value"))
    norms = [x for name, x in weights.items() if re.search(r"(layer_?norm\d?|LayerNorm)\.weight$", name)]
    assert norms and all((x == 1).all() for x in norms)


def test_models_of_other_sources_have_transformers_names_too(relative_error):
    model, preprocess = miniclip.load("shapes")
    ours = hf.CLIPModel.from_pretrained("shapes")
    images, tokens = preprocess(["weights/example.png"]), model.tokenize(["a red heart", "a blue star"])
    assert relative_error(ours(tokens, images).logits_per_image, model(images, tokens)[0]) < 1e-6
    assert ours.config.text_config.vocab_size == len(model.tokenizer)


def test_configurations_are_of_the_model_that_is_there(clip):
    ours = hf.CLIPModel.from_pretrained(clip)
    assert ours.model.config == ours.config.ours()


def test_options_of_from_pretrained(clip, tmp_path):
    expected = hf.CLIPModel.from_pretrained(clip).state_dict()
    (tmp_path / "inside").symlink_to(clip)
    model, report = hf.CLIPModel.from_pretrained(
        tmp_path,
        **{"subfolder": "inside", "revision": "main", "token": None, "device_map": "cpu", "low_cpu_mem_usage": True},
        **{"use_safetensors": True, "output_loading_info": True, "output_hidden_states": True},
    )
    assert not any(report.values()) and model.name_or_path == str(tmp_path)
    assert model(**batch(model.config)).vision_model_output.hidden_states
    assert all(torch.equal(x, expected[name]) for name, x in model.state_dict().items())
    zeros = {name: torch.zeros_like(x) for name, x in expected.items()}
    for name, options in ((clip, {}), (None, {"config": model.config})):
        model = hf.CLIPModel.from_pretrained(name, state_dict=zeros, **options)
        assert not any(x.any() for x in model.parameters())
    model.save_pretrained(tmp_path / "saved", state_dict=expected, max_shard_size="1GB")
    (tmp_path / "saved" / "model.safetensors").rename(tmp_path / "saved" / "model.fp16.safetensors")
    model = hf.CLIPModel.from_pretrained(tmp_path / "saved", variant="fp16")
    assert all(torch.equal(x, expected[name]) for name, x in model.state_dict().items())


def test_features_are_an_output_on_request(clip):
    ours, theirs = hf.CLIPModel.from_pretrained(clip), transformers.CLIPModel.from_pretrained(clip).eval()
    images = batch(ours.config)["pixel_values"]
    with torch.no_grad():
        output, expected = (m.get_image_features(images, return_dict=True) for m in (ours, theirs))
        assert isinstance(ours.get_image_features(images), torch.Tensor)
        assert isinstance(ours.get_image_features(images, return_dict=False), tuple)
    for name in ("pooler_output", "last_hidden_state"):
        torch.testing.assert_close(output[name], expected[name], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", ["Siglip", "Siglip2"])
def test_random_weights_of_siglip_are_a_model_of_transformers(family, tmp_path, relative_error):
    config = getattr(hf, f"{family}Config")(**{"Siglip": SIGLIP, "Siglip2": SIGLIP2}[family]["small"])
    ours = getattr(hf, f"{family}Model")(config)
    ours.save_pretrained(tmp_path / "m")
    theirs, report = getattr(transformers, f"{family}Model").from_pretrained(tmp_path / "m", output_loading_info=True)
    assert not any(report.values()) and ours.num_parameters() == theirs.num_parameters()
    inputs = batch(theirs.config)
    with torch.no_grad():
        compare(ours.eval()(**inputs).vision_model_output, theirs.eval()(**inputs).vision_model_output, relative_error)
        fresh = type(theirs)(theirs.config).state_dict()
    for name, x in theirs.state_dict().items():
        if x.ndim > 1 and x.numel() > 500:
            assert x.std().item() == pytest.approx(fresh[name].std().item(), rel=0.15), name
    assert theirs.logit_scale.item() == theirs.logit_bias.item() == 0  # modeling_siglip.py, _init_weights


@pytest.mark.parametrize("family, sizes", [("ChineseCLIP", CHINESE["small"]), ("AltCLIP", ALT["small"])])
@pytest.mark.parametrize("part", ["", "Text", "Vision"])
def test_random_weights_of_clips_of_many_languages_are_drawn_as_in_transformers(family, sizes, part, tmp_path):
    sizes = {**sizes, "projection_dim": 128} if not part else sizes[f"{part.lower()}_config"]
    config = getattr(hf, f"{family}{part}Config")(**sizes)
    getattr(hf, f"{family}{part}Model")(config).save_pretrained(tmp_path / "m")
    kind = getattr(transformers, f"{family}{part}Model")
    theirs, report = kind.from_pretrained(tmp_path / "m", output_loading_info=True)
    assert not any(report.values())
    with torch.no_grad():
        fresh = kind(theirs.config).state_dict()
    for name, x in theirs.state_dict().items():
        if x.ndim > 1 and x.numel() > 500:
            assert x.std().item() == pytest.approx(fresh[name].std().item(), rel=0.15), name
            rows = (weight.flatten(1).any(1).tolist() for weight in (x, fresh[name]))
            assert next(rows) == next(rows), name  # padding is 0
        elif x.ndim <= 1 and "class_embedding" not in name:
            torch.testing.assert_close(x, fresh[name], msg=name)
