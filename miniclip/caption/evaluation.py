"""How often captions name the colours and shapes of drawn scenes: pairs seen in training, held out, two objects."""

import re

import numpy as np

from miniclip import encode
from miniclip.train import shapes

SEED = 1_000_004  # training never uses it
COLOUR, SHAPE = "|".join(shapes.COLOURS), "|".join(shapes.SHAPES)
NAMED = re.compile(rf"(?:\b({COLOUR}) )?\b({SHAPE})\b(?: that is ({COLOUR})\b)?")  # "a red heart that ...", and so on


def named(caption):
    """The (colour, shape) pairs that a caption names, sorted; the colour is "" if it does not say one."""
    return sorted((before or after, shape) for before, shape, after in NAMED.findall(caption))


def evaluate(captioner, pictures=1000, beams=(1, 5)):
    """{task: {number of beams: share of pictures whose best caption names what is there, all of it and nothing else}}.

    The pictures are not in the training data.
    """
    scenes = {
        "one object, pair seen in training": lambda rng: shapes.one_object(rng, _one_of(shapes.SEEN, rng)),
        "one object, pair held out": lambda rng: shapes.one_object(rng, _one_of(shapes.HELD_OUT, rng)),
        "two objects, each with its colour": lambda rng: shapes.two_objects(rng, shapes.PAIRS),
    }
    return {task: _shares(captioner, scene, pictures, beams, seed) for seed, (task, scene) in enumerate(scenes.items())}


def table(results):
    """The results of `evaluate` as text."""
    beams = next(iter(results.values()))
    lines = [f"{'captions that name what is there':<36}" + "".join(f"{_search(b):>10}" for b in beams)]
    lines += [f"{task:<36}" + "".join(f"{x:>10.1%}" for x in shares.values()) for task, shares in results.items()]
    return "\n".join(lines)


def _one_of(pairs, rng):
    return pairs[rng.integers(len(pairs))]


def _shares(captioner, scene, pictures, beams, seed):
    rng = np.random.default_rng([SEED, seed])
    drawn = [scene(rng) for _ in range(pictures)]
    images = (shapes.draw(things, rng) for things in drawn)
    batches = encode.pictures(captioner.model, captioner.preprocess, images, broken=None)  # none of them is
    features = np.concatenate([x for _, x in batches])  # (n, E)
    truth = [sorted((thing.colour, thing.shape) for thing in things) for things in drawn]
    found = {b: captioner.of_features(features, b) for b in beams}
    return {
        b: float(np.mean([named(best[0][0]) == pairs for best, pairs in zip(captions, truth)]))
        for b, captions in found.items()
    }


def _search(beams):
    return "greedy" if beams == 1 else f"{beams} beams"
