"""Shared parts of the course's tests: the exercises, and solutions for them."""

import ast
import importlib.util
import inspect
import textwrap
from pathlib import Path

import pytest
from checkout import ROOT

from miniclip.kernels.device import INTERPRETING
from miniclip.learn import catalogue, mistakes, skeletons

COURSE = ROOT / "miniclip" / "learn"
EXERCISES = {exercise.id: exercise for exercise in catalogue.exercises()}
needs_interpreter = pytest.mark.skipif(not INTERPRETING, reason="the course runs kernels in the interpreter")


def marks(exercise):
    return [needs_interpreter] if exercise.track == "triton" else []


each_exercise = pytest.mark.parametrize(
    "exercise", [pytest.param(exercise, id=exercise.id, marks=marks(exercise)) for exercise in EXERCISES.values()]
)


def solution(exercise):
    """A student's file with the right solution: the exercise's skeleton with the body of the reference."""
    source = Path(importlib.util.find_spec(exercise.module).origin).read_text()
    function = skeletons.reference(exercise)
    body = "".join(source.splitlines(keepends=True)[function.body[0].end_lineno : function.end_lineno])
    body = textwrap.indent(textwrap.dedent(body), "    ")
    # Students must write private helpers themselves; the reference's body uses miniclip's.
    names = {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}
    names = {name for name in names if name.startswith("_") and name != "_"}
    private = "".join(f"from {exercise.module} import {name}\n" for name in sorted(names))
    private += f"from {exercise.module} import *\n" if exercise.id == "bpe_encode" else ""
    return private + skeletons.skeleton(exercise).replace("    raise NotImplementedError\n", body)


def mistaken(exercise, *as_if):
    """A student's file that has some of an exercise's mistakes, all of them edits."""
    edits = [edit for mutant in exercise.mutants if mutant.as_if in as_if for edit in mutant.edits]
    wrong = mistakes.function(exercise, catalogue.Mutant("", tuple(edits)))
    imports, *_ = skeletons.skeleton(exercise).partition("\n\n\n")
    return f"{imports}\n\n\n{inspect.getsource(wrong)}\n"


def write(directory, exercise, source):
    path = exercise.path(directory)
    path.write_text(source)
    return path
