"""clip.cpp itself reads what `miniclip convert --to gguf` writes, where its library is: features, pictures, tokens."""

import numpy as np
import pytest
import torch
from clip_cpp import FOLDER, LACKING, answers
from gguf_models import SIZES, save
from PIL import Image

import miniclip
from miniclip.checkpoints.convert import convert

pytestmark = pytest.mark.skipif(FOLDER is None, reason=LACKING)

# Of the largest value, in each dtype of the matrices. In all of them clip.cpp computes GELU and the exponentials of
# attention by tables in float16, the patch embedding in float16, and the GELU with tanh.
CLOSE = {"float32": 1e-3, "float16": 2e-3, "q8_0": 4e-2}


@pytest.fixture(scope="module", params=SIZES)
def model(request, tmp_path_factory):
    """(transformers' model, its directory, inputs, its features)."""
    directory = tmp_path_factory.mktemp("clip_cpp") / "model"
    theirs = save(request.param, directory)
    rng, size = np.random.default_rng(0), theirs.config.vision_config.image_size
    pixels = rng.standard_normal((2, 3, size, size)).astype(np.float32)
    ids = np.full((4, theirs.config.text_config.max_position_embeddings), -1)
    for row, length in zip(ids, (2, 3, 17, ids.shape[1])):
        row[:length] = [49406, *rng.integers(0, 49406, length - 2), 49407]
    with torch.no_grad():
        padded = torch.tensor(np.where(ids < 0, 49407, ids))
        features = {
            "images": theirs.get_image_features(pixel_values=torch.tensor(pixels)).pooler_output.numpy(),
            "texts": theirs.get_text_features(input_ids=padded).pooler_output.numpy(),
        }
    return theirs, directory, {"pixels": pixels, "ids": ids}, features


@pytest.mark.parametrize("dtype", CLOSE)
def test_its_features_are_transformers(dtype, model, tokenizer, tmp_path, relative_error):
    theirs, directory, inputs, features = model
    convert(directory, tmp_path / "m.gguf", "gguf", dtype=dtype, official=lambda: tokenizer)
    found = answers(tmp_path / "m.gguf", inputs, theirs.config.projection_dim)
    for name, expected in features.items():
        assert relative_error(found[name], expected) < CLOSE[dtype]
        length = np.linalg.norm(found[name], axis=1) * np.linalg.norm(expected, axis=1)
        assert ((found[name] * expected).sum(1) / length).min() > {"q8_0": 0.999}.get(dtype, 0.99999)


def test_it_prepares_a_picture_and_reads_the_vocabulary(model, tokenizer, tmp_path):
    theirs, directory, _, _ = model
    convert(directory, tmp_path / "m.gguf", "gguf", official=lambda: tokenizer)
    size = theirs.config.vision_config.image_size
    picture = np.random.default_rng(1).integers(0, 256, (size, size, 3)).astype(np.uint8)
    texts = ["a photo of a cat", "a diagram", "two dogs on a table"]
    found = answers(tmp_path / "m.gguf", {"picture": picture, "texts": texts}, theirs.config.projection_dim)
    preprocess = miniclip.load(directory, backend="numpy")[1]
    assert np.abs(found["prepared"].transpose(2, 0, 1) - preprocess(Image.fromarray(picture))).max() < 1e-5
    assert np.array_equal(found["tokens"], tokenizer.tokenize(texts))
