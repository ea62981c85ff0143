"""The class that config.json names: as transformers' Auto classes choose it."""

import numpy as np
import pytest
import torch
import transformers
from chinese_clip_models import save_alt
from hf_models import SIZES, TOWERS
from hf_models import official as torch_model
from naflex_models import save_whole
from siglip_vocabularies import gemma_directory, sentencepiece, spiece_directory  # noqa: F401
from test_ways_in import save_align, save_chinese, save_clip, save_siglip
from xlm_roberta_vocabularies import sentencepiece_bytes, xlm_roberta_directories  # noqa: F401

from miniclip import InputError, hf

SAVED = [(family, name) for family, towers in TOWERS.items() for name in (f"{family}Model", *towers)]
# Which transformers' AutoModel lacks.
NOT_AUTO = ("AlignTextModel", "AlignVisionModel", "SiglipTextModel", "Siglip2TextModel", "ChineseCLIPTextModel")
NOT_AUTO += tuple(TOWERS["AltCLIP"])


@pytest.fixture(scope="module")
def whole(tmp_path_factory, spiece_directory, gemma_directory, xlm_roberta_directories):  # noqa: F811
    """{family: a directory with the whole model, its tokenizer and its image processor}."""
    place = tmp_path_factory.mktemp("whole")
    save_clip(place / "CLIP")
    save_align(place / "Align")
    save_siglip(place / "Siglip", spiece_directory)
    save_whole(place / "Siglip2", "GemmaTokenizer", gemma_directory["GemmaTokenizer"])
    save_chinese(place / "ChineseCLIP")
    save_alt(place / "AltCLIP", xlm_roberta_directories["tokenizer.json"])
    return {family: place / family for family in TOWERS}


@pytest.mark.parametrize("family, name", SAVED)
def test_the_class_is_that_of_the_file(family, name, tmp_path):
    sizes = next(sizes for (each, _), sizes in SIZES.items() if each == family)
    torch_model(family, sizes).save_pretrained(tmp_path / "whole")
    getattr(transformers, name).from_pretrained(tmp_path / "whole", ignore_mismatched_sizes=True).save_pretrained(
        tmp_path / "m"
    )
    ours = hf.from_pretrained(tmp_path / "m", backend="numpy")
    assert type(ours) is getattr(hf, name) and ours.model.ops.NAME == "numpy"
    config = hf.AutoConfig.from_pretrained(tmp_path / "m", initializer_range=0.5)
    expected = transformers.AutoConfig.from_pretrained(tmp_path / "m")
    assert type(config).__name__ == type(expected).__name__ and config.initializer_range == 0.5
    plain = name.removesuffix("WithProjection")
    assert type(hf.AutoModel.from_pretrained(tmp_path / "m")) is getattr(hf, plain)
    if name not in NOT_AUTO:
        assert type(transformers.AutoModel.from_pretrained(tmp_path / "m")).__name__ == plain


@pytest.mark.parametrize("family", TOWERS)
def test_processors_and_their_parts(family, whole):
    directory = whole[family]
    for ours, theirs in (
        (hf.AutoProcessor, transformers.AutoProcessor),
        (hf.AutoTokenizer, transformers.AutoTokenizer),
        (hf.AutoImageProcessor, transformers.AutoImageProcessor),
    ):
        expected = type(theirs.from_pretrained(directory)).__name__.removesuffix("Pil").removesuffix("Fast")
        assert isinstance(ours.from_pretrained(directory), getattr(hf, expected))  # AltCLIP's pictures have a subclass
    model, processor = hf.from_pretrained(directory, processor=True)
    assert type(processor) is getattr(hf, f"{family}Processor")
    inputs = processor(text=["a cat"], images=np.zeros((9, 9, 3), np.uint8), return_tensors="pt")
    with torch.no_grad():
        assert model(**inputs).logits_per_image.shape == (1, 1)
    whole = getattr(transformers, f"{family}Model").from_pretrained(directory)
    for tower, part in (("text", "Tokenizer"), ("vision", "ImageProcessor")):
        other = directory.parent / f"{family} {tower}"
        getattr(whole, f"{tower}_model").save_pretrained(other)
        for file in directory.iterdir():
            if not (other / file.name).exists() and file.suffix != ".safetensors":
                (other / file.name).write_bytes(file.read_bytes())
        model, found = hf.from_pretrained(other, processor=True)
        assert type(model) is getattr(hf, f"{family}{tower.title()}Model") and type(found).__name__.endswith(part)


def test_flax_s_class_is_chosen(whole):
    assert type(hf.FlaxAutoModel.from_pretrained(whole["CLIP"])) is hf.FlaxCLIPModel
    with pytest.raises(InputError, match="Align: FlaxAutoModel has no class for this type of model"):
        hf.FlaxAutoModel.from_pretrained(whole["Align"])


def test_tensorflow_s_class_is_chosen(whole):
    pytest.importorskip("tensorflow")
    assert type(hf.TFAutoModel.from_pretrained(whole["CLIP"])) is hf.TFCLIPModel


def test_a_name_and_a_folder_are_found(whole):
    assert type(hf.AutoModel.from_pretrained(whole["CLIP"].parent, subfolder="CLIP")) is hf.CLIPModel
    model, processor = hf.from_pretrained(whole["CLIP"].parent, subfolder="CLIP", processor=True)
    assert type(processor) is hf.CLIPProcessor and type(model) is hf.CLIPModel
    assert type(hf.from_pretrained("shapes")) is hf.CLIPModel


def test_other_types_are_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    for load in (hf.from_pretrained, hf.AutoModel.from_pretrained, hf.AutoTokenizer.from_pretrained):
        with pytest.raises(
            InputError, match=rf"{tmp_path}: is a model of type 'bert', expected one of 'clip', .*'align'"
        ):
            load(tmp_path)
    with pytest.raises(OSError, match="there is no model 'nothing' here"):
        hf.from_pretrained("nothing")
