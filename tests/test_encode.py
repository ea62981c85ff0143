"""Features of many pictures and texts: as those of one batch, in order, without what cannot be read."""

import copy
import itertools

import numpy as np
import pytest
from PIL import Image

import miniclip
from miniclip import encode
from miniclip.config import PictureSettings
from miniclip.errors import InputError
from miniclip.families.preprocessing import SettingsPreprocess
from miniclip.runtime import pictures


@pytest.fixture(scope="module")
def shapes():
    return miniclip.load("shapes")


@pytest.fixture
def files(tmp_path):
    """Seven pictures of one colour each; the third and the last cannot be read."""
    paths = [tmp_path / f"{i}.png" for i in range(7)]
    for i, path in enumerate(paths):
        Image.new("RGB", (60, 50), (30 * i, 0, 100)).save(path)
    paths[2].write_bytes(b"")
    paths[6].unlink()
    return [str(path) for path in paths]


def test_pictures_in_order_without_the_broken_ones(shapes, files):
    model, preprocess = shapes
    broken = []
    found = [*encode.pictures(model, preprocess, files, batch=3, broken=lambda *what: broken.append(what))]
    good = [files[i] for i in (0, 1, 3, 4, 5)]
    assert [path for names, _ in found for path in names] == good
    assert [len(x) for _, x in found] == [2, 3]  # the last batch has no picture that can be read
    assert [(path, str(error).startswith(path)) for path, error in broken] == [(files[2], True), (files[6], True)]
    features = np.concatenate([x for _, x in found])
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, model.encode_image(preprocess(good)), rtol=0, atol=1e-5)


def test_each_picture_is_opened_once_though_its_neighbours_are_broken(shapes, files, monkeypatch):
    opened, open_picture = [], pictures.open_picture
    monkeypatch.setattr(pictures, "open_picture", lambda path, *rest: opened.append(path) or open_picture(path, *rest))
    assert sum(len(names) for names, _ in encode.pictures(*shapes, files, broken=lambda *_: None)) == 5
    assert sorted(opened) == files


def test_pictures_may_have_names(shapes, files):
    broken = []
    some = [("a", b"no picture"), files[0], (3, Image.open(files[1]))]
    ((names, x),) = encode.pictures(*shapes, some, broken=lambda name, error: broken.append((name, str(error))))
    assert names == [files[0], 3] and len(x) == 2
    assert broken == [("a", "the picture: cannot be read as a picture: cannot identify image file")]


def test_pictures_that_are_not_cropped_are_batches_by_size(shapes, files):
    """A preprocessing may leave them as they are; one that is broken is among them."""
    model, _ = shapes
    preprocess = SettingsPreprocess(None, settings=PictureSettings("none", None, None, "bicubic", 1 / 255, ()))
    sizes = [(48, 48), (48, 48), (64, 48), (48, 48)]
    some = [Image.new("RGB", size) for size in sizes]
    seen = []

    class Sees:
        def __getattr__(self, name):
            return getattr(model, name)

        def encode_image(self, images):
            seen.append(images.shape)
            return np.ones((len(images), 8))

    names = [names for names, _ in encode.pictures(Sees(), preprocess, [files[2], *some], broken=lambda *_: None)]
    assert names == [some[:2], some[2:3], some[3:]]
    assert seen == [(2, 3, 48, 48), (1, 3, 48, 64), (1, 3, 48, 48)]


def test_no_more_than_a_batch_is_taken_before_it_is_needed(shapes):
    endless = iter(itertools.repeat(Image.new("RGB", (48, 48))))
    taken = 0

    def count():
        nonlocal taken
        for picture in endless:
            taken += 1
            yield picture

    batches = encode.pictures(*shapes, count(), batch=4, broken=None)
    assert [len(next(batches)[0]) for _ in range(2)] == [4, 4] and taken == 8


def test_a_gpus_next_batch_is_prepared_meanwhile(shapes, files):
    model, preprocess = miniclip.load("shapes", backend="torch")
    plain = [*encode.pictures(model, preprocess, files, batch=3, broken=lambda *_: None)]
    model.device = "cuda"  # only its name is asked

    class OnCPU:
        def __getattr__(self, name):
            return getattr(model, name)

        def encode_image(self, images):
            model.device = "cpu"
            return model.encode_image(images)

    ahead = [*encode.pictures(OnCPU(), preprocess, files, batch=3, broken=lambda *_: None)]
    assert [names for names, _ in ahead] == [names for names, _ in plain]
    assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(ahead, plain))


def test_texts(shapes):
    model, _ = shapes
    texts = ["a red heart", "a blue circle " * 40, "a pink star"]  # the second is longer than the context
    (first, x), (second, y) = encode.texts(model, texts, batch=2)
    assert first + second == texts
    expected = model.encode_text(model.tokenize(texts, truncate=True))
    np.testing.assert_allclose(np.concatenate([x, y]), expected, rtol=0, atol=1e-5)


def test_features_that_are_not_numbers_are_refused(shapes, files):
    model, preprocess = shapes
    params = copy.deepcopy(model.params)
    params["visual"]["ln_post"]["bias"][0] = np.nan
    with pytest.raises(InputError, match="features are not numbers: the model's weights may be NaN: load another file"):
        next(encode.pictures(type(model)(model.config, params, model.ops), preprocess, files[:2], broken=None))
