"""The built-in model and its training data: drawn pictures, held-out pairs, accuracy."""

import hashlib
import itertools
import math
import re

import numpy as np
import pytest
from checkout import ROOT
from PIL import Image, ImageColor, ImageDraw

import miniclip
from miniclip import checkpoints, params, weights, zero_shot
from miniclip.train import evaluation, shapes

PAGE = ROOT / "docs" / "built-in-model.md"


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


def test_captions_of_places_and_relations_are_true():
    rng = np.random.default_rng(0)
    holds = {
        "left of": lambda a, b: a.x < b.x,
        "right of": lambda a, b: a.x > b.x,
        "above": lambda a, b: a.y < b.y,
        "below": lambda a, b: a.y > b.y,
    }
    for _ in range(500):
        first, second = shapes.two_objects(rng, shapes.PAIRS)
        relation = shapes.relation_of(first, second)
        assert holds[relation](first, second)
        true, false = evaluation._places_swapped([first, second])
        assert true.startswith(shapes.label(first.colour, first.shape) + f" {relation} ") and true != false


def test_a_batch_is_determined_by_its_seed_and_number():
    (a, texts_a), (b, texts_b), (c, _) = (shapes.batch(*which, 16) for which in [(1, 2005), (1, 2005), (1, 2006)])
    np.testing.assert_array_equal(a, b)
    assert texts_a == texts_b
    assert not np.array_equal(a, c)


@pytest.mark.parametrize("name", shapes.SHAPES)
def test_outlines_stay_in_their_square_and_turn_one_way(name):
    points = np.array(shapes.SHAPES[name])
    assert np.abs(points).max() <= 1.2
    x, y = points.T
    area = 0.5 * abs(x @ np.roll(y, -1) - y @ np.roll(x, -1))
    assert 0.5 < area < 4  # an outline that crosses itself has less area


@pytest.mark.parametrize("name", shapes.COLOURS)
def test_colours_are_those_that_people_mean(name):
    """The colour with this name in CSS, as Pillow has it, has the same name here."""
    assert shapes.colour_name(ImageColor.getrgb(name), margin=0.5) == name
    rng = np.random.default_rng(0)
    assert {shapes.colour_name(shapes.random_colour(rng, name), margin=1e-6) for _ in range(200)} == {name}


def test_a_colour_that_goes_unnamed_has_no_name():
    rng = np.random.default_rng(0)
    assert {shapes.colour_name(shapes.random_colour(rng, None), margin=11) for _ in range(200)} == {None}
    assert shapes.colour_name((0, 128, 128)) is None


# ------------------------------------------------------------------------------------------------ accuracy


@pytest.fixture(scope="module")
def loaded():
    return miniclip.load("shapes")


@pytest.fixture(scope="module")
def results(loaded):
    return evaluation.evaluate(*loaded)


def test_zero_shot_accuracy_on_pairs_seen_and_held_out(results):
    assert results["one object, pair seen in training"][0] >= 0.97
    assert results["one object, pair held out"][0] >= 0.90
    for what, (accuracy, chance, _) in results.items():
        assert accuracy > chance, what


def test_the_manifest_says_which_cosine_right_answers_reach(loaded):
    least = weights.manifest()["models"]["shapes"]["right_answers"]["cosine"]
    rng = np.random.default_rng([evaluation.SEED, 7])
    scenes = [shapes.one_object(rng, shapes.PAIRS[rng.integers(80)]) for _ in range(800)]
    cosines = evaluation._cosines(loaded[0], evaluation._draw(scenes, loaded[1], rng))  # (800, 80)
    truth = [shapes.PAIRS.index((thing.colour, thing.shape)) for (thing,) in scenes]
    right = cosines.max(-1)[cosines.argmax(-1) == truth]
    assert 0.98 <= np.mean(right >= least) < 1
    empty = evaluation._cosines(loaded[0], evaluation._draw([[]] * 800, loaded[1], rng)).max(-1)
    assert 0 < np.mean(empty >= least) <= 0.02


def test_the_words_of_captions_are_complete():
    many = {word for text in shapes.captions(1) for word in re.findall(r"\w+", text.lower())}
    assert many == shapes.WORDS


def draw_differently(shape, colour, style):
    """A picture that is not drawn by the training's code: CSS colours, plain Pillow calls, a side of 224 pixels."""
    scale = 4 if style == "antialiased" else 1
    side = 224 * scale
    ground = {"black": "white", "white": "black"}.get(colour, "lightgray" if style == "noisy" else "white")
    if style == "on grey" and colour not in ("black", "white"):
        ground = "gray"
    image = Image.new("RGB", (side, side), ground)
    if style == "noisy":
        noise = np.random.default_rng(0).normal(0, 20, (side, side, 3))
        image = Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))
    canvas = ImageDraw.Draw(image)
    x, y, r = ((70, 150, 48) if style == "in a corner" else (112, 112, 70)) if scale == 1 else (448, 448, 280)
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
        a = r // 4
        corners = [(-a, -r), (a, -r), (a, -a), (r, -a), (r, a), (a, a), (a, r), (-a, r), (-a, a), (-r, a), (-r, -a)]
        canvas.polygon([(x + dx, y + dy) for dx, dy in [*corners, (-a, -a)]], **options)
    elif shape == "star":
        turns = [(math.pi * i / 5, r if i % 2 == 0 else 0.4 * r) for i in range(10)]
        canvas.polygon([(x + q * math.sin(turn), y - q * math.cos(turn)) for turn, q in turns], **options)
    elif shape == "heart":  # two discs on a triangle
        canvas.ellipse((x - r, y - r, x, y), fill=colour)
        canvas.ellipse((x, y - r, x + r, y), fill=colour)
        canvas.polygon([(x - 0.93 * r, y - 0.27 * r), (x + 0.93 * r, y - 0.27 * r), (x, y + r)], fill=colour)
    elif shape == "crescent":  # a disc with a bite
        canvas.ellipse((x - r, y - r, x + r, y + r), fill=colour)
        canvas.ellipse((x - 0.4 * r, y - 0.8 * r, x + 1.2 * r, y + 0.8 * r), fill=ground)
    return image.resize((224, 224), Image.Resampling.LANCZOS)


@pytest.mark.parametrize("style", ["plain", "antialiased", "on grey", "noisy", "outline", "in a corner"])
def test_pictures_that_others_draw_are_named(loaded, style):
    model, preprocess = loaded
    images = preprocess([draw_differently(shape, colour, style) for colour, shape in shapes.PAIRS])
    best = zero_shot.classify(model, images, evaluation.LABELS).argmax(-1)
    wrong = [(pair, shapes.PAIRS[i]) for i, pair in zip(best, shapes.PAIRS) if shapes.PAIRS[i] != pair]
    assert len(wrong) <= 0.1 * len(shapes.PAIRS), wrong


def test_its_page_says_how_good_it_is(results):
    """The figures may differ a little, because another BLAS may classify a picture or two differently."""
    stated = {
        line[:46].rstrip(): line[46:].split() for line in PAGE.read_text().splitlines() if line[46:].count("%") == 2
    }
    assert stated.keys() == results.keys()
    for (accuracy, chance, pictures), (*percentages, number) in zip(results.values(), stated.values()):
        assert [100 * accuracy, 100 * chance] == pytest.approx([float(p.rstrip("%")) for p in percentages], abs=0.3)
        assert f"{pictures:,}" == number


def test_the_table_holds_every_result(results):
    table = evaluation.table(results).splitlines()
    assert [line[:46].rstrip() for line in table[1:]] == [*results]


def test_the_model_is_small_and_the_manifest_describes_it(loaded):
    entry = weights.manifest()["models"]["shapes"]
    path = weights.DIRECTORY / entry["file"]
    assert path.stat().st_size == entry["bytes"] < 8e6
    assert hashlib.sha256(path.read_bytes()).hexdigest() == entry["sha256"]
    assert sum(x.size for x in params.flatten(loaded[0].params).values()) == entry["parameters"]
    assert {x.dtype.name for x in checkpoints.safetensors.read(path)[0].values()} == {"float16"}
