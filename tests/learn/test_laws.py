"""The course's proofs: the reference passes, an untouched file does not, and every mistake is found and told."""

import ast
import importlib.util
import inspect
import re
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from course import EXERCISES, ROOT, each_exercise, marks, write

from miniclip.learn import catalogue, grading, holding, laws, mistakes, skeletons, student
from miniclip.ops import numpy_ops

# -------------------------------------------------------------------------------------------------- the grader is right


@each_exercise
@pytest.mark.parametrize("seed", [0, 1, 271828])
def test_the_reference_passes_every_law(exercise, seed):
    verdicts, _ = holding.hold(exercise, holding.reference(exercise), seed)
    assert [(verdict.text, verdict.message) for verdict in verdicts if not verdict.passed] == []


@each_exercise
def test_an_untouched_skeleton_passes_no_law(exercise, tmp_path):
    path = write(tmp_path, exercise, skeletons.skeleton(exercise))
    verdicts, _ = holding.hold(exercise, student.load(path, exercise.name))
    assert verdicts and not any(verdict.passed for verdict in verdicts)
    assert all("NotImplementedError" in verdict.message for verdict in verdicts)
    assert grading.grade(exercise, tmp_path).state == "to do"


each_mistake = pytest.mark.parametrize(
    ("exercise", "mutant"),
    [
        pytest.param(exercise, mutant, id=f"{exercise.id}-{mutant.as_if}", marks=marks(exercise))
        for exercise in EXERCISES.values()
        for mutant in exercise.mutants
    ],
)


@each_mistake
@pytest.mark.parametrize("seed", [0, 271828])
def test_every_mistake_breaks_a_law_and_is_told_from_the_others(exercise, mutant, seed):
    verdicts, values = holding.hold(exercise, mistakes.function(exercise, mutant), seed)
    assert not all(verdict.passed for verdict in verdicts)
    assert holding.behaves_as(exercise, verdicts, values, seed) == mutant.as_if


@each_exercise
def test_what_is_right_behaves_like_no_mistake(exercise):
    assert holding.behaves_as(exercise, *holding.hold(exercise, holding.reference(exercise))) is None


def test_another_seed_draws_other_inputs():
    softmax = EXERCISES["softmax"]
    seen = [chain(*holding.hold(softmax, numpy_ops.softmax, seed)[1]) for seed in (0, 1)]
    assert not any(np.array_equal(a, b) for a, b in zip(*seen) if getattr(a, "shape", ()) == (3, 4))


def reworded(exercise):
    """The reference written out from its syntax tree: no comments, no docstring, other names of local variables."""
    tree = skeletons.reference(exercise)
    tree.body = [
        node for node in tree.body if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
    ]
    arguments = {a.arg for a in (*tree.args.args, *tree.args.kwonlyargs)}
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    local = {node.id for node in names if isinstance(node.ctx, ast.Store)} - arguments
    for node in ast.walk(tree):
        field = {ast.Name: "id", ast.arg: "arg"}.get(type(node))  # lambdas have arguments, too
        if field and getattr(node, field) in local:
            setattr(node, field, f"another_{getattr(node, field)}")
    return ast.parse(ast.unparse(tree)).body[0]


@each_mistake
def test_mistakes_survive_rewording(exercise, mutant):
    wrong = mistakes.function(exercise, mutant, reworded(exercise))
    assert holding.behaves_as(exercise, *holding.hold(exercise, wrong)) == mutant.as_if


SOFTMAX = """
def softmax(x):  # of one row
    '''e / e.sum(-1)'''
    e = ( np.exp(x - x.max(axis = -1)) )
    return e / e.sum(-1)
"""


@pytest.mark.parametrize(
    ("pattern", "replacement", "line"),
    [
        ("np.exp(_)", "_", "e = x - x.max(axis=-1)"),
        ("_x - _x.max(axis=-1)", "_x - 1", "e = np.exp(x - 1)"),
        ("x.max(...)", "abs(x).max(..., keepdims=True)", "e = np.exp(x - abs(x).max(axis=-1, keepdims=True))"),
        ("_f(x - _, ...)", "_f(_, x, ...)", "e = np.exp(x.max(axis=-1), x)"),
        ("e.sum(...)", "e.mean(0, ...)", "return e / e.mean(0, -1)"),
        ("_e = np.exp(_)", "_e = 1\n_e += _", "e += x - x.max(axis=-1)"),
    ],
)
def test_an_edit_is_of_the_syntax_tree(pattern, replacement, line):
    mutant = catalogue.Mutant("", ((pattern, replacement),))
    wrong = mistakes.function(EXERCISES["softmax"], mutant, ast.parse(SOFTMAX).body[0])
    assert line in [line.strip() for line in inspect.getsource(wrong).splitlines()]


@pytest.mark.parametrize(
    ("pattern", "number"),
    [
        ("_x - _x", 0),
        ("x.max(axis=0)", 0),
        ("x.max()", 0),
        ("x.max(-1)", 0),
        ("e = _x", 1),
        ("x", 2),
        ("_a.max", 1),
        ("_f(...)", 3),
    ],
)
def test_an_edit_must_fit_once(pattern, number):
    softmax, reference = EXERCISES["softmax"], ast.parse(SOFTMAX).body[0]
    mutant = catalogue.Mutant("", ((pattern, pattern.replace("...", "")),))
    if number == 1:
        assert mistakes.function(softmax, mutant, reference)
    else:
        message = f"miniclip.ops.numpy_ops:softmax: {number} pieces fit {pattern!r}, expected one"
        with pytest.raises(ValueError, match=re.escape(message)):
            mistakes.function(softmax, mutant, reference)


def test_a_mistake_is_nobody_elses():
    before = dict(vars(numpy_ops))
    wrong = mistakes.function(EXERCISES["softmax"], EXERCISES["softmax"].mutants[2])
    assert not np.array_equal(wrong(np.tri(2)), numpy_ops.softmax(np.tri(2)))
    assert vars(numpy_ops) == before


# -------------------------------------------------------------------------------------------------------- the catalogue


def test_exercises_build_on_earlier_ones_and_tutorials_that_are_there():
    seen = set()
    for exercise in EXERCISES.values():
        assert seen >= set(exercise.needs) and (not exercise.file or exercise.file in seen)
        assert exercise.track in catalogue.TRACKS and exercise.points > 0 and exercise.minutes > 0
        assert len(exercise.hints) == 3 and len(exercise.mutants) >= 3
        assert (ROOT / "tutorials" / f"{exercise.tutorial}.py").is_file()
        assert all(law.__doc__ for law in laws.of(exercise))
        seen.add(exercise.id)


@each_exercise
def test_a_skeleton_is_the_references_signature_and_docstring(exercise):
    source = skeletons.skeleton(exercise)
    (function,) = (node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef))
    tree = ast.parse(Path(importlib.util.find_spec(exercise.module).origin).read_text())
    reference = skeletons.find(tree, exercise.function)
    assert ast.unparse(function.args) == ast.unparse(reference.args)
    assert ast.get_docstring(function) == ast.get_docstring(reference)
    assert [ast.unparse(d) for d in function.decorator_list] == (["triton.jit"] if exercise.track == "triton" else [])
    assert len(function.body) == 2 and isinstance(function.body[1], ast.Raise)
    assert " _" not in "".join(line for line in source.splitlines() if "import" in line)
    path, line = skeletons.line_of(exercise)
    assert f"def {function.name}(" in Path(path).read_text().splitlines()[line - 1]
