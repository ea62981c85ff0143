"""`miniclip train`: train the built-in model again."""

import dataclasses
import os
import sys

from miniclip import api
from miniclip.cli.arguments import natural
from miniclip.errors import InputError
from miniclip.train import evaluation
from miniclip.train.builtin import train_shapes
from miniclip.train.learners import LEARNERS
from miniclip.train.recipe import Recipe
from miniclip.train.state import state_of


def add_arguments(command):
    command.set_defaults(command=train)
    command.add_argument("name", choices=["shapes"], help="the model to train")
    command.add_argument("--out", default="shapes.safetensors", metavar="FILE", help="(default: %(default)s)")
    command.add_argument(
        "--steps",
        type=natural,
        help="training steps, fewer for a short test (default: as many as the built-in model had)",
    )
    command.add_argument("--seed", type=natural, default=0, help="(default: %(default)s)")
    command.add_argument("--backend", choices=LEARNERS, default="torch", help="(default: %(default)s)")
    command.add_argument("--resume", action="store_true", help="continue a training that was stopped")
    command.add_argument("--force", action="store_true", help="write over FILE if it exists")


def train(options):
    if os.path.isfile(options.out) and not (options.force or options.resume):
        raise InputError(f"{options.out}: exists already: pass --force to write over it, or another --out")
    recipe = Recipe(seed=options.seed)
    if options.steps is not None:
        recipe = dataclasses.replace(recipe, steps=options.steps)
    try:
        train_shapes(options.out, recipe, backend=options.backend, resume=options.resume)
    except KeyboardInterrupt:
        state = state_of(options.out)
        kept = f"what it has learned is in {state}: add --resume to continue"
        print(f"miniclip: stopped; {kept if state.exists() else 'nothing is kept yet'}", file=sys.stderr)
        raise
    print(f"written to {options.out}\n")
    print(evaluation.table(evaluation.evaluate(*api.load(options.out))))
