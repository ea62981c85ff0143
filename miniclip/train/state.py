"""The state of an unfinished training, in a file beside the model's: to continue it as if it had never stopped."""

import json
from dataclasses import asdict
from pathlib import Path

from miniclip.errors import InputError
from miniclip.formats import safetensors


def state_of(path):
    """The file with the state of an unfinished training that will write `path`."""
    return Path(f"{path}.state")


def save(path, step, recipe, learner, evaluation=None):
    """Write the state after `step` steps, completely or not at all: parameters, optimizers, the best so far."""
    tensors, scores = learner.state(), []
    if evaluation:
        tensors |= {f"best.{name}": x for name, x in evaluation.best.items()}
        scores = evaluation.scores
    metadata = {"step": str(step), "recipe": json.dumps(asdict(recipe)), "scores": json.dumps(scores)}
    safetensors.write(path, tensors, metadata)


def load(path, recipe, learner, evaluation=None):
    """Restore what `save` has written; returns the number of finished steps. InputError for another recipe's state."""
    if not path.exists():
        raise InputError(f"{path}: there is no unfinished training to resume: leave out --resume")
    tensors, metadata = safetensors.read(path)
    if json.loads(metadata.get("recipe", "null")) != asdict(recipe):
        raise InputError(
            f"{path}: belongs to a training with another recipe, {metadata.get('recipe')}: pass the same options, or "
            f"delete the file"
        )
    best = {name.removeprefix("best."): tensors.pop(name) for name in list(tensors) if name.startswith("best.")}
    if evaluation:
        evaluation.scores, evaluation.best = json.loads(metadata["scores"]), best
    learner.restore(tensors)
    return int(metadata["step"])
