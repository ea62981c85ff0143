"""Hugging Face's directories: transformers reads miniclip's; what it cannot express is refused by name."""

# ruff: noqa: F811  fixtures are imported, and are arguments of the same name

import dataclasses

import numpy as np
import pytest
import transformers
from clip_directories import directory  # noqa: F401
from PIL import Image

import miniclip
from miniclip import checkpoints, params
from miniclip.checkpoints import huggingface


@pytest.mark.parametrize("tower", [None, "visual", "text"])
@pytest.mark.parametrize("projected", [True, False])
def test_what_we_write_is_what_transformers_wrote(tower, projected, directory, tmp_path, same_tree):
    config, tree, _ = checkpoints.load(directory)
    if tower:
        config = dataclasses.replace(config, **{"visual": None, "text": None, tower: getattr(config, tower)})
        tree = {tower: dict(tree[tower])}
    if not projected:
        if tower is None:
            return
        config = dataclasses.replace(config, embed_dim=None)
        del tree[tower]["projection"]
    huggingface.save(tmp_path / "m", config, tree)
    read, values, _ = checkpoints.load(tmp_path / "m")
    assert read == config and same_tree(values, tree)
    name = {None: "CLIPModel", "visual": "CLIPVisionModel", "text": "CLIPTextModel"}[tower]
    official = getattr(transformers, name + ("WithProjection" if tower and projected else ""))
    theirs, report = official.from_pretrained(tmp_path / "m", output_loading_info=True)
    assert not any(report.values()), report
    sizes = sum(x.size for x in params.flatten(tree).values())
    assert sum(x.numel() for x in theirs.parameters()) == sizes


def test_a_processor_loads_from_what_we_write(directory, tmp_path, official_vocabulary):
    """transformers' CLIPProcessor gives our tokens and pixels (at odd sizes its crop is one pixel off)."""
    config, tree, _ = checkpoints.load(directory)
    text = dataclasses.replace(config.text, vocab_size=49408, eot_token_id=49407, context_length=77)
    config = dataclasses.replace(config, text=text)
    tree = params.tree_map(lambda shape: np.zeros(shape, np.float32), config.shapes())
    tokenizer = miniclip.Tokenizer.load(official_vocabulary, 49408)
    huggingface.save(tmp_path / "m", config, tree, tokenizer=tokenizer)
    processor = transformers.CLIPProcessor.from_pretrained(tmp_path / "m")
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8))
    texts = ["a photo of a cat", "Hello World!"]
    theirs = processor(text=texts, images=picture, return_tensors="np", padding="max_length")
    model, preprocess = miniclip.load(tmp_path / "m", backend="numpy")
    ours = model.tokenize(texts)
    assert theirs["input_ids"].shape == ours.shape
    np.testing.assert_array_equal(theirs["input_ids"] * (ours > 0), ours)  # theirs pads with the end id
    np.testing.assert_allclose(theirs["pixel_values"][0], preprocess(picture), atol=1e-6)


def test_a_model_that_transformers_cannot_express_is_refused(directory, tmp_path):
    config, tree, _ = checkpoints.load(directory)
    long = dataclasses.replace(config.visual, image_size=(32, 40))
    for change, message in [
        ({"visual": long}, "square pictures"),
        ({"embed_dim": None}, "embed_dim None, not 512"),
    ]:
        with pytest.raises(miniclip.InputError, match=message):
            huggingface.save(tmp_path / "m", dataclasses.replace(config, **change), tree)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "m").mkdir()
    with pytest.raises(miniclip.InputError, match="m: exists already"):
        huggingface.save(tmp_path / "m", config, tree)
    assert list(tmp_path.iterdir()) == [tmp_path / "m"]
