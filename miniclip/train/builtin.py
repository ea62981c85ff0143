"""The built-in model "shapes": how it is made, from a random start to its file."""

import itertools

import numpy as np

from miniclip import checkpoints, params
from miniclip.tokenizer import Tokenizer
from miniclip.train import learners, loop, shapes
from miniclip.train.initialize import init_params, shapes_config
from miniclip.train.recipe import Recipe

BUILT_IN = Recipe()


def train_shapes(path, recipe=BUILT_IN, *, backend="torch", **options):
    """Train the built-in model, write it to `path` (float16, with its vocabulary), return it as a CLIP.

    `options` are those of `loop.train`, which also says what is raised.
    """
    loop.check_writable(path)
    tokenizer = Tokenizer.train(shapes.captions(recipe.seed), vocab_size=1024)
    config = shapes_config(len(tokenizer))
    start = init_params(config, np.random.default_rng(recipe.seed))
    learner = learners.make(config, start, recipe, backend=backend, tokenizer=tokenizer)

    def batches(done):
        return (shapes.batch(recipe.seed, step, config.visual.image_size) for step in itertools.count(done))

    def write(path, model):
        tree = params.tree_map(model.ops.to_numpy, model.params)
        checkpoints.save(path, config, tree, tokenizer=tokenizer, dtype="float16")

    loop.train(path, learner, batches, recipe, write=write, **options)
    return learner.model
