"""The built-in model and the pictures it learned from: what is drawn, what is held out, what was learned."""

import hashlib
import itertools

import numpy as np
import pytest
from PIL import Image, ImageColor, ImageDraw

import miniclip
from miniclip import checkpoints, params, weights, zero_shot
from miniclip.data import evaluation, shapes


def test_a_quarter_of_the_pairs_is_held_out_and_no_colour_or_shape_is():
    assert len(shapes.PAIRS) == 80 and len(shapes.HELD_OUT) == 20
    assert sorted(shapes.SEEN + shapes.HELD_OUT) == sorted(shapes.PAIRS)
    for name in shapes.COLOURS:
        assert sum(colour == name for colour, _ in shapes.HELD_OUT) == 2
    for name in shapes.SHAPES:
        assert 2 <= sum(shape == name for _, shape in shapes.HELD_OUT) <= 3


def test_training_neither_draws_nor_names_a_held_out_pair(monkeypatch):
    drawn = []
    draw = shapes.draw
    monkeypatch.setattr(shapes, "draw", lambda scene, rng: drawn.extend(scene) or draw(scene, rng))
    captions = [caption for step in range(20) for caption in shapes.batch(0, step, 16)[1]]
    captions += itertools.islice(shapes.captions(0), 2000)
    assert {(thing.colour, thing.shape) for thing in drawn if thing.colour} == set(shapes.SEEN)
    for colour, shape in shapes.HELD_OUT:
        assert not any(f"{colour} {shape}" in caption or f"{shape} that is {colour}" in caption for caption in captions)


def test_a_batch_is_determined_by_its_seed_and_number():
    (a, texts_a), (b, texts_b), (c, _) = (shapes.batch(*which, 16) for which in [(1, 5), (1, 5), (1, 6)])
    np.testing.assert_array_equal(a, b)
    assert texts_a == texts_b
    assert not np.array_equal(a, c)


@pytest.mark.parametrize("name", shapes.SHAPES)
def test_outlines_stay_in_their_square_and_turn_one_way(name):
    points = np.array(shapes.SHAPES[name])
    assert np.abs(points).max() <= 1.2
    x, y = points.T
    area = 0.5 * abs(x @ np.roll(y, -1) - y @ np.roll(x, -1))
    assert 0.5 < area < 4  # an outline that crosses itself would lose area


@pytest.mark.parametrize("name", shapes.COLOURS)
def test_colours_are_those_that_people_mean(name):
    """Pillow's (CSS's) colour of that name has that name here."""
    assert shapes.colour_name(ImageColor.getrgb(name), margin=0.5) == name
    rng = np.random.default_rng(0)
    assert {shapes.colour_name(shapes.random_colour(rng, name), margin=1e-6) for _ in range(200)} == {name}


def test_a_colour_that_goes_unnamed_has_no_name():
    rng = np.random.default_rng(0)
    assert {shapes.colour_name(shapes.random_colour(rng, None), margin=11) for _ in range(200)} == {None}
    assert shapes.colour_name((0, 128, 128)) is None


# ------------------------------------------------------------------------------------- what it has learned


@pytest.fixture(scope="module")
def loaded():
    return miniclip.load("shapes")


def test_zero_shot_accuracy_on_pairs_seen_and_held_out(loaded):
    results = evaluation.evaluate(*loaded)
    assert results["one object, pair seen in training"][0] >= 0.97
    assert results["one object, pair held out"][0] >= 0.90
    for what, (accuracy, chance, _) in results.items():
        assert accuracy > chance, what
    assert len(evaluation.table(results).splitlines()) == 1 + len(results)


def draw_differently(shape, colour, style):
    """A picture drawn by other code than the training's: 224 pixels, CSS colours, straight Pillow calls."""
    ground = {"plain": "gray", "white": "white", "noisy": "lightgray", "outline": "white", "corner": "white"}[style]
    if colour in ("white", "black") or (colour, ground) == ("gray", "gray"):
        ground = {"white": "black", "black": "white"}[colour]
    image = Image.new("RGB", (224, 224), ground)
    if style == "noisy":
        noise = np.random.default_rng(0).normal(0, 20, (224, 224, 3))
        image = Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))
    canvas = ImageDraw.Draw(image)
    x, y, r = (70, 150, 48) if style == "corner" else (112, 112, 70)
    options = {"outline": colour, "width": 12} if style == "outline" else {"fill": colour}
    if shape == "circle":
        canvas.ellipse((x - r, y - r, x + r, y + r), **options)
    elif shape == "square":
        canvas.rectangle((x - r, y - r, x + r, y + r), **options)
    elif shape == "triangle":
        canvas.polygon([(x, y - r), (x + r, y + r * 0.75), (x - r, y + r * 0.75)], **options)
    elif shape == "diamond":
        canvas.polygon([(x, y - r), (x + r * 0.7, y), (x, y + r), (x - r * 0.7, y)], **options)
    elif shape == "cross":
        canvas.line([(x - r, y), (x + r, y)], fill=colour, width=r // 2)
        canvas.line([(x, y - r), (x, y + r)], fill=colour, width=r // 2)
    return image


@pytest.mark.parametrize("style", ["plain", "white", "noisy", "outline", "corner"])
def test_pictures_that_others_draw_are_named(loaded, style):
    model, preprocess = loaded
    kinds = ["circle", "square", "triangle", "diamond", "cross"]
    pairs = [(colour, shape) for colour in shapes.COLOURS for shape in kinds]
    images = preprocess([draw_differently(shape, colour, style) for colour, shape in pairs])
    best = zero_shot.classify(model, images, evaluation.LABELS).argmax(-1)
    hits = [shapes.PAIRS[i] == pair for i, pair in zip(best, pairs)]
    assert np.mean(hits) >= 0.9, [(pair, shapes.PAIRS[i]) for i, pair in zip(best, pairs) if shapes.PAIRS[i] != pair]


def test_the_model_is_small_and_the_manifest_describes_it(loaded):
    entry = weights.manifest()["models"]["shapes"]
    path = weights.DIRECTORY / entry["file"]
    assert path.stat().st_size == entry["bytes"] < 8e6
    assert hashlib.sha256(path.read_bytes()).hexdigest() == entry["sha256"]
    assert sum(x.size for x in params.flatten(loaded[0].params).values()) == entry["parameters"]
    assert {x.dtype.name for x in checkpoints.safetensors.read(path)[0].values()} == {"float16"}
