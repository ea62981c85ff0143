"""How well a model names drawn shapes: pairs seen in training, pairs held out, two objects in a picture."""

import numpy as np

from miniclip.train import shapes
from miniclip.zero_shot import class_embeddings

LABELS = [shapes.label(*pair) for pair in shapes.PAIRS]
SEED = 1_000_003  # training never uses it


def evaluate(model, preprocess, pictures=2000):
    """{task: (accuracy, chance, number of pictures)}, zero-shot, on pictures that are not in the training data."""
    return {
        "one object, pair seen in training": one_object(model, preprocess, shapes.SEEN, pictures),
        "one object, pair held out": one_object(model, preprocess, shapes.HELD_OUT, pictures),
        "two objects: the two best labels are theirs": _two_objects(model, preprocess, pictures),
        "two objects: which has which colour": _two_captions(model, preprocess, pictures, _colours_swapped),
        "two objects: which is where": _two_captions(model, preprocess, pictures, _places_swapped),
    }


def table(results):
    """The results of `evaluate` as text."""
    lines = [f"{'zero-shot accuracy':<46}{'model':>7}{'chance':>9}{'pictures':>10}"]
    lines += [f"{what:<46}{hit:>7.1%}{chance:>9.1%}{n:>10,}" for what, (hit, chance, n) in results.items()]
    return "\n".join(lines)


def _draw(scenes, preprocess, rng):
    return preprocess([shapes.draw(scene, rng) for scene in scenes])


def _encode(model, images):
    """(n, E) unit features."""
    return model.ops.to_numpy(model.ops.l2_normalize(model.encode_image(images)))


def _cosines(model, images, classes=class_embeddings):
    """The cosine of each picture with each label in `LABELS`: (n, 80)."""
    return _encode(model, images) @ model.ops.to_numpy(classes(model, LABELS)).T


def one_object(model, preprocess, pairs, pictures, *, classes=class_embeddings):
    """(accuracy, chance, pictures): top-1 among the labels of all pairs, on pictures of the given pairs.

    classes  makes the embeddings of labels, as `zero_shot.class_embeddings` does
    """
    rng = np.random.default_rng([SEED, len(pairs)])
    scenes = [shapes.one_object(rng, pairs[rng.integers(len(pairs))]) for _ in range(pictures)]
    best = _cosines(model, _draw(scenes, preprocess, rng), classes).argmax(-1)
    truth = [shapes.PAIRS.index((thing.colour, thing.shape)) for (thing,) in scenes]
    return float(np.mean(best == truth)), 1 / len(LABELS), pictures


def _two_objects(model, preprocess, pictures):
    """(accuracy, chance, pictures): how often the two best labels are those of the two objects."""
    rng = np.random.default_rng([SEED, 2])
    scenes = [shapes.two_objects(rng, shapes.PAIRS) for _ in range(pictures)]
    ranked = _cosines(model, _draw(scenes, preprocess, rng)).argsort(-1)
    truth = [{shapes.PAIRS.index((thing.colour, thing.shape)) for thing in scene} for scene in scenes]
    hits = [set(row[-2:].tolist()) == pair for row, pair in zip(ranked, truth)]
    return float(np.mean(hits)), 2 / (len(LABELS) * (len(LABELS) - 1)), pictures


def _two_captions(model, preprocess, pictures, captions):
    """(accuracy, chance, pictures): how often the true caption scores better than the false one.

    `captions(scene)` returns (true, false), or None to leave the scene out.
    """
    rng = np.random.default_rng([SEED, 3])
    scenes = [shapes.two_objects(rng, shapes.PAIRS) for _ in range(pictures)]
    images = _encode(model, _draw(scenes, preprocess, rng))  # (n, E)
    pairs = [captions(scene) for scene in scenes]
    images = images[[pair is not None for pair in pairs]]
    texts = zip(*(pair for pair in pairs if pair))  # all true captions, all false ones
    true, false = (np.sum(images * model.ops.to_numpy(class_embeddings(model, side)), axis=-1) for side in texts)
    return float(np.mean(true > false)), 0.5, len(images)


def _colours_swapped(scene):
    first, second = scene
    if first.colour == second.colour or first.shape == second.shape:
        return None
    true = f"{shapes.label(first.colour, first.shape)} and {shapes.label(second.colour, second.shape)}"
    return true, f"{shapes.label(second.colour, first.shape)} and {shapes.label(first.colour, second.shape)}"


def _places_swapped(scene):
    first, second = (shapes.label(thing.colour, thing.shape) for thing in scene)
    relation = shapes.relation_of(*scene)
    return f"{first} {relation} {second}", f"{second} {relation} {first}"
