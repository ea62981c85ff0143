"""Shared parts of the course's tests: the exercises, and solutions for them."""

import ast
import importlib.util
import textwrap
from pathlib import Path

import pytest
from checkout import ROOT

from miniclip.kernels.device import INTERPRETING
from miniclip.learn import catalogue, skeletons

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
    function = skeletons._find(ast.parse(source), exercise.function)
    body = "".join(source.splitlines(keepends=True)[function.body[0].end_lineno : function.end_lineno])
    body = textwrap.indent(textwrap.dedent(body), "    ")
    # Students must write these helpers themselves; the reference's body uses miniclip's.
    private = "from miniclip.loss import _cross_entropy\n" if "_cross_entropy" in body else ""
    private += f"from {exercise.module} import *\n" if exercise.id == "bpe_encode" else ""
    return private + skeletons.skeleton(exercise).replace("    raise NotImplementedError\n", body)


def write(directory, exercise, source):
    path = exercise.path(directory)
    path.write_text(source)
    return path
