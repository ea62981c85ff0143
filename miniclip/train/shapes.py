"""Pictures of coloured shapes with captions, drawn with Pillow: the training data of the built-in model.

A scene has one or two objects, each a (colour, shape) pair, with random place, size and slight tilt, filled or in
outline, sharp or slightly blurred, on plain, shaded, striped or noisy ground. A quarter of the pairs, `HELD_OUT`, is
never drawn for training and never named in its captions: a model that names these pairs has learned colour and shape
separately.
"""

import colorsys
import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from miniclip.image import Preprocess

# The range of each colour's name: hue in degrees, saturation and value in percent. There are gaps between neighbours.
COLOURS = {
    "red": ((-6, 8), (85, 100), (78, 100)),
    "orange": ((24, 40), (85, 100), (90, 100)),
    "yellow": ((49, 61), (75, 100), (90, 100)),
    "green": ((95, 145), (60, 100), (42, 100)),
    "blue": ((208, 244), (70, 100), (55, 100)),
    "purple": ((268, 302), (60, 100), (42, 90)),
    "pink": ((315, 352), (22, 62), (95, 100)),
    "brown": ((0, 32), (55, 85), (32, 66)),
    "black": ((0, 360), (0, 100), (0, 8)),
    "white": ((0, 360), (0, 3), (95, 100)),
}


def _polygon(corners, radii=(1.0,), turn=0.0):
    angles = [turn - math.pi / 2 + 2 * math.pi * i / corners for i in range(corners)]  # the first corner points up
    return [(radii[i % len(radii)] * math.cos(a), radii[i % len(radii)] * math.sin(a)) for i, a in enumerate(angles)]


def _heart():
    points = []
    for i in range(48):
        t = 2 * math.pi * i / 48
        x = 16 * math.sin(t) ** 3
        y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        points.append((x / 17, -(y + 2.5) / 17))
    return points


def _crescent():
    """The unit circle without a smaller circle further right: two arcs that meet at the horns."""
    centre, radius = 0.45, 0.8
    x = (1 - radius**2 + centre**2) / (2 * centre)  # where the circles meet
    outer, inner = math.acos(x), math.acos((x - centre) / radius)
    arc = [outer + (2 * math.pi - 2 * outer) * i / 32 for i in range(33)]
    back = [inner + (2 * math.pi - 2 * inner) * i / 32 for i in range(32, -1, -1)]
    points = [(math.cos(a), math.sin(a)) for a in arc]
    return points + [(centre + radius * math.cos(a), radius * math.sin(a)) for a in back]


def _cross(arm=0.33):
    one = [(-arm, -1), (arm, -1), (arm, -arm)]
    return [point for quarter in range(4) for point in _rotate(one, quarter * math.pi / 2).tolist()]


def _rotate(points, angle):
    c, s = math.cos(angle), math.sin(angle)
    return np.array(points) @ np.array([[c, s], [-s, c]])


# Each shape is an outline, about in the square [-1, 1]², with y downwards.
SHAPES = {
    "circle": _polygon(48),
    "square": _polygon(4, (1.2,), math.pi / 4),
    "triangle": _polygon(3, (1.15,)),
    "star": _polygon(10, (1.1, 0.45)),
    "heart": _heart(),
    "diamond": [(0, -1.1), (0.75, 0), (0, 1.1), (-0.75, 0)],
    "cross": _cross(),
    "crescent": _crescent(),
}

PAIRS = [(colour, shape) for colour in COLOURS for shape in SHAPES]

# Two shapes of every colour are held out, so training shows each colour and each shape, in other pairs.
HELD_OUT = [
    (colour, shape)
    for i, colour in enumerate(COLOURS)
    for j, shape in enumerate(SHAPES)
    if (j - 3 * i) % len(SHAPES) in (0, 4)
]
SEEN = [pair for pair in PAIRS if pair not in HELD_OUT]


@dataclass(frozen=True)
class Object:
    """One shape of a scene. Lengths are shares of the picture's side; x and y count from the top left corner."""

    colour: str | None  # None: a colour without a name here
    shape: str
    x: float
    y: float
    size: float  # about the distance from the centre to the farthest point of the outline


# ---------------------------------------------------------------------------------------------- scenes


def one_object(rng, pair, smallest=0.16):
    """A scene with one object of the given (colour, shape)."""
    size = rng.uniform(smallest, 0.5)
    x, y = rng.uniform(size, 1 - size, 2)
    return [Object(*pair, x, y, size)]


def two_objects(rng, pairs):
    """A scene with two objects that do not overlap, of two different (colour, shape) pairs from `pairs`."""
    first, second = rng.choice(len(pairs), 2, replace=False)
    # Side by side or one above the other, each in its own half.
    sizes = rng.uniform(0.15, 0.24, 2)
    along = [rng.uniform(s, 0.5 - s) + 0.5 * i for i, s in enumerate(sizes)]
    across = [rng.uniform(s, 1 - s) for s in sizes]
    places = list(zip(along, across)) if rng.random() < 0.5 else list(zip(across, along))
    return [Object(*pairs[p], *place, size) for p, place, size in zip((first, second), places, sizes)]


def random_colour(rng, name):
    """An RGB triple in 0..255 with this name; None: one that is far from all names, such as teal or olive."""
    if name is None:
        while colour_name(colour := rng.uniform(0, 255, 3), margin=12):
            pass
        return colour
    hue, saturation, value = (rng.uniform(low, high) for low, high in COLOURS[name])
    return np.array(colorsys.hsv_to_rgb(hue / 360 % 1, saturation / 100, value / 100)) * 255


def colour_name(colour, margin=0.0):
    """The name of an RGB triple in 0..255, None without one; ranges are widened by `margin` degrees and percent."""
    hue, saturation, value = np.array(colorsys.rgb_to_hsv(*(c / 255 for c in colour))) * (360, 100, 100)
    for name, ((low, high), *others) in COLOURS.items():
        inside = (hue - (low - margin)) % 360 <= high - low + 2 * margin
        if inside and all(a - margin <= x <= b + margin for (a, b), x in zip(others, (saturation, value))):
            return name
    return None


# --------------------------------------------------------------------------------------------- drawing


def draw(scene, rng):
    """A scene as an RGB picture with a side of 48 to 192 pixels; colours, styles and ground are random."""
    side = int(rng.choice([48, 64, 96, 128, 192], p=[0.2, 0.2, 0.2, 0.3, 0.1]))
    colours = [random_colour(rng, thing.colour) for thing in scene]
    image = Image.fromarray(_ground(rng, side, colours))
    canvas = ImageDraw.Draw(image)
    for thing, colour in zip(scene, colours):
        stretch = rng.uniform(0.88, 1.12)
        points = _rotate(np.array(SHAPES[thing.shape]) * (stretch, 1 / stretch), rng.normal(0, math.radians(8)))
        points = (points * thing.size * 0.88 + (thing.x, thing.y)) * side
        points = [tuple(point) for point in points.tolist()]
        ink = tuple(int(c) for c in colour)
        style = rng.choice(["filled", "outline", "edged"], p=[0.7, 0.2, 0.1])
        if style == "filled":
            canvas.polygon(points, fill=ink)
        elif style == "outline":
            width = max(rng.uniform(0.08, 0.3) * thing.size, 0.02) * side
            canvas.polygon(points, outline=ink, width=round(width))
        else:
            canvas.polygon(points, fill=ink, outline="black" if colour.sum() > 255 else "white")
    if rng.random() < 0.15:
        image = image.filter(ImageFilter.GaussianBlur(side / 128))
    return image


def _ground(rng, side, colours):
    """A random ground that differs clearly from `colours`: (side, side, 3) uint8."""
    first, second = _ground_colour(rng, colours), _ground_colour(rng, colours)
    mix = np.float32(rng.uniform(0.1, 1)) * _pattern(rng, side)[:, :, None]
    ground = first + (second - first) * mix  # (side, side, 3), or (1, 1, 3) if it is plain
    if rng.random() < 0.3:
        ground = ground + np.float32(rng.uniform(5, 30)) * rng.standard_normal((side, side, 1), np.float32)
    return np.broadcast_to(ground.clip(0, 255).astype(np.uint8), (side, side, 3))


def _pattern(rng, side):
    """A random pattern: ramp, stripes, blotches, (side, side) float32 in 0..1, or none, (1, 1) zeros."""
    kind = rng.choice(["plain", "ramp", "diagonal", "stripes", "blotches"], p=[0.45, 0.1, 0.05, 0.1, 0.3])
    if kind == "plain":
        return np.zeros((1, 1), np.float32)
    ramp = np.tile(np.arange(side, dtype=np.float32) / side, (side, 1))  # from left to right
    if kind == "ramp":
        pattern = ramp
    elif kind == "diagonal":
        pattern = (ramp + ramp.T) / 2
    elif kind == "stripes":
        pattern = ((ramp * rng.integers(2, 10)) % 1 < 0.5).astype(np.float32)
    else:
        coarse = int(rng.choice([4, 8, 16, side]))
        pattern = np.asarray(Image.fromarray(rng.random((coarse, coarse), np.float32)).resize((side, side)))
    return pattern.T if rng.random() < 0.5 else pattern


def _ground_colour(rng, colours):
    """A random colour, often white, black or grey, that differs clearly from `colours`: an RGB triple in 0..255."""
    while True:
        kind = rng.random()
        if kind < 0.3:
            colour = np.full(3, 255.0)
        elif kind < 0.45:
            colour = np.zeros(3)
        elif kind < 0.65:
            colour = np.full(3, rng.uniform(0, 255))
        else:
            colour = rng.uniform(0, 255, 3)
        if all(np.linalg.norm(colour - other) > 100 for other in colours):
            return colour.astype(np.float32)


# -------------------------------------------------------------------------------------------- captions

FRAMES = (
    ["{}"] * 6
    + ["a photo of {}", "a picture of {}", "an image of {}", "a drawing of {}", "a painting of {}"]
    + ["there is {}", "this is {}", "here you see {}", "{} is shown", "look, {}!"]
)


def caption(scene, rng):
    """A sentence about the scene, true but not always complete."""
    if rng.random() < PLAIN:
        return " and ".join(label(thing.colour, thing.shape) for thing in scene)
    if len(scene) == 1:
        text = _phrase(scene[0], rng)
        if rng.random() < 0.3:
            text += f" {_place(scene[0])}"
    else:
        first, second = scene
        relation = rng.choice(["and", "next to", "and", "place", "place"])
        if rng.random() < 0.5:
            first, second = second, first
        if relation == "place":
            relation = str(rng.choice(RELATIONS[relation_of(first, second)]))
        text = f"{_phrase(first, rng)} {relation} {_phrase(second, rng)}"
    return FRAMES[rng.integers(len(FRAMES))].format(text)


def label(colour, shape):
    """The caption that names only a pair: "an orange star", or "a star" if the colour is None."""
    return f"{_article(colour)} {colour} {shape}" if colour else f"{_article(shape)} {shape}"


def _article(word):
    return "an" if word[0] in "aeiou" else "a"


def _phrase(thing, rng):
    if thing.colour is None:
        return label(None, thing.shape)
    kind = rng.random()
    size = "small" if thing.size < 0.2 else "big" if thing.size > 0.36 else ""
    if kind < 0.08:
        return f"{thing.colour} {thing.shape}"
    if kind < 0.16:
        return f"{_article(thing.shape)} {thing.shape} that is {thing.colour}"
    if kind < 0.24:
        return f"the {thing.colour} {thing.shape}"
    if kind < 0.28:
        return f"{_article(thing.shape)} {thing.shape}"
    if kind < 0.32:
        return f"something {thing.colour}"
    if size and kind < 0.5:
        return f"a {size} {thing.colour} {thing.shape}"
    return label(thing.colour, thing.shape)


def _place(thing):
    across = "left" if thing.x < 0.4 else "right" if thing.x > 0.6 else ""
    down = "top" if thing.y < 0.4 else "bottom" if thing.y > 0.6 else ""
    if across and down:
        return f"in the {down} {across} corner"
    return f"at the {down}" if down else f"on the {across}" if across else "in the middle"


# Where one object is, seen from another, with the phrases that captions use for it.
RELATIONS = {
    "left of": ["left of", "to the left of", "on the left of"],
    "right of": ["right of", "to the right of", "on the right of"],
    "above": ["above", "on top of", "over"],
    "below": ["below", "under"],
}


def relation_of(first, second):
    """The key of `RELATIONS` that says where `first` is, seen from `second`."""
    if abs(first.x - second.x) > abs(first.y - second.y):
        return "left of" if first.x < second.x else "right of"
    return "above" if first.y < second.y else "below"


# --------------------------------------------------------------------------------------------- batches


PLAIN = 0.5  # share of captions that only say "a red circle"
EASY_STEPS = 1000  # steps until objects reach their smallest size
TWO_OBJECTS = 8  # scenes with two objects in each batch


def batch(seed, step, image_size):
    """Batch number `step` of a training: (images (B, 3, image_size, image_size) float32, B captions).

    Each pair of `SEEN` has one picture of its own, so almost no caption is true of another picture. There is also a
    picture of each shape in a colour without a name, which teaches that shape does not depend on colour, and pictures
    of two objects. The first batches only have large objects: the model learns shapes sooner that way (Curriculum
    Learning, sec. 4).
    """
    rng = np.random.default_rng([seed, step])
    smallest = max(0.16, 0.36 - 0.2 * step / EASY_STEPS)
    scenes = [one_object(rng, pair, smallest) for pair in [*SEEN, *((None, shape) for shape in SHAPES)]]
    scenes += [two_objects(rng, SEEN) for _ in range(TWO_OBJECTS)]
    images = Preprocess(image_size)([draw(scene, rng) for scene in scenes])
    return images, [caption(scene, rng) for scene in scenes]


def captions(seed, batches=100):
    """Captions of scenes like those in the batches, to train a tokenizer on."""
    rng = np.random.default_rng([seed])
    for _ in range(batches):
        for pair in SEEN:
            yield caption(one_object(rng, pair), rng)
            yield caption(two_objects(rng, SEEN), rng)


# All words of the captions.
WORDS = {*COLOURS, *SHAPES} | {
    *("a", "above", "an", "and", "at", "below", "big", "bottom", "corner", "drawing", "here", "image", "in", "is"),
    *("left", "look", "middle", "next", "of", "on", "over", "painting", "photo", "picture", "right", "see", "shown"),
    *("small", "something", "that", "the", "there", "this", "to", "top", "under", "you"),
}
