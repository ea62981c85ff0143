"""The drawn shapes that the built-in model learned from, as batches like those of any other source."""

import itertools

from miniclip.errors import InputError
from miniclip.train import shapes
from miniclip.train.data.batches import check_share, preprocess_of


class Shapes:
    """New pictures in each step, as many as `size`; there are no epochs, and no length."""

    size = len(shapes.SEEN) + len(shapes.SHAPES) + shapes.TWO_OBJECTS
    steps_per_epoch = None

    def __init__(self, preprocess, *, batch=None, seed=0):
        if batch not in (None, self.size):
            raise InputError(f"batch is {batch}, but a batch of the built-in shapes has {self.size} pictures")
        self.image_size, self.seed, self.skipped = preprocess_of(preprocess).image_size, seed, {}

    @property
    def captions(self):
        """Captions to train a tokenizer on."""
        return shapes.captions(self.seed)

    def batches(self, start=0, rank=0, world=1, *, background=False):
        """As in `Batches`; each process draws the whole batch and keeps its rows, never in the background.

        Drawing is Python code, and a thread that runs it would make the training wait for Python's lock.
        """
        check_share(self.size, start, rank, world)
        return (self.batch(step, rank, world) for step in itertools.count(start))

    def batch(self, step, rank=0, world=1):
        images, captions = shapes.batch(self.seed, step, self.image_size)
        rows = slice(rank * self.size // world, (rank + 1) * self.size // world)
        return images[rows], captions[rows]

    def report(self, tokenizer=None, context_length=77):
        return [f"drawn shapes: {self.size} new pictures in each step"]
