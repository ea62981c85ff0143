"""The course's proofs: the reference passes, an untouched file does not, and every mistake is found and told."""

import ast
import importlib.util
import sys
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from course import EXERCISES, ROOT, each_exercise, marks, write

from miniclip.learn import catalogue, copies, grading, holding, laws, skeletons

# -------------------------------------------------------------------------------------------------- the grader is right


@each_exercise
@pytest.mark.parametrize("seed", [0, 1, 271828])
def test_the_reference_passes_every_law(exercise, seed):
    verdicts, _ = holding.hold(exercise, copies.copy(exercise.module), seed)
    assert [(verdict.text, verdict.message) for verdict in verdicts if not verdict.passed] == []


@each_exercise
def test_an_untouched_skeleton_passes_no_law(exercise, tmp_path):
    path = write(tmp_path, exercise, skeletons.skeleton(exercise))
    module = copies.copy(exercise.module)
    copies.put(module, exercise.function, grading.load(path, exercise.function.rpartition(".")[2]))
    verdicts, _ = holding.hold(exercise, module)
    assert verdicts and not any(verdict.passed for verdict in verdicts)
    assert all("NotImplementedError" in verdict.message for verdict in verdicts)
    assert grading.grade(exercise, tmp_path).state == "to do"


@pytest.mark.parametrize(
    ("exercise", "mutant"),
    [
        pytest.param(exercise, mutant, id=f"{exercise.id}-{mutant.as_if}", marks=marks(exercise))
        for exercise in EXERCISES.values()
        for mutant in exercise.mutants
    ],
)
@pytest.mark.parametrize("seed", [0, 271828])
def test_every_mistake_breaks_a_law_and_is_told_from_the_others(exercise, mutant, seed):
    verdicts, values = holding.hold(exercise, copies.copy(exercise.module, mutant.edits), seed)
    assert not all(verdict.passed for verdict in verdicts)
    assert holding.behaves_as(exercise, verdicts, values, seed) == mutant.as_if


@each_exercise
def test_what_is_right_behaves_like_no_mistake(exercise):
    assert holding.behaves_as(exercise, *holding.hold(exercise, copies.copy(exercise.module))) is None


def test_another_seed_draws_other_inputs():
    softmax = EXERCISES["softmax"]
    seen = [chain(*holding.hold(softmax, copies.copy(softmax.module), seed)[1]) for seed in (0, 1)]
    assert not any(np.array_equal(a, b) for a, b in zip(*seen) if getattr(a, "shape", ()) == (3, 4))


def test_an_edit_that_does_not_fit_the_source_is_refused():
    with pytest.raises(ValueError, match="has 0 of 'no such text'"):
        copies.copy("miniclip.loss", [("no such text", "")])
    with pytest.raises(ValueError, match=r"has \d+ of 'return'"):
        copies.copy("miniclip.ops.numpy_ops", [("return", "")])


def test_a_copy_is_the_librarys_own_business_to_nobody_else():
    edited = copies.copy("miniclip.loss", [("_cross_entropy(ops, logits.T, label_smoothing)) / 2", "1)")])
    from miniclip import loss

    assert edited.contrastive_loss(np.eye(3)) != loss.contrastive_loss(np.eye(3))
    assert sys.modules["miniclip.loss"] is loss


def test_a_function_is_put_wherever_its_module_has_it():
    module = copies.copy("miniclip.ops.numpy_ops")
    copies.put(module, "quick_gelu", lambda x: x - 1)
    assert module.quick_gelu(3) == module.ACTIVATIONS["quick_gelu"](3) == 2
    assert module.linear(np.eye(2), np.eye(2), activation="quick_gelu").tolist() == [[0, -1], [-1, 0]]


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
    tracks = [exercise.track for exercise in EXERCISES.values()]
    assert tracks.count("numpy") >= 12 and tracks.count("triton") == 5


@each_exercise
def test_a_skeleton_is_the_references_signature_and_docstring(exercise):
    source = skeletons.skeleton(exercise)
    (function,) = (node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef))
    tree = ast.parse(Path(importlib.util.find_spec(exercise.module).origin).read_text())
    reference = skeletons._find(tree, exercise.function)
    assert ast.unparse(function.args) == ast.unparse(reference.args)
    assert ast.get_docstring(function) == ast.get_docstring(reference)
    assert [ast.unparse(d) for d in function.decorator_list] == (["triton.jit"] if exercise.track == "triton" else [])
    assert len(function.body) == 2 and isinstance(function.body[1], ast.Raise)
    assert " _" not in "".join(line for line in source.splitlines() if "import" in line)
    path, line = skeletons.line_of(exercise)
    assert f"def {function.name}(" in Path(path).read_text().splitlines()[line - 1]
