"""CLIP and miniclip.load: the interface of OpenAI's package, and clear errors."""

import copy
import math
import pickle
import re

import numpy as np
import pytest
import torch
from backends import HERE
from PIL import Image

import miniclip
from miniclip import ops, zero_shot
from miniclip.families.clip.presets import PRESETS


@pytest.fixture(scope="module", params=HERE)
def loaded(request):
    return miniclip.load("shapes", backend=request.param)


@pytest.fixture
def picture():
    image = Image.new("RGB", (100, 80), "white")
    image.paste((200, 20, 20), (30, 20, 70, 60))
    return image


def test_the_three_calls_of_openais_readme(loaded, picture):
    model, preprocess = loaded
    image = preprocess(picture)[None]
    text = model.tokenize(["a red square", "a blue circle"])
    image_features, text_features = model.encode_image(image), model.encode_text(text)
    E = model.config.embed_dim
    assert tuple(image_features.shape) == (1, E) and tuple(text_features.shape) == (2, E)
    per_image, per_text = map(model.ops.to_numpy, model(image, text))
    assert per_image.shape == (1, 2)
    np.testing.assert_array_equal(per_text, per_image.T)
    a, b = (model.ops.to_numpy(x).astype(np.float64) for x in (image_features, text_features))
    cosines = a @ b.T / np.outer(np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1))
    scale = math.exp(float(model.ops.to_numpy(model.logit_scale)))
    np.testing.assert_allclose(per_image, scale * cosines, rtol=1e-5, atol=1e-4)


def test_backends_say_their_names_and_give_their_own_arrays(loaded, picture):
    model, preprocess = loaded
    image, tokens = preprocess(picture), model.tokenize("a red square")
    arrays = image, preprocess([picture, picture]), model.encode_image(image[None]), model.encode_text(tokens)
    assert {type(x).__module__.partition(".")[0] for x in arrays} <= {*model.ops.PACKAGES}
    assert ops.BACKENDS[model.backend] == model.ops.__name__


def test_backends_agree(loaded, picture, relative_error):
    (ours, preprocess), (other, _) = miniclip.load(backend="numpy"), loaded
    image, text = preprocess([picture]), ours.tokenize(["a red square", "a small black star in the middle"])
    for reference, logits in zip(ours(image, text), other(image, text)):
        assert relative_error(other.ops.to_numpy(logits), reference) < 1e-5
    assert ours.backend == "numpy"


@pytest.mark.parametrize("dtype", ["float64", np.float64, torch.float64])
@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_dtype_is_taken_by_name_or_as_either_librarys_own(backend, dtype, picture):
    model, preprocess = miniclip.load(backend=backend, dtype=dtype)
    features = model.encode_image(preprocess([picture]))
    assert str(features.dtype).removeprefix("torch.") == "float64"


def test_torch_computes_in_bfloat16(picture):
    (half, preprocess), (full, _) = (miniclip.load(backend="torch", dtype=d) for d in ("bfloat16", "float32"))
    a, b = (model.encode_image(preprocess([picture])) for model in (half, full))
    assert a.dtype == torch.bfloat16
    assert torch.cosine_similarity(a.float(), b).item() > 0.99


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_scales_and_logits_are_float32_whatever_the_dtype_of_the_towers(backend, dtype, picture):
    """Of the scale in 16 bits, ln(100) would be 4.594 in bfloat16: logits 1% too low."""
    (half, preprocess), (full, _) = (miniclip.load(backend=backend, dtype=d) for d in (dtype, "float32"))
    assert "float32" in str(half.logit_scale.dtype) and float(half.logit_scale) == float(full.logit_scale)
    images, texts = preprocess([picture]), half.tokenize(["a red square", "a blue circle"])
    features = half.encode_image(images), half.encode_text(texts)
    logits = half.ops.to_numpy(half(images, texts)[0])
    exact = full.logits(*(np.asarray(half.ops.to_numpy(x), np.float32) for x in features))
    np.testing.assert_allclose(logits, full.ops.to_numpy(exact), rtol=1e-6)
    assert {str(x.dtype).removeprefix("torch.") for x in features} == {dtype} and logits.dtype == np.float32


def test_features_of_length_one(loaded, picture):
    model, preprocess = loaded
    for encode, x in ((model.encode_image, preprocess([picture])), (model.encode_text, model.tokenize("a red square"))):
        plain, unit = (model.ops.to_numpy(encode(x, normalize=wanted)) for wanted in (False, True))
        np.testing.assert_allclose(unit, plain / np.linalg.norm(plain, axis=1, keepdims=True), atol=1e-6)


@pytest.mark.parametrize(
    "again", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))], ids=["copy", "pickle"]
)
def test_models_can_be_copied_and_pickled(loaded, again, picture):
    model, preprocess = loaded
    twin = again(model)
    assert type(twin) is type(model) and twin.ops is model.ops and twin.config == model.config
    images, text = preprocess([picture]), model.tokenize("a red square")
    for ours, other in zip(model(images, text), twin(images, twin.tokenize("a red square"))):
        np.testing.assert_array_equal(model.ops.to_numpy(ours), model.ops.to_numpy(other))
    assert twin.params["text"]["embed"]["table"] is not model.params["text"]["embed"]["table"]


def test_a_model_says_what_it_is(loaded):
    model, _ = loaded
    assert re.match(r"CLIP\(CLIPConfig\(visual=VisionConfig\(image_size=48", repr(model))
    assert repr(model).endswith(f"{model.backend}, float32 on {model.device or 'cpu'})")


@pytest.mark.parametrize("pixel", [1e30, -1e30, math.nan, math.inf])
def test_pixels_that_no_preprocessing_makes_are_refused(loaded, pixel):
    images = np.zeros((2, 3, 48, 48), np.float32)
    images[1, 2, 3, 4] = pixel
    with pytest.raises(miniclip.InputError, match=r"images have a pixel of .*, expected numbers near 0"):
        loaded[0].encode_image(images)


@pytest.mark.parametrize("given", [None, [[1.0, 2.0], [1.0]], "a picture", object()])
def test_what_is_no_array_is_refused(loaded, given):
    model, _ = loaded
    E = model.config.embed_dim
    for call in (model.encode_image, model.encode_text, lambda x: model.logits(x, np.zeros((1, E), np.float32))):
        with pytest.raises(miniclip.InputError, match=r"images|tokens|features"):
            call(given)


def test_features_of_another_width_are_refused(loaded):
    model, _ = loaded
    right = np.ones((2, model.config.embed_dim), np.float32)
    for features in ((right, right[:, :-1]), (right[:, :-1], right), (right[0], right)):
        with pytest.raises(miniclip.InputError, match=rf"expected \(n, {model.config.embed_dim}\): are they another"):
            model.logits(*features)


@pytest.mark.filterwarnings("ignore")  # tracing is deprecated, and warns at every branch
def test_a_trace_keeps_no_text():
    """torch.jit and exporters would keep the text that they were shown."""
    model, _ = miniclip.load(backend="torch")
    tokens = torch.from_numpy(model.tokenize("a red square"))
    for trace in (torch.jit.trace, torch.export.export):
        with pytest.raises(Exception, match="a trace would keep its values for ever"):  # export wraps our InputError
            trace(AsModule(model.encode_text), (tokens,))


@pytest.mark.filterwarnings("ignore")  # tracing is deprecated, and warns at every branch
def test_pictures_can_be_traced(picture):
    model, preprocess = miniclip.load(backend="torch")
    images = preprocess([picture])
    traced = torch.jit.trace(AsModule(model.encode_image), (images,))
    torch.testing.assert_close(traced(2 * images), model.encode_image(2 * images))


class AsModule(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def test_no_pictures_and_no_texts_give_no_features(loaded):
    model, preprocess = loaded
    assert tuple(model.encode_image(preprocess([])).shape) == (0, model.config.embed_dim)
    assert tuple(model.encode_text(model.tokenize([])).shape) == (0, model.config.embed_dim)


def test_features_of_a_batch_are_those_of_its_members(loaded, picture, relative_error):
    model, preprocess = loaded
    pictures = [picture, picture.rotate(90), picture.rotate(180)]
    texts = ["red", "a small green star in the top left corner", "a red square and a black cross"]
    images, text = preprocess(pictures), model.tokenize(texts)
    for encode, batch in [(model.encode_image, images), (model.encode_text, text)]:
        together = model.ops.to_numpy(encode(batch))
        alone = np.concatenate([model.ops.to_numpy(encode(batch[i : i + 1])) for i in range(3)])
        assert relative_error(alone, together) < 1e-5


@pytest.mark.parametrize(
    ("shape", "message"),
    [((3, 48, 48), r"images are \(3, 48, 48\)"), ((1, 3, 48, 40), "expected"), ((1, 1, 48, 48), "expected")],
)
def test_images_of_another_shape_are_refused(loaded, shape, message):
    with pytest.raises(miniclip.InputError, match=message):
        loaded[0].encode_image(np.zeros(shape, np.float32))


def test_pixels_that_were_not_preprocessed_are_refused(loaded):
    with pytest.raises(miniclip.InputError, match="uint8, expected floats: pixels must go through preprocess first"):
        loaded[0].encode_image(np.zeros((1, 3, 48, 48), np.uint8))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "int64"])
def test_tokens_may_be_of_any_integer_type(loaded, dtype):
    model, _ = loaded
    tokens = np.array([[3, 100, 7], [5, 0, 0]])
    features = (model.ops.to_numpy(model.encode_text(tokens.astype(t))) for t in (dtype, "int32"))
    np.testing.assert_array_equal(*features)


def test_logits_take_features_from_anywhere(loaded):
    model, _ = loaded
    features = np.random.default_rng(0).standard_normal((2, 3, model.config.embed_dim)).astype(np.float32)
    features.flags.writeable = False
    assert tuple(model.logits(*features).shape) == (3, 3)
    assert tuple(model.logits(*features[:, ::-1, ::-1]).shape) == (3, 3)


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (np.zeros(5, np.int32), r"tokens are \(5,\)"),
        (np.zeros((1, 33), np.int32), "1 <= T <= 32"),
        (np.zeros((1, 0), np.int32), "1 <= T <= 32"),
        (np.array([[1, -1]]), "from -1 to 1"),
        (np.array([[1, 49407]]), "was another tokenizer used"),
        (np.zeros((1, 4), np.float32), "float32, expected integers"),
    ],
)
def test_tokens_that_cannot_be_are_refused(loaded, tokens, message):
    with pytest.raises(miniclip.InputError, match=message):
        loaded[0].encode_text(tokens)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "ViT-Z"}, "no model 'ViT-Z' here: it is neither one of shapes, .* ViT-B/32, .* nor a path, and"),
        ({"name": "models/absent.pt"}, r"models/absent\.pt: no such file"),
        (
            {"name": "ViT-Z/99"},
            "^an answer .*MINICLIP_OFFLINE=1 .*; 'ViT-Z/99' was looked up on .* nor one of shapes, ",
        ),
        ({"backend": "tpu"}, "no backend 'tpu'"),
        ({"backend": "numpy", "device": "cuda"}, "runs on the CPU"),
        ({"backend": "torch", "device": "nowhere"}, "nowhere"),
        ({"dtype": "float16"}, "numpy backend does not compute in float16"),
        ({"dtype": "int8", "backend": "torch"}, "not compute in int8; choose one of .*, or backend='onnxruntime'"),
        ({"tower": "audio"}, "no tower 'audio'"),
    ],
)
def test_what_cannot_be_loaded_is_refused_with_the_reason(options, message, monkeypatch):
    monkeypatch.setenv("MINICLIP_OFFLINE", "1")
    with pytest.raises(miniclip.InputError, match=message):
        miniclip.load(**options)


def test_the_available_models_are_the_built_in_one_and_those_with_presets():
    assert miniclip.available_models()[0] == "shapes"
    assert isinstance(miniclip.load("shapes")[0], miniclip.CLIP)
    assert sorted(miniclip.available_models()[1:-1]) == sorted(PRESETS)


def test_a_context_length_of_none_is_the_models_and_0_is_refused(loaded):
    model, _ = loaded
    assert model.tokenize("red").shape == (1, model.config.text.context_length)
    with pytest.raises(miniclip.InputError, match="context_length is 0"):
        model.tokenize("red", context_length=0)


def test_a_model_without_its_vocabulary_says_so(loaded):
    model, _ = loaded
    bare = miniclip.CLIP(model.config, model.params, model.ops)
    with pytest.raises(miniclip.InputError, match="came without vocabulary"):
        bare.tokenize("a red square")


# --------------------------------------------------------------------------------------------- zero-shot


@pytest.mark.parametrize(
    ("labels", "templates", "message"),
    [
        ("a red heart", ["{}"], "labels is 'a red heart', expected a list"),
        ([], ["{}"], "labels is "),
        (["red"], "a {}", "templates is 'a {}'"),
        (["red"], [], "templates is "),
        (["red"], ["a photo"], "'a photo' has no {}"),
        (["red", 3], ["{}"], "labels[1] is 3, expected a text"),
        (3, ["{}"], "labels is 3, expected a list"),
        (iter(()), ["{}"], "labels is <tuple_iterator"),
        (["red"], ["{}", None], "templates[1] is None, expected a text"),
        (["red"], [str.upper], "templates[0] is <method 'upper' of 'str' objects>, expected a text"),
    ],
)
def test_labels_and_templates_that_cannot_be_are_refused(loaded, labels, templates, message):
    with pytest.raises(miniclip.InputError, match=re.escape(message)):
        zero_shot.class_embeddings(loaded[0], labels, templates)


def test_zero_shot_probabilities_are_the_softmax_of_the_logits(loaded, picture):
    model, preprocess = loaded
    labels = ["a red square", "a blue circle", "a green star"]
    images = preprocess([picture, picture])
    probabilities = model.ops.to_numpy(zero_shot.classify(model, images, labels))
    logits = model.ops.to_numpy(model(images, model.tokenize(labels))[0]).astype(np.float64)
    expected = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(probabilities, expected, rtol=0, atol=1e-5)


def test_a_prompt_ensemble_is_the_mean_of_unit_embeddings(loaded):
    model, _ = loaded
    templates = ["a photo of {}", "{}, {}"]
    classes = model.ops.to_numpy(zero_shot.class_embeddings(model, ["red", "blue"], templates))
    units = []
    for texts in (["a photo of red", "a photo of blue"], ["red, red", "blue, blue"]):
        x = model.ops.to_numpy(model.encode_text(model.tokenize(texts)))
        units.append(x / np.linalg.norm(x, axis=1, keepdims=True))
    mean = sum(units) / 2
    np.testing.assert_allclose(classes, mean / np.linalg.norm(mean, axis=1, keepdims=True), atol=1e-6)


def test_labels_and_templates_may_be_any_iterable(loaded):
    model, _ = loaded
    texts = zero_shot.class_embeddings(model, ["red", "blue"], ["a photo of {}"])
    same = zero_shot.class_embeddings(model, (word for word in ["red", "blue"]), iter(["a photo of {}"]))
    np.testing.assert_array_equal(model.ops.to_numpy(same), model.ops.to_numpy(texts))
