"""What miniclip.hf's models refuse: inputs that cannot be used, and directories of other models."""

# ruff: noqa: F811  fixtures are imported, and are arguments of the same name

import pytest
import torch
from hf_models import batch, clip  # noqa: F401

from miniclip import InputError, hf


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input_ids": None}, "input_ids is missing"),
        ({"pixel_values": None}, "pixel_values is missing"),
        ({"position_ids": torch.arange(11)[None]}, "position_ids is given, but miniclip does not take it"),
        ({"attention_mask": torch.ones(3, 10)}, r"attention_mask is \(3, 10\), for tokens \(3, 11\)"),
        ({"attention_mask": torch.arange(11).expand(3, 11) % 2}, "ones and then zeros"),
        ({"attention_mask": (torch.arange(11) < 4).expand(3, 11)}, "attention_mask hides the end of a text"),
        (
            {"pixel_values": torch.ones(2, 3, 30, 30), "return_loss": True},
            "one text for each .* 2 pictures and 3 texts",
        ),
        ({"input_ids": torch.full((3, 11), 99)}, "token ids run from 99 to 99"),
    ],
)
def test_inputs_that_cannot_be_used_are_refused(clip, change, message):
    ours = hf.CLIPModel.from_pretrained(clip)
    with pytest.raises(InputError, match=message):
        ours(**{**batch(ours.config), **change})


def test_models_that_are_others_are_refused(clip, tmp_path):
    with pytest.raises(InputError, match="is a model of type 'clip', but AlignConfig expects 'align'"):
        hf.AlignModel.from_pretrained(clip)
    hf.CLIPVisionModel.from_pretrained(clip).save_pretrained(tmp_path / "bare")
    with pytest.raises(InputError, match="bare: has no projection, which CLIPVisionModelWithProjection needs"):
        hf.CLIPVisionModelWithProjection.from_pretrained(tmp_path / "bare")
    with pytest.raises(InputError, match="is a model of type 'clip_vision_model', but CLIPConfig expects 'clip'"):
        hf.CLIPModel.from_pretrained(tmp_path / "bare")
    with pytest.raises(InputError, match="revision is 2, expected a str"):
        hf.CLIPModel.from_pretrained(clip, revision=2)
    with pytest.raises(InputError, match="CLIPModel takes a CLIPConfig"):
        hf.CLIPModel(hf.AlignConfig())
