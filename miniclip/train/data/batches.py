"""Batches of a training: which picture, which caption and which crop each place of each step gets.

All of it depends on (seed, step, place) alone: not on where a training was resumed, nor on the number of processes, nor
on which thread was faster.
"""

import functools
import itertools
import threading
from collections import Counter

import numpy as np

from miniclip.config import check_image_size, pair
from miniclip.errors import InputError
from miniclip.image import Preprocess
from miniclip.runtime import cpu, pictures
from miniclip.runtime.ahead import ahead
from miniclip.train.data.augment import without_resizing
from miniclip.train.data.pairs import first_few, skip

ORDER, PLACE, SPARE = range(3)  # what a random generator is for, after the seed
MOST_FAILURES = 100  # for one place, one after the other
LONGEST = 10_000  # captions whose tokens are counted for a report


class Batches:
    """Batches of pictures with captions, without an end.

    pairs       a `Pairs`
    preprocess  what `miniclip.load` returns, or the size of the pictures, for CLIP's own preprocessing
    batch       B, how many pictures a step has, in all processes together
    augment     an `Augment`, or a function like it (PIL image, (height, width), random generator) -> PIL image of that
                size; None: pictures are prepared as for a trained model

    Each epoch is a new permutation of the pictures. It has len(self) // B steps; what is left over is another part in
    each epoch. So a batch never has a picture twice. Raises InputError if there are fewer than B pictures.
    """

    def __init__(self, pairs, preprocess, *, batch, seed=0, augment=None):
        if type(batch) is not int or batch < 1:
            raise InputError(f"batch is {batch!r}, expected a positive number of pictures")
        if batch > len(pairs):
            raise InputError(
                f"{pairs.source}: has {len(pairs)} pictures with captions, too few for a batch of {batch}: pass a "
                f"batch of {len(pairs)} or less"
            )
        if type(seed) is not int or seed < 0:
            raise InputError(f"seed is {seed!r}, expected an integer from 0 on")
        if not (augment is None or callable(augment)):
            raise InputError(f"augment is {augment!r}, expected data.Augment() or None")
        self.pairs, self.size, self.seed, self.augment = pairs, batch, seed, augment
        self.preprocess = preprocess_of(preprocess)
        self.colours = without_resizing(self.preprocess)
        self.broken, self.lock = set(), threading.Lock()
        self.order = functools.lru_cache(1)(self.order)  # the last epoch's is kept

    def __len__(self):
        """The number of pictures that have a caption."""
        return len(self.pairs)

    @property
    def steps_per_epoch(self):
        return len(self) // self.size

    @property
    def captions(self):
        """All captions, a list of str, to train a tokenizer on."""
        return [*itertools.chain.from_iterable(self.pairs.captions)]

    @property
    def skipped(self):
        """{name: reason} of everything that could not be used so far."""
        return self.pairs.skipped

    def batches(self, start=0, rank=0, world=1, *, background=False):
        """An iterator over the batches from step `start` on: (images (b, C, height, width) float32, b captions).

        Process `rank` of `world` gets b = B / world consecutive rows. With `background` a thread prepares two batches
        ahead, while a GPU computes; it ends when the iterator is closed or forgotten. A CPU that trains has no core to
        spare for it. Raises InputError if too many pictures are broken.
        """
        check_share(self.size, start, rank, world)
        found = (self.batch(step, rank, world) for step in itertools.count(start))
        return ahead(found) if background else found

    def batch(self, step, rank=0, world=1):
        """The rows of one process in one step's batch; each core decodes one picture at a time."""
        b = self.size // world
        images = np.empty((b, 3, *pair(self.preprocess.image_size)), np.float32)  # (b, C, height, width)
        places = range(rank * b, (rank + 1) * b)
        fill = functools.partial(self._fill, step)
        return images, cpu.on_cores(lambda job: fill(*job), zip(places, images), min(cpu.cores(), pictures.MOST))

    def first(self, most):
        """The first `most` pictures (n, C, height, width) with their first captions, without those that are broken."""
        images = np.empty((min(most, len(self)), 3, *pair(self.preprocess.image_size)), np.float32)
        usable = []
        for i, out in enumerate(images):
            try:
                self._prepare(i, self._random(PLACE, i), out)
                usable.append(i)
            except Exception as error:  # as in `_fill`
                self._break(i, error)
        return images[usable], [self.pairs.captions[i][0] for i in usable]

    def order(self, epoch):
        """The permutation of the pictures in an epoch, (n,)."""
        return self._random(ORDER, epoch).permutation(len(self))

    def indices(self, step):
        """The numbers of the pictures in a step's batch, (B,), if none of them is broken."""
        epoch, number = divmod(step, self.steps_per_epoch)
        return self.order(epoch)[number * self.size : (number + 1) * self.size]

    def _random(self, *numbers):
        return np.random.default_rng([self.seed, *numbers])

    def _fill(self, step, place, out):
        """Write the picture of one place to `out`, return its caption; a broken picture is replaced by a spare one."""
        for failures, i in enumerate(self._candidates(step, place)):
            if i not in self.broken:
                rng = self._random(PLACE, step, place)
                texts = self.pairs.captions[i]
                caption = texts[rng.integers(len(texts))]
                try:
                    self._prepare(i, rng, out)
                    return caption
                except Exception as error:  # Pillow's decoders raise many kinds; each ends as a line in `skipped`
                    self._break(i, error)
            if len(self) - len(self.broken) < self.size:
                raise InputError(
                    f"{self.pairs.source}: {len(self.broken)} of {len(self)} pictures cannot be used, so that no batch "
                    f"of {self.size} can be filled; the first: {first_few(self.skipped)}"
                )
            if failures + 1 == MOST_FAILURES:
                raise InputError(
                    f"{self.pairs.source}: {MOST_FAILURES} pictures in a row cannot be used; the first: "
                    f"{first_few(self.skipped)}"
                )

    def _candidates(self, step, place):
        """The number of the picture at a place, then those that may replace it, none of them in the same batch.

        First those at the same place of the epoch's other steps, so that no two places choose the same one.
        """
        order, own = self.order(step // self.steps_per_epoch), self.indices(step)
        yield int(own[place])
        yield from self._random(SPARE, step, place).permutation(order[place :: self.size]).tolist()
        others = order[~np.isin(order, own)]  # (n - B,)
        yield from np.roll(others, -place).tolist()

    def _prepare(self, i, rng, out):
        """Write picture number i to `out`, (C, height, width): into the batch itself, so that it is not copied."""
        picture, name = self.pairs.picture(i), self.pairs.names[i]
        if self.augment is None:
            self.preprocess._prepare(picture, name, out)
        else:
            image = pictures.open_picture(picture, name, self.preprocess.exif)
            self.colours._prepare(self.augment(image, self.preprocess.image_size, rng), name, out)

    def _break(self, i, error):
        reason = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        with self.lock:
            self.broken.add(i)
            skip(self.skipped, self.pairs.names[i], reason.removeprefix(f"{self.pairs.names[i]}: "))

    def report(self, tokenizer=None, context_length=77):
        """Lines of text about the data, for a reader: how much there is, and what may surprise in a training.

        With a tokenizer also how many captions are longer than the context length, so that their ends are lost.
        """
        captions = self.captions
        counts = Counter(captions)
        shared = sum(any(counts[text] > 1 for text in texts) for texts in self.pairs.captions)
        lines = [
            f"{self.pairs.source}: {len(self):,} pictures, {len(captions):,} captions, {len(self.skipped):,} skipped; "
            f"{self.steps_per_epoch:,} steps of {self.size:,} are an epoch"
        ]
        if shared:
            lines.append(
                f"{shared:,} pictures have a caption that another one has too: if both are in a batch, the loss counts "
                f"them as wrong for each other"
            )
        if tokenizer is not None:
            some = captions[:LONGEST]
            rows = tokenizer.tokenize(some, context_length + 1, truncate=True)  # (n, T + 1)
            if long := int((rows[:, -1] != tokenizer.pad_id).sum()):
                lines.append(
                    f"{long:,} of {'the first ' * (len(some) < len(captions))}{len(some):,} captions have more than "
                    f"{context_length} tokens: what comes after them is cut off"
                )
        return lines


def check_share(batch, start, rank, world):
    """InputError unless process `rank` of `world` can have its share of a batch from step `start` on."""
    if not (type(start) is int and start >= 0):
        raise InputError(f"start is {start!r}, expected the number of a step, from 0 on")
    if not (type(world) is int and world >= 1 and batch % world == 0):
        raise InputError(f"a batch of {batch} cannot be divided among {world} processes: pass a multiple of {world}")
    if not (type(rank) is int and 0 <= rank < world):
        raise InputError(f"rank is {rank!r}, expected 0 to {world - 1}")


def preprocess_of(preprocess):
    """A `Preprocess`: the given one, or CLIP's own for pictures of the given size.

    Raises InputError if pictures would not all have one size.
    """
    if isinstance(preprocess, (int, tuple)):
        check_image_size(preprocess, "preprocess")
        return Preprocess(preprocess)
    if not isinstance(preprocess, Preprocess):
        raise InputError(
            f"preprocess is {preprocess!r:.80}, expected what miniclip.load returns, or the size of the pictures"
        )
    if preprocess.image_size is None and preprocess.settings.resize == "patches":
        raise InputError(
            "this model reads pictures of any shape, and a batch here has one: train it as a miniclip.hf.Siglip2Model"
        )
    if preprocess.image_size is None:
        raise InputError("this model's pictures have no fixed size: pass one, preprocess=224")
    return preprocess
