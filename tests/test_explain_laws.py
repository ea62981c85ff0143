"""Relevance: laws that it obeys, what it means on drawn pictures whose objects are known, and what is refused."""

import numpy as np
import pytest
import torch
from align_models import small  # noqa: F401

import miniclip
from miniclip import CLIP, explain, params
from miniclip.image import resize_and_crop
from miniclip.ops import numpy_ops
from miniclip.train import shapes

BACKENDS = ["numpy", "torch"]


@pytest.fixture(scope="module", params=BACKENDS)
def built_in(request):
    return miniclip.load("shapes", backend=request.param)


def scenes(count, seed=0, objects=1):
    """(what is drawn, the picture, the label of the first object) of random scenes."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(count):
        scene = shapes.two_objects(rng, shapes.PAIRS)[:objects]  # objects that cover a tenth of the picture
        found.append((scene, shapes.draw(scene, rng), shapes.label(scene[0].colour, scene[0].shape)))
    return zip(*found)


@pytest.mark.parametrize("layers", [1, 9])
def test_relevance_is_never_negative_and_zero_after_the_end(built_in, layers):
    model, preprocess = built_in
    _, pictures, _ = scenes(3)
    tokens = model.tokenize(["a red heart", "here you see a small blue circle to the left of a star", "star"])
    found = explain.relevance(model, preprocess([*pictures]), tokens, layers=layers)
    assert found.patches.shape == (3, 6, 6) and found.tokens.shape == tokens.shape and found.score.shape == (3,)
    assert found.patches.min() >= 0 and found.tokens.min() >= 0
    ends = tokens.argmax(axis=-1)[:, None]
    assert not found.tokens[np.arange(tokens.shape[1]) > ends].any()
    assert (found.tokens[np.arange(tokens.shape[1]) == ends] > 0).all()


def test_one_picture_goes_with_many_texts_and_pairs_do_not_depend_on_each_other(built_in):
    model, preprocess = built_in
    _, pictures, labels = scenes(3)
    image, tokens = preprocess(pictures[0]), model.tokenize(labels)
    together = explain.relevance(model, image, tokens, layers=2)
    turned = explain.relevance(model, preprocess([*pictures]), tokens[1], layers=2)
    for i in range(3):
        for a, b in zip(together, explain.relevance(model, image, tokens[i], layers=2)):
            np.testing.assert_allclose(a[i], b[0], rtol=1e-4, atol=1e-6)
        for a, b in zip(turned, explain.relevance(model, preprocess(pictures[i]), tokens[1], layers=2)):
            np.testing.assert_allclose(a[i], b[0], rtol=1e-4, atol=1e-6)


def test_patches_that_the_class_token_does_not_read_have_no_relevance():
    model, preprocess = miniclip.load("shapes", backend="numpy")
    flat = params.flatten(model.params)
    flat["visual.blocks.3.attention.out.weight"] = np.zeros_like(flat["visual.blocks.3.attention.out.weight"])
    deaf = CLIP(model.config, params.unflatten(flat), numpy_ops)
    _, pictures, labels = scenes(1)
    found = explain.relevance(deaf, preprocess(pictures[0]), model.tokenize(labels))
    assert not found.patches.any() and found.tokens.any()
    assert explain.relevance(deaf, preprocess(pictures[0]), model.tokenize(labels), layers=2).patches.any()


def test_it_leaves_torchs_parameters_and_modes_alone():
    model, preprocess = miniclip.load("shapes", backend="torch")
    _, pictures, labels = scenes(1)
    image, tokens = preprocess(pictures[0]), model.tokenize(labels)
    expected = explain.relevance(model, image, tokens)
    with torch.no_grad():
        np.testing.assert_array_equal(explain.relevance(model, image, tokens).patches, expected.patches)
    with torch.inference_mode():
        np.testing.assert_array_equal(explain.relevance(model, image, tokens).patches, expected.patches)
    flat = params.flatten(model.params)
    for x in flat.values():
        x.requires_grad_(True)
    np.testing.assert_array_equal(explain.relevance(model, image, tokens).patches, expected.patches)
    assert all(x.grad is None for x in flat.values())


def test_bfloat16_is_explained_too():
    (half, preprocess), (full, _) = (miniclip.load("shapes", backend="torch", dtype=d) for d in ("bfloat16", "float32"))
    _, pictures, labels = scenes(4)
    images, tokens = preprocess([*pictures]), full.tokenize(labels)
    a, b = (explain.relevance(model, images, tokens) for model in (half, full))
    assert {x.dtype.name for x in (*a, *b)} == {"float32"}
    assert np.corrcoef(a.patches.ravel(), b.patches.ravel())[0, 1] > 0.98


def test_what_the_model_sees_is_the_crop(built_in, small):  # noqa: F811
    _, preprocess = built_in
    rng = np.random.default_rng(0)
    picture = shapes.draw(shapes.one_object(rng, ("red", "heart")), rng).resize((150, 90))
    shown = explain.visible(preprocess, preprocess(picture))
    expected = np.asarray(resize_and_crop(picture, (48, 48))) / 255
    np.testing.assert_allclose(shown, expected, atol=1e-6)
    _, preprocess = miniclip.load(small, backend="numpy")
    shown = explain.visible(preprocess, preprocess(picture))
    middle = np.asarray(picture.resize((78, 78), 2))[6:71, 6:71] / 255
    np.testing.assert_allclose(shown, middle, atol=1e-6)


# --------------------------------------------------------------------------------------------- meaning


def covered(thing, G=6):
    """The share of each of G x G patches that is inside the square around an object, (G, G)."""
    edges = np.arange(G + 1) / G
    sides = [np.diff(np.clip(edges, centre - thing.size, centre + thing.size)) * G for centre in (thing.y, thing.x)]
    return np.outer(*sides)


@pytest.mark.parametrize("objects", [1, 2])
def test_relevance_is_on_the_object_and_deleting_it_lowers_the_score_faster_than_deleting_at_random(objects):
    model, preprocess = miniclip.load("shapes", backend="numpy")
    drawn, pictures, labels = scenes(50, objects=objects)
    images, tokens = preprocess([*pictures]), model.tokenize(labels)
    patches = explain.relevance(model, images, tokens).patches  # (50, 6, 6)
    on = np.stack([covered(scene[0]) for scene in drawn])  # (50, 6, 6)
    share = (patches * on).sum(axis=(1, 2)) / patches.sum(axis=(1, 2))
    assert share.mean() > 0.7 and share.mean() > 2 * on.mean()

    def score(order, count):
        """The mean cosine after the first `count` patches of each picture became as its median colour."""
        damaged = images.copy()
        for image, places in zip(damaged, order):
            colour = np.median(image, axis=(1, 2), keepdims=True)
            for y, x in zip(*np.unravel_index(places[:count], (6, 6))):
                image[:, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8] = colour
        features = (numpy_ops.l2_normalize(x) for x in (model.encode_image(damaged), model.encode_text(tokens)))
        return np.multiply(*features).sum(axis=-1).mean()

    rng = np.random.default_rng(1)
    relevant = patches.reshape(50, 36).argsort(axis=-1)[:, ::-1]
    random = np.stack([rng.permutation(36) for _ in range(50)])
    whole = score(relevant, 0)
    for count in (2, 4, 6):
        assert whole - score(relevant, count) > 2 * abs(whole - score(random, count)) > 0
    assert score(relevant, 6) < 0.75 * whole


def test_the_text_chooses_the_object():
    """Of two objects, the relevance goes with the one that the text names; attention is the same for all texts."""
    model, preprocess = miniclip.load("shapes", backend="numpy")
    drawn, pictures, _ = scenes(30, seed=3, objects=2)
    images, right = preprocess([*pictures]), 0
    for i in range(2):
        tokens = model.tokenize([shapes.label(scene[i].colour, scene[i].shape) for scene in drawn])
        patches = explain.relevance(model, images, tokens).patches
        named, other = (np.stack([covered(scene[j]) for scene in drawn]) for j in (i, 1 - i))
        right += ((patches * named).sum(axis=(1, 2)) > (patches * other).sum(axis=(1, 2))).sum()
    assert right >= 54  # of 60


# ------------------------------------------------------------------------------------------- what is refused


def test_what_cannot_be_explained_is_refused(small):  # noqa: F811
    model, preprocess = miniclip.load("shapes", backend="numpy")
    _, pictures, labels = scenes(3)
    images, tokens = preprocess([*pictures]), model.tokenize(labels)
    with pytest.raises(miniclip.InputError, match=r"images are \(3, 3, 48, 48\) and tokens \(2, 32\), expected"):
        explain.relevance(model, images, tokens[:2])
    with pytest.raises(miniclip.InputError, match=r"images are \(0, 3, 48, 48\)"):
        explain.relevance(model, images[:0], tokens[:1])
    with pytest.raises(miniclip.InputError, match="layers is 0, expected"):
        explain.relevance(model, images, tokens, layers=0)
    for tower, missing in (("visual", "text"), ("text", "visual")):
        with pytest.raises(miniclip.InputError, match=f"no {missing} tower"):
            explain.relevance(miniclip.load("shapes", backend="numpy", tower=tower)[0], images, tokens)
    jax, _ = miniclip.load("shapes", backend="jax")
    with pytest.raises(miniclip.InputError, match=r"jax backend has no gradients: pass backend='numpy' or "):
        explain.relevance(jax, images, tokens)
    assert explain.attention_maps(jax, images).shape == (3, 4, 4, 6, 6)
    with pytest.raises(miniclip.InputError, match=r"no attention.*relevance"):
        align, _ = miniclip.load(small, backend="numpy")
        explain.attention_maps(align, np.zeros((3, 65, 65), np.float32))
