"""What the exercises are for: the built-in model with a student's functions in the place of its own."""

import dataclasses
import types

import miniclip
from miniclip.learn import copies, grading
from miniclip.train import shapes

PICTURES = 200
MODULES = ("tokenizer", "ops.numpy_ops", "towers.transformer", "towers.vit", "towers.text", "model", "zero_shot")
EVALUATION = "data.evaluation"


def inference(exercises):
    """Those whose functions have a part in naming a picture."""
    parts = [f"miniclip.{name}" for name in MODULES]
    return [e for e in exercises if e.module in parts and e.function != "Tokenizer.train" and not e.file]


def accuracy(exercises=(), directory=None):
    """How many of 200 pictures of held-out pairs are named right among 80 labels, 0 to 1, by the built-in model.

    The functions of the given exercises are those of the directory's files, all others the library's.
    """
    ours = {name: copies.copy(f"miniclip.{name}") for name in (*MODULES, EVALUATION)}
    theirs = []
    for exercise in exercises:
        function = grading.load(exercise.path(directory), exercise.function.rpartition(".")[2])
        theirs.append(getattr(function, "__globals__", {}))
        copies.put(ours[exercise.module.removeprefix("miniclip.")], exercise.function, function)
    for scope in [*theirs, *map(vars, ours.values())]:
        _rewire(scope, {f"miniclip.{name}": module for name, module in ours.items()})

    model, preprocess = miniclip.load("shapes", backend="numpy")
    config = dataclasses.replace(
        model.config,
        visual=_with_tower(model.config.visual, ours["towers.vit"]),
        text=_with_tower(model.config.text, ours["towers.text"]),
    )
    tokenizer = ours["tokenizer"].Tokenizer(model.tokenizer.merges)
    model = ours["model"].CLIP(config, model.params, ours["ops.numpy_ops"], tokenizer=tokenizer)
    return ours[EVALUATION].one_object(model, preprocess, shapes.HELD_OUT, PICTURES)[0]


def _rewire(scope, modules):
    """Let every global of a module's that is one of `modules`, or comes out of one, be that of the copy."""
    for name, value in scope.items():
        if isinstance(value, types.ModuleType) and value.__name__ in modules:
            scope[name] = modules[value.__name__]
        elif isinstance(value, (types.FunctionType, type)) and value.__module__ in modules:
            scope[name] = getattr(modules[value.__module__], name, value)


def _with_tower(config, tower):
    kind = type(type(config).__name__, (type(config),), {"tower": tower})
    return kind(**{field.name: getattr(config, field.name) for field in dataclasses.fields(config)})
