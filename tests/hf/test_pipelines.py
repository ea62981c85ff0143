"""pipeline("zero-shot-image-classification"): the labels, their order and their scores are transformers'."""

# ruff: noqa: F811  fixtures are imported, and are arguments of the same name

import base64

import numpy as np
import pytest
import siglip_models
import transformers
from naflex_models import save_whole
from PIL import Image
from siglip_vocabularies import gemma_directory, sentencepiece, spiece_directory  # noqa: F401
from test_ways_in import save_align, save_chinese, save_clip, save_siglip

from miniclip import InputError, hf

TASK = "zero-shot-image-classification"
FAMILIES = ("CLIP", "Align", "Siglip", "Siglip2", "ChineseCLIP")
CHINESE = ["杰尼龟", "妙蛙", "小火龙"]
LABELS = ["a cat", "dog", "an image of a dog", "cat"]


@pytest.fixture(scope="module")
def directories(tmp_path_factory, spiece_directory, gemma_directory):
    place = tmp_path_factory.mktemp("pipelines")
    save_clip(place / "CLIP")
    save_align(place / "Align")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(siglip_models.TEXT, "max_position_embeddings", 64)  # to which transformers' pipeline pads
        save_siglip(place / "Siglip", spiece_directory)
    save_whole(place / "Siglip2", "GemmaTokenizer", gemma_directory["GemmaTokenizer"])
    save_chinese(place / "ChineseCLIP")
    return {family: place / family for family in FAMILIES}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Pictures of several kinds: a path, one that lies on its side, a transparent one, base64, grey."""
    rng, place = np.random.default_rng(0), tmp_path_factory.mktemp("photos")
    pictures = [Image.fromarray(rng.integers(0, 256, (60, 90, c), np.uint8)) for c in (3, 3, 4, 3)]
    pictures[0].save(place / "plain.png")
    turned = Image.Exif()
    turned[274] = 6
    pictures[1].save(place / "turned.jpg", exif=turned, quality=95)
    pictures[2].save(place / "transparent.png")
    content = base64.b64encode((place / "plain.png").read_bytes()).decode()
    paths = [str(place / name) for name in ("plain.png", "turned.jpg", "transparent.png")]
    return [*paths, pictures[2], f"data:image/png;base64,{content}", pictures[3].convert("L")]


def same(ours, theirs):
    assert [row["label"] for row in ours] == [row["label"] for row in theirs]
    assert np.allclose([row["score"] for row in ours], [row["score"] for row in theirs], atol=1e-5)
    assert all(type(row["score"]) is float and [*row] == ["score", "label"] for row in ours)


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_are_transformers(family, directories, photos):
    ours = hf.pipeline(TASK, model=directories[family], backend="numpy")
    theirs = transformers.pipeline(TASK, model=str(directories[family]), device="cpu")
    labels = CHINESE if family == "ChineseCLIP" else LABELS
    for options in ({}, {"hypothesis_template": "{}"}, {"hypothesis_template": "an image of {}"}):
        for photo in photos:
            same(ours(photo, labels, **options), theirs(photo, candidate_labels=labels, **options))
    on_cpu = hf.pipeline(TASK, str(directories[family]), device=-1)
    assert str(on_cpu.model.device) == "cpu"
    same(on_cpu(photos[0], labels), theirs(photos[0], candidate_labels=labels))
    together = ours(photos, candidate_labels=labels, batch_size=4)
    assert len(together) == len(photos)
    for found, expected in zip(together, theirs(photos, candidate_labels=labels)):
        same(found, expected)
    assert [len(row) for row in ours([photos[0]], ["cat"])] == [1]


def test_parts_are_given_too(directories, photos):
    directory = directories["CLIP"]
    model, processor = hf.from_pretrained(directory, processor=True)
    parts = {"tokenizer": processor.tokenizer, "image_processor": processor.image_processor}
    found = hf.pipeline(model=model, **parts)
    assert type(found) is hf.ZeroShotImageClassificationPipeline
    same(found(photos[0], LABELS), hf.pipeline(TASK, directory)(photos[0], LABELS))
    for wrong in ({"model": model}, {"model": model, **parts, "dtype": "float16"}, {}):
        with pytest.raises(InputError, match="give model as a name or a path, or a model with its tokenizer"):
            hf.pipeline(TASK, **wrong)


def test_what_cannot_be_classified_is_named(directories, photos, tmp_path):
    with pytest.raises(InputError, match=f"task is 'translation', expected '{TASK}'"):
        hf.pipeline("translation", directories["CLIP"])
    classify = hf.pipeline(TASK, directories["CLIP"])
    for labels in ("a cat", []):
        with pytest.raises(InputError, match=r"candidate_labels is .*, expected a list of at least one text"):
            classify(photos[0], labels)
    with pytest.raises(InputError, match="batch_size is 0"):
        classify(photos, LABELS, batch_size=0)
    with pytest.raises(InputError, match="picture 1 is an object of type int"):
        classify([photos[0], 7], LABELS)
    hf.CLIPVisionModel.from_pretrained(directories["CLIP"]).save_pretrained(tmp_path / "tower")
    hf.CLIPImageProcessor().save_pretrained(tmp_path / "tower")
    with pytest.raises(InputError, match=r"tower: has only a visual tower, and .* needs both"):
        hf.pipeline(TASK, tmp_path / "tower")
