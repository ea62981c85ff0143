"""One exercise, held to its laws: which hold, and which common mistake the function behaves like.

A student's file runs in a process of its own (`python -m miniclip.learn.grading`), so that whatever it does, the grader
goes on.
"""

import functools
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import traceback
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from miniclip.errors import InputError
from miniclip.learn import catalogue, copies, laws, skeletons

CASES = {"numpy": 5, "triton": 2}  # that each law is tried on; the interpreter takes its time
LIMIT = 300  # seconds that an exercise may take: only what hangs takes more than a few
PRINTED = 10  # last lines of what a student's file prints that are told


@dataclass
class Verdict:
    """Whether a law holds; `message` says what came in the place of what."""

    law: str
    text: str
    passed: bool
    message: str = ""


@dataclass
class Result:
    """What became of an exercise. `state` is "done", "partial" or "to do"; `behaves_as` the mistake it looks like."""

    id: str
    state: str
    verdicts: list[Verdict] = field(default_factory=list)
    behaves_as: str | None = None
    printed: str = ""

    @property
    def passed(self):
        """How many laws hold."""
        return sum(verdict.passed for verdict in self.verdicts)


def grade(exercise, directory, seed=0, limit=LIMIT):
    """Hold what a student's directory has of an exercise to its laws -> Result. `seed` draws other inputs."""
    path = exercise.path(directory)
    if not path.is_file():
        return Result(
            exercise.id, "to do", [Verdict("file", f"there is a file {path.name}", False, f"{path} is missing")]
        )
    if path.read_bytes() == skeletons.skeleton(exercise).encode():
        return Result(
            exercise.id, "to do", [Verdict("begun", f"{path.name} has been begun", False, f"{path} is as it was")]
        )
    if exercise.track == "triton" and not all(map(importlib.util.find_spec, ("torch", "triton"))):
        raise InputError(
            f"{exercise.id} needs torch and triton: in the checkout, pip install -c constraints.txt -e '.[gpu]'"
        )
    environment = {**os.environ, "TRITON_INTERPRET": "1"}  # read when Triton is imported
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary) / "result.json"
        command = [sys.executable, "-m", "miniclip.learn.grading", exercise.id, str(path), str(seed), str(out)]
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                errors="replace", env=environment, timeout=limit,
            )  # fmt: skip
            printed = "\n".join(done.stdout.splitlines()[-PRINTED:])
            if out.is_file():
                found = json.loads(out.read_text(encoding="utf-8"))
                found["verdicts"] = [Verdict(**verdict) for verdict in found["verdicts"]]
                return Result(**found, printed=printed)
            why = f"ended Python, with code {done.returncode}"
        except subprocess.TimeoutExpired:
            printed, why = "", f"was still running after {limit} seconds"
    return Result(exercise.id, "partial", [Verdict("runs", "it comes to an end", False, why)], printed=printed)


def hold(exercise, module, seed=0, path=None):
    """Hold a module to an exercise's laws -> (verdicts, values): a verdict a law, and all that the module gave."""
    verdicts, values = [], []
    for law in laws.of(exercise):
        message = None
        for case in range(CASES[exercise.track]):
            rng = np.random.default_rng([seed, zlib.crc32(f"{exercise.id} {law.__name__}".encode()), case])
            try:
                with np.errstate(all="ignore"):
                    pairs = list(law(module, rng))
            except Exception as error:
                message = message or _told(error, path)
                values.append(type(error).__name__)
                continue
            for got, want in pairs:
                message = message or laws.difference(got, want)
                values.append(got)
        verdicts.append(Verdict(law.__name__, law.__doc__.strip(), message is None, message or ""))
    return verdicts, values


def _told(error, path):
    """An exception in one line, with the line of the student's file that it came from."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    where = f" ({Path(path).name}, line {lines[-1]})" if lines else ""
    return f"raises {type(error).__name__}: {str(error).strip() or 'no message'}".replace("\n", " ")[:300] + where


def behaves_as(exercise, values, seed=0):
    """The first of the exercise's mutants that gives the same values, in words; None where none does."""
    for mutant in exercise.mutants:
        theirs = _values_of(exercise, mutant, seed)
        if len(theirs) == len(values) and all(map(_alike, values, theirs)):
            return mutant.as_if
    return None


@functools.cache
def _values_of(exercise, mutant, seed):
    return hold(exercise, copies.copy(exercise.module, mutant.edits), seed)[1]


def _alike(a, b):
    if isinstance(a, (np.ndarray, np.generic, float)) and isinstance(b, (np.ndarray, np.generic, float)):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        scale = np.abs(b, where=np.isfinite(b), out=np.zeros(b.shape)).max(initial=0)
        return a.shape == b.shape and np.allclose(a, b, rtol=1e-4, atol=laws.TOLERANCE * scale, equal_nan=True)
    return type(a) is type(b) and a == b


def load(path, name):
    """The function `name` of a student's file. Raises InputError where there is none."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function = getattr(module, name, None)
    written = getattr(function, "fn", function)  # what a kernel of Triton's was written as
    if not callable(written):
        raise InputError(f"{Path(path).name} has no function {name}")
    if written.__module__ != module.__name__:
        raise InputError(f"{name} is not written in {Path(path).name}, but comes from {written.__module__}")
    return function


def _grade_here(exercise, path, seed):
    """`grade`, in the process that is there for it."""
    try:
        function = load(path, exercise.function.rpartition(".")[2])
    except (Exception, SystemExit) as error:
        return Result(exercise.id, "partial", [Verdict("loads", "Python can read the file", False, _told(error, path))])
    module = copies.copy(exercise.module)
    copies.put(module, exercise.function, function)
    verdicts, values = hold(exercise, module, seed, path)
    if all(verdict.passed for verdict in verdicts):
        return Result(exercise.id, "done", verdicts)
    if all("NotImplementedError" in verdict.message for verdict in verdicts):
        return Result(exercise.id, "to do", verdicts)
    return Result(exercise.id, "partial", verdicts, behaves_as(exercise, values, seed))


if __name__ == "__main__":
    id, path, seed, out = sys.argv[1:]
    (exercise,) = catalogue.choose([id])
    found = asdict(_grade_here(exercise, path, int(seed)))
    del found["printed"]
    Path(out).write_text(json.dumps(found), encoding="utf-8")
