"""`miniclip train`: train the built-in model again."""

import dataclasses
import os
import sys

from miniclip import api
from miniclip.cli.arguments import natural
from miniclip.errors import InputError
from miniclip.runtime.installation import install
from miniclip.train import evaluation


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
    command.add_argument("--resume", action="store_true", help="continue a training that was stopped")
    command.add_argument("--force", action="store_true", help="write over FILE if it exists")


def train(options):
    try:
        from miniclip.train import loop  # imports torch, which only this command needs
    except ImportError as error:
        raise InputError(f"training needs {error.name}: {install('train')}") from error

    if os.path.isfile(options.out) and not (options.force or options.resume):
        raise InputError(f"{options.out}: exists already: pass --force to write over it, or another --out")
    recipe = loop.Recipe(seed=options.seed)
    if options.steps is not None:
        recipe = dataclasses.replace(recipe, steps=options.steps)
    state = loop.state_of(options.out)
    if options.resume and not state.exists():
        raise InputError(f"{state}: there is no unfinished training to resume: leave out --resume")
    try:
        loop.train_shapes(options.out, recipe, resume=options.resume)
    except KeyboardInterrupt:
        kept = f"what it has learned is in {state}: add --resume to continue"
        print(f"miniclip: stopped; {kept if state.exists() else 'nothing is kept yet'}", file=sys.stderr)
        raise
    print(f"written to {options.out}\n")
    print(evaluation.table(evaluation.evaluate(*api.load(options.out))))
