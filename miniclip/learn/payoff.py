"""What the exercises lead to: the built-in model with a student's functions instead of its own."""

import dataclasses
import types

import miniclip
from miniclip import zero_shot
from miniclip.learn import student
from miniclip.model import CLIP
from miniclip.ops import numpy_ops
from miniclip.tokenizer import Tokenizer
from miniclip.towers import text, transformer, vit
from miniclip.train import evaluation, shapes

PICTURES = 200
MODULES = [module.__name__ for module in (numpy_ops, transformer, vit, text)]


def inference(exercises):
    """The exercises whose functions run when the model names a picture."""
    return [e for e in exercises if (e.module in MODULES or e.name in ("encode", "class_embeddings")) and not e.file]


def accuracy(exercises=(), directory=None):
    """The share of 200 pictures of held-out pairs that the built-in model names right among 80 labels, 0 to 1.

    The given exercises' functions come from the files in the directory, all others from the library.
    """
    theirs = {e.name: student.load(e.path(directory), e.name) for e in exercises}
    activations = {name: theirs.get(name, function) for name, function in numpy_ops.ACTIVATIONS.items()}
    ops = joined(numpy_ops, theirs, ACTIVATIONS=activations)
    blocks = joined(transformer, theirs)
    model, preprocess = miniclip.load("shapes", backend="numpy")
    config = dataclasses.replace(
        model.config,
        visual=_with_tower(model.config.visual, joined(vit, theirs, transformer=blocks)),
        text=_with_tower(model.config.text, joined(text, theirs, transformer=blocks)),
    )
    encode = theirs.get("encode", Tokenizer.encode)
    methods = {"encode": encode, "encode_batch": lambda self, texts: [*map(self.encode, texts)]}
    tokenizer = type("Tokenizer", (Tokenizer,), methods)(model.tokenizer.merges)
    model = CLIP(config, model.params, ops, tokenizer=tokenizer)
    classes = theirs.get("class_embeddings", zero_shot.class_embeddings)
    return evaluation.one_object(model, preprocess, shapes.HELD_OUT, PICTURES, classes=classes)[0]


def joined(module, theirs, **others):
    """A module as a namespace that has a student's functions, and `others`, instead of its own; all call each other.

    They are copies, with globals of their own: the module and the student's files stay as they are.
    """
    library, scope, files = vars(module), _copied(vars(module)), []
    scope.update(others)
    for name in theirs.keys() & library.keys():
        files.append(_copied(getattr(theirs[name], "__globals__", {})))
        scope[name] = files[-1].get(name, theirs[name])
    for file in files:  # what a student has imported from the module is what the namespace has
        file.update({name: scope[name] for name, value in file.items() if library.get(name) is value})
    return types.SimpleNamespace(**scope)


def _copied(scope):
    """Globals, and copies of the functions that are written in them, which see these globals."""
    copied = dict(scope)
    for name, f in scope.items():
        if isinstance(f, types.FunctionType) and f.__globals__ is scope:
            copied[name] = types.FunctionType(f.__code__, copied, name, f.__defaults__, f.__closure__)
            copied[name].__kwdefaults__ = f.__kwdefaults__
    return copied


def _with_tower(config, tower):
    kind = type(config)
    return type(kind.__name__, (kind,), {"tower": tower})(**vars(config))
