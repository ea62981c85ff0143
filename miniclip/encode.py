"""Features of many pictures or texts: batch after batch, in bounded memory, without those that cannot be read."""

import dataclasses
import itertools

import numpy as np

from miniclip.errors import InputError
from miniclip.runtime.ahead import ahead
from miniclip.runtime.pictures import for_each

PICTURES, TEXTS = 32, 256  # how many are encoded at a time


def pictures(model, preprocess, pictures, *, broken, batch=PICTURES):
    """Yield (b pictures, their features (b, E) float32) for one batch of pictures after the other, in their order.

    model, preprocess  what `miniclip.load` returns
    pictures           an iterable of paths or of other pictures that `preprocess` takes; it may be endless. Instead of
                       a picture there may be a tuple, (its name, picture): then the name is yielded
    broken(picture, error)  is called for each picture, or name, that cannot be read; it is left out

    Features are ndarrays and not normalised. A GPU computes one batch while the next one is prepared.
    """
    prepared = itertools.chain.from_iterable(_prepare(preprocess, x, broken) for x in chunks(pictures, batch))
    # a CPU that encodes has no core to spare for a thread
    for names, images in prepared if "cpu" in str(model.device).lower() else ahead(prepared, 1):
        yield names, _numbers(model, model.encode_image(images))  # (b, C, height, width) -> (b, E)


def texts(model, texts, *, batch=TEXTS):
    """Yield (b texts, their features (b, E) float32), as `pictures` does. What exceeds the context length is cut."""
    for chunk in chunks(texts, batch):
        yield chunk, _numbers(model, model.encode_text(model.tokenize(chunk, truncate=True)))  # (b, T) -> (b, E)


def _prepare(preprocess, pictures, broken):
    """Yield (b pictures, or their names, (b, C, height, width)) of those that can be read, each opened only once.

    This is one batch, except for models whose preprocessing leaves pictures of different sizes.
    """
    pairs = [x if isinstance(x, tuple) else (x, x) for x in pictures]
    alone = dataclasses.replace(preprocess, asarray=np.asarray)
    prepared: list = [None] * len(pairs)

    def prepare(picture, i):
        try:
            prepared[i] = alone(picture)  # (C, height, width), or naflex.Patches
        except InputError as error:
            prepared[i] = error

    for_each(prepare, [picture for _, picture in pairs], range(len(pairs)))
    good = []
    for (name, _), x in zip(pairs, prepared):
        if isinstance(x, InputError):
            broken(name, x)
        else:
            good.append((name, x))
    for _, group in itertools.groupby(good, lambda pair: getattr(pair[1], "shape", None)):
        names, images = zip(*group)
        yield [*names], _stacked(images, preprocess.asarray)


def _stacked(images, asarray):
    """Prepared pictures as one batch."""
    if isinstance(images[0], tuple):  # the patches of pictures of any shape, and their grids
        return type(images[0])(*(asarray(np.stack(parts)) for parts in zip(*images)))
    return asarray(np.stack(images))


def _numbers(model, features):
    x = np.asarray(model.ops.to_numpy(features), np.float32)
    check_numbers(x, "the model's features")
    if not x.any(axis=-1).all():
        raise InputError("some of the model's features are all 0: its weights may be NaN: load another file")
    return x


def check_numbers(x, name):
    """Raise InputError if some values of an array, which are called `name`, are infinite or not numbers."""
    if not np.isfinite(x).all():
        raise InputError(f"{name} are not numbers: the model's weights may be NaN: load another file")


def check_image_tower(preprocess, name):
    """Raise InputError if the model that a user calls `name` has no image tower: then nothing prepares its pictures."""
    if preprocess is None:
        raise InputError(f"{name} has no image tower: choose a model that has one")


def chunks(items, size):
    """Yield lists of `size` items, the last one with the rest. Raises InputError for a size below 1."""
    if size < 1:
        raise InputError(f"batch is {size}, expected how many are encoded at a time: 1 or more")
    items = iter(items)
    while chunk := [*itertools.islice(items, size)]:
        yield chunk
