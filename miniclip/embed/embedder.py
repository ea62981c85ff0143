"""Pictures and texts to the rows of an index. What is in it already is left out, so that the same call resumes."""

import os
from functools import partial
from typing import NamedTuple

from miniclip import encode
from miniclip.embed import on_ray, urls
from miniclip.embed.index import describe
from miniclip.embed.writer import writing
from miniclip.ops.numpy_ops import l2_normalize


class Embedded(NamedTuple):
    rows: int  # in the index now
    new: int  # of this call
    failed: int  # could not be read by this call


def pictures(index, model, preprocess, paths, *, name, batch=encode.PICTURES, broken=None, watch=None, ray=None):
    """Add the features of pictures to an index, a folder that is made if needed; returns an Embedded.

    model, preprocess       what `miniclip.load` returns
    paths                   an iterable of paths and URLs (see `urls`); each picture gets one row
    name                    of the model, as `miniclip.load` takes it: a search loads it again
    broken(picture, error)  is called for each picture that cannot be read; `_failed.jsonl` lists them, too
    watch(finished, total)  is called at first, and whenever more pictures are finished: how many of those that are not
                            in the index, and of how many; None if `paths` is not a list
    ray                     an `on_ray.Cluster`, whose workers compute instead of this process

    Paths are stored absolute. Pictures in the index are left out, even if their files have changed or are gone; those
    that could not be read are tried again. Raises InputError if the index is of another model, preprocessing or kind,
    if another process is writing to it, or if it cannot be written.
    """
    encode.check_image_tower(preprocess, name)
    metadata = describe("pictures", model, preprocess, name)
    paths = [_absolute(path) for path in paths] if hasattr(paths, "__len__") else map(_absolute, paths)
    encoder = partial(_pictures, model, preprocess) if ray is None else on_ray.encoder(_pictures, model, ray)
    return _embed(index, metadata, paths, partial(encoder, batch=batch), broken, watch)


def texts(index, model, texts, *, name, batch=encode.TEXTS, broken=None, watch=None, ray=None):
    """Add the features of texts to an index, as `pictures` does. What exceeds the context length is cut.

    A text has as many rows as it is given times: the rows of a new index are those of the list.
    """
    metadata = describe("texts", model, None, name)
    encoder = partial(_texts, model, None) if ray is None else on_ray.encoder(_texts, model, ray)
    return _embed(index, metadata, texts, partial(encoder, batch=batch), broken, watch)


def _pictures(model, preprocess, paths, *, batch, broken):
    broken = urls.named(broken)
    return encode.pictures(model, preprocess, urls.fetched(paths, broken), batch=batch, broken=broken)


def _texts(model, preprocess, texts, *, batch, broken):
    return encode.texts(model, texts, batch=batch)


def _absolute(path):
    path = os.fspath(path)
    return path if urls.is_url(path) else os.path.abspath(path)


def _embed(index, metadata, names, encoder, broken, watch):
    """encoder(names, broken=fail) yields (b names, features (b, E)), without the names that it calls `fail` for."""
    failed, total, odd = 0, None, []

    def fail(name, error):
        nonlocal failed
        writer.fail(name, error)
        failed += 1
        if broken is not None:
            broken(name, error)
        show()

    def show():
        if watch is not None:
            with writer.lock:
                watch(writer.rows - before + failed, total)

    with writing(index, metadata) as writer:
        before, left = writer.rows, writer.left(names, fail)
        if hasattr(names, "__len__"):
            left = [*writer.left(names, lambda *both: odd.append(both))]
            total = len(left) + len(odd)
        show()
        for name, error in odd:
            fail(name, error)
        for some, features in encoder(left, broken=fail):
            writer.add(some, l2_normalize(features))
            show()
    return Embedded(writer.rows, writer.rows - before, failed)
