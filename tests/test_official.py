"""The official weights and the published values of their outputs, each with its source, on NumPy and on Triton.

A test is skipped if its files are not on this machine: `make test-official` downloads them first. One published value
is not tested, the accuracy of ViT-B/32 on ImageNetV2 with 80 templates, top-1 55.93 and top-5 83.36 (the notebook
Prompt_Engineering_for_ImageNet of openai/CLIP): its 10,000 pictures and the templates are not downloaded.
"""

import pickle
import tarfile

import numpy as np
import pytest
from PIL import Image

import miniclip
from miniclip import zero_shot
from miniclip.checkpoints import openai
from miniclip.families.clip.presets import PRESETS
from miniclip.fetch import hub, vocabulary
from miniclip.formats import torch_files
from miniclip.weights import manifest


@pytest.fixture
def here(monkeypatch):
    """A function: the path of what `miniclip download NAME` fetches; it skips the test if that is not there."""
    monkeypatch.setenv("MINICLIP_OFFLINE", "1")

    def find(name):
        try:
            if name == "vocabulary":
                return vocabulary.find() or vocabulary.fetch()
            if name in TEST_FILES:
                return hub.file(TEST_FILES[name])
            return hub.find(name)
        except miniclip.InputError:
            pytest.skip(f"{name} is not on this machine: miniclip download {name}")

    return find


TEST_FILES = manifest()["test_files"]
BACKENDS = ["numpy", "triton"]  # without a GPU, triton runs in its interpreter, a minute per picture
CLIP_PNG = ["a diagram", "a dog", "a cat"]


@pytest.fixture(params=BACKENDS)
def vit_b_32(request, here):
    here("vocabulary")
    return miniclip.load(here("ViT-B/32"), backend=request.param)


def to_numpy(model, *arrays):
    return [model.ops.to_numpy(x) for x in arrays]


def test_clip_png_has_the_published_probabilities_cosines_and_features(vit_b_32, here):
    model, preprocess = vit_b_32
    image = preprocess(here("CLIP.png"))[None]
    text = model.tokenize(CLIP_PNG)
    features, texts = to_numpy(model, model.encode_image(image), model.encode_text(text))

    # The README of openai/CLIP, in float16; a NumPy port printed 0.99279356, 0.00421067, 0.00299573.
    logits = model.logits(features, texts)
    probabilities = model.ops.to_numpy(model.ops.softmax(logits))[0]
    np.testing.assert_allclose(probabilities, [0.9927937, 0.00421068, 0.00299572], atol=1e-5)
    # These and the following: computed from image_features.npy and text_features.npy of NPCLIP.
    cosines = (features / np.linalg.norm(features)) @ (texts / np.linalg.norm(texts, axis=-1, keepdims=True)).T
    np.testing.assert_allclose(cosines[0], [0.25552785, 0.20089889, 0.19749455], atol=1e-5)

    first = [0.31397319, -0.14600709, 0.30358776, -0.19985807, 0.01424213, -0.10352714]
    np.testing.assert_allclose(features[0, :6], first, atol=1e-4)
    np.testing.assert_allclose([np.linalg.norm(features), features.sum()], [10.413092, -8.902039], atol=1e-3)
    first = [
        [0.05469764, -0.00611118, 0.04954149, 0.01063602, 0.11071809],
        [0.14469987, 0.02248071, -0.29094753, 0.07803077, 0.01256196],
        [0.19806254, -0.20402002, -0.15330330, -0.27053416, -0.04461136],
    ]
    np.testing.assert_allclose(texts[:, :5], first, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(texts, axis=-1), [11.886088, 11.386319, 11.022001], atol=1e-3)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # transformers, tests/models/clip/test_modeling_clip.py, CLIPModelIntegrationTest.test_inference
        ("openai/clip-vit-base-patch32", [[24.5701, 19.3049]]),
        # tests/models/align/test_modeling_align.py, AlignModelIntegrationTest.test_inference
        ("align-base", [[9.7093, 3.4679]]),
    ],
)
def test_two_cats_have_the_logits_of_transformers_own_test(name, expected, backend, here):
    model, preprocess = miniclip.load(here(name), backend=backend)
    image = preprocess(here("000000039769.jpg"))[None]
    logits = model(image, model.tokenize(["a photo of a cat", "a photo of a dog"]))[0]
    np.testing.assert_allclose(model.ops.to_numpy(logits), expected, atol=1e-3)


@pytest.mark.parametrize("backend", BACKENDS)
def test_interpolated_positions_give_the_states_of_transformers_own_test(backend, here):
    # The same file, test_inference_interpolate_pos_encoding
    model, preprocess = miniclip.load(here("openai/clip-vit-base-patch32"), backend=backend, image_size=180)
    with Image.open(here("000000039769.jpg")) as picture:
        squeezed = picture.resize((180, 180), Image.Resampling.BICUBIC)  # transformers' test does not crop
    stages = {}
    model.encode_image(preprocess(squeezed)[None], trace=stages.__setitem__)
    (states,) = to_numpy(model, stages["blocks.11.mlp"])
    assert states.shape == (1, 26, 768)
    expected = [[-0.1538, 0.0322, -0.3235], [0.2893, 0.1135, -0.5708], [0.0461, 0.1540, -0.6018]]
    np.testing.assert_allclose(states[0, :3, :3], expected, rtol=6e-3, atol=4e-4)  # their tolerances


def test_a_snake_of_cifar_100_is_classified_as_in_the_official_readme(vit_b_32, here):
    model, preprocess = vit_b_32
    with tarfile.open(here("cifar-100-python.tar.gz")) as archive:
        test, meta = (
            pickle.load(archive.extractfile(f"cifar-100-python/{name}"), encoding="latin-1")
            for name in ("test", "meta")
        )
    picture = Image.fromarray(test["data"][3637].reshape(3, 32, 32).transpose(1, 2, 0))
    names = meta["fine_label_names"]
    (probabilities,) = to_numpy(model, zero_shot.classify(model, preprocess([picture]), names, ["a photo of a {}"]))
    best = probabilities[0].argsort()[::-1][:5]
    assert [names[i] for i in best] == ["snake", "turtle", "sweet_pepper", "lizard", "crocodile"]
    np.testing.assert_allclose(100 * probabilities[0][best], [65.31, 12.29, 3.83, 1.88, 1.75], atol=0.1)


@pytest.mark.parametrize("name", PRESETS)
def test_each_official_model_has_its_configuration_and_number_of_parameters(name, here):
    # The manifest has the numbers counted in the checkpoints; statistics of BatchNorms are not parameters.
    path = here(name)
    model = miniclip.load(path, backend="numpy")[0]
    assert model.config == PRESETS[name]
    others = ("running_mean", "running_var", "num_batches_tracked", "attn_mask", *openai.SIZES)
    found = sum(x.size for key, x in torch_files.read(path).items() if not key.endswith(others))
    assert found == manifest()["models"][name]["parameters"]
