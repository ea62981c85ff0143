"""Grades a student's file, in a process of its own (`python -m miniclip.learn.grading`).

So the grader continues, whatever the file does. `holding` checks the function.
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
from dataclasses import asdict, dataclass, field
from pathlib import Path

import miniclip
from miniclip.errors import InputError
from miniclip.learn import catalogue, skeletons
from miniclip.learn.holding import Unusable, Verdict, behaves_as, describe, hold

LIMIT = 300  # seconds that an exercise may take; most take a few
HOME = Path(miniclip.__file__).parents[1]  # where `import miniclip` finds this very library
PRINTED = 10  # last lines of what a student's file prints that are shown


@dataclass
class Result:
    """The result of an exercise. `state` is "done", "partial" or "to do"; `behaves_as` is the mistake it looks like."""

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
        """Whether there was a function to check; if not, the one verdict says why."""
        return self.verdicts[0].law not in NO_LAWS


NO_LAWS = ("file", "begun", "loads", "runs")  # what must be true before there is a function to check


def why_not(exercise):
    """What is missing to check an exercise here, and how to get it; None if nothing is missing."""
    if exercise.track == "triton" and not all(map(importlib.util.find_spec, ("torch", "triton"))):
        return f"{exercise.id} needs torch and triton: in the checkout, pip install -c constraints.txt -e '.[gpu]'"


def grade(exercise, directory, seed=0, limit=LIMIT):
    """Check an exercise in a student's directory against its laws -> Result. `seed` draws other inputs.

    Raises InputError if something is missing (`why_not`), and for a file that cannot be read.
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
    with tempfile.TemporaryDirectory() as temporary:  # empty, so that nothing in it is imported by mistake
        out = Path(temporary) / "result.json"
        command = [sys.executable, "-m", "miniclip.learn.grading", exercise.id, path.resolve(), str(seed), out]
        code, printed = _run(command, temporary, environment, limit)
        if out.is_file():
            found = json.loads(out.read_text(encoding="utf-8"))
            found["verdicts"] = [Verdict(**verdict) for verdict in found["verdicts"]]
            return Result(**found, printed=printed)
    why = f"was still running after {limit} seconds" if code is None else f"ended Python, with code {code}"
    return Result(exercise.id, "partial", [Verdict("runs", "it ends", False, why)], printed=printed)


def _run(command, directory, environment, limit):
    """Run a command, then end all that it started -> (exit code, None after `limit` seconds; its last lines)."""
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


def load(path, name):
    """The function `name` of a student's file. Raises Unusable if there is none, and what the file raises."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function = getattr(module, name, None)
    written = getattr(function, "fn", function)  # the function that became a Triton kernel
    if not callable(written):
        raise Unusable(f"{Path(path).name} has no function {name}")
    if written.__module__ != module.__name__:
        raise Unusable(f"{name} is not written in {Path(path).name}, it is imported from {written.__module__}")
    return function


def _returning(function):
    """The same function; Unusable if it returns None."""

    @functools.wraps(function)
    def checked(*arguments, **options):
        out = function(*arguments, **options)
        if out is None:
            raise Unusable("returns None: is a `return` missing?")
        return out

    return checked


def _grade_here(exercise, path, seed):
    """What `grade` runs in the other process."""
    try:
        function = load(path, exercise.name)
    except (Exception, SystemExit) as error:
        return Result(exercise.id, "partial", [Verdict("loads", "there is a function", False, describe(error, path))])
    function = _returning(function) if exercise.track == "numpy" else function
    verdicts, values = hold(exercise, function, seed, path)
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
