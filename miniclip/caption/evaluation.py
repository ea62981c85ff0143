"""How often captions name the colours and shapes in drawn scenes: pairs seen in training, held out, two objects."""

import re

import numpy as np

from miniclip.train import shapes

SEED = 1_000_004  # training never uses it
BATCH = 100
NAMED = re.compile(rf"(?:({'|'.join(shapes.COLOURS)}) )?({'|'.join(shapes.SHAPES)})(?: that is ({'|'.join(shapes.COLOURS)}))?")


def named(caption):
    """The set of (colour, shape) pairs that a caption names; the colour is None if it is not said."""
    return {(before or after or None, shape) for before, shape, after in NAMED.findall(caption)}


def scenes(kind, count, rng):
    """Drawn scenes of a kind: "seen", "held out" (one object each), or "two"."""
    if kind == "two":
        return [shapes.two_objects(rng, shapes.PAIRS) for _ in range(count)]
    pairs = {"seen": shapes.SEEN, "held out": shapes.HELD_OUT}[kind]
    return [shapes.one_object(rng, pairs[rng.integers(len(pairs))]) for _ in range(count)]


TASKS = {
    "one object, pair seen in training": "seen",
    "one object, pair held out": "held out",
    "two objects, both named with their colours": "two",
}


def evaluate(captioner, pictures=1000, beams=(1, 5)):
    """{task: {number of beams: share of pictures whose best caption names exactly what is there}}."""
    results = {}
    for task, kind in TASKS.items():
        rng = np.random.default_rng([SEED, len(kind)])
        drawn = scenes(kind, pictures, rng)
        truth = [{(thing.colour, thing.shape) for thing in scene} for scene in drawn]
        images = [captioner.preprocess([shapes.draw(scene, rng)]) for scene in drawn]
        features = np.concatenate([captioner.model.ops.to_numpy(captioner.model.encode_image(x)) for x in images])
        results[task] = {}
        for b in beams:
            captions = [found[0][0] for found in captioner.of_features(features, b)]
            results[task][b] = float(np.mean([named(text) == pairs for text, pairs in zip(captions, truth)]))
    return results
