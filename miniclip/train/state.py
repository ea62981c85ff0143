"""The state of an unfinished training, in a file beside the model's: to continue it as if it had never stopped."""

import json
from pathlib import Path

from miniclip.errors import InputError
from miniclip.formats import safetensors


def state_of(path):
    """The file with the state of an unfinished training that will write `path`."""
    return Path(f"{path}.state")


def save(path, step, settings, learner, evaluation=None):
    """Write the state after `step` steps, completely or not at all: parameters, optimizers, the best so far.

    settings  {name: number or text}: the recipe, and what else determines the training
    """
    tensors, scores = learner.state(), []
    if evaluation:
        tensors |= {f"best.{name}": x for name, x in evaluation.best.items()}
        scores = evaluation.scores
    metadata = {"step": str(step), "settings": json.dumps(settings), "scores": json.dumps(scores)}
    safetensors.write(path, tensors, metadata)


def load(path, settings, learner, evaluation=None):
    """Restore what `save` has written; returns the number of finished steps.

    Raises InputError if there is no state, or that of a training with other settings or another model.
    """
    if not path.exists():
        raise InputError(f"{path}: there is no unfinished training to resume: leave out --resume")
    tensors, metadata = safetensors.read(path)
    if not {"step", "settings", "scores"} <= metadata.keys():
        raise InputError(f"{path}: is not the state of a training")
    theirs = json.loads(metadata["settings"])
    changed = [name for name in theirs | settings if theirs.get(name) != settings.get(name)]
    if changed:
        listed = "; ".join(f"{name} was {theirs.get(name)}, and is {settings.get(name)}" for name in changed)
        raise InputError(f"{path}: belongs to another training: {listed}: pass the same options, or delete the file")
    best = {name.removeprefix("best."): tensors.pop(name) for name in list(tensors) if name.startswith("best.")}
    shapes = {f"params.{name}": x.shape for name, x in learner.parameters().items()}
    if {name: x.shape for name, x in tensors.items() if name.startswith("params.")} != shapes:
        raise InputError(f"{path}: belongs to a training of another model: train the same one, or delete the file")
    if evaluation:
        evaluation.scores, evaluation.best = json.loads(metadata["scores"]), best
    learner.restore(tensors)
    return int(metadata["step"])
