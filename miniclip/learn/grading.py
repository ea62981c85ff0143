"""One exercise, held to its laws: which hold, and which common mistake the function behaves like.

A student's file runs in a process of its own (`python -m miniclip.learn.grading`), so that whatever it does, the grader
goes on.
"""

import contextlib
import functools
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

import miniclip
from miniclip.errors import InputError
from miniclip.learn import catalogue, copies, laws, skeletons

CASES = {"numpy": 5, "triton": 2}  # that each law is tried on; the interpreter takes its time
LIMIT = 300  # seconds that an exercise may take: only what hangs takes more than a few
HOME = Path(miniclip.__file__).parents[1]  # where `import miniclip` finds this very library
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

    @property
    def was_held(self):
        """Whether there was a function that could be held to its laws; else the one verdict says what there was."""
        return self.verdicts[0].law not in NO_LAWS


NO_LAWS = ("file", "begun", "loads", "runs")  # what has to be true before there is something to hold to laws


class Unusable(Exception):
    """Of what a student's file has, or gives: its text says what is wrong with it."""


def why_not(exercise):
    """What is missing for an exercise to be checked here, and how to get it; None where nothing is."""
    if exercise.track == "triton" and not all(map(importlib.util.find_spec, ("torch", "triton"))):
        return f"{exercise.id} needs torch and triton: in the checkout, pip install -c constraints.txt -e '.[gpu]'"


def grade(exercise, directory, seed=0, limit=LIMIT):
    """Hold what a student's directory has of an exercise to its laws -> Result. `seed` draws other inputs.

    Raises InputError where `why_not` has something to say, and for a file that cannot be read.
    """
    path = exercise.path(directory)
    if not path.is_file():
        return Result(
            exercise.id, "to do", [Verdict("file", f"there is a file {path.name}", False, f"{path} is missing")]
        )
    try:
        source = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    if source == skeletons.skeleton(exercise).encode():
        return Result(
            exercise.id, "to do", [Verdict("begun", f"{path.name} has been begun", False, f"{path} is as it was")]
        )
    if reason := why_not(exercise):
        raise InputError(reason)
    environment = {**os.environ, "TRITON_INTERPRET": "1"}  # read when Triton is imported
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HOME), os.environ.get("PYTHONPATH")]))
    with tempfile.TemporaryDirectory() as temporary:  # where nothing lies that could be imported by mistake
        out = Path(temporary) / "result.json"
        command = [sys.executable, "-m", "miniclip.learn.grading", exercise.id, path.resolve(), str(seed), out]
        code, printed = _run(command, temporary, environment, limit)
        if out.is_file():
            found = json.loads(out.read_text(encoding="utf-8"))
            found["verdicts"] = [Verdict(**verdict) for verdict in found["verdicts"]]
            return Result(**found, printed=printed)
    why = f"was still running after {limit} seconds" if code is None else f"ended Python, with code {code}"
    return Result(exercise.id, "partial", [Verdict("runs", "it comes to an end", False, why)], printed=printed)


def _run(command, directory, environment, limit):
    """Run a command, and end whatever it has started -> (exit code, None after `limit` seconds; its last lines)."""
    path = Path(directory) / "printed"
    with open(path, "wb") as file:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=environment, cwd=directory,
            start_new_session=True,
        )  # fmt: skip
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            with contextlib.suppress(ProcessLookupError):  # nothing of it is left
                os.killpg(process.pid, signal.SIGKILL) if hasattr(os, "killpg") else process.kill()
            process.wait()
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return code, "\n".join(["..."] * (len(lines) > PRINTED) + lines[-PRINTED:])


def hold(exercise, module, seed=0, path=None):
    """Hold a module to an exercise's laws -> (verdicts, values): a verdict a law, and a list a law of what it gave."""
    verdicts, values = [], []
    for law in laws.of(exercise):
        message, given = None, []
        for case in range(CASES[exercise.track]):
            rng = np.random.default_rng([seed, zlib.crc32(f"{exercise.id} {law.__name__}".encode()), case])
            try:
                with np.errstate(all="ignore"):
                    for got, want in list(law(module, rng)):
                        message = message or laws.difference(got, want)
                        given.append(got)
            except Exception as error:
                message = message or _told(error, path)
                given.append(type(error).__name__)
        values.append(given)
        verdicts.append(Verdict(law.__name__, law.__doc__.strip(), message is None, message or ""))
    return verdicts, values


def _told(error, path):
    """An exception in one line, with the line of the student's file that it came from.

    One that came out of no line of it is the law's own: it could not go on with what the function takes or gives.
    """
    if isinstance(error, Unusable):
        return str(error)
    text = f"{type(error).__name__}: {str(error).strip() or 'no message'}".replace("\n", " ")[:300]
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    if lines:
        return f"raises {text} ({Path(path).name}, line {lines[-1]})"
    if isinstance(error, (NotImplementedError, SyntaxError, SystemExit)) or "Interpreter" in text or path is None:
        return f"raises {text}"
    return f"takes or gives something else than is expected: {text}"


def behaves_as(exercise, verdicts, values, seed=0):
    """The first of the exercise's mutants that gives the same values, in words; None where none does.

    Where several things are wrong at once no mutant does. Then: the first that is wrong in the same way under one of
    the laws.
    """
    for mutant in exercise.mutants:
        if all(map(_all_alike, values, _held(exercise, mutant, seed)[1])):
            return mutant.as_if
    for i, verdict in enumerate(verdicts):
        for mutant in exercise.mutants:
            theirs, given = _held(exercise, mutant, seed)
            if not (verdict.passed or theirs[i].passed) and _says_enough(given[i]) and _all_alike(values[i], given[i]):
                return f"{mutant.as_if}; and that is not all"
    return None


@functools.cache
def _held(exercise, mutant, seed):
    return hold(exercise, copies.copy(exercise.module, mutant.edits), seed)


def _says_enough(values):
    """Whether values can be those of one mistake alone: arrays can, exceptions and yes or no cannot."""
    return all(isinstance(value, np.ndarray) and value.size > 1 and np.isfinite(value).all() for value in values)


def _all_alike(values, others):
    return len(values) == len(others) and all(map(_alike, values, others))


def _alike(a, b):
    if isinstance(a, (np.ndarray, np.generic, float)) and isinstance(b, (np.ndarray, np.generic, float)):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        scale = np.abs(b, where=np.isfinite(b), out=np.zeros(b.shape)).max(initial=0)
        return a.shape == b.shape and np.allclose(a, b, rtol=1e-4, atol=laws.TOLERANCE * scale, equal_nan=True)
    return type(a) is type(b) and a == b


def load(path, name):
    """The function `name` of a student's file. Raises Unusable where there is none, and whatever the file raises."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function = getattr(module, name, None)
    written = getattr(function, "fn", function)  # what a kernel of Triton's was written as
    if not callable(written):
        raise Unusable(f"{Path(path).name} has no function {name}")
    if written.__module__ != module.__name__:
        raise Unusable(f"{name} is not written in {Path(path).name}, but comes from {written.__module__}")
    return function


def _returning(function):
    """The same function, but that it must return something."""

    @functools.wraps(function)
    def checked(*arguments, **options):
        out = function(*arguments, **options)
        if out is None:
            raise Unusable("returns None: is a `return` missing?")
        return out

    return checked


def _grade_here(exercise, path, seed):
    """`grade`, in the process that is there for it."""
    try:
        function = load(path, exercise.function.rpartition(".")[2])
    except (Exception, SystemExit) as error:
        return Result(exercise.id, "partial", [Verdict("loads", "there is a function", False, _told(error, path))])
    module = copies.copy(exercise.module)
    copies.put(module, exercise.function, _returning(function) if exercise.track == "numpy" else function)
    verdicts, values = hold(exercise, module, seed, path)
    if all(verdict.passed for verdict in verdicts):
        return Result(exercise.id, "done", verdicts)
    if all("NotImplementedError" in verdict.message for verdict in verdicts):
        return Result(exercise.id, "to do", verdicts)
    return Result(exercise.id, "partial", verdicts, behaves_as(exercise, verdicts, values, seed))


if __name__ == "__main__":
    id, path, seed, out = sys.argv[1:]
    (exercise,) = catalogue.choose([id])
    found = asdict(_grade_here(exercise, path, int(seed)))
    del found["printed"]
    Path(out).write_text(json.dumps(found), encoding="utf-8")
