"""miniclip.hf's configurations against transformers' classes of the same names."""

import json

import pytest
import transformers

from miniclip import InputError, hf

FAMILIES = ["CLIP", "Align", "ChineseCLIP", "AltCLIP"]
CONFIGS = [f"{family}{part}Config" for family in (*FAMILIES, "Siglip", "Siglip2") for part in ("", "Text", "Vision")]


@pytest.mark.parametrize("name", CONFIGS)
def test_defaults_are_transformers(name):
    # Leave out the settings that all of transformers' configurations have, and an EfficientNet's computed depth.
    general = {*transformers.PreTrainedConfig().to_dict(), "output_attentions", "num_hidden_layers"} - {"model_type"}

    def own(settings):
        return {k: own(x) if isinstance(x, dict) else x for k, x in settings.items() if k not in general}

    assert own(getattr(hf, name)().to_dict()) == own(getattr(transformers, name)().to_dict())


@pytest.mark.parametrize("family", FAMILIES)
def test_configurations_are_made_of_their_towers_saved_and_read(family, tmp_path):
    whole, text, vision = (getattr(hf, f"{family}{part}Config") for part in ("", "Text", "Vision"))
    sizes = {"width_coefficient": 1.0} if family == "Align" else {"patch_size": 16}
    towers = text(hidden_size=48, num_attention_heads=4, my_own="note"), vision(image_size=64, **sizes)
    config = whole.from_text_vision_configs(*towers, projection_dim=320)
    assert config == whole(text_config=towers[0].to_dict(), vision_config=towers[1], projection_dim=320)
    assert config.text_config.my_own == "note" and config.text_config.hidden_size == 48
    config.save_pretrained(tmp_path / "ours")
    assert whole.from_pretrained(tmp_path / "ours") == config != whole(projection_dim=640 if family == "Align" else 5)
    assert text.from_pretrained(tmp_path / "ours").hidden_size == 48
    theirs = getattr(transformers, f"{family}Config").from_pretrained(tmp_path / "ours")
    assert theirs.text_config.hidden_size == 48 and theirs.vision_config.image_size == 64
    theirs.save_pretrained(tmp_path / "theirs")
    again = whole.from_pretrained(tmp_path / "theirs")
    assert again.ours() == config.ours()
    assert json.loads(config.to_json_string())["projection_dim"] == 320 and "projection_dim" in repr(config)


def test_what_older_files_say_twice_is_taken_as_by_transformers():
    settings = {"text_config": {"hidden_size": 64, "vocab_size": 99}, "text_config_dict": {"hidden_size": 48}}
    ours, theirs = hf.CLIPConfig(**settings), transformers.CLIPConfig(**settings)
    assert ours.text_config.hidden_size == theirs.text_config.hidden_size == 48
    assert ours.text_config.vocab_size == theirs.text_config.vocab_size and "text_config_dict" not in ours.to_dict()


def test_configurations_that_no_model_has_are_refused(tmp_path):
    with pytest.raises(InputError, match="CLIPTextConfig: width 50 cannot be shared by 8 heads"):
        hf.CLIPTextConfig(hidden_size=50)
    with pytest.raises(InputError, match=r"CLIPConfig: .*activation is 'mish'"):
        hf.CLIPConfig(vision_config={"hidden_act": "mish"})
    hf.CLIPTextConfig().save_pretrained(tmp_path)
    with pytest.raises(
        InputError, match="is a model of type 'clip_text_model', but CLIPVisionConfig expects 'clip_vision_model'"
    ):
        hf.CLIPVisionConfig.from_pretrained(tmp_path)


@pytest.mark.parametrize("name", CONFIGS)
def test_configurations_have_transformers_methods(name, tmp_path):
    ours, theirs = getattr(hf, name)(), getattr(transformers, name)()
    for attribute in ("output_hidden_states", "output_attentions", "return_dict", "is_encoder_decoder"):
        assert getattr(ours, attribute) == getattr(theirs, attribute)
    changed = type(ours).from_dict({**ours.to_dict(), "initializer_factor": 0.5})
    assert changed.to_diff_dict()["initializer_factor"] == 0.5 and "hidden_act" not in changed.to_diff_dict()
    changed.to_json_file(tmp_path / "config.json")
    assert type(ours).from_json_file(tmp_path / "config.json") == changed
    assert type(ours).from_pretrained(tmp_path, token=None, revision="main") == changed
    with pytest.raises(OSError, match="there is no model"):
        type(ours).from_pretrained("no such model")


def test_towers_of_align_have_no_projection(tmp_path):
    whole = hf.AlignConfig(vision_config={"width_coefficient": 1.0}, projection_dim=320)
    whole.save_pretrained(tmp_path)
    assert hf.AlignVisionConfig.from_pretrained(tmp_path) == whole.vision_config
    assert not hasattr(whole.vision_config, "projection_dim")


def test_configurations_of_siglip_are_made_of_their_towers_saved_and_read(tmp_path):
    """A whole model has no projection_dim: the text tower's projection_size is the width of the image tower."""
    towers = (
        hf.SiglipTextConfig(hidden_size=48, projection_size=40),
        hf.SiglipVisionConfig(hidden_size=40, num_attention_heads=5, image_size=64),
    )
    config = hf.SiglipConfig.from_text_vision_configs(*towers)
    assert config.ours().embed_dim == 40
    config.save_pretrained(tmp_path / "ours")
    assert hf.SiglipConfig.from_pretrained(tmp_path / "ours") == config
    assert hf.SiglipTextConfig.from_pretrained(tmp_path / "ours").projection_size == 40
    transformers.SiglipConfig.from_pretrained(tmp_path / "ours").save_pretrained(tmp_path / "theirs")
    assert hf.SiglipConfig.from_pretrained(tmp_path / "theirs").ours() == config.ours()
    with pytest.raises(InputError, match="SiglipConfig: embed_dim is 768, but the image tower's features are 40 wide"):
        hf.SiglipConfig(vision_config=towers[1])
